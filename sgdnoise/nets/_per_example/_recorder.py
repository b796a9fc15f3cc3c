"""One pass over a network that records the factors of the gradient of each example."""

from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from sgdnoise.nets._checks import check_shape, why_mixed, why_random
from sgdnoise.nets._network import Network
from sgdnoise.nets._per_example._calls import (
    CALLS,
    CREATED,
    LOOKED_UP,
    SET_DATA,
    SYMMETRIC,
    TRANSPOSED,
)
from sgdnoise.nets._per_example._graph import Uses, leaves_of, reads_across, trace_uses
from sgdnoise.nets._per_example._layers import ParameterBlock


class LayerCall(NamedTuple):
    """One call of a layer: its kind, its parameters, its inputs and the gradient to its output.

    output_gradient: during the pass, the edge of the graph at which that gradient arrives.
    options: the other arguments of the call.  order: the number of calls recorded before it.
    """

    kind: str
    weight: ParameterBlock | None
    bias: ParameterBlock | None
    inputs: Any
    output_gradient: Any
    options: dict
    order: int


@dataclass(frozen=True, eq=False)
class Recording:
    """One forward pass over some examples.

    losses: (n,), with their graph.  leaves: name -> the parameter in that graph.
    recorded: the calls of layers, with the edges of the graph as `output_gradient`.
    derived: name -> a tensor that is computed from parameters alone and used as one.
    uses: what else of the graph uses a parameter.
    untransformable: whether torch.func must not be used.  It crashes if the network writes to
    the `data` of a tensor, as Module.to does; and it counts tokens in the batch.
    """

    network: Network
    losses: Any
    leaves: dict
    recorded: list[LayerCall]
    derived: dict
    uses: Uses
    untransformable: bool

    def calls(self, *, again: bool = False) -> list[LayerCall]:
        """The calls, with the gradients to their outputs; without those that have no part.

        Gradients are those of the sum of losses.  again: keep the graph for another backward pass.
        """
        # One backward pass gives the gradients of all examples: each loss depends on its own
        # example alone, and so the gradient of the sum to a row of an output is that of one.
        if not self.recorded or not self.losses.requires_grad:
            return []
        edges = [call.output_gradient for call in self.recorded]
        gradients = self._backward(self.losses.sum(), edges, again)
        pairs = zip(self.recorded, gradients, strict=True)
        return [_in_type_of_weight(call, g) for call, g in pairs if g is not None]

    def weighted_gradient(self, weights) -> dict:
        """name -> the gradient of sum_i w_i l_i by autograd; None for what has no part in it."""
        total = (weights * self.losses).sum()
        gradients = self._backward(total, list(self.leaves.values()), bool(self.derived))
        return {
            name: gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient
            for name, gradient in zip(self.leaves, gradients, strict=True)
        }

    def _backward(self, total, to, kept):
        with self.network.at(self.leaves):
            return torch.autograd.grad(total, to, allow_unused=True, retain_graph=kept)

    def roots(self, name: str) -> set:
        """The parameters from which a derived tensor is computed; those that it names else."""
        return leaves_of(self.derived[name], self.leaves) if name in self.derived else {name}


def record(network: Network, index, repeated: frozenset = frozenset()) -> Recording:
    """The losses of some examples, and each call of a layer that uses a parameter.

    repeated: the calls, by their order, whose output is the same for all examples and is repeated
    for each of them, so that the gradients of the examples stay apart.
    Raises ValueError if the network changes its inputs or parameters in place, or draws random
    numbers, and if the losses use parameters that cannot be replaced.
    """
    examples, leaves = network.examples.at(index), network.leaves()
    # torch counts the writes to a tensor.  A network that overwrites its inputs would be given
    # other examples in the next pass.
    inputs, tensors = examples.inputs(), list(network.tensors.values())
    frozen = [t for n, t in network.state.others.items() if n not in network.state.buffers]
    written, drawn = _versions(inputs), generator_states(tensors[0])
    versions = _versions([*tensors, *frozen])
    with _Recorder(leaves, repeated, len(examples)) as tape:
        losses = network.value(leaves, examples, tape.add_constants)
    check_shape(losses, len(examples))
    if tape.mixes and len(examples) > 1:
        raise ValueError(
            f"the loss of an example depends on the others in its batch{why_mixed(network.net)}"
        )
    if written != _versions(inputs):
        raise ValueError("the network changes its inputs in place; let it work on a copy")
    if versions != _versions([*tensors, *frozen]):
        raise ValueError("the network changes its parameters in place, as max_norm does")
    if not all(map(torch.equal, drawn, generator_states(tensors[0]))):
        _restore(drawn, tensors[0])
        raise ValueError(f"the network draws random numbers{why_random(network.net)}")
    uses = trace_uses(losses, tape.sources, leaves, network.originals())
    uses = uses._replace(batchwise=uses.batchwise and not tape.crosses)
    return Recording(network, losses, leaves, tape.calls, tape.derived, uses, tape.untransformable)


def _in_type_of_weight(call, gradient):
    """The call with its gradient, in the type of the parameter if the layer computed in another."""
    inputs, dtype = call.inputs, call.options["dtype"]
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    return call._replace(inputs=inputs, output_gradient=gradient.to(dtype))


def generator_states(tensor):
    """The states of torch's generators, which move when a number is drawn."""
    on_device = [torch.cuda.get_rng_state(tensor.device)] if tensor.device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def _restore(states, tensor):
    """Set the generators back to recorded states."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], tensor.device)


def _versions(tensors):
    return [tensor._version for tensor in tensors]


class _Recorder(TorchFunctionMode):
    """Records the calls by which layers use their parameters."""

    # Calls of functions are recorded, not modules: networks also use parameters without a module.

    def __init__(self, leaves, repeated, n):
        super().__init__()
        # By identity: equality of tensors compares their values.
        self.names = {id(leaf): name for name, leaf in leaves.items()}
        self.repeated, self.n = repeated, n
        self.calls: list[LayerCall] = []
        # Node of the output of a recorded call -> the nodes of its other arguments.
        self.sources: dict = {}
        # Tensors that do not depend on the examples; kept, so that no other gets their identity.
        self.constants = {id(leaf): leaf for leaf in leaves.values()}
        self.derived: dict = {}
        self.untransformable = self.mixes = self.crosses = False

    def add_constants(self, tensors: dict):
        """Buffers and frozen parameters do not depend on the examples."""
        self.constants |= {id(tensor): tensor for tensor in tensors.values()}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # Attention arrives here as one call.  It is run inside the mode, so that the linear layers
        # within it are recorded one by one.
        if func is F.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            kwargs = self._with_repeated_mask(args, kwargs)
        self.untransformable |= func == SET_DATA or _counts_tokens(func, args, kwargs)
        self.mixes |= _is_batch_norm_in_training(func, args, kwargs)
        constant = self._is_constant(func, args, kwargs)
        out = func(*args, **kwargs)
        if constant and (func not in LOOKED_UP or _is_enlarged(func, out, args, self.n)):
            self._keep_constant(out)
            return out
        self.crosses = self.crosses or reads_across(func, args, kwargs, self.n)
        self._forget(args[0] if func is Tensor.__setitem__ else out)
        if func in CALLS and torch.is_tensor(out) and out.grad_fn is not None:
            kind, bound = CALLS[func]
            try:
                arguments = bound(*args, **kwargs)
            except TypeError:  # arguments by names of their own
                return out
            return self._record(kind, out, **arguments)
        return out

    def _with_repeated_mask(self, args, kwargs):
        """The arguments of attention, with a bias that is a parameter repeated for each example."""
        query, mask = args[0] if args else kwargs["query"], kwargs.get("attn_mask")
        if mask is None or not (mask.requires_grad and id(mask) in self.constants):
            return kwargs
        with self:
            return kwargs | {"attn_mask": mask.expand(*query.shape[:-2], *mask.shape[-2:])}

    def _is_constant(self, func, args, kwargs):
        """Whether the result of a call does not depend on the examples."""
        if args and torch.is_tensor(args[0]) and id(args[0]) not in self.constants:
            return False  # most calls, without a look at their other arguments
        tensors = _tensors((args, kwargs))
        return all(id(t) in self.constants for t in tensors) if tensors else func in CREATED

    def _keep_constant(self, out):
        self.constants |= {id(tensor): tensor for tensor in _tensors(out)}

    def _forget(self, out):
        """A constant that was written to with something else is one no more."""
        if torch.is_tensor(out) and id(out) not in self.names:
            self.constants.pop(id(out), None)

    def _record(self, kind, out, inputs=None, weight=None, bias=None, **options):
        """The output; the call is recorded if it uses a parameter."""
        # Either operand of a sum or a product may be the parameter.  The other is broadcast, so
        # that it has the shape of the gradient by which it will be multiplied.
        if kind in SYMMETRIC and not self._place(weight):
            inputs, weight = weight, inputs
        sources = [inputs]
        if kind in SYMMETRIC and inputs is not None:
            inputs = inputs.expand_as(out)
        if kind in TRANSPOSED and self._transposed(weight):
            kind, weight = TRANSPOSED[kind], weight._base
        parameter, bias_place = self._place(weight), self._place(bias)
        if not (parameter or bias_place):
            return out
        sources += [t for t, at in ((weight, parameter), (bias, bias_place)) if not at]
        order = len(self.calls)
        # Without an axis for the examples, broadcasting would sum their gradients further on.
        if order in self.repeated:
            out, inputs = (
                array.expand(self.n, *_without_example_axis(array).shape) for array in (out, inputs)
            )
        options["weight"] = None if weight is None else weight.detach()
        options["dtype"] = (weight if parameter else bias).dtype
        inputs = (out if inputs is None else inputs).detach()
        # The edge, not `out`: a later in-place operation on `out` would replace its place in the
        # graph by its own.
        output_gradient = get_gradient_edge(out)
        self.sources[output_gradient.node] = [
            get_gradient_edge(tensor).node
            for tensor in sources
            if tensor is not None and tensor.requires_grad
        ]
        self.calls.append(
            LayerCall(kind, parameter, bias_place, inputs, output_gradient, options, order)
        )
        return out

    def _place(self, tensor) -> ParameterBlock | None:
        """The parameter that this tensor is, whose rows it is, or from which it is computed.

        None if it is none of these.
        """
        if tensor is None or id(tensor) in self.names:
            return None if tensor is None else ParameterBlock(self.names[id(tensor)])
        rows = self._rows(tensor)
        if rows is None and id(tensor) in self.constants and tensor.requires_grad:
            names = [name for name, other in self.derived.items() if other is tensor]
            name = names[0] if names else f"derived tensor {len(self.derived)}"
            self.derived[name] = tensor
            return ParameterBlock(name)
        return rows

    def _rows(self, tensor) -> ParameterBlock | None:
        """The rows of a parameter that this tensor is, or None."""
        # A slice of a parameter is a new tensor at each call, but torch notes in `_base` of what it
        # is a view.  If strides and all axes but the first agree, it is a block of rows.
        base = tensor._base
        if base is None or id(base) not in self.names or not tensor.ndim:
            return None
        if tensor.shape[1:] != base.shape[1:] or tensor.stride() != base.stride():
            return None
        start = (tensor.storage_offset() - base.storage_offset()) // max(1, base.stride(0))
        return ParameterBlock(self.names[id(base)], slice(start, start + tensor.shape[0]))

    def _transposed(self, tensor) -> bool:
        """Whether this is a parameter transposed: a view of it with its two strides reversed."""
        base = None if tensor is None else tensor._base
        if base is None or id(base) not in self.names or tensor.shape != base.shape[::-1]:
            return False
        return base.ndim == 2 and tensor.stride() == base.stride()[::-1]


def _is_batch_norm_in_training(func, args, kwargs):
    """Whether statistics of the batch are used."""
    return func is F.batch_norm and bool(kwargs.get("training") or args[5:6] == (True,))


def _counts_tokens(func, args, kwargs):
    """Whether the gradient of an embedding is divided by how often the batch has a token."""
    return func is F.embedding and bool(kwargs.get("scale_grad_by_freq") or args[5:6] == (True,))


def _is_enlarged(func, out, args, n):
    """Whether rows of a small table are looked up many times, as for relative positions.

    Not if they are looked up for each of n examples, although they are the same for all.
    """
    if func is not F.embedding or len(args) < 2 or args[0].ndim < 2 or args[0].shape[0] == n:
        return False
    return args[1].numel() < out.numel()


def _tensors(arguments) -> list:
    """The tensors among arguments, in lists and dictionaries too."""
    if torch.is_tensor(arguments):
        return [arguments]
    if isinstance(arguments, dict):
        arguments = arguments.values()
    elif not isinstance(arguments, (tuple, list)):
        return []
    return [tensor for part in arguments for tensor in _tensors(part)]


def _without_example_axis(array):
    """An array that is the same for all examples, without an axis of length 1 for them."""
    return array[0] if array.shape[0] == 1 else array


def _unchecked(function):
    """A copy of a function of torch that does not dispatch to the mode that is active."""
    # Its first lines pass the call to that mode, which would call it again, without end.
    globals_ = {**function.__globals__, "has_torch_function": lambda *_: False}
    return FunctionType(
        function.__code__, globals_, None, function.__defaults__, function.__closure__
    )


_attention = _unchecked(F.multi_head_attention_forward)
