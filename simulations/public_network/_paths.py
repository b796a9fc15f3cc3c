"""SGD with label noise on a frozen network, and the path of its mean that theory predicts."""

from typing import NamedTuple

import numpy as np
import torch

from sgdnoise.theory import averaged_gradient, label_noise_covariance
from simulations.public_network._frozen import Frozen, spectrum


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


def predicted(net: Frozen, theta, noise: Noise, begin: int, steps: int, draws: int, rng):
    """The mean of theta some steps later, by the averaged gradient of the jitter, and mean losses.

    The jitter has had `begin` steps before.  With E g the mean gradient under Gaussian jitter of
    the covariance of label noise half way, the mean moves by -phi(H) E g, where
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
    seen = rows.cpu().double() @ torch.as_tensor(covariance.rows).T  # J in the rows of S
    linear = float(seen.square().sum()) / (2 * n)
    quadratic = float((seen @ torch.as_tensor(white).T).square().sum()) / (2 * n * draws)
    losses = []

    def gradient(at):
        result, loss = net.gradient(at)
        losses.append(float(loss))
        return result

    force = averaged_gradient(gradient, theta, covariance, white)
    curved = float(np.mean(losses)) / quadratic  # of the same draws, so that their error cancels
    values, vectors = spectrum(rows)
    visible = values > 1e-9 * values[-1]
    curvatures, vectors = values[visible] / n, vectors[:, visible]
    along = vectors.T @ (rows @ force).double() / (n * curvatures)
    relaxed = -torch.expm1(steps * torch.log1p(-noise.rate * curvatures)) / curvatures
    across = rows.T @ (vectors @ (along * (relaxed - steps * noise.rate))).to(theta.dtype)
    return theta - steps * noise.rate * force - across, (linear, linear * curved)


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
