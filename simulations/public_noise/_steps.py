"""One step of SGD with batches of several sizes: predicted gains, and gains that are measured."""

import numpy as np
import torch

from sgdnoise.core import GradientMatrix
from sgdnoise.noise import alignment, batch_efficiency, gradient_noise_scale
from simulations.public_noise._kurtosis import batch_weights

LEADING = 10  # eigenvectors whose overlap is measured


class Curvature:
    """Quadratic forms of the Hessian and of Gauss-Newton along gradients and their noise.

    Tr(HC) is a sum over the leading eigenvectors of the noise covariance C, where it is exact, and
    a mean over random signs of the remaining noise, which leaves an error.
    gradients (n, p) of all photographs, the population; C has the divisor n.
    """

    def __init__(self, place, gradients, leading: int, probes: int, rng):
        self.gradient = gradients.mean(0)
        centred = gradients - self.gradient
        values, vectors = torch.linalg.eigh((centred @ centred.T).double() / len(gradients))
        self.eigenvalues = values.flip(0).clamp(min=0).cpu().numpy()
        weights = vectors.flip(1)[:, :leading].to(gradients.dtype)
        directions = centred.T @ weights
        self.directions = directions / directions.norm(dim=0)
        rest = centred - (centred @ self.directions) @ self.directions.T
        signs = gradients.new_tensor(rng.choice([-1.0, 1.0], (len(gradients), probes)))
        noise = rest.T @ signs / len(gradients) ** 0.5
        every = torch.cat([self.directions, self.gradient[:, None], noise], 1)
        self.leading, self.square = leading, float(self.gradient.double() @ self.gradient.double())
        hessian = (every.T @ place.hessian_products(every)).double().cpu().numpy()
        self.hessian = (hessian + hessian.T) / 2
        self.gauss_newton = place.gauss_newton(every).cpu().numpy()

    def along_gradient(self, form) -> float:
        """g^T H g."""
        return float(form[self.leading, self.leading])

    def trace(self, form) -> tuple[float, float]:
        """Tr(HC) with the error that probes leave."""
        k = self.leading
        exact = self.eigenvalues[:k] @ np.diag(form)[:k]
        probed = np.diag(form)[k + 1 :]
        return float(exact + probed.mean()), float(probed.std(ddof=1) / len(probed) ** 0.5)

    def scale(self, form) -> tuple[float, float]:
        """The noise scale Tr(HC) / g^T H g, with its error."""
        trace, error = self.trace(form)
        return trace / self.along_gradient(form), error / self.along_gradient(form)

    def aligned(self, form):
        """The alignment of C with a curvature among the leading eigenvectors of C."""
        within = form[: self.leading, : self.leading]
        k = min(LEADING, self.leading - 1)
        return alignment(np.diag(self.eigenvalues[: self.leading]), within, k=k)

    def control(self, projections, fraction):
        """d^T H d of batch gradients d within the leading eigenvectors, less its known mean.

        projections (m, leading) of them; fraction: the variance of a batch over C.
        """
        within = self.hessian[: self.leading, : self.leading]
        mean = (self.gradient @ self.directions).double().cpu().numpy()
        known = mean @ within @ mean + fraction * self.eigenvalues[: self.leading] @ np.diag(within)
        return np.einsum("mi,ij,mj->m", projections, within, projections) - known


def simple_scale(gradients) -> float:
    """Tr C / |g|^2 of the population."""
    return gradient_noise_scale(GradientMatrix(gradients), population=True).value


def variance_of_batch(n: int, batch: int) -> float:
    """The variance of the mean of a batch without replacement, over that of one example."""
    return (n - batch) / (n - 1) / batch


def gains(place, gradients, curvature: Curvature, batches, shares, draws: int, rng) -> dict:
    """Gains of one step, at a share of the best rate of each batch by theory, and errors.

    The exact gradient is the batch of all.  Of each draw what is known of its first and second
    order is subtracted, with its mean added: this changes no mean, only the error.
    """
    n, start = len(gradients), place.loss(place.theta)
    g, directions = curvature.gradient, curvature.directions
    best = curvature.square / curvature.along_gradient(curvature.hessian)
    critical = curvature.scale(curvature.hessian)[0]
    exact = [start - place.loss(place.theta - share * best * g) for share in shares]
    values = np.empty((2, len(batches), len(shares)))
    for row, batch in enumerate(batches):
        fraction = variance_of_batch(n, batch)
        rate = best * batch_efficiency(1.0, critical * fraction)
        weights = gradients.new_tensor(batch_weights(n, batch, draws, rng))
        drawn = weights @ gradients
        first = (drawn @ g).double().cpu().numpy() - curvature.square
        second = curvature.control((drawn @ directions).double().cpu().numpy(), fraction)
        for column, share in enumerate(shares):
            step = share * rate
            losses = np.asarray([place.loss(place.theta - step * d) for d in drawn])
            gain = start - losses - step * first + step**2 / 2 * second
            values[:, row, column] = gain.mean(), gain.std(ddof=1) / draws**0.5
    return {"gain": values[0], "gain_stderr": values[1], "exact": np.asarray(exact), "rate": best}
