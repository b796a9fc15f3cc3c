"""Perceptrons of relus as functions of one vector of weights, many at once, and their minima."""

import numpy as np
import torch
from torch import nn
from torch.func import jacrev

from sgdnoise.data import digits
from sgdnoise.nets.models import mlp

RATE, BATCH = 0.02, 32  # of the training on the classes of the digits, before the study
SPEEDUP, DESCENT, PROJECTIONS = 4, 60, 3  # rate of a quench over that of SGD, and its steps
SMALLEST = 1e-10  # curvature relative to the sum, below which a projection does not move


class Perceptron:
    """Layers of relus on a few inputs, and squared loss on their own first outputs.

    The loss is the mean over examples of |f(x) - y|^2 / 2 with y the outputs at the start, so that
    the start is a minimum without residuals.  theta: (..., p), one or many vectors of weights.
    """

    def __init__(self, net: nn.Sequential, inputs):
        layers = [module for module in net if isinstance(module, nn.Linear)]
        parameters = [layer.weight.detach().T for layer in layers]
        parameters += [layer.bias.detach() for layer in layers]
        self.depth, self.inputs = len(layers), inputs
        self.shapes = [tuple(tensor.shape) for tensor in parameters]
        self.start = torch.cat([tensor.reshape(-1) for tensor in parameters])
        self.targets = self.layers(self.start)[-1]

    def layers(self, theta, inputs=None) -> list[torch.Tensor]:
        """The hidden layers and the outputs, (..., n, units) each."""
        pieces = theta.split([int(np.prod(shape)) for shape in self.shapes], -1)
        pairs = zip(pieces, self.shapes, strict=True)
        tensors = [piece.unflatten(-1, shape) for piece, shape in pairs]
        rows, outputs = self.inputs if inputs is None else inputs, []
        for index, (weight, bias) in enumerate(
            zip(tensors[: self.depth], tensors[self.depth :], strict=True), 1
        ):
            rows = rows @ weight + bias.unsqueeze(-2)
            rows = torch.relu(rows) if index < self.depth else rows
            outputs.append(rows)
        return outputs

    def gradient(self, theta, index=None, noise=0.0):
        """The gradient (..., p) of the loss, and the loss (...) without noise of labels.

        index: (..., b) examples, all without it.  noise: (..., b, o), added to the targets.
        """
        theta = theta.detach().requires_grad_()
        inputs, targets = self.inputs, self.targets
        if index is not None:
            inputs, targets = inputs[index], targets[index]
        outputs = self.layers(theta, inputs)[-1]
        residuals = (outputs - targets).detach()
        pulled = (residuals - noise) / residuals.shape[-2]
        (gradient,) = torch.autograd.grad(outputs, theta, pulled)
        return gradient, residuals.square().sum(-1).mean(-1) / 2

    def jacobian(self, theta):
        """J, the derivatives of the outputs of each example by one theta (p,).  (n, o, p)"""
        return jacrev(lambda at: self.layers(at)[-1])(theta)

    def trace_gradient(self, theta):
        """The gradient of Tr H by autograd, which takes the jumps of J at corners for nothing."""
        theta = theta.detach().requires_grad_()
        trace = self.jacobian(theta).square().sum() / len(self.inputs)
        return torch.autograd.grad(trace, theta)[0]

    def observe(self, theta) -> np.ndarray:
        """PR of each hidden layer, and Tr H, at one theta.  (layers + 1,)"""
        ratios = [float(participation(rows)) for rows in self.layers(theta)[:-1]]
        trace = float(self.jacobian(theta).square().sum()) / len(self.inputs)
        return np.asarray([*ratios, trace])

    def projected(self, theta):
        """The minimum near one theta, by steps of Gauss and Newton."""
        for _ in range(PROJECTIONS):
            rows = self.jacobian(theta).flatten(0, 1)
            residuals = (self.layers(theta)[-1] - self.targets).reshape(-1)
            theta = theta - rows.T @ solved(rows, residuals)
        return theta

    def quenched(self, theta, rate: float):
        """Minima that descent without noise reaches from many theta, and projections."""
        for _ in range(DESCENT):
            theta = theta - SPEEDUP * rate * self.gradient(theta)[0]
        return [self.projected(at) for at in theta]


def solved(rows, vector):
    """(J J^T)^-1 v for the rows of J, where J J^T has small eigenvalues a little larger."""
    gram = rows @ rows.T
    shift = SMALLEST * gram.trace() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + shift, vector)


def participation(rows):
    """(Tr K)^2 / Tr K^2 for the covariance K of points.  (..., n, d) -> (...)"""
    centred = rows - rows.mean(-2, keepdim=True)
    gram = centred @ centred.mT
    return gram.diagonal(dim1=-2, dim2=-1).sum(-1) ** 2 / gram.square().sum((-2, -1))


def trained(examples: int, width: int, steps: int, device: str) -> Perceptron:
    """A perceptron that was trained on the classes of digits, on some of them; in float64."""
    data, rng = digits(), np.random.default_rng(0)
    order = rng.permutation(len(data.inputs))
    inputs = torch.as_tensor(data.inputs[order], dtype=torch.float64)
    inputs = ((inputs - inputs.mean()) / inputs.std()).to(device)
    classes = torch.as_tensor(data.targets[order], dtype=torch.float64, device=device)
    net = mlp((inputs.shape[1], width, width, classes.shape[1]), seed=0).double().to(device)
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    for _ in range(steps):
        index = torch.as_tensor(rng.integers(0, len(inputs), BATCH), device=device)
        optimizer.zero_grad()
        (net(inputs[index]) - classes[index]).square().sum(1).mean().backward()
        optimizer.step()
    return Perceptron(net, inputs[:examples])
