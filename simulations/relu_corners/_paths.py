"""SGD with label noise on many networks at once, and the path of its mean that theory predicts."""

from typing import NamedTuple

import numpy as np
import torch

from sgdnoise.theory import averaged_gradient, label_noise_covariance, label_noise_strength
from simulations.relu_corners._network import Perceptron, solved

VISIBLE = 1e-9  # curvature relative to the largest, below which descent does not relax


class Noise(NamedTuple):
    """Label noise: its standard deviation, the size of minibatches, and the learning rate."""

    label_noise: float
    batch: int
    rate: float

    @property
    def kappa(self) -> float:
        """rate label_noise^2 / (4 batch)."""
        return float(label_noise_strength(self.rate, self.label_noise, self.batch))


def largest_rate(net: Perceptron, share: float) -> tuple[float, float]:
    """The rate at which rate times the largest curvature is a share, and Tr H."""
    rows = net.jacobian(net.start).flatten(0, 1)
    curvatures = torch.linalg.eigvalsh(rows @ rows.T) / len(net.inputs)
    return share / float(curvatures[-1]), float(curvatures.sum())


def sgd(net: Perceptron, theta, noise: Noise, steps: int, generator):
    """Many theta (k, p) after some steps with replacement, and their mean loss before each step."""
    on = {"generator": generator, "device": theta.device}
    shape, outputs = (len(theta), noise.batch), net.targets.shape[1]
    total = 0.0
    for _ in range(steps):
        index = torch.randint(len(net.inputs), shape, **on)
        white = torch.randn(*shape, outputs, dtype=theta.dtype, **on)
        gradient, loss = net.gradient(theta, index, noise.label_noise * white)
        theta = theta - noise.rate * gradient
        total += float(loss.mean())
    return theta, total / steps


def predicted(net: Perceptron, theta, noise: Noise, begin: int, steps: int, draws: int, rng):
    """The mean of theta some steps later, by the averaged gradient of the jitter, and mean losses.

    The jitter has had `begin` steps before.  With E g the mean gradient under Gaussian jitter of
    the covariance S of label noise half way, the mean moves by -phi(H) E g, where
    phi(h) = (1 - (1 - rate h)^steps) / h: all steps at once along the minima, where h = 0, and
    relaxation across them.  The losses half way are Tr(H S) / 2, and the mean over the jitter.
    """
    jacobian = net.jacobian(theta)
    rows, n = jacobian.flatten(0, 1), len(net.inputs)
    covariance = label_noise_covariance(
        jacobian,
        label_noise=noise.label_noise,
        learning_rate=noise.rate,
        batch_size=noise.batch,
        time=noise.rate * (begin + steps / 2),
    )
    white = rng.standard_normal((draws, covariance.width))
    seen = rows.cpu().numpy() @ covariance.rows.T  # J in the rows of S
    linear = float(np.square(seen).sum()) / (2 * n)
    quadratic = float(np.square(seen @ white.T).sum()) / (2 * n * draws)
    losses = []

    def gradient(at):
        result, loss = net.gradient(at)
        losses.append(float(loss))
        return result

    force = averaged_gradient(gradient, theta, covariance, white)
    curved = float(np.mean(losses)) / quadratic  # of the same draws, so that their error cancels
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    visible = values > VISIBLE * values[-1]
    curvatures, vectors = values[visible] / n, vectors[:, visible]
    along = vectors.T @ (rows @ force) / (n * curvatures)
    relaxed = -torch.expm1(steps * torch.log1p(-noise.rate * curvatures)) / curvatures
    across = rows.T @ (vectors @ (along * (relaxed - steps * noise.rate)))
    return theta - steps * noise.rate * force - across, (linear, linear * curved)


def descended(net: Perceptron, theta, noise: Noise, steps: int):
    """Steps of descent on kappa Tr H along the minima at once, with the gradient of autograd."""
    force = net.trace_gradient(theta)
    rows = net.jacobian(theta).flatten(0, 1)
    along = force - rows.T @ solved(rows, rows @ force)
    return net.projected(theta - steps * noise.rate * noise.kappa * along)
