"""Several networks of one shape at once: their layers, and the trace of the Gauss-Newton matrix.

With J_i (o, p) the derivative of the outputs for example i by the weights, the Gauss-Newton matrix
H is the mean of J_i^T J_i, and label noise of variance sigma^2 in batches of B gives the gradient
the covariance sigma^2 H / B.  All arrays have a leading axis k of independent networks; theta is a
tuple of their tensors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from simulations._vision import layer_indices

Theta = tuple[torch.Tensor, ...]


class Nets(NamedTuple):
    """Networks at their initial weights, and functions of them at any theta.

    layers: (theta, x) -> hidden layers (k, n, d) each, and the outputs (k, n, o) as the last.
    trace: (theta, x, signs (k, n, o)) -> Tr H (k,), exact or an unbiased estimate by the signs.
    square: (theta, x, y) -> the mean over examples of |grad l_i|^2 (k,), or None.
    """

    start: Theta
    layers: Callable[[Theta, Any], list[torch.Tensor]]
    trace: Callable[[Theta, Any, Any], torch.Tensor]
    square: Callable[[Theta, Any, Any], torch.Tensor] | None


def perceptrons(nets: list[nn.Sequential]) -> Nets:
    """Networks made by `mlp`, with the exact trace: see `squared_gradients`."""
    linear = [[module for module in net if isinstance(module, nn.Linear)] for net in nets]
    weights = [[module.weight.detach().T for module in net] for net in linear]
    biases = [[module.bias.detach()[None] for module in net] for net in linear]
    start = [torch.stack(t) for kind in (weights, biases) for t in zip(*kind, strict=True)]
    relu = any(isinstance(module, nn.ReLU) for module in nets[0])
    depth = len(linear[0])

    def layers(theta, x):
        outputs = [x]
        for weight, bias in zip(theta[: depth - 1], theta[depth:], strict=False):
            before = torch.baddbmm(bias, outputs[-1], weight)
            outputs.append(torch.relu(before) if relu else torch.tanh(before))
        return [*outputs[1:], torch.baddbmm(theta[-1], outputs[-1], theta[depth - 1])]

    def squares(theta, x, vectors):
        return squared_gradients(theta[:depth], [x, *layers(theta, x)[:-1]], vectors, relu)

    def trace(theta, x, signs):
        unit = torch.eye(signs.shape[2], dtype=x.dtype, device=x.device)
        return squares(theta, x, unit.expand(*x.shape[:2], -1, -1)).mean(1)

    def square(theta, x, y):
        return squares(theta, x, (layers(theta, x)[-1] - y)[:, :, None]).mean(1)

    return Nets(tuple(start), layers, trace, square)


def squared_gradients(weights, inputs, vectors, relu):
    r"""sum_c |J_i^T b_ic|^2 of each example, (k, n), for vectors b (k, n, c, o).

    With a_l the input of a layer and d_lc the vector b_c propagated back to its output, the squared
    gradient by its weights and biases is (|a_l|^2 + 1) sum_c |d_lc|^2.  Over the unit vectors c
    this is |J_i|^2, whose mean over examples is Tr H; for the residual as the only vector it is the
    squared gradient of the loss.
    """
    total = torch.zeros_like(inputs[0][..., 0])
    for layer in range(len(weights) - 1, -1, -1):
        total = total + (inputs[layer].square().sum(2) + 1) * vectors.square().sum((2, 3))
        if layer:
            back = (vectors.flatten(1, 2) @ weights[layer].mT).unflatten(1, vectors.shape[1:3])
            hidden = inputs[layer]
            derivative = (hidden > 0).to(back.dtype) if relu else 1 - hidden.square()
            vectors = back * derivative[:, :, None]
    return total


def convolutional(nets: list[nn.Sequential]) -> Nets:
    """Other networks without buffers, with Hutchinson's estimate of the trace."""
    template, indices = nets[0], set(layer_indices(nets[0]))
    stacked, _ = stack_module_state(nets)
    names = list(stacked)

    def layers_of_one(theta, x):
        outputs: list[torch.Tensor] = []
        for index, module in enumerate(template, 1):
            prefix = f"{index - 1}."
            state = {n.partition(".")[2]: t for n, t in theta.items() if n.startswith(prefix)}
            x = functional_call(module, state, (x,))
            # a pool of one pixel is followed by a Flatten that changes nothing
            same = isinstance(module, nn.Flatten) and x.numel() == outputs[-1].numel()
            if index in indices and not same:
                outputs.append(x.flatten(1))
        return outputs

    layers_of_all = vmap(layers_of_one)

    def layers(theta, x):
        return layers_of_all(dict(zip(names, theta, strict=True)), x)

    def trace(theta, x, signs):
        return estimated_trace(theta, layers(theta, x)[-1], signs)

    return Nets(tuple(t.detach().clone() for t in stacked.values()), layers, trace, None)


def estimated_trace(theta, outputs, signs):
    r"""n |grad (1/n) sum_i z_i . f_i|^2 for signs z (k, n, o): Tr H on average.  -> (k,)

    It is z^T K z / n with K the n o x n o matrix of J_i J_j^T, and E z z^T = 1 (Hutchinson, 1990).
    Its variance is 2 (sum of squares of K off the diagonal) / n^2, at most about 2 / P of the
    squared trace, with P the participation ratio of the eigenvalues of H.  In gradient descent on
    L + kappa Tr H with new signs in each step, its contribution after m steps falls as m^-1/2.
    """
    along = (signs * outputs).sum() / outputs.shape[1]
    gradients = torch.autograd.grad(along, theta, create_graph=True)
    return outputs.shape[1] * sum(g.square().flatten(1).sum(1) for g in gradients)


def participation(rows):
    """(Tr K)^2 / Tr K^2 of each cloud of points, K its covariance.  (k, n, d) -> (k,)"""
    centred = (rows - rows.mean(1, keepdim=True)).double()
    gram = centred @ centred.mT
    return gram.diagonal(dim1=1, dim2=2).sum(1) ** 2 / gram.square().sum((1, 2))
