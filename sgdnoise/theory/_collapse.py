r"""Whether noise draws a network into a set that its steps never leave.

Where a loss has a symmetry, of sign or of permutation, weights with it stay with it: a unit whose
weights vanish, two units alike.  Near such a set a step multiplies the distance to it by
1 - rate h, with h the curvature of its batch across the set, and noise draws it in where
E log|1 - rate h| < 0, even at E h < 0 (Chen et al., 2023).
"""

import math

import numpy as np
from scipy.integrate import quad
from scipy.special import dawsn, gammaln
from scipy.stats import chi

from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._estimate import Estimate, mean

NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)
FAR = 12.0  # from where the mean logarithm is a series


def lyapunov_exponent(
    curvatures, learning_rate, batch_size: int = 1, *, segments: int = 20
) -> Estimate:
    r"""Growth of the logarithm of the distance to an invariant set, a step; negative: collapse.

    curvatures: (n,), of examples drawn in no order, across the set along one direction, where it is
    E log|1 - rate h_B| with h_B the means of disjoint batches; or (n, k, k), blocks of the Hessian
    across it, where it is the top exponent of products of 1 - rate h_B: `segments` runs
    from a fixed start, whose first quarter is left out, independent and averaged: right to
    1 / (steps x gap to the second exponent), or steps^-1/2 where these two are equal.
    For a unit's sign all its weights are across, for two units alike the half differences.
    The weights along the set must rest: their curvatures are those at one point.
    To second order -rate E h - rate^2 E h_B^2 / 2.  Raises ValueError for batch below 1, or too few
    examples for 2 batches, or for 4 batches in each of 2 segments.
    """
    h = as_numpy(curvatures).astype(float)
    if not 1 <= batch_size <= len(h) // 2:
        raise ValueError(f"{len(h)} curvatures do not make 2 batches of {batch_size}")
    steps = len(h) // batch_size
    means = h[: steps * batch_size].reshape(steps, batch_size, *h.shape[1:]).mean(axis=1)
    if h.ndim == 1:
        found = mean(np.log(np.abs(1 - learning_rate * means)))
        return Estimate(float(found.value), float(found.stderr), found.freedom)
    if not 2 <= segments <= steps // 4:
        raise ValueError(f"{steps} batches do not make {segments} segments of 4 or more")
    length = steps // segments
    runs = means[: segments * length].reshape(segments, length, *h.shape[1:])
    return _top(np.eye(h.shape[1]) - learning_rate * runs)


def lyapunov_of_unit(slope, label_noise, learning_rate, batch_size: int) -> float:
    r"""Exact growth, a step, of the weights of y = w2 w1 x near zero; negative: collapse.

    The targets are slope x + label_noise eps, x and eps standard normal; w1 + w2 is multiplied by
    1 + rate z and w1 - w2 by 1 - rate z, with z the batch mean of x y: the larger of
    E log|1 +- rate z|, by quadrature over the batch's |x|, exact in eps.  Noise draws the unit to
    zero, and it learns nothing, though gradient descent would grow it by rate |slope|
    (Chen et al., 2023).  Raises ValueError for batch below 1 or negative label_noise.
    """
    if batch_size < 1:
        raise ValueError(f"a batch needs at least one example, not {batch_size}")
    if label_noise < 0:
        raise ValueError(f"label_noise is a standard deviation, it cannot be {label_noise}")
    return max(_unit(sign * slope, label_noise, learning_rate, batch_size) for sign in (1, -1))


def lyapunov_of_unit_small_rate(slope, label_noise, learning_rate, batch_size: int) -> float:
    r"""The same to second order in rate: |s| rate - rate^2 (s^2 + (2 s^2 + label_noise^2) / B) / 2.

    Collapse where 2 |s| < rate (s^2 + (2 s^2 + label_noise^2) / B): the sign is right before the
    size is, which is 40% off at rate^2 label_noise^2 / B of 0.16.
    """
    square = slope**2 + (2 * slope**2 + label_noise**2) / batch_size
    return learning_rate * abs(slope) - learning_rate**2 * square / 2


def origin_exponent(width: int, label_noise, learning_rate, batch_size: int) -> float:
    r"""Growth a step, to second order in rate, of small W2 W1 under label noise and no signal.

    rate^2 label_noise^2 (width - 2) / (2 batch), for as many white inputs as outputs, `width`, and
    any number of hidden units: a single unit is drawn to zero, two dimensions are even, and above
    that noise repels from zero.  So the collapse of `unit_exponent` is not that of a layer, and
    what a penalty on Tr H says of singular values holds only for those well above the noise.
    """
    return learning_rate**2 * label_noise**2 * (width - 2) / (2 * batch_size)


def lyapunov_of_layer(width: int, strength: float, batch_size: int) -> float:
    r"""Growth of a layer's small weights, with what a finite rate adds to `origin_exponent`.

    c^2 (n - 2 + 2 E D^2) / 2 + k c^4 at strength c = rate label_noise / B^1/2 and width n, with D
    of `imbalance_at_rest` and k = E[-q^2 / 4 + 2 g^2 q - 2 g^4] of a balanced step, which makes
    |weights|^2 of them 1 + 2 c g + c^2 q times as large.  Left out is a share c of E D^2 at n = 2
    and 3, of order c^4, and beyond that n^3 c^6.  Raises ValueError as `imbalance_at_rest`.
    """
    even = collapse_imbalance_at_rest(width, strength, batch_size)
    n, f = width, 2 / batch_size
    square = (1 + f) * (3 + 2 * (n - 1) + (n**2 - 1) / 2) + (n - 1) ** 2 / 2
    fourth = -square / 4 + (1 + f) * (2 * (n + 2) - 6)
    return strength**2 * (n - 2 + 2 * even) / 2 + strength**4 * fourth


def collapse_imbalance_at_rest(width: int, strength: float, batch_size: int) -> float:
    r"""E D^2 of a layer's small weights, D = (|in|^2 - |out|^2) / (|in|^2 + |out|^2) of a unit.

    Of the law exp(int 2 drift / spread) / spread, where a step moves D by c^2 (4 D (1 - D^2) -
    2 n D) and scatters it by 4 c^2 D^2 (1 - D^2) + c^2 k, k = c^2 (n - 1) (1 + (n + 1) / B): to
    leading order in c.  With x = D^2 and r = (1 + k)^1/2 it is (1 + x / a)^(A - 1) (1 - x / b)^(-B'
    - 1), a = (r - 1) / 2, b = (r + 1) / 2, A = (2 a + 2 - n) / (2 r), B' = (2 - n - 2 b) / (2 r):
    a tail of a power n, so that E D^2 falls as c at n = 2 and as c^2 from n = 4.  Raises ValueError
    unless width and batch are at least 1 and the strength is positive.
    """
    if width < 1 or batch_size < 1:
        raise ValueError(f"width and batch must be at least 1, not {width} and {batch_size}")
    if not 0 < strength < math.inf:
        raise ValueError(f"the strength of the kicks must be positive, not {strength}")
    n = width
    kicks = strength**2 * (n - 1) * (1 + (n + 1) / batch_size)
    if n == 1:
        return 0.0  # balanced weights stay
    r = (1 + kicks) ** 0.5
    a, b = kicks / (r + 1) / 2, (r + 1) / 2
    low, high = (2 * a + 2 - n) / (2 * r) - 1, -(2 - n - 2 * b) / (2 * r) - 1

    def law(t):  # D = a^1/2 sinh t
        return math.cosh(t) ** (2 * low + 1) * max(0.0, 1 - a * math.sinh(t) ** 2 / b) ** high

    end = math.asinh(a**-0.5)
    whole = quad(law, 0, end)[0]
    return quad(lambda t: a * math.sinh(t) ** 2 * law(t), 0, end)[0] / whole


def _top(steps):
    """Top Lyapunov exponent of products of (segment, step, k, k), averaged over segments."""
    count, length, k, _ = steps.shape
    vectors = np.random.default_rng(0).normal(size=(count, k))
    growth = np.empty((length, count))
    for at in range(length):
        vectors = np.einsum("sij,sj->si", steps[:, at], vectors)
        norms = np.linalg.norm(vectors, axis=1)
        growth[at], vectors = np.log(norms), vectors / norms[:, None]
    found = mean(growth[length // 4 :].mean(axis=0))
    return Estimate(float(found.value), float(found.stderr), found.freedom)


def _unit(slope, label_noise, learning_rate, batch_size):
    """E log|1 + rate z|: for r^2 = sum x^2, z is normal of mean s r^2 / B, deviation sig r / B."""

    def given(r):
        middle = 1 + learning_rate * slope * r**2 / batch_size
        density = math.exp((batch_size - 1) * math.log(r) - r**2 / 2 - constant)
        return density * mean_log_growth(middle, learning_rate * label_noise * r / batch_size)

    constant = (batch_size / 2 - 1) * math.log(2) + float(gammaln(batch_size / 2))
    low, high = chi.ppf(1e-18, batch_size), chi.isf(1e-18, batch_size)
    zero = (-batch_size / (learning_rate * slope)) ** 0.5 if slope < 0 else 0.0
    breaks = [zero] if low < zero < high else None
    return quad(given, max(low, 1e-200), high, points=breaks, limit=400, epsabs=1e-12)[0]


def mean_log_growth(middle, deviation) -> float:
    r"""E log|X| for normal X: log s - (gamma + log 2) / 2 + int_0^(m/s) 2^1/2 D(t / 2^1/2) dt.

    D is Dawson's function; far from zero log m - sum_k (2k - 1)!! / (2k) (s / m)^(2k).
    """
    middle = abs(middle)
    if middle > FAR * deviation:
        powers = (deviation / middle) ** 2
        terms = [math.prod(range(1, 2 * k, 2)) / (2 * k) * powers**k for k in range(1, 16)]
        return math.log(middle) - math.fsum(terms)
    reach = middle / deviation
    nodes = reach * (NODES + 1) / 2
    area = reach / 2 * float(WEIGHTS @ dawsn(nodes / 2**0.5)) * 2**0.5
    return math.log(deviation) - (np.euler_gamma + math.log(2)) / 2 + area
