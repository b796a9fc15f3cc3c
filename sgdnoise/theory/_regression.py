r"""Stationary and transient moments of SGD in linear regression, where noise depends on theta.

Losses are (x . theta - y)^2 / 2, and the noise of a step contains the curvature of the sampled
examples: the second moment of theta about the least-squares value is mapped linearly by each step,
exactly and at any learning rate.  It has a stationary value only if the fraction u of the noise
that comes from the covariance of theta itself is below one.  If u is close to one, fourth moments
are infinite and averages over chains converge slowly.

Known: second moments of SGD in linear regression (Ziyin, Liu, Mori & Ueda, 2022).  New here, as far
as we know: given examples without replacement, exactly and on the way.
"""

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, device, namespace
from sgdnoise.core._checks import check_non_negative
from sgdnoise.core._sampling import finite_population_factor
from sgdnoise.theory._stationary import symmetric_eigh


@checked
def noise_feedback(inputs: Float[Array, "d d"], learning_rate: float, batch_size: int) -> float:
    r"""The fraction u of the stationary noise that sampling makes from the covariance of theta.

    u = (rate / B) sum_i a_i / (2 - rate (1 + 1/B) a_i), a_i the eigenvalues of the covariance
    `inputs` of normal inputs; it is infinite where a denominator is not positive.  The excess
    residual is u / (1 - u) times the label noise, and theta has a finite variance if and only if
    u < 1 (Ziyin, Liu, Mori & Ueda, 2022).  Raises ValueError unless the covariance is positive
    definite, rate > 0 and batch_size >= 1.

    Example:
        >>> import numpy as np
        >>> round(noise_feedback(np.eye(10), 0.1, batch_size=4), 4)
        0.1333
    """
    a = _spectrum(inputs, learning_rate, batch_size)[0]
    xp = namespace(a)
    margins = 2 - learning_rate * (1 + 1 / batch_size) * a
    if not float(xp.min(margins)) > 0:
        return float("inf")
    return float(learning_rate / batch_size * xp.sum(a / margins))


@checked
def online_covariance(
    inputs: Float[Array, "d d"],
    label_noise: float,
    learning_rate: float,
    batch_size: int,
    *,
    diverging: bool = False,
) -> Float[Array, "d d"]:
    r"""The stationary covariance of theta if each step draws B fresh normal inputs.

    inputs: the covariance of the inputs.  With y = x . theta* + label_noise eps, along the
    eigenvector of a_i it is (rate / B) label_noise^2 / ((1 - u) (2 - rate (1 + 1/B) a_i)), u from
    `noise_feedback`: exact, for normal inputs alone (Ziyin, Liu, Mori & Ueda, 2022).  Without label
    noise theta converges to theta*.  Raises ValueError as `noise_feedback`, for negative label
    noise, and for u >= 1, unless `diverging` asks for infinite variances there.

    Example:
        >>> import numpy as np
        >>> online_covariance(np.diag([1.0, 2.0]), 0.5, 0.05, 4).round(4)
        array([[0.0016, 0.    ],
               [0.    , 0.0017]])
    """
    a, basis = _spectrum(inputs, learning_rate, batch_size)
    xp, u = namespace(a), noise_feedback(inputs, learning_rate, batch_size)
    check_non_negative(label_noise=label_noise)
    if u < 1:
        margins = 2 - learning_rate * (1 + 1 / batch_size) * a
        variances = learning_rate / batch_size * label_noise**2 / (1 - u) / margins
        return (basis * variances[None, :]) @ basis.T
    if not diverging:
        raise ValueError(
            f"no finite variance: at rate {learning_rate:.3g} and batch {batch_size} "
            f"the noise feeds on itself with u = {u:.3g}, which must be below 1"
        )
    return xp.full(inputs.shape, xp.inf, dtype=a.dtype, device=device(a))


@checked
def online_moments(
    inputs: Float[Array, "d d"],
    label_noise: float,
    learning_rate: float,
    batch_size: int,
    start: Float[Array, " d"],
    steps: int,
):
    r"""The mean (d,) and covariance (d, d) of theta - theta* after some steps from one start.

    The second moment becomes (1 - rate A) S (1 - rate A) + (rate^2 / B) (A S A + Tr(A S) A +
    label_noise^2 A) in each step of B fresh normal inputs of covariance A, stable or not.
    Raises ValueError for a bad covariance, rate, batch size or label noise, or negative steps.

    Example:
        >>> import numpy as np
        >>> mean, covariance = online_moments(np.diag([1.0, 2.0]), 0.5, 0.05, 4, np.ones(2), 10)
        >>> covariance.shape
        (2, 2)
    """
    _spectrum(inputs, learning_rate, batch_size)
    check_non_negative(label_noise=label_noise)

    def gradient_covariance(second, _):
        product = inputs @ second @ inputs
        power = namespace(product).sum(inputs * second) + label_noise**2
        return (product + power * inputs) / batch_size

    return _propagate(inputs, gradient_covariance, learning_rate, start, steps)


@checked
def finite_covariance(
    inputs: Float[Array, "n d"],
    targets: Float[Array, " n"],
    learning_rate: float,
    batch_size: int,
    replacement: bool = True,
    label_noise: float = 0.0,
) -> Float[Array, "d d"]:
    r"""The stationary covariance of theta for minibatches of n given examples.

    With A = mean_i x_i x_i^T, least-squares residuals r_i = x_i . theta - y_i, and f = 1, or
    (n - B) / (n - 1) without replacement, S = (1 - rate A) S (1 - rate A) + (rate^2 / B)
    (f (mean_i x_i x_i^T S x_i x_i^T - A S A + mean_i r_i^2 x_i x_i^T) + label_noise^2 A), solved in
    its d^2 entries: exact for any data, at a cost of d^6.  Fresh normal noise on the label of
    each use is not reduced by drawing without replacement.  Raises ValueError for a batch size
    outside 1 ... n, fewer than 2 examples, negative label noise, inputs that do not span all
    directions, and if there is no finite variance, naming the factor by which it grows.

    Example:
        >>> import numpy as np
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> targets = inputs @ np.asarray([1.0, -1.0]) + 0.1
        >>> finite_covariance(inputs, targets, 0.05, 2).shape
        (2, 2)
    """
    a, residual = _least_squares(inputs, targets, learning_rate, batch_size, replacement)
    check_non_negative(label_noise=label_noise)
    xp, (n, d) = namespace(inputs), inputs.shape
    factor = _variance_factor(n, batch_size, replacement)
    pairs = xp.reshape(inputs[:, :, None] * inputs[:, None, :], (n, d * d))
    contraction = xp.eye(d, dtype=a.dtype, device=device(a)) - learning_rate * a
    sampled = pairs.T @ pairs / n - _kron(xp, a, a)
    step = _kron(xp, contraction, contraction) + learning_rate**2 * factor * sampled
    kicks = learning_rate**2 * (factor * (inputs.T @ (residual[:, None] ** 2 * inputs)) / n)
    kicks = kicks + learning_rate**2 * label_noise**2 / batch_size * a
    identity = xp.reshape(xp.eye(d, dtype=a.dtype, device=device(a)), (-1,))
    sides = xp.stack([xp.reshape(kicks, (-1,)), identity], axis=1)
    system = xp.eye(d * d, dtype=a.dtype, device=device(a)) - step
    covariance, probe = (xp.reshape(column, (d, d)) for column in xp.linalg.solve(system, sides).T)
    _check_stable(probe, step, learning_rate, batch_size)
    return (covariance + covariance.T) / 2


@checked
def finite_moments(
    inputs: Float[Array, "n d"],
    targets: Float[Array, " n"],
    learning_rate: float,
    batch_size: int,
    start: Float[Array, " d"],
    steps: int,
    replacement: bool = True,
    label_noise: float = 0.0,
):
    r"""The mean (d,) and covariance (d, d) of theta less its least-squares value after some steps.

    As `finite_covariance` but at any time, from one start, stable or not; while the mean m is not
    stationary it contributes to the noise through 2 mean_i r_i (x_i . m) x_i x_i^T.
    Raises ValueError as there, but not for variances that grow, and for negative steps.

    Example:
        >>> import numpy as np
        >>> inputs = np.random.default_rng(0).normal(size=(6, 2))
        >>> targets = inputs @ np.asarray([1.0, -1.0]) + 0.1
        >>> [array.shape for array in finite_moments(inputs, targets, 0.05, 2, np.zeros(2), 10)]
        [(2,), (2, 2)]
    """
    a, residual = _least_squares(inputs, targets, learning_rate, batch_size, replacement)
    check_non_negative(label_noise=label_noise)
    n = inputs.shape[0]
    factor = _variance_factor(n, batch_size, replacement)

    def gradient_covariance(second, mean):
        squares = namespace(inputs).sum((inputs @ second) * inputs, axis=1)
        squares = squares + 2 * residual * (inputs @ mean) + residual**2
        sampled = inputs.T @ (squares[:, None] * inputs) / n - a @ second @ a
        return factor * sampled + label_noise**2 / batch_size * a

    return _propagate(a, gradient_covariance, learning_rate, start, steps)


@checked
def excess_loss(inputs: Float[Array, "d d"], covariance: Float[Array, "d d"]) -> float:
    """The mean loss above its minimum, Tr(A S) / 2, for theta of covariance S about the minimum.

    inputs: A, the second moment of the inputs, (d, d).

    Example:
        >>> import numpy as np
        >>> excess_loss(np.eye(3), 0.5 * np.eye(3))
        0.75
    """
    return float(namespace(inputs).sum(inputs * covariance) / 2)


def _propagate(a, gradient_covariance, learning_rate, start, steps):
    """Mean and covariance after steps, the noise of which is a function of these moments."""
    if steps < 0:
        raise ValueError(f"a number of steps cannot be negative, as {steps} is")
    mean, covariance = start, namespace(a).zeros_like(a)
    contraction = namespace(a).eye(a.shape[0], dtype=a.dtype, device=device(a)) - learning_rate * a
    for _ in range(steps):
        noise = gradient_covariance(covariance + mean[:, None] * mean[None, :], mean)
        covariance = contraction @ covariance @ contraction + learning_rate**2 * noise
        mean = contraction @ mean
    return mean, covariance


def _spectrum(inputs, learning_rate, batch_size):
    a, basis = symmetric_eigh(inputs, "input covariance")
    rounding = a.shape[0] * float(namespace(a).finfo(a.dtype).eps)
    if not float(a[0]) > rounding * float(a[-1]):
        raise ValueError(
            f"the input covariance must be positive definite, not of eigenvalue {float(a[0]):.3g}"
        )
    if not learning_rate > 0 or batch_size < 1:
        raise ValueError(
            f"a step needs rate > 0 and a batch of 1 or more, not {learning_rate} and {batch_size}"
        )
    return a, basis


def _least_squares(inputs, targets, learning_rate, batch_size, replacement):
    """Second moment of the inputs, and the residuals of least squares."""
    xp, n = namespace(inputs), inputs.shape[0]
    if n < 2 or (not replacement and batch_size > n):
        raise ValueError(f"{n} examples do not make batches of {batch_size}, or no noise at all")
    a = inputs.T @ inputs / n
    _spectrum(a, learning_rate, batch_size)
    minimum = xp.linalg.solve(a, (inputs.T @ targets / n)[:, None])[:, 0]
    return a, inputs @ minimum - targets


def _variance_factor(n, batch_size, replacement):
    """The covariance of a batch mean over that of one example."""
    return (1.0 if replacement else finite_population_factor(n, batch_size)) / batch_size


def _kron(xp, left, right):
    d = left.shape[0]
    return xp.reshape(left[:, None, :, None] * right[None, :, None, :], (d * d, d * d))


def _check_stable(probe, step, learning_rate, batch_size):
    """A map of covariances is stable if and only if the sum of step^k 1 is positive definite."""
    xp = namespace(probe)
    if float(xp.linalg.eigvalsh((probe + probe.T) / 2)[0]) > 0:
        return
    growth = max(abs(np.linalg.eigvals(as_numpy(step))))
    raise ValueError(
        f"no finite variance: at rate {learning_rate:.3g} and batch {batch_size} "
        f"a step multiplies it by {growth:.3g}, which must be below 1"
    )
