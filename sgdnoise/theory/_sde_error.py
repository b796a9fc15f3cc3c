r"""Which equation descent follows, by exact second moments of linear regression.

Gradients of (x theta - y)^2 / 2 are affine in theta, so that M = E z z^T with z = (theta, 1) obeys
a linear map under descent and under every equation that stands for it, with no Monte Carlo.  A map
is a matrix on M laid out row by row, of size (p + 1)^2; numpy and scipy do it all.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import expm

from sgdnoise.core._arrays import as_numpy

ROUNDING = 1e-12


class RegressionError(NamedTuple):
    """Linear regression on given examples, as a law of affine gradients of z = (theta, 1).

    slope (q, q): the mean gradient; scatter (q^2, q^2): from M to the covariance of the gradient of
    a minibatch; q = p + 1, and the last row of each is zero.
    """

    slope: np.ndarray
    scatter: np.ndarray


def regression_error(inputs, targets, batch_size: int, *, replace: bool = True) -> RegressionError:
    r"""Regression of targets (n,) on inputs (n, p), in minibatches with or without replacement.

    scatter = f / batch mean_i (g_i - g) x (g_i - g), f = 1 or (n - batch) / (n - 1).
    Raises ValueError unless 1 <= batch, and batch <= n without replacement.
    """
    x, y = as_numpy(inputs).astype(float), as_numpy(targets).astype(float)
    n, p = x.shape
    if not batch_size >= 1 or (batch_size > n and not replace):
        raise ValueError(f"batches of {batch_size} cannot be drawn from {n} examples")
    rows = np.concatenate([x, -y[:, None]], axis=1)
    each = np.zeros((n, p + 1, p + 1))
    each[:, :p] = x[:, :, None] * rows[:, None, :]
    slope = each.mean(axis=0)
    scatter = np.mean([np.kron(g, g) for g in each - slope], axis=0)
    finite = 1.0 if replace else (n - batch_size) / max(n - 1, 1)
    return RegressionError(slope, finite / batch_size * scatter)


def euler_map(
    problem: RegressionError, learning_rate: float, dt: float, *, order: int = 1
) -> np.ndarray:
    r"""One Euler-Maruyama step dt of the stochastic equation of descent.

    M -> (1 - dt G) M (1 - dt G)^T + rate dt Cov, of weak order 1 in dt (Li, Tai & E, 2017).  With
    order = 1 and dt = rate it is `descent_map`: to solve this equation better is to leave descent.
    Raises ValueError unless rate > 0, dt > 0 and order is 0, 1 or 2.
    """
    _positive(learning_rate=learning_rate, dt=dt)
    drift, noise = _forces(problem, learning_rate, order)
    step = np.eye(len(drift)) - dt * drift
    return np.kron(step, step) + learning_rate * dt * noise


def descent_map(problem: RegressionError, learning_rate: float) -> np.ndarray:
    r"""One step of SGD: M -> E (1 - rate G_B) M (1 - rate G_B)^T, exact for any rate.

    A mean (1 - rate G) M (1 - rate G)^T and a covariance rate^2 Cov: no step but Euler's has these.
    Raises ValueError unless rate > 0.
    """
    return euler_map(problem, learning_rate, learning_rate)


def svag_map(problem: RegressionError, learning_rate: float, stretch: int) -> np.ndarray:
    r"""One step of SVAG(l): rate / l along noise of l times the covariance.

    The weights (1 +- (2 l - 1)^1/2) / 2 of two minibatches (Li, Malladi & Arora, 2021) have the
    moments of Euler's step dt = rate / l; l steps make one of descent.
    Raises ValueError unless rate > 0 and l >= 1.
    """
    if not stretch >= 1:
        raise ValueError(f"SVAG stretches the noise by l >= 1, not {stretch}")
    return euler_map(problem, learning_rate, learning_rate / stretch)


def equation_map(
    problem: RegressionError, learning_rate: float, time: float, *, order: int = 1
) -> np.ndarray:
    r"""A time (rate x steps) along the equation of weak order 0 (no noise), 1 or 2, exactly.

    d theta = -grad(L + [order 2] rate / 4 |grad L|^2) dt + (rate Cov)^1/2 dW, Ito (Li, Tai & E,
    2017); dM/dt is linear in M, and the map its exponential.  Order 2 is closer in transients and,
    at rest, about twice as far: see `stationary_ratio`.
    Raises ValueError unless rate > 0, time > 0 and order is 0, 1 or 2.
    """
    _positive(learning_rate=learning_rate, time=time)
    drift, noise = _forces(problem, learning_rate, order)
    unit = np.eye(len(drift))
    return expm(time * (learning_rate * noise - np.kron(drift, unit) - np.kron(unit, drift)))


def repeated(step, start, steps: int) -> np.ndarray:
    """E z z^T (q, q) after some steps of a map from the sure theta = start (p,)."""
    z = np.append(as_numpy(start).astype(float), 1.0)
    moments = np.linalg.matrix_power(step, steps) @ np.outer(z, z).ravel()
    return moments.reshape(len(z), len(z))


def stationary_moments(step) -> np.ndarray:
    """E z z^T (q, q) that a map leaves as it is.

    Raises ValueError where moments do not come to rest: an unstable rate, or inputs that leave a
    direction free.
    """
    q = math.isqrt(len(step))
    growth = np.abs(np.linalg.eigvals(step[:-1, :-1])).max()
    if growth >= 1 - ROUNDING:
        raise ValueError(
            f"second moments are multiplied by {growth:.4g} a step and never rest: "
            "the rate is unstable, or a direction is free"
        )
    moments = np.linalg.solve(np.eye(q * q - 1) - step[:-1, :-1], step[:-1, -1])
    return np.append(moments, 1.0).reshape(q, q)


def weak_error(
    problem: RegressionError, learning_rate: float, time: float, start, *, order: int = 1
) -> float:
    """Largest difference of first and second moments between descent and `equation_map`.

    At `time`, which must be a whole number of steps; of order rate^order, and rate for order 0.
    Raises ValueError where it is not.
    """
    steps = round(time / learning_rate)
    if steps < 1 or abs(steps * learning_rate - time) > 1e-9 * time:
        raise ValueError(f"a time of {time} is not a whole number of steps of {learning_rate}")
    descended = repeated(descent_map(problem, learning_rate), start, steps)
    solved = repeated(equation_map(problem, learning_rate, time, order=order), start, 1)
    return float(np.max(np.abs(descended - solved)))


def observed_orders(errors, rates) -> np.ndarray:
    """Slopes of log error against log rate between neighbours: (k,) and (k,) to (k - 1,)."""
    return np.diff(np.log(as_numpy(errors))) / np.diff(np.log(as_numpy(rates)))


def weak_coefficient(curvature, scatter, noise, start, time, *, order: int = 1) -> float:
    r"""c in E theta^2 of descent minus that of the equation = c rate^order, one parameter.

    Slope h theta, gradient's variance v theta^2 + w (`scatter`, `noise`), from theta = s, time t:
    order 1: -h^2 t s^2 e^(-2ht); order 2: (2 h v - 2 h^3 / 3) t s^2 e^(-2ht)
    + w (1 - e^(-2ht)) / 2.  The next order is a factor 1 + O(rate h).
    Raises ValueError unless order is 1 or 2.
    """
    if order not in (1, 2):
        raise ValueError(f"equations of weak order 1 and 2 are known, not {order}")
    left = start**2 * time * np.exp(-2 * curvature * time)
    if order == 1:
        return float(-(curvature**2) * left)
    kept = noise * -np.expm1(-2 * curvature * time) / 2
    return float((2 * curvature * scatter - 2 * curvature**3 / 3) * left + kept)


def stationary_ratio(
    learning_rate: float, curvature: float, *, stretch: int = 1, order: int = 1
) -> float:
    r"""Variance at rest of descent over that of its equation, constant noise, one direction.

    1 / (1 - rate h / (2 l)), with l = 1 for SGD and l = `stretch` for SVAG(l) (Li, Malladi & Arora,
    2021); against the equation of order 2 the same times 1 + rate h / 2.
    Raises ValueError unless 0 < rate h < 2 l, and for order not 1 or 2.
    """
    if stretch < 1 or order not in (1, 2):
        raise ValueError(f"a ratio needs stretch >= 1 and order 1 or 2, not {stretch} and {order}")
    _stable(learning_rate, curvature, 2 * stretch)
    against = 1 + learning_rate * curvature / 2 if order == 2 else 1.0
    return against / (1 - learning_rate * curvature / (2 * stretch))


def scaling_ratio(learning_rate: float, curvature: float, factor: float) -> float:
    r"""Variance at rest after rate and batch are both multiplied by `factor`, over that before.

    (1 - rate h / 2) / (1 - factor rate h / 2), constant noise, drawn with replacement.  The
    equation of order 1 depends on rate / batch alone and says 1 (Goyal et al., 2017); what changes
    is the penalty rate / 4 |grad L|^2 of order 2, `factor` times as strong, and the steps' own
    discreteness.  Without replacement (n - batch) / (n - 1) changes too.
    Raises ValueError unless both rates are stable, 0 < rate h < 2.
    """
    _positive(factor=factor)
    _stable(learning_rate, curvature, 2)
    _stable(factor * learning_rate, curvature, 2)
    return (1 - learning_rate * curvature / 2) / (1 - factor * learning_rate * curvature / 2)


def talay_tubaro(coarse, fine, *, order: int = 1):
    r"""What results at steps h and h / 2 say of h = 0: (2^k fine - coarse) / (2^k - 1).

    Talay & Tubaro (1990): for a scheme of weak order k the error has a power series in h, and the
    first term cancels.  Of independent runs the errors add to (4 a^2 + b^2)^1/2 for k = 1, more
    than twice that of the fine one; below a bias of that size it is no gain.
    Raises ValueError for an order below 1.
    """
    if order < 1:
        raise ValueError(f"an extrapolation needs weak order 1 or more, not {order}")
    return (2**order * fine - coarse) / (2**order - 1)


def _forces(problem, learning_rate, order):
    """Matrix of the drift, and the map to the covariance, of an equation of some order."""
    if order not in (0, 1, 2):
        raise ValueError(f"equations of weak order 0, 1 and 2 are known, not {order}")
    slope = problem.slope
    hessian = slope.copy()
    hessian[:, -1] = 0
    drift = slope + learning_rate / 2 * hessian @ slope if order == 2 else slope
    return drift, problem.scatter * (order > 0)


def _positive(**given):
    for name, value in given.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")


def _stable(learning_rate, curvature, most):
    if not 0 < learning_rate * curvature < most:
        raise ValueError(
            f"rate x curvature must lie between 0 and {most} for a law at rest, "
            f"not at {learning_rate * curvature:.4g}"
        )
