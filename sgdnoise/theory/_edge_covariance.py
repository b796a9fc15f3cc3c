r"""The balance of an oscillation at the edge of stability with the curvature that it lowers.

Where a curvature of the loss reaches 2 / rate, descent oscillates along it.  The covariance X of
the oscillation lowers the curvature by its mean force -grad Tr(H X) / 2, and is therefore as large
as keeps the curvature at 2 / rate.  In several directions that is a semidefinite complementarity
problem.  Noise kicks the oscillation below the edge too, and so leaves a gap to 2 / rate.

Assumed: the oscillation is small, so that curvatures change linearly in X; and at rest, so that
what kicks it in a step equals what is lost in it.

Known: self-stabilisation (Damian, Nichani & Lee, 2023), the complementarity (Cohen, Damian,
Talwalkar, Kolter & Lee, 2025), and the gap in one direction by noise that does not depend on theta
(Liao, Kolomvaki & Kyrillidis, 2026).  New here, as far as we know: noise makes the balance the path
of an interior-point method, in any number of directions, and noise of curvatures widens the gap.
"""

from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._checks import check_positive

EXACT = 1e-10  # of the scale of the balance, to which it is solved
ROUNDING = 1e-15  # relative to the largest eigenvalue
NEWTON = 100  # steps of Newton's method, at most; 10 to 20 suffice


@checked
def edge_covariance(
    slack, response, learning_rate: float, noise=None, curvature_noise=None, curvature=None
):
    r"""The covariance X of an oscillation along k directions that balances their curvatures.

    slack: D0 = 2 / rate - U^T H U, (k, k), that the directions U would have without oscillation; it
    may be negative.  response: how X raises it, D = D0 + R[X], (k, k, k, k), a symmetric operator
    that is not negative.  Without noise X >= 0, D >= 0 and Tr(D X) = 0.
    noise: the covariance U^T C U / B of the gradients of a minibatch, (k, k).  X then solves
    D X H + H X D = 2 (noise + N[X]), where `curvature_noise` N, (k, k, k, k), is
    E[(H_i - H) X (H_i - H)] / B, and `curvature` H is 2 / rate by default.  With H = 2 / rate - D
    it is S of `stationary_covariance`; with H = 2 / rate it is the path of an interior-point
    method, whose barrier is rate x noise / 2.  -> X and D, (k, k) each.
    Raises ValueError for arrays of other shapes, for terms that are not finite, and if there is no
    balance, as where no X raises a negative slack.

    Example:
        >>> import numpy as np
        >>> response = 2 * np.ones((1, 1, 1, 1))
        >>> x, d = edge_covariance([[-0.5]], response, 0.1)
        >>> x.round(6).tolist(), d.round(6).tolist()
        ([[0.25]], [[0.0]])
    """
    check_positive(learning_rate=learning_rate)
    slack, response = (as_numpy(array).astype(float) for array in (slack, response))
    k, unit = len(slack), learning_rate / 2  # slacks are in units of the edge
    noise = _array("noise", noise, np.zeros((k, k)))
    own = _array("curvature_noise", curvature_noise, np.zeros((k,) * 4))
    damping = unit * _array("curvature", curvature, np.eye(k) / unit)
    if slack.shape != (k, k) or response.shape != (k,) * 4:
        raise ValueError(f"a slack {slack.shape} and a response {response.shape} do not fit")
    size = _size(slack, response, noise, learning_rate)
    kicks = unit * learning_rate / size * noise, unit * learning_rate * own
    terms = damping, unit * slack, unit * size * response, *kicks
    if not all(np.isfinite(term).all() for term in terms):
        raise ValueError(f"the terms of the balance are not finite at a rate of {learning_rate}")
    balance = _Balance(*terms)
    covariance, gap = balance.solved()
    return size * covariance, gap / unit


@checked
def edge_sharpness(learning_rate, oscillation, gradient_variance=0.0, curvature_variance=0.0):
    r"""The curvature lambda at which SGD stays, below 2 / rate, along one direction.

    lambda = (1 + (1 - rate^2 q)^1/2) / rate with q = gradient_variance / oscillation +
    curvature_variance, both of a minibatch, c / B and Var(h_i) / B.  oscillation: the variance of
    theta along the direction that stops the increase of lambda, 2 alpha / beta: alpha is the speed
    at which lambda increases by itself, and beta = |grad lambda|^2 (Damian, Nichani & Lee, 2023).
    For small q lambda is 2 / rate - rate q / 2 (Liao, Kolomvaki & Kyrillidis, 2026, without
    curvature_variance).  It is nan for rate^2 q > 1: noise then stops the increase below 1 / rate.
    Raises ValueError for a rate or an oscillation that is not positive.

    Example:
        >>> edge_sharpness(0.1, 0.1), round(edge_sharpness(0.1, 0.1, gradient_variance=4.0), 3)
        (20.0, 17.746)
    """
    check_positive(learning_rate=learning_rate, oscillation=oscillation)
    root = 1 - learning_rate**2 * (gradient_variance / oscillation + curvature_variance)
    return (1 + root**0.5) / learning_rate if root >= 0 else float("nan")


@checked
def edge_period(learning_rate, sharpening):
    r"""The number of steps of a small cycle of descent at the edge, 2 pi / (rate (2 alpha)^1/2).

    sharpening: alpha, the speed at which the largest curvature would increase by itself, per unit
    of rate x steps.  Mean paths at the edge hold for times well above it.
    Raises ValueError for numbers that are not positive.

    Example:
        >>> round(edge_period(0.1, 2.0), 1)
        31.4
    """
    check_positive(learning_rate=learning_rate, sharpening=sharpening)
    return 2 * np.pi / (learning_rate * (2 * sharpening) ** 0.5)


class _Balance(NamedTuple):
    """The balance z X h + h X z = M + N[X], z = z0 + R[X], in units of the edge.

    damping: h (k, k).  slack: z0 (k, k).  response, own: R and N, (k, k, k, k).  noise: M (k, k).
    """

    damping: np.ndarray
    slack: np.ndarray
    response: np.ndarray
    noise: np.ndarray
    own: np.ndarray

    def solved(self):
        """X >= 0 and z >= 0, by an interior-point method of Newton steps in both.

        The search directions are those of Alizadeh, Haeberly & Overton (1998).
        """
        k = len(self.slack)
        scale = 1 + abs(self.slack).max() + abs(self.noise).max()
        covariance, gap, barrier = np.eye(k), scale * np.eye(k), scale
        for _ in range(NEWTON):
            changes = self._changes(covariance, gap, barrier)
            length = min(1.0, 0.9 * _room(covariance, changes[0]), 0.9 * _room(gap, changes[1]))
            covariance, gap = covariance + length * changes[0], gap + length * changes[1]
            barrier *= 1 - 0.9 * length
            if max(abs(r).max() for r in self._residuals(covariance, gap)) < EXACT * scale:
                return covariance, gap
        raise ValueError("no covariance of theta keeps these curvatures at or below the edge")

    def _residuals(self, x, z):
        lift, own = (np.tensordot(operator, x, 2) for operator in (self.response, self.own))
        return z - self.slack - lift, _both(z @ x @ self.damping) - self.noise - own

    def _changes(self, x, z, barrier):
        """The step of Newton's method for the balance with a barrier added to the noise."""
        k = len(x)
        units = np.stack([symmetric(row, k) for row in np.eye(k * (k + 1) // 2)])
        lift, own = (np.tensordot(units, op, ((1, 2), (2, 3))) for op in (self.response, self.own))
        by_x = _both(z @ units @ self.damping) - own
        by_z = _both(units @ x @ self.damping)
        first, second = self._residuals(x, z)
        rows, columns = np.triu_indices(k)
        blocks = (-lift, units), (by_x, by_z)
        parts = [np.concatenate(block)[:, rows, columns].T for block in blocks]
        right = [r[rows, columns] for r in (first, second - barrier * np.eye(k))]
        solution = np.linalg.lstsq(np.concatenate(parts), -np.concatenate(right), rcond=None)[0]
        return [symmetric(part, k) for part in np.split(solution, 2)]


def _both(matrices):
    """The sum of matrices (..., k, k) and their transposes."""
    return matrices + matrices.swapaxes(-1, -2)


def _room(matrix, change):
    """How far a positive definite matrix may move along a change."""
    values, vectors = np.linalg.eigh(matrix)
    root = vectors / np.maximum(values, ROUNDING * values[-1]) ** 0.5
    smallest = np.linalg.eigvalsh(root.T @ change @ root)[0]
    return np.inf if smallest >= 0 else -1 / smallest


def _array(name, value, default):
    array = default if value is None else as_numpy(value).astype(float)
    if array.shape != default.shape:
        raise ValueError(f"{name} must be of shape {default.shape}, not {array.shape}")
    return array


def _size(slack, response, noise, rate):
    """The scale of X: what brings the slack to zero, or what noise makes."""
    k = len(slack)
    stiff = np.linalg.norm(response.reshape(k * k, k * k), 2)
    by_noise = rate * np.linalg.norm(noise, 2) * rate / 2
    lift = abs(slack).max() / stiff if stiff > 0 else 0.0
    return max(lift, by_noise, np.finfo(float).tiny)


def pairs_of(k) -> list:
    """The pairs (i, j) of k directions with i <= j, in order."""
    return list(combinations_with_replacement(range(k), 2))


def symmetric(entries, k):
    """The symmetric matrix (k, k) of the entries of its pairs."""
    matrix = np.zeros((k, k))
    for (i, j), entry in zip(pairs_of(k), entries, strict=True):
        matrix[i, j] = matrix[j, i] = entry
    return matrix


def weights_of(matrix):
    """The weight of each pair in the inner product with a matrix: twice that off the diagonal."""
    symmetric = (matrix + matrix.T) / 2
    return np.asarray([(1 if i == j else 2) * symmetric[i, j] for i, j in pairs_of(len(matrix))])
