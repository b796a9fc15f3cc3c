"""Several networks of one shape as one: their layers, their steps, and the trace of Gauss-Newton.

With J_i (o, p) the derivative of the outputs for example i by the weights, the Gauss-Newton matrix
H is the mean of J_i^T J_i, and label noise of variance sigma^2 in batches of B gives the gradient
the covariance sigma^2 H / B.  Everything has one leading axis k, of networks that know nothing of
one another; theta is a tuple of their tensors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from simulations.depth_profile._nets import shown

__all__ = ["Nets", "Theta", "convolutional", "participation", "perceptrons", "probed", "squares"]

Theta = tuple[torch.Tensor, ...]


class Nets(NamedTuple):
    """Networks at their start, and what is made of them at any theta.

    through: (theta, x) -> hidden layers (k, n, d) each, and the outputs (k, n, o) as the last.
    trace: (theta, x, signs (k, n, o)) -> Tr H (k,), exact or an unbiased estimate by the signs.
    spread: (theta, x, y) -> the mean over examples of |grad l_i|^2 (k,), or None.
    """

    start: Theta
    through: Callable[[Theta, Any], list[torch.Tensor]]
    trace: Callable[[Theta, Any, Any], torch.Tensor]
    spread: Callable[[Theta, Any, Any], torch.Tensor] | None


def perceptrons(nets: list[nn.Sequential]) -> Nets:
    """Of `mlp`, with the exact trace: see `squares`."""
    linear = [[part for part in net if isinstance(part, nn.Linear)] for net in nets]
    start = [
        torch.stack([layer.weight.detach().T for layer in layers])
        for layers in zip(*linear, strict=True)
    ]
    start += [
        torch.stack([layer.bias.detach()[None] for layer in layers])
        for layers in zip(*linear, strict=True)
    ]
    relu = any(isinstance(part, nn.ReLU) for part in nets[0])
    depth = len(linear[0])

    def through(theta, x):
        layers = [x]
        for weight, bias in zip(theta[: depth - 1], theta[depth:], strict=False):
            before = torch.baddbmm(bias, layers[-1], weight)
            layers.append(torch.relu(before) if relu else torch.tanh(before))
        return [*layers[1:], torch.baddbmm(theta[-1], layers[-1], theta[depth - 1])]

    def of_each(theta, x, back):
        return squares(theta[:depth], [x, *through(theta, x)[:-1]], back, relu)

    def trace(theta, x, signs):
        unit = torch.eye(signs.shape[2], dtype=x.dtype, device=x.device)
        return of_each(theta, x, unit.expand(*x.shape[:2], -1, -1)).mean(1)

    def spread(theta, x, y):
        return of_each(theta, x, (through(theta, x)[-1] - y)[:, :, None]).mean(1)

    return Nets(tuple(start), through, trace, spread)


def squares(weights, layers, back, relu):
    r"""sum_c |J_i^T b_ic|^2 of each example, (k, n), for `back` b (k, n, c, o).

    With a_l what comes into a layer and d_lc what b_c becomes on its way back to what goes out of
    it, the squared gradient by its weights and biases is (|a_l|^2 + 1) sum_c |d_lc|^2: over the
    unit vectors c this is |J_i|^2, whose mean over examples is Tr H; for the residual as the only
    vector it is the squared gradient of the loss.
    """
    total = torch.zeros_like(layers[0][..., 0])
    for at in range(len(weights) - 1, -1, -1):
        total = total + (layers[at].square().sum(2) + 1) * back.square().sum((2, 3))
        if at:
            behind = (back.flatten(1, 2) @ weights[at].mT).unflatten(1, back.shape[1:3])
            slope = (layers[at] > 0).to(behind.dtype) if relu else 1 - layers[at].square()
            back = behind * slope[:, :, None]
    return total


def convolutional(nets: list[nn.Sequential]) -> Nets:
    """Of any others without buffers, with Hutchinson's estimate of the trace: see `probed`."""
    frame, places = nets[0], set(shown(nets[0]))
    stacked, _ = stack_module_state(nets)
    names = list(stacked)

    def one(theta, x):
        found: list[torch.Tensor] = []
        for at, part in enumerate(frame, 1):
            own = {n.partition(".")[2]: t for n, t in theta.items() if n.startswith(f"{at - 1}.")}
            x = functional_call(part, own, (x,))
            again = isinstance(part, nn.Flatten) and x.numel() == found[-1].numel()
            if at in places and not again:  # not what a pool of one place has left as it was
                found.append(x.flatten(1))
        return found

    each = vmap(one)

    def through(theta, x):
        return each(dict(zip(names, theta, strict=True)), x)

    def trace(theta, x, signs):
        return probed(theta, through(theta, x)[-1], signs)

    return Nets(tuple(t.detach().clone() for t in stacked.values()), through, trace, None)


def probed(theta, outputs, signs):
    r"""n |grad (1/n) sum_i z_i . f_i|^2 for signs z (k, n, o): Tr H on average.  -> (k,)

    It is z^T K z / n with K the n o x n o matrix of J_i J_j^T, and E z z^T = 1, after Hutchinson
    (1990).  Its variance is 2 (sum of squares of K off the diagonal) / n^2: about 2 / P of the
    squared trace, P the participation ratio of the eigenvalues of H, less what is on the diagonal:
    one draw is off by up to (2 / P)^1/2 of the trace.  In a descent on L + kappa Tr H, each of
    whose steps has signs of its own, that makes a noise of variance of order (rate kappa)^2 a step,
    against drifts of order rate kappa that add up: over m steps its share falls as m^-1/2.
    """
    along = (signs * outputs).sum() / outputs.shape[1]
    slopes = torch.autograd.grad(along, theta, create_graph=True)
    return outputs.shape[1] * sum(s.square().flatten(1).sum(1) for s in slopes)


def participation(rows):
    """(Tr K)^2 / Tr K^2 of each cloud of points, K its covariance.  (k, n, d) -> (k,)"""
    centred = (rows - rows.mean(1, keepdim=True)).double()
    inner = centred @ centred.mT
    return inner.diagonal(dim1=1, dim2=2).sum(1) ** 2 / inner.square().sum((1, 2))
