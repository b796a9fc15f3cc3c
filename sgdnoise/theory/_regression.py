r"""Where descent comes to rest in linear regression, whose noise depends on where it is.

Losses are (x . theta - y)^2 / 2 and the noise of a step has the examples' own curvature in it: the
second moment of theta, about its best value, is mapped linearly by each step, exactly and for any
rate.  Its rest exists only while the share u of noise that the spread itself makes is below one.
Close to that, fourth moments are infinite and averages over chains converge slowly.
"""

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arrays import Array, as_numpy, device, namespace
from sgdnoise.theory._stationary import stationary_modes


def noise_feedback(inputs: Float[Array, "d d"], learning_rate: float, batch_size: int) -> float:
    r"""u, the share of the noise at rest that sampling makes from the spread of theta itself.

    u = (rate / B) sum_i a_i / (2 - rate (1 + 1/B) a_i), a_i the eigenvalues of the covariance of
    normal inputs; infinite where a denominator is not positive.  The excess residual is
    u / (1 - u) times the label noise, and theta has a finite variance exactly for u < 1 (Ziyin,
    Liu, Mori & Ueda, 2022).  Raises ValueError unless the covariance is positive definite,
    rate > 0 and batch >= 1.
    """
    a = _spectrum(inputs, learning_rate, batch_size)[0]
    xp = namespace(a)
    room = 2 - learning_rate * (1 + 1 / batch_size) * a
    if not float(xp.min(room)) > 0:
        return float("inf")
    return float(learning_rate / batch_size * xp.sum(a / room))


def online_covariance(
    inputs: Float[Array, "d d"],
    label_noise: float,
    learning_rate: float,
    batch_size: int,
    *,
    diverging: bool = False,
) -> Float[Array, "d d"]:
    r"""Covariance of theta at rest where each step draws B fresh normal inputs of this covariance.

    y = x . theta* + label_noise eps; along the eigenvector of a_i it is
    (rate / B) label_noise^2 / ((1 - u) (2 - rate (1 + 1/B) a_i)), u from `feedback`: exact, for
    normal inputs alone (Ziyin, Liu, Mori & Ueda, 2022).  Without label noise theta comes to rest
    at theta*.  Raises ValueError as `feedback`, for negative label noise, and for u >= 1, unless
    `diverging` asks for infinite variances there.
    """
    a, basis = _spectrum(inputs, learning_rate, batch_size)
    xp, u = namespace(a), noise_feedback(inputs, learning_rate, batch_size)
    _check_label_noise(label_noise)
    if u < 1:
        room = 2 - learning_rate * (1 + 1 / batch_size) * a
        return (
            basis * (learning_rate / batch_size * label_noise**2 / (1 - u) / room)[None, :]
        ) @ basis.T
    if not diverging:
        raise ValueError(
            f"no finite variance: at rate {learning_rate:.3g} and batch {batch_size} "
            "the noise feeds on itself "
            f"with u = {u:.3g}, which must be below 1"
        )
    return xp.full(inputs.shape, xp.inf, dtype=a.dtype, device=device(a))


def online_moments(
    inputs: Float[Array, "d d"],
    label_noise: float,
    learning_rate: float,
    batch_size: int,
    start: Float[Array, " d"],
    steps: int,
):
    r"""Mean (d,) and covariance (d, d) of theta - theta* after some steps from one start.

    The second moment goes to (1 - rate A) S (1 - rate A) + (rate^2 / B) (A S A + Tr(A S) A +
    label_noise^2 A) in each step of B fresh normal inputs of covariance A, stable or not.
    Raises ValueError for bad covariance, rate, batch or label noise, or negative steps.
    """
    _spectrum(inputs, learning_rate, batch_size)
    _check_label_noise(label_noise)

    def sampled(second, _):
        moved = inputs @ second @ inputs
        return (
            moved + (namespace(moved).sum(inputs * second) + label_noise**2) * inputs
        ) / batch_size

    return _moved(inputs, sampled, learning_rate, start, steps)


def finite_covariance(
    inputs: Float[Array, "n d"],
    targets: Float[Array, " n"],
    learning_rate: float,
    batch_size: int,
    replacement: bool = True,
    label_noise: float = 0.0,
) -> Float[Array, "d d"]:
    r"""Covariance of theta at rest for minibatches of n given examples, about least squares.

    With A = mean_i x_i x_i^T, least-squares residuals r_i = x_i . theta - y_i, and f = 1, or
    (n - B) / (n - 1) without replacement, S = (1 - rate A) S (1 - rate A) + (rate^2 / B)
    (f (mean_i x_i x_i^T S x_i x_i^T - A S A + mean_i r_i^2 x_i x_i^T) + label_noise^2 A), solved in
    its d^2 entries: exact for any data, at the cost of d^6.  Fresh normal noise on the label of
    each use is not lessened by drawing without replacement.  Raises ValueError for a batch
    outside 1 ... n, fewer than 2 examples, negative label noise, inputs that leave a direction
    unseen, and where no finite variance exists, naming the factor by which it grows.
    """
    a, residual = _least_squares(inputs, targets, learning_rate, batch_size, replacement)
    _check_label_noise(label_noise)
    xp, (n, d) = namespace(inputs), inputs.shape
    share = _share(n, batch_size, replacement)
    pairs = xp.reshape(inputs[:, :, None] * inputs[:, None, :], (n, d * d))
    kept = xp.eye(d, dtype=a.dtype, device=device(a)) - learning_rate * a
    sampled = pairs.T @ pairs / n - _kron(xp, a, a)
    step = _kron(xp, kept, kept) + learning_rate**2 * share * sampled
    kicks = learning_rate**2 * (share * (inputs.T @ (residual[:, None] ** 2 * inputs)) / n)
    kicks = kicks + learning_rate**2 * label_noise**2 / batch_size * a
    both = xp.stack([xp.reshape(kicks, (-1,)), _flat_identity(xp, a)], axis=1)
    still = xp.eye(d * d, dtype=a.dtype, device=device(a)) - step
    rest, probe = (xp.reshape(part, (d, d)) for part in xp.linalg.solve(still, both).T)
    _check_stable(probe, step, learning_rate, batch_size)
    return (rest + rest.T) / 2


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
    r"""Mean (d,) and covariance (d, d) of theta less its least-squares value, after some steps.

    As `finite_covariance` but at any time, from one start, stable or not; while the mean is not
    at rest it has a part in the noise, through 2 mean_i r_i (x_i . m) x_i x_i^T.
    Raises ValueError as there, but for variances that grow, and for negative steps.
    """
    a, residual = _least_squares(inputs, targets, learning_rate, batch_size, replacement)
    _check_label_noise(label_noise)
    n, share = inputs.shape[0], _share(inputs.shape[0], batch_size, replacement)

    def sampled(second, middle):
        squares = namespace(inputs).sum((inputs @ second) * inputs, axis=1)
        squares = squares + 2 * residual * (inputs @ middle) + residual**2
        spread = inputs.T @ (squares[:, None] * inputs) / n - a @ second @ a
        return share * spread + label_noise**2 / batch_size * a

    return _moved(a, sampled, learning_rate, start, steps)


def excess_loss(inputs: Float[Array, "d d"], covariance: Float[Array, "d d"]) -> float:
    """Mean loss above its least, Tr(A S) / 2, for theta of covariance S about the best value.

    inputs: A, the second moment of the inputs, (d, d).
    """
    return float(namespace(inputs).sum(inputs * covariance) / 2)


def _moved(a, sampled, learning_rate, start, steps):
    """Mean and covariance after steps whose noise, at these moments, has covariance `sampled`."""
    if steps < 0:
        raise ValueError(f"a number of steps cannot be negative, as {steps} is")
    xp, middle = namespace(a), start
    spread = xp.zeros_like(a)
    kept = xp.eye(a.shape[0], dtype=a.dtype, device=device(a)) - learning_rate * a
    for _ in range(steps):
        second = spread + middle[:, None] * middle[None, :]
        spread = kept @ spread @ kept + learning_rate**2 * sampled(second, middle)
        middle = kept @ middle
    return middle, spread


def _spectrum(inputs, learning_rate, batch_size):
    a, basis = stationary_modes(inputs, "input covariance")
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
    """Second moment of the inputs, and the residuals of the best theta."""
    xp, n = namespace(inputs), inputs.shape[0]
    if n < 2 or (not replacement and batch_size > n):
        raise ValueError(f"{n} examples do not make batches of {batch_size}, or no noise at all")
    a = inputs.T @ inputs / n
    _spectrum(a, learning_rate, batch_size)
    best = xp.linalg.solve(a, (inputs.T @ targets / n)[:, None])[:, 0]
    return a, inputs @ best - targets


def _share(n, batch_size, replacement):
    """Covariance of a batch mean over that of one example."""
    return (1.0 if replacement else (n - batch_size) / (n - 1)) / batch_size


def _kron(xp, one, other):
    d = one.shape[0]
    product = one[:, None, :, None] * other[None, :, None, :]
    return xp.reshape(product, (d * d, d * d))


def _flat_identity(xp, a):
    return xp.reshape(xp.eye(a.shape[0], dtype=a.dtype, device=device(a)), (-1,))


def _check_stable(probe, step, learning_rate, batch_size):
    """A map that keeps covariances is stable where 1 + step 1 + step^2 1 + ... is one."""
    xp = namespace(probe)
    if float(xp.linalg.eigvalsh((probe + probe.T) / 2)[0]) > 0:
        return
    growth = max(abs(np.linalg.eigvals(as_numpy(step))))
    raise ValueError(
        f"no finite variance: at rate {learning_rate:.3g} and batch {batch_size} "
        "a step multiplies it by "
        f"{growth:.3g}, which must be below 1"
    )


def _check_label_noise(label_noise):
    if label_noise < 0:
        raise ValueError(f"label_noise is a standard deviation, it cannot be {label_noise}")
