"""SGD with label noise on a frozen network, and the path of its mean that theory predicts."""

from typing import NamedTuple

import numpy as np
import torch

from sgdnoise.theory import averaged_gradient, label_noise_covariance
from simulations.public_network._frozen import SMALLEST, Frozen, spectrum


class Noise(NamedTuple):
    """Label noise: its standard deviation, the size of minibatches, and the learning rate."""

    label_noise: float
    batch: int
    rate: float


def sgd(net: Frozen, theta, noise: Noise, steps: int, shape: str, generator):
    """theta after some steps with replacement, and the mean loss before each step.

    shape: "label"; or of the same squared length in each step, "isotropic": in a random direction,
    "diagonal": each number of the label noise with a random sign.
    """
    on = {"generator": generator, "device": theta.device}
    total = theta.new_zeros(())
    for _ in range(steps):
        index = torch.randint(len(net.inputs), (noise.batch,), **on)
        white = noise.label_noise * torch.randn(noise.batch, net.targets.shape[1], **on)
        if shape == "label":
            gradient, loss = net.gradient(theta, index, white)
        else:
            gradient, loss = net.gradient(theta, index)
            kick = net.gradient(theta, index, white)[0] - gradient
            gradient = gradient + reshaped(kick, shape, on)
        theta = theta - noise.rate * gradient
        total += loss
    return theta, float(total) / steps


def reshaped(kick, shape, on):
    """A noise of the same squared length and another shape."""
    if shape == "diagonal":
        return kick * (2 * torch.randint(2, kick.shape, **on) - 1)
    direction = torch.randn(kick.shape, **on)
    return direction * (kick.norm() / direction.norm())


class Jitter:
    """Gaussian jitter of label noise about some weights, and the curvatures there.

    Its covariance S is that of `label_noise_covariance` some steps after weights without jitter.
    It is computed in the space of the outputs: S = J^T W W^T J with the symmetric root of S in
    J^T (J J^T)^(-1/2) x, so that a white x keeps its meaning while J changes.
    """

    def __init__(self, net: Frozen, theta, noise: Noise, steps: float):
        self.rows = net.jacobian(theta).flatten(0, 1)
        n, outputs = net.targets.shape
        values, vectors = spectrum(self.rows)
        visible = values > SMALLEST * values[-1]
        self.values, self.vectors = values[visible], vectors[:, visible]
        self.curvatures = self.values / n
        reduced = self.vectors * self.values.sqrt()
        covariance = label_noise_covariance(
            reduced.reshape(n, outputs, -1).cpu().numpy(),
            label_noise=noise.label_noise,
            learning_rate=noise.rate,
            batch_size=noise.batch,
            time=noise.rate * steps,
        )
        factor = torch.as_tensor(covariance.rows, device=values.device)
        variances, axes = torch.linalg.eigh(factor.T @ factor)
        root = (axes * variances.clamp(min=0).sqrt()) @ axes.T @ self.vectors.T
        self.seen = reduced @ root  # J xi of a white x
        self._weights = (self.vectors / self.values.sqrt()) @ root
        self.loss = float(self.seen.square().sum()) / (2 * n)  # Tr(H S) / 2

    @property
    def width(self) -> int:
        return len(self.rows)

    def colour(self, white):
        """Jitter (p,) of covariance S from a white x (n o,)."""
        white = torch.as_tensor(white, dtype=torch.float64, device=self.rows.device)
        return self.rows.T @ (self._weights @ white).to(self.rows.dtype)

    def inside(self, vector):
        """The coefficients, by the visible directions, of a vector (p,) in the rows of J."""
        return self.vectors.T @ (self.rows @ vector).double() / self.values

    def across(self, coefficients):
        """The vector (p,) in the rows of J with some coefficients."""
        return self.rows.T @ (self.vectors @ coefficients).to(self.rows.dtype)


def balanced(width: int, rng):
    """Endless white numbers (width,), of which each `width` in a row are orthogonal.

    A mean over `width` of them has the exact mean of a quadratic form, and one over fewer has a
    smaller error than independent numbers.
    """
    while True:
        q, _ = np.linalg.qr(rng.standard_normal((width, width)))
        yield from width**0.5 * q


def predicted(net: Frozen, theta, before, noise: Noise, begin: int, steps: int, white):
    """The mean of theta some steps later, its part along the minima, and mean losses.

    The jitter has had `begin` steps.  With E g the mean gradient under Gaussian jitter of the
    covariance of label noise half way, the mean moves by -phi(H) E g, where
    phi(h) = (1 - (1 - rate h)^steps) / h: all steps at once along the minima, where h = 0, and
    relaxation across them.  The losses half way are Tr(H S) / 2, and the mean over the jitter.
    before: the part along the minima of the previous move; E g is taken half of it further on.
    """
    middle = theta + before / 2
    jitter = Jitter(net, middle, noise, begin + steps / 2)
    drawn = torch.as_tensor(white, device=jitter.seen.device).double() @ jitter.seen.T
    quadratic = float(drawn.square().sum()) / (2 * len(net.inputs) * len(white))
    losses = []

    def gradient(at):
        result, loss = net.gradient(at)
        losses.append(float(loss))
        return result

    force = averaged_gradient(gradient, middle, jitter, white)
    curved = float(np.mean(losses)) / quadratic  # of the same draws, so that their error cancels
    inside = jitter.inside(force)
    along = -steps * noise.rate * (force - jitter.across(inside))
    relaxed = -torch.expm1(steps * torch.log1p(-noise.rate * jitter.curvatures))
    theta = theta + along - jitter.across(inside * relaxed / jitter.curvatures)
    return theta, along, (jitter.loss, jitter.loss * curved)


def jittered(net: Frozen, theta, noise: Noise, steps: int, white):
    """Weights about their mean theta, some steps after weights without jitter: pairs of signs."""
    jitter = Jitter(net, theta, noise, steps)
    for row in white:
        away = jitter.colour(row)
        yield from (theta + away, theta - away)


def largest_rate(net: Frozen, share: float):
    """The rate at which rate times the largest curvature is a share, and the trace of H."""
    values, _ = spectrum(net.jacobian(net.start).flatten(0, 1))
    curvatures = values / len(net.inputs)
    return share / float(curvatures[-1]), float(curvatures.sum())


def autograd_slopes(net: Frozen, probes: int, generator):
    """d/dt of each PR and of Tr H along descent on Tr H, with the gradient that autograd gives.

    -<P grad PR, grad Tr H> and -<P grad Tr H, grad Tr H>, with P onto the kernel of J.  Each
    product has two independent estimates of grad Tr H, so that its mean is unbiased.
    """
    rows = net.jacobian(net.start).flatten(0, 1)
    values, vectors = spectrum(rows)

    def tangent(vector):
        inside = vectors.T @ (rows @ vector).double() / values.clamp(min=1e-9 * values[-1])
        return vector - rows.T @ (vectors @ inside).to(vector.dtype)

    first, second = (
        tangent(net.trace_gradient(net.start, probes // 2, generator)[1]) for _ in range(2)
    )
    slopes = []
    ratios = net.at(net.start).ratios(net.start)
    for ratio in ratios:
        parts = torch.autograd.grad(
            ratio, net.parameters, retain_graph=True, materialize_grads=True
        )
        gradient = torch.cat([g.reshape(-1) for g in parts])
        slopes.append(-float(gradient @ (first + second) / 2))
    return np.asarray(slopes), -float(first @ second)


def amplification(trace: float, noise: Noise, outputs: int) -> float:
    """u = rate Tr H / (2 batch outputs), the share of noise that sampled residuals add."""
    return noise.rate * trace / (2 * noise.batch * outputs)
