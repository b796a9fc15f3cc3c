"""A torch module as a Problem, a function of one flat vector."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial, wraps

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.core._problem import Problem
from sgdnoise.nets._batches import Batches, joined
from sgdnoise.nets._checks import check_block, check_finite_inputs, check_shape, listed
from sgdnoise.nets._examples import Examples
from sgdnoise.nets._network import Network, device_of, plain_torch, unwrapped
from sgdnoise.nets._per_example._operator import gradients_by_plan, spans
from sgdnoise.nets._per_example._plan import Plan
from sgdnoise.nets._per_example._probing import check_same
from sgdnoise.nets._per_example._recorder import record

MAX_COMPARED = 256  # examples whose losses are compared in batches of other examples


@checked_by_annotation
def as_problem(net, loss, inputs, targets=None, *, autocast=None, block: int | None = None):
    """The Problem of fitting a network, and its trainable parameters as theta (p,).

    inputs, targets: as in `per_example_gradients`.  Batches of a DataLoader are read once and
    joined.  The examples of the Problem are all tensors of inputs and targets, in their order.
    loss: (outputs, targets) -> (n,), one number for each example, for example reduction="none".
    It may read the parameters of the network, as weight decay does, or call the network again.
    The network runs in its present mode, train or eval, with its present buffers and frozen
    parameters.  autocast: a type such as torch.bfloat16 in which the products of the network are
    computed; losses, theta and covariances keep their own.
    block: pass over the network `block` examples at a time, which bounds the memory.
    Raises ValueError for a network whose buffers change in a forward pass, as the running means of
    batch norm do in training; for one that is random or mixes its examples, or has no parameters;
    for inputs that are not finite, that the network does not take, or of another length than the
    targets; for targets that the loss does not take; for a loss of another shape than (n,), and
    one that holds parameters by references of its own.

    Example:
        >>> net = torch.nn.Linear(3, 1)
        >>> x, y = torch.randn(20, 3), torch.randn(20, 1)
        >>> problem, theta = as_problem(net, lambda out, y: ((out - y) ** 2).sum(1), x, y)
        >>> problem.size, problem.gradient(theta).shape
        (4, torch.Size([4]))
    """
    check_block(block)
    net = unwrapped(net)
    if targets is None and not isinstance(inputs, (torch.Tensor, tuple, Mapping)):
        examples = joined(list(Batches.of(inputs, net)))
    else:
        examples = Examples.of(inputs, targets)
    with plain_torch(device_of(net)):
        network = Network.of(net, loss, examples, smallest=1, autocast=autocast)
        network = network.with_copied_frozen()
        _check_fit(network)
    flat = _Flat(network)
    step = block or len(network)
    plans: list[Plan] = []

    def losses(theta, *tensors):
        pieces = [[t[span] for t in tensors] for span in spans(len(tensors[0]), step)]
        values = [flat.losses(flat.named(theta), piece) for piece in pieces]
        return values[0] if len(values) == 1 else torch.cat(values)

    def rows(at, *tensors):
        here = replace(
            network,
            autocast=None,  # which is too coarse for covariances
            tensors=flat.named(at),
            examples=examples.with_tensors(tensors),
        )
        with plain_torch(here.device):
            plan = plans.pop().at(here) if plans else Plan.of(here)
            plans.append(plan)
            return gradients_by_plan(plan, block)

    def backward(at, weights, shift, *tensors):
        if tuple(weights.shape) != (len(tensors[0]),):
            raise ValueError(
                f"{len(tensors[0])} examples take as many weights, not {tuple(weights.shape)}"
            )
        pieces = spans(len(tensors[0]), step)
        if len(pieces) == 1:
            return flat.weighted_gradient(at, weights, shift, tensors)
        return sum(
            flat.weighted_gradient(
                at,
                weights[span],
                shift if shift is None else shift[span],
                [t[span] for t in tensors],
            )
            for span in pieces
        )

    tensors = tuple(network.examples.tensors())
    plain = _PlainDerivatives(network.device)
    return Problem(losses, tensors, len(flat.theta), rows, backward, plain), flat.theta


class _PlainDerivatives:
    """The transforms of torch.func, without the autocast and the inference mode of the caller."""

    def __init__(self, device):
        self.device = device

    def __getattr__(self, name):
        transform = getattr(torch.func, name)
        return partial(self._transformed, transform)

    def _transformed(self, transform, *given, **options):
        # The fused kernels of attention have no second derivative; the plain formula has.
        with plain_torch(self.device), sdpa_kernel(SDPBackend.MATH):
            result = transform(*given, **options)
        if not callable(result):  # jvp evaluates at once; the others return a function
            return result

        @wraps(result)
        def inside(*args, **kwargs):
            with plain_torch(self.device):
                return result(*args, **kwargs)

        return inside


class _Flat:
    """The losses of a network as functions of one vector."""

    def __init__(self, network):
        self.network = network
        self.sizes = [tensor.numel() for tensor in network.tensors.values()]
        self.forms = [_form(tensor) for tensor in network.tensors.values()]
        self.theta = torch.cat([t.detach().reshape(-1) for t in network.tensors.values()])

    def named(self, theta):
        """The parameters by name, as views of theta."""
        pieces = theta.contiguous().split(self.sizes)
        parameters = zip(self.network.tensors.items(), pieces, self.forms, strict=True)
        return {
            name: _in_form(piece.view_as(tensor), memory_format)
            for (name, tensor), piece, memory_format in parameters
        }

    def losses(self, named, tensors):
        """The losses of some examples, given as the list of their tensors."""
        examples = self.network.examples.with_tensors(tensors)
        values = self.network.value(named, examples)
        check_shape(values, len(tensors[0]))
        return values

    def weighted_gradient(self, theta, weights, shift, tensors):
        """The gradient of sum_i w_i l_i, and of a shift of the targets: see `Problem`."""
        transformed = any(map(_transformed, (theta, weights, *tensors)))
        if shift is not None or transformed:
            problem = Problem(lambda t, *x: self.losses(self.named(t), x), tuple(tensors))
            return problem.weighted_gradient(theta, weights, shift)
        with plain_torch(theta.device):
            theta, weights, *tensors = (
                t.clone() if t.is_inference() else t for t in (theta, weights, *tensors)
            )
            leaves = [tensor.requires_grad_() for tensor in self.named(theta.detach()).values()]
            named = dict(zip(self.network.tensors, leaves, strict=True))
            with self.network.state.again(named):
                values = self.network.losses_inside(self.network.examples.with_tensors(tensors))
                check_shape(values, len(tensors[0]))
                weights = weights.to(values.dtype)
                gradients = torch.autograd.grad(values, leaves, weights, materialize_grads=True)
        return torch.cat([_dense(tensor).reshape(-1) for tensor in gradients])


def _dense(gradient):
    return gradient.to_dense() if gradient.is_sparse else gradient


def _check_fit(network: Network) -> None:
    """Check that network and loss accept the examples, and treat each by itself."""
    examples, n = network.examples, len(network)
    for tensor in examples.tensors():
        check_finite_inputs(tensor)
    targets = examples.tensors()[-1]
    highest = targets.ndim == 1 and not targets.is_complex()
    second = int(targets.double().argmax()) if highest else n - 1  # of the highest class
    network.losses(torch.tensor([0, second]))
    network = network.away_from_zero()
    examples = network.examples
    index = torch.linspace(0, n - 1, min(n, MAX_COMPARED), dtype=torch.float64).round().long()
    recording = record(network, index)
    losses, buffers = recording.losses.detach(), dict(network.state.others)
    network.value(network.leaves(), examples.at(index), buffers.update)
    kept = network.state.others
    if changed := [name for name in network.state.buffers if not _equal(kept[name], buffers[name])]:
        raise ValueError(
            f"a forward pass changes the buffers {listed(changed)}; call net.eval() first"
        )
    # In two halves and at other places, in which batch statistics and the like would be others.
    order = torch.arange(len(index)).roll(1)
    for half in (order[::2], order[1::2]) if len(index) > 1 else ():
        check_same(network, network.losses(index[half]), losses[half], index)


def _equal(first, second):
    """Whether two buffers have the same numbers; nan equals nan."""
    return torch.equal(first.nan_to_num(), second.nan_to_num())


def _in_form(tensor, memory_format):
    """A contiguous tensor with its numbers in another order in memory."""
    if memory_format is torch.contiguous_format:
        return tensor
    return tensor.contiguous(memory_format=memory_format)


def _form(tensor):
    """How the numbers of a weight lie in memory."""
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return (
        torch.channels_last
        if channels_last and not tensor.is_contiguous()
        else torch.contiguous_format
    )


def _transformed(tensor):
    """Whether somebody differentiates or maps over it, which plain autograd does not see."""
    wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", lambda _: True)
    return torch.is_tensor(tensor) and (tensor.requires_grad or wrapped(tensor))
