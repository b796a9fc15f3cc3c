"""The loss of a network, the trace of its gradient noise and the trace of its Hessian."""

import warnings
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._estimate import Estimate, mean
from sgdnoise.core._gradients import centred
from sgdnoise.nets._checks import check_losses
from sgdnoise.nets._examples import Examples
from sgdnoise.nets._network import Network
from sgdnoise.nets._watch._activations import call_network
from sgdnoise.nets._watch._gauss_newton import RandomOutputs
from sgdnoise.nets._watch._plans import Plans
from sgdnoise.noise._measure._gradient_noise_scale import gradient_noise_scale


def losses_of(loss: Callable, outputs, targets) -> torch.Tensor:
    """The losses (n,); raises ValueError, with both shapes, if the loss does not take them."""
    try:
        # torch warns of sizes that it would broadcast; `check_losses` refuses the result instead.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using a target size")
            losses = loss(outputs, targets)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shape = tuple(outputs.shape) if torch.is_tensor(outputs) else type(outputs).__name__
        raise ValueError(
            f"the loss does not take outputs {shape} with targets {tuple(targets.shape)} "
            f"of {targets.dtype}"
        ) from error
    check_losses(losses, len(targets))
    return losses


def loss_and_noise(net, loss, examples, layers, plans: Plans):
    """The gradients of the examples, and a record of the mean loss and the gradient noise.

    The record has `noise_trace` of all and of each layer, and the noise scale Tr C / |g|^2.
    examples: the inputs, a tuple or a dictionary, and targets.
    plans: those of earlier measurements.
    Raises ValueError as `per_example_gradients` does.
    """
    inputs, targets = examples
    with torch.no_grad(), _without_autocast(targets):
        losses = losses_of(loss, call_network(net, inputs), targets)
    with _without_autocast(targets):
        rows = plans.gradients("losses", Network.of(net, loss, Examples.of(inputs, targets)))
    with_parameters = [
        layer for layer in layers if any(key.startswith(f"{layer}.") for key in rows.shapes)
    ]
    return rows, {
        "loss": _as_floats(mean(losses.double().numpy(force=True))),
        "noise_trace": noise_trace(rows),
        "noise_scale": gradient_noise_scale(rows),
        "layer_noise_trace": {layer: noise_trace(rows.layer(layer)) for layer in with_parameters},
    }


def traces(net, loss, examples, rows, n_probes: int, rng, plans: Plans) -> dict:
    """Tr H, and the critical batch Tr(GC) / g^T G g with the Gauss-Newton matrix G.

    Both are from n_probes random signs; but Tr H is from two backward passes where it is Tr G.
    Products with G are those of `RandomOutputs` where the loss allows it.
    """
    inputs, targets = examples
    with _without_autocast(targets):
        network = Network.of(net, loss, Examples.of(inputs, targets))
        random_outputs = RandomOutputs.of(network, plans, rng)
    if random_outputs is not None and random_outputs.linear:
        trace = random_outputs.trace()
    else:
        trace = hessian_trace(net, loss, inputs, targets, n_probes, rng)
    curvature = "gauss_newton" if random_outputs is None else random_outputs.product
    return {
        "hessian_trace": trace,
        "critical_batch": gradient_noise_scale(
            rows, curvature=curvature, n_probes=n_probes, rng=rng
        ),
    }


def batch_sharpness(net, loss, examples, batch_size: int, n_batches: int, rng) -> Estimate:
    """The mean of g_B^T H_B g_B over that of |g_B|^2, over batches drawn with replacement.

    The error is that of a ratio of means, over the drawn batches of these examples.
    Raises ValueError for a network without second derivatives.
    """
    inputs, targets = examples
    network = Network.of(net, loss, Examples.of(inputs, targets), smallest=1)
    leaves, n = network.leaves(), len(targets)
    with _second_derivatives(targets):
        pairs = [
            _batch_curvature(network, leaves, rng.integers(0, n, batch_size))
            for _ in range(n_batches)
        ]
    above, below = np.asarray(pairs).T
    ratio = above.mean() / below.mean()
    return Estimate(ratio, float(mean(above - ratio * below).stderr) / below.mean(), n_batches - 1)


def _batch_curvature(network, leaves, index):
    """g^T H g and |g|^2 of one batch."""
    total = network.value(leaves, network.examples.at(index)).mean()
    gradients = torch.autograd.grad(total, [*leaves.values()], None, None, True, True)
    _check_derivable(gradients)
    direction = [None if g is None else g.detach() for g in gradients]
    square = sum(float(g.double().square().sum()) for g in direction if g is not None)
    return _curvature(gradients, [*leaves.values()], direction), square


def noise_trace(rows) -> Estimate:
    """Tr C of the gradient of one example, unbiased; the error is over the n examples.

    A minibatch of B examples has Tr C / B.
    """
    squares = as_numpy(centred(rows)[1].squares()).astype(float)
    return _as_floats(mean(squares * rows.n / (rows.n - 1)))


def hessian_trace(net: nn.Module, loss: Callable, inputs, targets, n_probes: int, rng):
    """Tr H of the mean loss over trained parameters, by Hutchinson (1990): the mean of z^T H z.

    z are `n_probes` vectors of random signs.  The error is over these, not over the examples.
    The corners of activations such as relu have no part in the Hessian.
    Raises ValueError for a network without second derivatives.
    """
    network = Network.of(net, loss, Examples.of(inputs, targets), smallest=1)
    leaves = network.leaves()
    signs = [_signs(leaves, rng) for _ in range(n_probes)]
    with _second_derivatives(targets):
        total = network.value(leaves, network.examples).mean()
        gradients = torch.autograd.grad(total, [*leaves.values()], None, None, True, True)
        _check_derivable(gradients)
        values = [_curvature(gradients, [*leaves.values()], z) for z in signs]
    return _as_floats(mean(np.asarray(values)))


@contextmanager
def _second_derivatives(tensor):
    """A context of second derivatives; raises ValueError for a network that has none."""
    # The fused kernels of attention have no second derivative; the plain formula has.
    with torch.enable_grad(), _without_autocast(tensor), sdpa_kernel(SDPBackend.MATH):
        try:
            yield
        except (RuntimeError, ValueError) as error:
            if "not implemented" not in str(error):
                raise
            raise ValueError(
                "the network has no second derivatives, and so no trace of its Hessian; "
                "n_probes=0 leaves it out"
            ) from error


def _as_floats(estimate):
    return Estimate(float(estimate.value), float(estimate.stderr), estimate.dof)


def _without_autocast(tensor):
    """A context without autocast, whose half precision is too coarse for covariances."""
    return torch.autocast(tensor.device.type, enabled=False)


def _signs(leaves, rng):
    return [torch.as_tensor(rng.choice([-1.0, 1.0], t.shape)).to(t) for t in leaves.values()]


def _curvature(gradients, leaves, signs):
    """z^T H z, from a gradient that can be derived once more."""
    # Where the loss is linear in a parameter, its gradient is constant, and torch would raise.
    pairs = zip(gradients, signs, strict=True)
    directional = sum((s * z).sum() for s, z in pairs if s is not None and s.requires_grad)
    if not torch.is_tensor(directional):
        return 0.0
    products = torch.autograd.grad(directional, leaves, retain_graph=True, allow_unused=True)
    pairs = zip(products, signs, strict=True)
    return float(sum((h * z).double().sum() for h, z in pairs if h is not None))


def _check_derivable(gradients):
    """Raises RuntimeError for functions that can be derived only once.

    torch would take their gradients for constants.  At such a function it puts a node named Error
    into the graph, but raises only if the backward pass reaches that node.
    """
    pending = [gradient.grad_fn for gradient in gradients if gradient is not None]
    visited = set(pending)
    while pending:
        node = pending.pop()
        if type(node).__name__ == "Error":
            raise RuntimeError("a second derivative is not implemented")
        unvisited = {after for after, _ in getattr(node, "next_functions", ())} - visited
        pending += unvisited
        visited |= unvisited
