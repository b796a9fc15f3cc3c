"""Training of networks: with noise of several shapes, and without noise on an effective loss."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from sgdnoise.theory import label_noise_strength
from simulations.effective_loss._nets import Nets, Theta


@dataclass(frozen=True)
class Training:
    """Networks, the data of each, x (k, n, ...) and y (k, n, o), and the noise.

    label_noise: standard deviation in each output; 0 for minibatch noise alone.
    """

    nets: Nets
    x: Any
    y: Any
    batch: int
    label_noise: float
    generator: torch.Generator

    def loss(self, theta: Theta):
        """The loss of all examples.  (k,)"""
        return 0.5 * (self.nets.layers(theta, self.x)[-1] - self.y).square().sum(2).mean(1)

    def signs(self):
        """A random sign for each output of each example.  (k, n, o)"""
        bits = torch.randint(2, self.y.shape, generator=self.generator, device=self.y.device)
        return 2.0 * bits - 1

    def effective(self, theta: Theta, rate: float):
        """L + kappa Tr H, or without label noise L + rate Tr C / (4 batch).  (k,)"""
        loss = self.loss(theta)
        if self.label_noise:
            kappa = label_noise_strength(rate, self.label_noise, self.batch)
            return loss + kappa * self.nets.trace(theta, self.x, self.signs())
        gradient = squared_norm(torch.autograd.grad(loss.sum(), theta, create_graph=True))
        if self.nets.square is None:
            raise ValueError("Tr C is known of perceptrons only; give other networks label noise")
        trace = self.nets.square(theta, self.x, self.y) - gradient
        return loss + rate / (4 * self.batch) * trace

    def noisy_step(self, theta: Theta, shapes, rate: float) -> tuple[Theta, torch.Tensor]:
        """A minibatch step, and the loss of its batch before it without label noise, (k,).

        theta holds the networks of each shape of noise in turn.  On average the loss of the batch
        is that of all examples.
        """
        on = {"generator": self.generator, "device": self.x.device}
        times, (k, n) = len(shapes), self.x.shape[:2]
        index = torch.randint(n, (times * k, self.batch), **on)
        owner = torch.arange(k, device=self.x.device).repeat(times)[:, None]
        leaves = differentiable(theta)
        outputs = self.nets.layers(leaves, self.x[owner, index])[-1]
        residual = (outputs.detach() - self.y[owner, index]) / self.batch
        gradients = torch.autograd.grad(outputs, leaves, residual, retain_graph=True)
        moved, loss = step(theta, gradients, rate), self.batch * residual.square().sum((1, 2)) / 2
        if not self.label_noise:
            return moved, loss
        white = torch.randn(residual.shape, **on) * (self.label_noise / self.batch)
        noise = torch.autograd.grad(outputs, leaves, white)
        chunks = zip(*(v.chunk(times) for v in noise), strict=True)
        shaped = [reshaped(s, v, self.generator) for s, v in zip(shapes, chunks, strict=True)]
        return step(moved, [torch.cat(t) for t in zip(*shaped, strict=True)], rate), loss


def differentiable(theta: Theta) -> Theta:
    """Leaves of a new graph with the same values."""
    return tuple(t.detach().requires_grad_() for t in theta)


def step(theta, gradients, rate: float) -> Theta:
    """The weights after a step along the gradients."""
    return tuple(t - rate * g for t, g in zip(theta, gradients, strict=True))


def descend(objective: Callable[[Theta], Any], theta: Theta, rate: float, steps: int) -> Theta:
    """Steps without noise on an objective of each network, theta -> (k,)."""
    for _ in range(steps):
        leaves = differentiable(theta)
        theta = step(theta, torch.autograd.grad(objective(leaves).sum(), leaves), rate)
    return theta


def updates(training: Training, shapes, rate: float, every: int, speedup: int) -> dict:
    """The modes that run together -> the function from one recorded moment to the next.

    It returns the weights and a loss of each network: the mean since the last moment under noise,
    and else that of the weights.
    Without noise, steps are `speedup` times as long and as many times fewer.
    """

    def noisy(theta):
        total = torch.zeros((), dtype=torch.float64)
        for _ in range(every):
            theta, loss = training.noisy_step(theta, shapes, rate)
            total = total + loss.double()
        return theta, total / every

    def noiseless(objective):
        def update(theta):
            theta = descend(objective, theta, speedup * rate, every // speedup)
            with torch.no_grad():
                return theta, training.loss(theta)

        return update

    return {
        shapes: noisy,
        ("prediction",): noiseless(partial(training.effective, rate=rate)),
        ("none",): noiseless(training.loss),
    }


def recorded(updates: dict, theta: Theta, observe, records: int) -> dict:
    """Observations of each mode at all moments from the same start, with the losses of `updates`.

    observe: the weights of the networks, and the number of the moment from 1 on -> observations.
    """
    observations: dict[str, list] = {}
    for modes, update in updates.items():
        state = tuple(t.repeat(len(modes), *[1] * (t.ndim - 1)) for t in theta)
        for moment in range(1, records + 1):
            state, losses = update(state)
            chunks = zip(*(t.chunk(len(modes)) for t in state), strict=True)
            of_modes = zip(modes, chunks, losses.chunk(len(modes)), strict=True)
            for mode, chunk, loss in of_modes:
                record = observe(chunk, moment) | {"running_loss": loss.numpy(force=True)}
                observations.setdefault(mode, []).append(record)
    return observations


def reshaped(shape: str, noise, generator):
    """A noise v = J^T eps, of covariance sigma^2 H / B, with another shape and the same trace.

    label: v itself.  diagonal: each number of v times a random sign, which leaves the diagonal of
    the covariance.  isotropic: |v| in a random direction.  |v|^2 is the same in each draw.
    Raises ValueError for another shape.
    """
    on = {"generator": generator}
    match shape:
        case "label":
            return noise
        case "diagonal":
            return [v * (2 * torch.randint(2, v.shape, device=v.device, **on) - 1) for v in noise]
        case "isotropic":
            white = [torch.randn(v.shape, device=v.device, **on) for v in noise]
            return scaled(white, (squared_norm(noise) / squared_norm(white)) ** 0.5)
    raise ValueError(f"a noise is label, diagonal or isotropic, not {shape!r}")


def squared_norm(tensors):
    """The sum of squares of all numbers of each network.  (k,)"""
    return sum(t.square().flatten(1).sum(1) for t in tensors)


def scaled(tensors, factors):
    """The numbers of each network times its factor, (k,)."""
    return [t * factors.view(-1, *[1] * (t.ndim - 1)) for t in tensors]


def largest_curvature(training: Training, theta: Theta, iterations: int = 30):
    """The largest eigenvalue of the Hessian of the loss, by power iteration, from below.  (k,)"""
    leaves = differentiable(theta)
    gradients = torch.autograd.grad(training.loss(leaves).sum(), leaves, create_graph=True)
    vector = gradients
    for _ in range(iterations):
        vector = scaled([t.detach() for t in vector], squared_norm(vector).detach() ** -0.5)
        vector = torch.autograd.grad(gradients, leaves, vector, retain_graph=True)
    return squared_norm(vector) ** 0.5
