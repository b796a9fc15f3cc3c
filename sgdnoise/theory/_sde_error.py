r"""How far SGD is from its stochastic differential equations, by exact second moments.

Gradients of linear regression, (x theta - y)^2 / 2, are affine in theta, so that M = E z z^T with
z = (theta, 1) is mapped linearly by SGD and by every equation that approximates it, without Monte
Carlo.  A map is a matrix on the entries of M, row by row, of size (p + 1)^2, in numpy.

Known: the equations of SGD and their weak order (Li, Tai & E, 2017), SVAG (Li, Malladi & Arora,
2021), linear scaling (Goyal et al., 2017).  New here, as far as we know: exact errors, not bounds.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import expm

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._checks import check_positive
from sgdnoise.core._sampling import finite_population_factor

ROUNDING = 1e-12


class AffineGradients(NamedTuple):
    """The mean and covariance of minibatch gradients that are affine in theta, z = (theta, 1).

    mean (q, q): the mean gradient is mean z; covariance (q^2, q^2): the map from M to the
    covariance of the gradient of a minibatch; q = p + 1, and the last row of each is zero.

    Example:
        >>> import numpy as np
        >>> mean = np.asarray([[2.0, -1.0], [0.0, 0.0]])  # the mean gradient is 2 theta - 1
        >>> gradients = AffineGradients(mean, covariance=np.zeros((4, 4)))
        >>> (gradients.mean @ np.asarray([3.0, 1.0]))[0].item()  # at theta = 3
        5.0
    """

    mean: np.ndarray
    covariance: np.ndarray


@checked
def regression_gradients(
    inputs, targets, batch_size: int, *, replacement: bool = True
) -> AffineGradients:
    r"""The gradients of regression of targets (n,) on inputs (n, p), in minibatches.

    covariance = f / B mean_i (g_i - g) x (g_i - g), f = 1 or (n - B) / (n - 1) without replacement.
    Raises ValueError unless 1 <= batch_size, and batch_size <= n without replacement.

    Example:
        >>> import numpy as np
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> targets = inputs @ np.asarray([1.0, -1.0]) + 0.1
        >>> regression_gradients(inputs, targets, 2)._fields
        ('mean', 'covariance')
    """
    x, y = as_numpy(inputs).astype(float), as_numpy(targets).astype(float)
    n, p = x.shape
    if not batch_size >= 1 or (batch_size > n and not replacement):
        raise ValueError(f"batches of {batch_size} cannot be drawn from {n} examples")
    rows = np.concatenate([x, -y[:, None]], axis=1)
    gradients = np.zeros((n, p + 1, p + 1))
    gradients[:, :p] = x[:, :, None] * rows[:, None, :]
    mean = gradients.mean(axis=0)
    covariance = np.mean([np.kron(g, g) for g in gradients - mean], axis=0)
    factor = 1.0 if replacement else finite_population_factor(n, batch_size)
    return AffineGradients(mean, factor / batch_size * covariance)


@checked
def euler_maruyama_map(
    gradients: AffineGradients, learning_rate: float, dt: float, *, order: int = 1
) -> np.ndarray:
    r"""The map of one Euler-Maruyama step dt of the stochastic equation of SGD.

    M -> (1 - dt G) M (1 - dt G)^T + rate dt Cov, of weak order 1 in dt (Li, Tai & E, 2017).  With
    order = 1 and dt = rate it is `sgd_map`: a more exact solution of the equation is farther from
    SGD.  Raises ValueError unless rate > 0, dt > 0 and order is 0, 1 or 2.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import regression_gradients
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> gradients = regression_gradients(inputs, inputs @ np.asarray([1.0, -1.0]) + 0.1, 2)
        >>> euler_maruyama_map(gradients, 0.1, 0.1).shape
        (9, 9)
    """
    check_positive(learning_rate=learning_rate, dt=dt)
    drift, noise = _coefficients(gradients, learning_rate, order)
    step = np.eye(len(drift)) - dt * drift
    return np.kron(step, step) + learning_rate * dt * noise


@checked
def sgd_map(gradients: AffineGradients, learning_rate: float) -> np.ndarray:
    r"""The map of one step of SGD, M -> E (1 - rate G_B) M (1 - rate G_B)^T, exact for any rate.

    Its mean part is (1 - rate G) M (1 - rate G)^T and its covariance rate^2 Cov, as in no other
    step than Euler's.  Raises ValueError unless rate > 0.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import regression_gradients
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> gradients = regression_gradients(inputs, inputs @ np.asarray([1.0, -1.0]) + 0.1, 2)
        >>> sgd_map(gradients, 0.1).shape
        (9, 9)
    """
    return euler_maruyama_map(gradients, learning_rate, learning_rate)


@checked
def svag_map(gradients: AffineGradients, learning_rate: float, stretch: int) -> np.ndarray:
    r"""The map of one step of SVAG(l): rate / l with noise of l times the covariance.

    The weights (1 +- (2 l - 1)^1/2) / 2 of two minibatches (Li, Malladi & Arora, 2021) have the
    moments of Euler's step dt = rate / l; l steps make one of SGD.
    Raises ValueError unless rate > 0 and l >= 1.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import regression_gradients
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> gradients = regression_gradients(inputs, inputs @ np.asarray([1.0, -1.0]) + 0.1, 2)
        >>> svag_map(gradients, 0.1, 2).shape
        (9, 9)
    """
    if not stretch >= 1:
        raise ValueError(f"SVAG stretches the noise by l >= 1, not {stretch}")
    return euler_maruyama_map(gradients, learning_rate, learning_rate / stretch)


@checked
def sde_map(
    gradients: AffineGradients, learning_rate: float, time: float, *, order: int = 1
) -> np.ndarray:
    r"""The exact map of the equation of weak order 0 (no noise), 1 or 2 over a time rate x steps.

    d theta = -grad(L + [order 2] rate / 4 |grad L|^2) dt + (rate Cov)^1/2 dW, Ito (Li, Tai & E,
    2017); dM/dt is linear in M, and the map its exponential.  Order 2 is closer in transients and,
    when stationary, about twice as far: see `stationary_variance_ratio`.
    Raises ValueError unless rate > 0, time > 0 and order is 0, 1 or 2.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import regression_gradients
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> gradients = regression_gradients(inputs, inputs @ np.asarray([1.0, -1.0]) + 0.1, 2)
        >>> sde_map(gradients, 0.1, 0.1).shape
        (9, 9)
    """
    check_positive(learning_rate=learning_rate, time=time)
    drift, noise = _coefficients(gradients, learning_rate, order)
    unit = np.eye(len(drift))
    return expm(time * (learning_rate * noise - np.kron(drift, unit) - np.kron(unit, drift)))


@checked
def propagate_moments(step, start, steps: int) -> np.ndarray:
    """The moments E z z^T (q, q) after some steps of a map, from one start theta (p,).

    step: the map (q^2, q^2) of the moments of z = (theta, 1), with q = p + 1.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import regression_gradients
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> gradients = regression_gradients(inputs, inputs @ np.asarray([1.0, -1.0]) + 0.1, 2)
        >>> from sgdnoise.theory import sgd_map
        >>> propagate_moments(sgd_map(gradients, 0.1), np.zeros(2), 5).shape
        (3, 3)
    """
    z = np.append(as_numpy(start).astype(float), 1.0)
    moments = np.linalg.matrix_power(step, steps) @ np.outer(z, z).ravel()
    return moments.reshape(len(z), len(z))


@checked
def stationary_moments(step) -> np.ndarray:
    """The stationary E z z^T (q, q) of a map.

    Raises ValueError if there is none: the rate is unstable, or the inputs do not span all
    directions.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import regression_gradients
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> gradients = regression_gradients(inputs, inputs @ np.asarray([1.0, -1.0]) + 0.1, 2)
        >>> from sgdnoise.theory import sgd_map
        >>> stationary_moments(sgd_map(gradients, 0.1)).shape
        (3, 3)
    """
    q = math.isqrt(len(step))
    growth = np.abs(np.linalg.eigvals(step[:-1, :-1])).max()
    if growth >= 1 - ROUNDING:
        raise ValueError(
            f"second moments are multiplied by {growth:.4g} a step and are never stationary: "
            "the rate is unstable, or the inputs do not span all directions"
        )
    moments = np.linalg.solve(np.eye(q * q - 1) - step[:-1, :-1], step[:-1, -1])
    return np.append(moments, 1.0).reshape(q, q)


@checked
def weak_error(
    gradients: AffineGradients, learning_rate: float, time: float, start, *, order: int = 1
) -> float:
    """The largest difference of first and second moments between SGD and `sde_map` at a time.

    It is of order rate^order, and rate for order 0.  Raises ValueError unless the time is a whole
    number of steps.

    Example:
        >>> import numpy as np
        >>> gradients = regression_gradients(np.asarray([[1.0], [2.0]]), np.asarray([1.0, 0.0]), 1)
        >>> round(weak_error(gradients, 0.01, 1.0, [1.0]), 5)
        0.00205
    """
    steps = round(time / learning_rate)
    if steps < 1 or abs(steps * learning_rate - time) > 1e-9 * time:
        raise ValueError(f"a time of {time} is not a whole number of steps of {learning_rate}")
    descended = propagate_moments(sgd_map(gradients, learning_rate), start, steps)
    solved = propagate_moments(sde_map(gradients, learning_rate, time, order=order), start, 1)
    return float(np.max(np.abs(descended - solved)))


@checked
def observed_orders(errors, rates) -> np.ndarray:
    """Slopes of log error against log rate between neighbours: (k,) and (k,) to (k - 1,).

    Example:
        >>> observed_orders([0.4, 0.1], [0.2, 0.1]).tolist()
        [2.0]
    """
    return np.diff(np.log(as_numpy(errors))) / np.diff(np.log(as_numpy(rates)))


@checked
def weak_error_coefficient(
    curvature, multiplicative, additive, start, time, *, order: int = 1
) -> float:
    r"""The c in E theta^2 of SGD minus that of the equation = c rate^order, for one parameter.

    The gradient is h theta with variance v theta^2 + w (`multiplicative`, `additive`); from
    theta = s and at time t, order 1 has -h^2 t s^2 e^(-2ht), and order 2
    (2 h v - 2 h^3 / 3) t s^2 e^(-2ht) + w (1 - e^(-2ht)) / 2.  The next order is a factor
    1 + O(rate h).  Raises ValueError unless order is 1 or 2.

    Example:
        >>> round(weak_error_coefficient(1.0, 0.5, 0.1, 1.0, 2.0), 3)
        -0.037
    """
    if order not in (1, 2):
        raise ValueError(f"equations of weak order 1 and 2 are known, not {order}")
    transient = start**2 * time * np.exp(-2 * curvature * time)
    if order == 1:
        return float(-(curvature**2) * transient)
    stationary = additive * -np.expm1(-2 * curvature * time) / 2
    return float((2 * curvature * multiplicative - 2 * curvature**3 / 3) * transient + stationary)


@checked
def stationary_variance_ratio(
    learning_rate: float, curvature: float, *, stretch: int = 1, order: int = 1
) -> float:
    r"""The stationary variance of SGD over that of its equation, for constant noise in one mode.

    1 / (1 - rate h / (2 l)), with l = 1 for SGD and l = `stretch` for SVAG(l) (Li, Malladi & Arora,
    2021); relative to the equation of order 2 the same times 1 + rate h / 2.
    Raises ValueError unless 0 < rate h < 2 l, and for order not 1 or 2.

    Example:
        >>> round(stationary_variance_ratio(0.1, 2.0), 4)
        1.1111
    """
    if stretch < 1 or order not in (1, 2):
        raise ValueError(f"a ratio needs stretch >= 1 and order 1 or 2, not {stretch} and {order}")
    _check_stable(learning_rate, curvature, 2 * stretch)
    second_order = 1 + learning_rate * curvature / 2 if order == 2 else 1.0
    return second_order / (1 - learning_rate * curvature / (2 * stretch))


@checked
def linear_scaling_ratio(learning_rate: float, curvature: float, factor: float) -> float:
    r"""The stationary variance after rate and batch size are multiplied by `factor`, over before.

    (1 - rate h / 2) / (1 - factor rate h / 2), for constant noise drawn with replacement.  The
    equation of order 1 depends on rate / B alone and says 1 (Goyal et al., 2017); what changes
    is the penalty rate / 4 |grad L|^2 of order 2, `factor` times as strong, and the discreteness of
    the steps.  Without replacement (n - B) / (n - 1) changes too.
    Raises ValueError unless both rates are stable, 0 < rate h < 2.

    Example:
        >>> round(linear_scaling_ratio(0.1, 1.0, 4.0), 3)
        1.187
    """
    check_positive(factor=factor)
    _check_stable(learning_rate, curvature, 2)
    _check_stable(factor * learning_rate, curvature, 2)
    return (1 - learning_rate * curvature / 2) / (1 - factor * learning_rate * curvature / 2)


@checked
def talay_tubaro(coarse, fine, *, order: int = 1):
    r"""The Talay-Tubaro extrapolation of results at steps h and h / 2 to h = 0.

    (2^k fine - coarse) / (2^k - 1) for a scheme of weak order k, whose error has a power series in
    h (Talay & Tubaro, 1990).  Errors of independent runs add to (4 a^2 + b^2)^1/2 for k = 1, more
    than twice that of the fine one; it is no gain for a bias below that.
    Raises ValueError for an order below 1.

    Example:
        >>> talay_tubaro(1.5, 1.25)
        1.0
    """
    if order < 1:
        raise ValueError(f"an extrapolation needs weak order 1 or more, not {order}")
    return (2**order * fine - coarse) / (2**order - 1)


def _coefficients(gradients, learning_rate, order):
    """Matrix of the drift, and the map to the covariance, of an equation of this order."""
    if order not in (0, 1, 2):
        raise ValueError(f"equations of weak order 0, 1 and 2 are known, not {order}")
    drift = gradients.mean
    if order == 2:
        hessian = drift.copy()
        hessian[:, -1] = 0
        drift = drift + learning_rate / 2 * hessian @ drift
    return drift, gradients.covariance * (order > 0)


def _check_stable(learning_rate, curvature, limit):
    if not 0 < learning_rate * curvature < limit:
        raise ValueError(
            f"rate x curvature must lie between 0 and {limit} for a stationary law, "
            f"not at {learning_rate * curvature:.4g}"
        )
