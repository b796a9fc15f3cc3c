"""The gradient-noise scale: the batch size at which signal and noise of the gradient are equal."""

import math
from functools import partial

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, same_library, widened
from sgdnoise.core._checks import as_generator
from sgdnoise.core._covariance import n_gradients_in
from sgdnoise.core._estimate import Estimate, jackknife, mean
from sgdnoise.core._ratio import LEVEL, Ratio
from sgdnoise.noise._measure._moments import moments
from sgdnoise.noise._measure._scale_limits import batch_limits, scale_limits


@checked
def gradient_noise_scale(
    rows, *, curvature=None, n_probes=None, rng=None, population=False
) -> Ratio:
    r"""The gradient-noise scale of McCandlish et al. (2018), in examples.

    B = Tr C / |g|^2, or with a curvature B = Tr(HC) / g^T H g, which is their critical batch size.
    rows: the per-example gradients g_i (n, p), as an array, PerExampleGradients or a Gram.
    C has the divisor n - 1, and |g|^2 is the mean of g_i^T g_j over pairs; both are unbiased.  The
    bias of their ratio is removed, and its error computed, by a jackknife over examples.
    The result is a Ratio, which is never negative.  Its interval inverts tests of |g|^2 / Tr C by
    the noncentral F distribution.  It ends at infinity where |g| = 0 cannot be excluded; if this is
    so at 95%, value and error are inf.  Of intervals of 95%, at least 93% hold the truth for normal
    gradients with n from 12 to 1000.  It is at least 90% for skew ones, and 84% where these are few
    and the scale is far below n (docs/noise.md).
    curvature: "hessian" or "gauss_newton" of the mean loss, where the rows know their network or
    problem, as those of `gradient_covariance` do; v -> Hv; or an operator with @.  Its own error is
    not included.
    rng: an int or a numpy Generator.
    n_probes: the number of random signs that estimate Tr(HC) (Hutchinson, 1990), whose error is
    included.  With None all n products H g_i are computed.
    population: the examples are the whole population.  C then has the divisor n, |g|^2 is that of
    their mean, and only probes leave an error.
    Raises ValueError for fewer than 3 examples, gradients that are not finite or not real, for
    n_probes below 2, or without curvature or rng, and for the name of a curvature that the rows do
    not know.

    Example:
        >>> gradients = np.random.default_rng(0).normal([0.5, 0.0], size=(4000, 2))
        >>> print(f"{gradient_noise_scale(gradients):.1f}")  # Tr C / |g|^2 = 2 / 0.25 = 8
        8.1 ± 0.5
    """
    rows = n_gradients_in(rows)
    rng = _check(rows.n, curvature, n_probes, rng)
    product = None if curvature is None else curvature_product(rows, curvature)
    parts = moments(rows, product, n_probes, rng)
    if population:
        return _of_all(parts)
    limits = scale_limits(parts)
    low, high = limits(LEVEL)
    if parts.signal <= 0 or high == math.inf:
        return Ratio(math.inf, math.inf, rows.n - 1, limits)
    estimate, signal = _resolved(parts, low, high), parts.signal
    slope = (1 + parts.trace / signal / rows.n) / (signal * (rows.n - 1))  # by sum g_i H g_i
    # Probes also scatter the deviations, of which the jackknife has half.
    error = math.hypot(estimate.stderr, slope * (parts.probing / 2) ** 0.5)
    return Ratio(estimate.value, error, estimate.dof, limits)


@checked
def signal_to_noise(rows) -> Estimate:
    r"""The signal-to-noise ratio |g|^2 / Tr C, the inverse of the gradient-noise scale.

    It stays finite where g vanishes.  |g|^2 and Tr C are unbiased, so the ratio may be negative.
    Bias and error come from a jackknife over examples.  The error is too large, by up to a factor
    2^1/2, if |g|^2 is not resolved from zero.
    Raises ValueError for fewer than 3 examples, and gradients that are not finite or not real.

    Example:
        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(200, 5)) + 0.3
        >>> print(signal_to_noise(rows))
        0.074 ± 0.019
    """
    rows = n_gradients_in(rows)
    _check(rows.n, None, None, None)
    parts = moments(rows)
    left_trace, left_signal = parts.left_out()
    with np.errstate(divide="ignore", invalid="ignore"):  # gradients that are all alike
        whole = np.float64(parts.signal) / parts.trace
        return jackknife(whole, left_signal / left_trace)


@checked
def gradient_noise_scale_from_batches(
    small_squares, big_squares, small, big, *, paired=False
) -> Ratio:
    r"""The gradient-noise scale Tr C / |g|^2 from squared gradient norms at two batch sizes.

    E |G_B|^2 = |g|^2 + Tr C / B, so |g|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b) and
    Tr C = (|G_b|^2 - |G_B|^2) / (1/b - 1/B) (McCandlish et al., 2018).
    small_squares (k,), big_squares (l,): squared norms at one theta for the batch sizes `small`
    and `big`.  Batches may be drawn without replacement.
    paired: entry i of one belongs to entry i of the other, for example because the big batch
    contains the small one; then k = l.
    The error is that of a ratio of means, to first order; dof is that of the fewer norms.  The
    result is a Ratio, which is never negative.  Its interval is that of the ratio of the two mean
    norms, by Student's law of its logarithm.  It ends at infinity where |g| = 0 cannot be excluded;
    if this is so at 95%, value and error are inf.
    Raises ValueError unless 0 < small < big, for fewer than 2 norms, norms that are negative or not
    finite, and for unequal numbers of paired norms.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> small, big = (rng.normal(1.0, b**-0.5, (500, 20)) for b in (4, 64))
        >>> squares = (small**2).sum(1), (big**2).sum(1)
        >>> print(gradient_noise_scale_from_batches(*squares, 4, 64))
        1.020 ± 0.049
    """
    if not 0 < small < big:
        raise ValueError(f"two batches are a small and a big one, not {small} and {big}")
    low, high = (
        _norms(squares, size) for squares, size in ((small_squares, small), (big_squares, big))
    )
    if paired and low.shape != high.shape:
        raise ValueError(f"{low.size} norms cannot be paired with {high.size} norms")
    from_low, from_high = mean(low), mean(high)
    limits = batch_limits(low, high, small, big, paired=paired)
    trace = (from_low.value - from_high.value) / (1 / small - 1 / big)
    square = (big * from_high.value - small * from_low.value) / (big - small)
    dof = min(low.size, high.size) - 1
    if square <= 0 or limits(LEVEL)[1] == math.inf:
        return Ratio(math.inf, math.inf, dof, limits)
    ratio = max(trace, 0.0) / square
    by_low = (1 / (1 / small - 1 / big) + ratio * small / (big - small)) / square
    by_high = -(1 / (1 / small - 1 / big) + ratio * big / (big - small)) / square
    if paired:
        error = float(mean(by_low * low + by_high * high).stderr)
    else:
        error = math.hypot(by_low * from_low.stderr, by_high * from_high.stderr)
    return Ratio(float(ratio), error, dof, limits)


def _norms(squares, size):
    """Squared norms (k,) of batches of a size, as float64."""
    squares = as_numpy(widened(squares, "squared norms")).astype(float)
    if squares.ndim != 1:
        raise ValueError(f"squared norms must be an array (k,), not of shape {squares.shape}")
    bad = ~(np.isfinite(squares) & (squares >= 0))
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(
            f"squared norms must be 0 or more and finite, "
            f"and that of batch {at} of size {size} is {squares[at]}"
        )
    return squares


@checked
def batch_efficiency(batch_size, scale):
    r"""The fraction of the best one-step gain that a batch achieves: 1 / (1 + scale / batch_size).

    It is exact for a quadratic loss with the scale Tr(HC) / g^T H g (McCandlish et al., 2018): the
    best learning rate |g|^2 / g^T H g and its gain |g|^4 / (2 g^T H g) are both multiplied by it.
    At batch_size = scale it is one half.  Sampling without replacement multiplies the scale by
    (n - B) / (n - 1).

    Example:
        >>> import numpy as np
        >>> batch_efficiency(np.asarray([10, 100, 1000]), 100.0)
        array([0.09090909, 0.5       , 0.90909091])
    """
    return 1 / (1 + scale / batch_size)


def curvature_product(rows, curvature):
    """v -> Hv of a curvature that is named, or given as a function or an operator.

    Raises ValueError for a name where the rows do not know their network.
    """
    if not isinstance(curvature, str):
        return matrix_product(curvature)
    if not hasattr(rows, "curvature"):
        raise ValueError(
            f"rows that are an array do not know their {curvature}: pass a function v -> Hv, or "
            "the covariance that gradient_covariance returns"
        )
    return rows.curvature(curvature)


def matrix_product(operator):
    """v -> operator v, from a function or from an object with @."""
    if callable(operator):
        return operator
    if hasattr(operator, "shape"):
        matrix = widened(operator, "the curvature")
        return partial(_product, matrix)
    return operator.__matmul__


def _product(matrix, vector):
    if matrix.ndim != 2 or tuple(matrix.shape) != 2 * tuple(vector.shape):
        raise ValueError(
            f"the curvature must be a matrix (p, p) for {vector.shape[0]} parameters, "
            f"not of shape {tuple(matrix.shape)}"
        )
    return matrix @ same_library(vector, matrix)


def _of_all(parts):
    """The scale of a population: only probes leave an error."""
    n, square = parts.n, parts.square
    trace = float(parts.deviations.sum()) / n
    if square <= 0:
        return Ratio(math.inf, math.inf)
    error = parts.probing**0.5 / (n * square)
    estimate = Estimate(max(trace / square, 0.0), float(error))
    return Ratio(estimate.value, estimate.stderr, limits=partial(_above_zero, estimate=estimate))


def _above_zero(level, *, estimate):
    low, high = estimate.interval(level)
    return max(low, 0.0), max(high, 0.0)


def _resolved(parts, low, high):
    """The ratio of the unbiased parts, its bias and error by a jackknife over examples.

    Where the jackknife is not in the interval, because a single example decides whether there is a
    signal at all, the ratio stands as it is, with the error of its linearisation.
    """
    trace, signal = parts.trace, parts.signal
    left_trace, left_signal = parts.left_out()
    if trace <= 0:
        return Estimate(0.0, jackknife(trace / signal, left_trace / signal).stderr, parts.n - 1)
    if (left_signal > 0).all():
        jackknifed = jackknife(trace / signal, left_trace / left_signal)
        if low <= jackknifed.value <= high:
            return jackknifed
    linear = (left_trace - trace / signal * left_signal) / signal
    return Estimate(trace / signal, jackknife(0.0, linear).stderr, parts.n - 1)


def _check(n, curvature, n_probes, rng):
    """The generator of the probes, or None without probes."""
    if n < 3:
        raise ValueError(f"a noise scale needs at least 3 examples, not {n}")
    if n_probes is None:
        return None
    if curvature is None:
        raise ValueError(f"without a curvature nothing is left to find by {n_probes} probes")
    if n_probes < 2:
        raise ValueError(f"an error needs at least 2 probes, not {n_probes}")
    if rng is None:
        raise ValueError(f"{n_probes} probes are random and need rng, an int or a numpy Generator")
    return as_generator(rng)
