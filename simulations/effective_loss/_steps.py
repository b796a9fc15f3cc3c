"""Steps of networks on their way: with noise of a shape, and without it on an effective loss."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from sgdnoise.theory import label_noise_strength
from simulations.effective_loss._nets import Nets, Theta

__all__ = ["Course", "descended", "kicks", "moves", "norms", "steepest", "walked"]


@dataclass(frozen=True)
class Course:
    """Networks, what each of them learns, x (k, n, ...) and y (k, n, o), and the noise of it.

    label_noise: standard deviation in each output; 0 for noise of the batches alone.
    """

    nets: Nets
    x: Any
    y: Any
    batch: int
    label_noise: float
    generator: torch.Generator

    def loss(self, theta: Theta):
        """Of all examples.  (k,)"""
        return 0.5 * (self.nets.through(theta, self.x)[-1] - self.y).square().sum(2).mean(1)

    def signs(self):
        """A random one for each output of each example.  (k, n, o)"""
        drawn = torch.randint(2, self.y.shape, generator=self.generator, device=self.y.device)
        return 2.0 * drawn - 1

    def effective(self, theta: Theta, rate: float):
        """L + kappa Tr H, or where there is no label noise L + rate Tr C / (4 batch).  (k,)"""
        if self.label_noise:
            kappa = label_noise_strength(rate, self.label_noise, self.batch)
            return self.loss(theta) + kappa * self.nets.trace(theta, self.x, self.signs())
        loss = self.loss(theta)
        square = norms(torch.autograd.grad(loss.sum(), theta, create_graph=True))
        if self.nets.spread is None:
            raise ValueError("Tr C is told of perceptrons alone; give other networks label noise")
        spread = self.nets.spread(theta, self.x, self.y) - square
        return loss + rate / (4 * self.batch) * spread

    def noisy(self, theta: Theta, shapes, rate: float) -> Theta:
        """A step of minibatches; theta holds the networks of each shape of noise in turn."""
        on = {"generator": self.generator, "device": self.x.device}
        times, (k, n) = len(shapes), self.x.shape[:2]
        index = torch.randint(n, (times * k, self.batch), **on)
        owner = torch.arange(k, device=self.x.device).repeat(times)[:, None]
        leaves = tuple(part.detach().requires_grad_() for part in theta)
        outputs = self.nets.through(leaves, self.x[owner, index])[-1]
        off = (outputs.detach() - self.y[owner, index]) / self.batch
        slopes = torch.autograd.grad(outputs, leaves, off, retain_graph=True)
        moved = [part - rate * slope for part, slope in zip(theta, slopes, strict=True)]
        if not self.label_noise:
            return tuple(moved)
        white = torch.randn(off.shape, **on) * (self.label_noise / self.batch)
        along = torch.autograd.grad(outputs, leaves, white)
        each = zip(*(v.chunk(times) for v in along), strict=True)
        kicked = [kicks(shape, v, self.generator) for shape, v in zip(shapes, each, strict=True)]
        whole = (torch.cat(part) for part in zip(*kicked, strict=True))
        return tuple(part - rate * kick for part, kick in zip(moved, whole, strict=True))


def descended(objective: Callable[[Theta], Any], theta: Theta, rate: float, steps: int) -> Theta:
    """So many steps without noise, on a function of each network.  theta -> (k,)"""
    for _ in range(steps):
        leaves = tuple(part.detach().requires_grad_() for part in theta)
        slopes = torch.autograd.grad(objective(leaves).sum(), leaves)
        theta = tuple(part - rate * slope for part, slope in zip(theta, slopes, strict=True))
    return theta


def moves(own: Course, shapes, rate: float, every: int, hurry: int) -> dict:
    """The modes that go together -> what takes them from one moment to the next.

    Without noise steps are `hurry` times as long and as many times fewer.
    """

    def noisily(theta):
        for _ in range(every):
            theta = own.noisy(theta, shapes, rate)
        return theta

    def quietly(objective):
        return lambda theta: descended(objective, theta, hurry * rate, every // hurry)

    return {
        shapes: noisily,
        ("prediction",): quietly(partial(own.effective, rate=rate)),
        ("none",): quietly(own.loss),
    }


def walked(ways: dict, theta: Theta, look, watches: int) -> dict:
    """What is seen of each mode at each of so many moments, from the same start."""
    found: dict[str, list] = {}
    for modes, move in ways.items():
        walk = tuple(part.repeat(len(modes), *[1] * (part.ndim - 1)) for part in theta)
        for _ in range(watches):
            walk = move(walk)
            each = zip(*(part.chunk(len(modes)) for part in walk), strict=True)
            for mode, own in zip(modes, each, strict=True):
                found.setdefault(mode, []).append(look(own))
    return found


def kicks(shape: str, along, generator):
    """A noise v = J^T eps, of covariance sigma^2 H / B, given another shape but the same trace.

    label: v itself.  diagonal: each number of v times a sign of its own, which leaves of the
    covariance its diagonal alone.  isotropic: |v| in a random direction.  |v|^2, and so the trace,
    is that of v in each draw, and not on average alone.  Raises ValueError for another shape.
    """
    on = {"generator": generator}
    match shape:
        case "label":
            return along
        case "diagonal":
            return [v * (2 * torch.randint(2, v.shape, device=v.device, **on) - 1) for v in along]
        case "isotropic":
            white = [torch.randn(v.shape, device=v.device, **on) for v in along]
            return scaled(white, (norms(along) / norms(white)) ** 0.5)
    raise ValueError(f"a noise is label, diagonal or isotropic, not {shape!r}")


def norms(parts):
    """Squared, of all numbers of each network.  (k,)"""
    return sum(part.square().flatten(1).sum(1) for part in parts)


def scaled(parts, times):
    """Each network's numbers times one (k,)."""
    return [part * times.view(-1, *[1] * (part.ndim - 1)) for part in parts]


def steepest(course: Course, theta: Theta, turns: int = 30):
    """The largest curvature of the loss, by power iteration, from below.  (k,)"""
    leaves = tuple(part.detach().requires_grad_() for part in theta)
    slopes = torch.autograd.grad(course.loss(leaves).sum(), leaves, create_graph=True)
    way = slopes
    for _ in range(turns):
        way = scaled([part.detach() for part in way], norms(way).detach() ** -0.5)
        way = torch.autograd.grad(slopes, leaves, way, retain_graph=True)
    return norms(way) ** 0.5
