"""Tanh networks of flat parameters: outputs, losses, Tr H, participation ratios, and training.

theta is (..., p) with any leading axes: for each layer its weights, row by row, and its biases.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

SIGNS = 1, -1


class Net(NamedTuple):
    """Widths of a network, its loss, and its data: x (n, d), y (n, o)."""

    widths: tuple[int, ...]
    entropy: bool  # cross-entropy; else half the squared error
    x: torch.Tensor
    y: torch.Tensor

    def layers(self, theta):
        """Weights (..., i, o) and biases (..., 1, o) of each layer."""
        shapes = [shape for i, o in pairwise(self.widths) for shape in ((i, o), (1, o))]
        parts = theta.split([i * o for i, o in shapes], dim=-1)
        tensors = [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]
        return list(zip(tensors[::2], tensors[1::2], strict=True))

    def activations(self, theta, x):
        """The hidden layers (..., n, h), and the outputs (..., n, o) as the last."""
        values = [x]
        *first, (readout, offset) = self.layers(theta)
        for weights, bias in first:
            values.append(torch.tanh(values[-1] @ weights + bias))
        return [*values[1:], values[-1] @ readout + offset]

    def losses(self, theta, x, y):
        """The loss of each example, (..., n)."""
        outputs = self.activations(theta, x)[-1]
        if self.entropy:
            return -(y * torch.log_softmax(outputs, -1)).sum(-1)
        return 0.5 * (outputs - y).square().sum(-1)

    def loss(self, theta):
        """The mean loss of all examples."""
        return self.losses(theta, self.x, self.y).mean(-1)

    def trace(self, theta):
        r"""The trace of the Gauss-Newton matrix, mean_i Tr J_i^T M J_i.

        M is 1, and diag(q) - q q^T for cross-entropy with the probabilities q.  M is the sum of
        b b^T over vectors b, which are propagated back.
        """
        *hidden, outputs = self.activations(theta, self.x)
        unit = torch.eye(outputs.shape[-1], dtype=outputs.dtype)
        vectors = unit.expand(*outputs.shape, -1)
        if self.entropy:
            q = torch.softmax(outputs, -1)
            vectors = q.sqrt()[..., None] * (vectors - q[..., None, :])
        total = torch.zeros(())
        layers = list(zip(self.layers(theta), [self.x, *hidden], strict=True))
        for (weights, _), inputs in reversed(layers):
            total = total + (inputs.square().sum(-1) + 1) * vectors.square().sum((-2, -1))
            if inputs is not self.x:
                vectors = (vectors @ weights.mT[..., None, :, :]) * (1 - inputs**2)[..., None, :]
        return total.mean(-1)

    def ratios(self, theta):
        """The participation ratio of each hidden layer, (..., layers)."""
        hidden = self.activations(theta, self.x)[:-1]
        return torch.stack([_participation(rows) for rows in hidden], -1)

    def observed(self, theta):
        """Participation ratios, Tr H and loss: (..., layers + 2)."""
        numbers = torch.stack([self.trace(theta), self.loss(theta)], -1)
        return torch.cat([self.ratios(theta), numbers], -1)


def _participation(rows):
    centred = rows - rows.mean(-2, keepdim=True)
    covariance = centred.mT @ centred
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    return trace**2 / covariance.square().sum((-2, -1))


def descend(loss, theta, rate: float, steps: int):
    """Gradient descent on a loss of flat parameters."""
    gradient = torch.func.grad(loss)
    for _ in range(steps):
        theta = theta - rate * gradient(theta)
    return theta


def sgd(net: Net, theta, rate: float, *, batches):
    """Steps of rows of parameters (r, p) along the batches (r, B) of indices of each step."""
    gradient = torch.func.grad(lambda t, x, y: net.losses(t, x, y).sum() / x.shape[-2])
    for index in batches:
        theta = theta - rate * gradient(theta, net.x[index], net.y[index])
    return theta


def batches_of(sampling: str, rows: int, n: int, batch: int, generator):
    """An endless sequence of the batches (rows, batch) of every step."""
    while True:
        if sampling == "with_replacement":
            yield torch.randint(n, (rows, batch), generator=generator)
            continue
        order = torch.rand(rows, n, generator=generator).argsort(1)
        last = n if sampling == "reshuffled" else batch
        for start in range(0, last, batch):
            yield order[:, start : start + batch]


def with_trace(net: Net, gradients, rate: float, batch: int):
    """L + rate Tr C / (4 batch), for the gradients (n, p) of the examples."""

    def loss(theta):
        g = gradients(theta)
        return net.loss(theta) + rate / (4 * batch) * (g - g.mean(0)).square().sum() / len(g)

    return loss


def normal_pairs(mean, covariance, pairs: int, rng):
    """Pairs of theta, opposite about the mean, whose law is normal.  (2 pairs, p)"""
    values, vectors = np.linalg.eigh(covariance.double().numpy())
    root = vectors * values.clip(0) ** 0.5
    shifts = torch.as_tensor(rng.normal(size=(pairs, len(root))) @ root.T, dtype=mean.dtype)
    return torch.cat([mean + sign * shifts for sign in SIGNS])
