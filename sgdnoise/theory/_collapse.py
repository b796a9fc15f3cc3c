r"""Whether noise draws a network into an invariant set, which its steps never leave.

If a loss has a symmetry, of sign or of permutation, weights with the symmetry keep it: a unit whose
weights vanish, or two equal units.  Near such a set a step multiplies the distance to it by
1 - rate h, with h the curvature of its batch across the set, and noise draws theta in if
E log|1 - rate h| < 0, even for E h < 0 (Chen et al., 2023).

Known: gradient noise draws weights into invariant sets (Chen et al., 2023).  New here, as far as we
know: the exponents in closed form for a layer and for a unit at any batch and rate.
"""

import math

import numpy as np
from scipy.integrate import fixed_quad, quad
from scipy.special import dawsn, gammainccinv, gammaincinv, gammaln

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._checks import check_non_negative
from sgdnoise.core._estimate import Estimate, mean

SERIES = 12.0  # standard deviations from zero beyond which the mean logarithm is a series


@checked
def lyapunov_exponent(
    curvatures, learning_rate, batch_size: int = 1, *, segments: int = 20
) -> Estimate:
    r"""The growth per step of the logarithm of the distance to an invariant set.

    A negative exponent means collapse onto the set.  curvatures: (n,), of examples in random order,
    across the set along one direction, where it is E log|1 - rate h_B| with h_B the means of
    disjoint batches; or (n, k, k), blocks of the Hessian across it, where it is the top exponent of
    products of 1 - rate h_B: `segments` independent runs from a fixed start, without their first
    quarter, averaged: right to 1 / (steps x gap to the second exponent), or steps^-1/2 if these two
    are equal.  For the sign of a unit all its weights are across, for two equal units the half
    differences.  The weights along the set must be stationary: curvatures are those at one point.
    To second order it is -rate E h - rate^2 E h_B^2 / 2.
    Raises ValueError for batch_size below 1, or too few examples for 2 batches, or for 4 batches in
    each of 2 segments.

    Example:
        >>> import numpy as np
        >>> curvatures = np.random.default_rng(0).normal(0.0, 1.0, 1000)
        >>> round(float(lyapunov_exponent(curvatures, 0.1).value), 3)
        0.0
    """
    h = as_numpy(curvatures).astype(float)
    if not 1 <= batch_size <= len(h) // 2:
        raise ValueError(f"{len(h)} curvatures do not make 2 batches of {batch_size}")
    steps = len(h) // batch_size
    means = h[: steps * batch_size].reshape(steps, batch_size, *h.shape[1:]).mean(axis=1)
    if h.ndim == 1:
        return _scalar_mean(np.log(np.abs(1 - learning_rate * means)))
    if not 2 <= segments <= steps // 4:
        raise ValueError(f"{steps} batches do not make {segments} segments of 4 or more")
    length = steps // segments
    runs = means[: segments * length].reshape(segments, length, *h.shape[1:])
    return _top_exponent(np.eye(h.shape[1]) - learning_rate * runs)


@checked
def lyapunov_of_unit(slope, label_noise, learning_rate, batch_size: int) -> float:
    r"""The exact growth per step of the weights of y = w2 w1 x near zero; negative for collapse.

    The targets are slope x + label_noise eps, x and eps standard normal; w1 + w2 is multiplied by
    1 + rate z and w1 - w2 by 1 - rate z, with z the batch mean of x y: the larger of
    E log|1 +- rate z|, by quadrature over the batch's |x|, exact in eps.  Noise draws the unit to
    zero, and it learns nothing, though gradient descent would grow it by rate |slope|
    (Chen et al., 2023).  Raises ValueError for batch_size below 1 or negative label_noise.

    Example:
        >>> round(lyapunov_of_unit(0.1, label_noise=2.0, learning_rate=0.5, batch_size=4), 4)
        -0.0859
    """
    if batch_size < 1:
        raise ValueError(f"a batch needs at least one example, not {batch_size}")
    check_non_negative(label_noise=label_noise)
    return max(_unit(sign * slope, label_noise, learning_rate, batch_size) for sign in (1, -1))


@checked
def lyapunov_of_unit_small_rate(slope, label_noise, learning_rate, batch_size: int) -> float:
    r"""The same to second order: |s| rate - rate^2 (s^2 + (2 s^2 + label_noise^2) / B) / 2.

    Collapse for 2 |s| < rate (s^2 + (2 s^2 + label_noise^2) / B): the sign is more accurate than
    the size, which is 40% off at rate^2 label_noise^2 / B of 0.16.

    Example:
        >>> rate = lyapunov_of_unit_small_rate(0.1, 1.0, 0.1, 4)
        >>> round(rate, 6)  # 0.01 - 0.005 (0.01 + 1.02 / 4)
        0.008675
    """
    square = slope**2 + (2 * slope**2 + label_noise**2) / batch_size
    return learning_rate * abs(slope) - learning_rate**2 * square / 2


@checked
def origin_exponent(width: int, label_noise, learning_rate, batch_size: int) -> float:
    r"""The growth per step, to second order, of small W2 W1 under label noise without a signal.

    rate^2 label_noise^2 (width - 2) / (2 B), for `width` white inputs and as many outputs, and
    any number of hidden units: a single unit is drawn to zero, two dimensions are neutral, and
    above that noise repels from zero.  So the collapse of `lyapunov_of_unit` is not that of a
    layer, and the effect of a penalty on Tr H on singular values holds only for those well above
    the noise.

    Example:
        >>> [round(origin_exponent(width, 1.0, 0.1, 4), 6) for width in (1, 2, 4)]
        [-0.00125, 0.0, 0.0025]
    """
    return learning_rate**2 * label_noise**2 * (width - 2) / (2 * batch_size)


@checked
def lyapunov_of_layer(width: int, strength: float, batch_size: int) -> float:
    r"""The growth of a layer's small weights, with the finite-rate correction of `origin_exponent`.

    c^2 (n - 2 + 2 E D^2) / 2 + k c^4 at strength c = rate label_noise / B^1/2 and width n, with D
    of `stationary_squared_imbalance` and k = E[-q^2 / 4 + 2 g^2 q - 2 g^4] of a balanced step,
    which multiplies |weights|^2 by 1 + 2 c g + c^2 q.  It omits a fraction c of E D^2 at n = 2
    and 3, of order c^4, and beyond that n^3 c^6.
    Raises ValueError as `stationary_squared_imbalance`.

    Example:
        >>> from sgdnoise.theory import origin_exponent
        >>> round(lyapunov_of_layer(4, 0.05, 10), 5)
        0.00251
        >>> round(origin_exponent(4, 0.05 * 10**0.5, 1.0, 10), 5)  # without the correction
        0.0025
    """
    square_imbalance = stationary_squared_imbalance(width, strength, batch_size)
    n, f = width, 2 / batch_size
    square = (1 + f) * (3 + 2 * (n - 1) + (n**2 - 1) / 2) + (n - 1) ** 2 / 2
    fourth = -square / 4 + (1 + f) * (2 * (n + 2) - 6)
    return strength**2 * (n - 2 + 2 * square_imbalance) / 2 + strength**4 * fourth


@checked
def stationary_squared_imbalance(width: int, strength: float, batch_size: int) -> float:
    r"""The stationary E D^2 of a layer's small weights under label noise.

    D = (|in|^2 - |out|^2) / (|in|^2 + |out|^2) is the imbalance of a unit.  Its density is
    exp(int 2 drift / variance) / variance, where a step moves D by c^2 (4 D (1 - D^2) - 2 n D) on
    average with the variance 4 c^2 D^2 (1 - D^2) + c^2 k, k = c^2 (n - 1) (1 + (n + 1) / B), to
    leading order in c.  With x = D^2 and r = (1 + k)^1/2 it is
    (1 + x / a)^(A - 1) (1 - x / b)^(-B' - 1), a = (r - 1) / 2, b = (r + 1) / 2,
    A = (2 a + 2 - n) / (2 r), B' = (2 - n - 2 b) / (2 r): a power-law tail, so that E D^2 falls as
    c at n = 2 and as c^2 from n = 4.  Raises ValueError unless width and batch_size are at least 1
    and the strength is positive.

    Example:
        >>> large, small = (stationary_squared_imbalance(4, c, 10) for c in (0.002, 0.001))
        >>> round(large / small, 1)  # as the square of the strength
        4.0
    """
    if width < 1 or batch_size < 1:
        raise ValueError(f"width and batch must be at least 1, not {width} and {batch_size}")
    if not 0 < strength < math.inf:
        raise ValueError(f"the strength of the kicks must be positive, not {strength}")
    n = width
    kicks = strength**2 * (n - 1) * (1 + (n + 1) / batch_size)
    if n == 1:
        return 0.0  # balanced weights stay balanced
    r = (1 + kicks) ** 0.5
    a, b = kicks / (r + 1) / 2, (r + 1) / 2
    low, high = (2 * a + 2 - n) / (2 * r) - 1, -(2 - n - 2 * b) / (2 * r) - 1

    def density(t):  # D = a^1/2 sinh t
        return math.cosh(t) ** (2 * low + 1) * max(0.0, 1 - a * math.sinh(t) ** 2 / b) ** high

    end = math.asinh(a**-0.5)
    total = quad(density, 0, end)[0]
    return quad(lambda t: a * math.sinh(t) ** 2 * density(t), 0, end)[0] / total


@checked
def mean_log_growth(center, deviation) -> float:
    r"""E log|X| of a normal X of this mean m and standard deviation s.

    log s - (gamma + log 2) / 2 + int_0^(m/s) 2^1/2 D(t / 2^1/2) dt, with Dawson's function D; far
    from zero log m - sum_k (2k - 1)!! / (2k) (s / m)^(2k).

    Example:
        >>> round(mean_log_growth(0.0, 1.0), 4)
        -0.6352
    """
    center = abs(center)
    if center > SERIES * deviation:
        powers = (deviation / center) ** 2
        terms = [math.prod(range(1, 2 * k, 2)) / (2 * k) * powers**k for k in range(1, 16)]
        return math.log(center) - math.fsum(terms)
    area = 2**0.5 * fixed_quad(lambda t: dawsn(t / 2**0.5), 0, center / deviation, n=80)[0]
    return math.log(deviation) - (np.euler_gamma + math.log(2)) / 2 + float(area)


def _top_exponent(steps):
    """Top Lyapunov exponent of products of (segment, step, k, k), averaged over segments."""
    count, length, k, _ = steps.shape
    vectors = np.random.default_rng(0).normal(size=(count, k))
    growth = np.empty((length, count))
    for index in range(length):
        vectors = np.einsum("sij,sj->si", steps[:, index], vectors)
        norms = np.linalg.norm(vectors, axis=1)
        growth[index], vectors = np.log(norms), vectors / norms[:, None]
    return _scalar_mean(growth[length // 4 :].mean(axis=0))


def _scalar_mean(samples):
    """The mean of numbers as an Estimate of plain floats."""
    estimate = mean(samples)
    return Estimate(float(estimate.value), float(estimate.stderr), estimate.dof)


def _unit(slope, label_noise, learning_rate, batch_size):
    """E log|1 + rate z|: for r^2 = sum x^2, z is normal of mean s r^2 / B, deviation sig r / B."""

    def integrand(r):
        center = 1 + learning_rate * slope * r**2 / batch_size
        density = math.exp((batch_size - 1) * math.log(r) - r**2 / 2 - constant)
        return density * mean_log_growth(center, learning_rate * label_noise * r / batch_size)

    constant = (batch_size / 2 - 1) * math.log(2) + float(gammaln(batch_size / 2))
    low, high = (
        float((2 * inverse(batch_size / 2, 1e-18)) ** 0.5)  # quantiles of chi
        for inverse in (gammaincinv, gammainccinv)
    )
    zero = (-batch_size / (learning_rate * slope)) ** 0.5 if slope < 0 else 0.0
    breaks = [zero] if low < zero < high else None
    return quad(integrand, max(low, 1e-200), high, points=breaks, limit=400, epsabs=1e-12)[0]
