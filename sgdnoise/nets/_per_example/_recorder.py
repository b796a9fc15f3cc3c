"""One pass over a network that records the factors of the gradient of each example."""

from collections.abc import Callable
from contextlib import contextmanager
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

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


class RandomState(NamedTuple):
    """The state of a network besides its parameters: its buffers, and the mode of each module."""

    buffers: dict
    training: dict

    @classmethod
    def of(cls, net) -> "RandomState":
        buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
        return cls(buffers, {module: module.training for module in net.modules()})

    @contextmanager
    def again(self):
        """A context with copies of the buffers, in which the modules have their recorded modes."""
        # Copies, since a pass may update its buffers, and each pass must start from the same.
        now = {module: module.training for module in self.training}
        try:
            _set(self.training)
            yield {name: buffer.clone() for name, buffer in self.buffers.items()}
        finally:
            _set(now)


def record(
    losses: Callable[[dict], Any], tensors: dict, n: int, repeated: frozenset = frozenset()
) -> tuple[Any, list[LayerCall]]:
    """The losses (n,), and each call that uses a parameter, with the gradient to its output.

    losses: parameters by name -> (n,); tensors: name -> parameter.  Gradients are those of the sum
    of losses; a call on which it does not depend is left out.
    repeated: the calls, by their order, whose output is the same for all examples and is repeated
    for each of them, so that the gradients of the examples stay apart.
    """
    # One backward pass gives the gradients of all examples: each loss depends on its own example
    # alone, and so the gradient of the sum to a row of an output is that of one example.
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    with torch.enable_grad(), _Recorder(leaves, repeated, n) as tape:
        values = losses(leaves)
        total = values.sum()
    if not tape.calls or not values.requires_grad:
        return values.detach(), []
    edges = [call.output_gradient for call in tape.calls]
    gradients = torch.autograd.grad(total, edges, allow_unused=True)
    pairs = zip(tape.calls, gradients, strict=True)
    return values.detach(), [
        call._replace(output_gradient=gradient) for call, gradient in pairs if gradient is not None
    ]


class _Recorder(TorchFunctionMode):
    """Records the calls by which layers use their parameters."""

    # Calls of functions are recorded, not modules: networks also use parameters without a module.

    def __init__(self, leaves, repeated, n):
        super().__init__()
        # By identity: equality of tensors compares their values.
        self.names = {id(leaf): name for name, leaf in leaves.items()}
        self.repeated, self.n = repeated, n
        self.calls: list[LayerCall] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # Attention arrives here as one call.  It is run inside the mode, so that the linear layers
        # within it are recorded one by one.
        if func is F.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        out = func(*args, **kwargs)
        if func in _CALLS and out.grad_fn is not None:
            kind, bound = _CALLS[func]
            return self._record(kind, out, **bound(*args, **kwargs))
        return out

    def _record(self, kind, out, inputs=None, weight=None, bias=None, **options):
        """The output; the call is recorded if it uses a parameter."""
        # Either operand of a sum or a product may be the parameter.  The other is broadcast, so
        # that it has the shape of the gradient by which it will be multiplied.
        if kind in ("sum", "product") and not self._place(weight):
            inputs, weight = weight, inputs
        if kind in ("sum", "product") and inputs is not None:
            inputs = inputs.expand_as(out)
        if kind in _TRANSPOSED and self._transposed(weight):
            kind, weight = _TRANSPOSED[kind], weight._base
        parameter, bias_place = self._place(weight), self._place(bias)
        if not (parameter or bias_place):
            return out
        order = len(self.calls)
        # Without an axis for the examples, broadcasting would sum their gradients further on.
        if order in self.repeated:
            out, inputs = (
                array.expand(self.n, *_without_example_axis(array).shape) for array in (out, inputs)
            )
        options["weight"] = None if weight is None else weight.detach()
        inputs = (out if inputs is None else inputs).detach()
        # The edge, not `out`: a later in-place operation on `out` would replace its place in the
        # graph by its own.
        output_gradient = get_gradient_edge(out)
        self.calls.append(
            LayerCall(kind, parameter, bias_place, inputs, output_gradient, options, order)
        )
        return out

    def _place(self, tensor) -> ParameterBlock | None:
        """The parameter that this tensor is, or whose rows it is; None if it is neither."""
        if tensor is None or id(tensor) in self.names:
            return None if tensor is None else ParameterBlock(self.names[id(tensor)])
        # A slice of a parameter is a new tensor at each call, but torch notes in `_base` of what it
        # is a view.  If strides and all axes but the first agree, it is a block of rows.
        base = tensor._base
        if base is None or id(base) not in self.names or not tensor.ndim:
            return None
        if tensor.shape[1:] != base.shape[1:] or tensor.stride() != base.stride():
            return None
        start = tensor.storage_offset() // base.stride(0)
        return ParameterBlock(self.names[id(base)], slice(start, start + tensor.shape[0]))

    def _transposed(self, tensor) -> bool:
        """Whether this is a parameter transposed: a view of it with its two strides reversed."""
        base = None if tensor is None else tensor._base
        if base is None or id(base) not in self.names or tensor.shape != base.shape[::-1]:
            return False
        return base.ndim == 2 and tensor.stride() == base.stride()[::-1]


def _set(training):
    for module, mode in training.items():
        module.training = mode


def _without_example_axis(array):
    """An array that is the same for all examples, without an axis of length 1 for them."""
    return array[0] if array.shape[0] == 1 else array


def _linear(input, weight, bias=None):
    return {"inputs": input, "weight": weight, "bias": bias}


def _convolution(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The arguments, with numbers as tuples; none if the padding differs on the two sides."""
    size = weight.ndim - 2
    stride, dilation, padding = (_per_axis(x, size) for x in (stride, dilation, padding))
    if padding == ("valid",) * size:
        padding = (0,) * size
    if padding == ("same",) * size:
        padding_sums = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(total % 2 for total in padding_sums):  # torch.nn.grad pads both sides alike
            return {}
        padding = tuple(total // 2 for total in padding_sums)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return {"inputs": input, "weight": weight, "bias": bias, **options}


def _per_axis(given, size):
    return (
        tuple(given) * (size // len(given)) if isinstance(given, (tuple, list)) else (given,) * size
    )


def _pair(input, other, *, alpha=1, out=None):
    """The two operands of a sum or a product; the recorder finds which is the parameter."""
    plain = alpha == 1 and out is None and torch.is_tensor(input) and torch.is_tensor(other)
    return {"inputs": input, "weight": other} if plain else {}


def _times(input, other, *, out=None):
    return {} if out is not None or other.ndim != 2 else {"inputs": input, "weight": other}


def _expanded(input, *_, **__):
    return {"weight": input}


def _embedding(input, weight, padding_idx=None, *_, **__):
    return {"inputs": input, "weight": weight, "padding": padding_idx}


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    options = {"axes": len(normalized_shape), "eps": eps}
    return {"inputs": input, "weight": weight, "bias": bias, **options}


def _rms_norm(input, normalized_shape, weight=None, eps=None):
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return {"inputs": input, "weight": weight, "axes": len(normalized_shape), "eps": eps}


def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    return {"inputs": input, "weight": weight, "bias": bias, "groups": num_groups, "eps": eps}


def _batch_norm(input, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):  # noqa: ARG001 - torch's signature
    options = {"mean": mean, "var": var, "eps": eps}
    return {"inputs": input, "weight": weight, "bias": bias, **options}


_CALLS: dict[Any, tuple[str, Callable]] = {
    F.linear: ("linear", _linear),
    F.conv1d: ("convolution", _convolution),
    F.conv2d: ("convolution", _convolution),
    F.embedding: ("embedding", _embedding),
    F.layer_norm: ("layer norm", _layer_norm),
    F.rms_norm: ("rms norm", _rms_norm),
    F.group_norm: ("group norm", _group_norm),
    F.batch_norm: ("batch norm", _batch_norm),
    **dict.fromkeys((torch.add, Tensor.add), ("sum", _pair)),
    **dict.fromkeys((torch.mul, Tensor.mul), ("product", _pair)),
    **dict.fromkeys((torch.matmul, Tensor.matmul), ("matrix", _times)),
    Tensor.expand: ("copies", _expanded),
}
_TRANSPOSED = {"linear": "matrix", "matrix": "linear"}


def _unchecked(function):
    """A copy of a function of torch that does not dispatch to the mode that is active."""
    # Its first lines pass the call to that mode, which would call it again, without end.
    globals_ = {**function.__globals__, "has_torch_function": lambda *_: False}
    return FunctionType(
        function.__code__, globals_, None, function.__defaults__, function.__closure__
    )


_attention = _unchecked(F.multi_head_attention_forward)
