r"""Confidence limits of the gradient-noise scale.

Let x = n |g|^2 / Tr C be the signal, so that the scale is n / x.  For Gaussian gradients the mean
over n examples, with m directions of equal noise, gives

    F = n |gbar|^2 / Tr C_hat  ~  noncentral F(m, nu; m x),

as for the size of an effect (Steiger, 2004): the limits of x are those at which F has the
probabilities (1 -+ level) / 2.  Inverting a test keeps its coverage where the ratio has no moments
(Fieller, 1954), and x = 0 inside the limits means that no batch is known to be large enough.

For any gradients m and nu are matched to variances that the data show.  The mean of z_i gbar over
|gbar|^2 Tr C estimates 1 / m along the mean, whether noise or signal dominates it: k.  The variance
of |gbar|^2 is 4 V / n minus the 2 Tr C^2 / n^2 that the noise part counts twice; noise is taken to
have k / (1 + x) of it, which lies between isotropic noise (k) and a signal along the noisiest
direction (0).  The dof nu is 2 over a relative variance: with a large signal that of Tr C_hat, less
its covariance with |gbar|^2; without signal that of Gaussian gradients, since F is a ratio of
numbers that outliers raise together, as in Student's test (Efron, 1969); between them by the square
of x / (1 + x).

Three factors for few examples, each 1 for many, were chosen by coverage (tests/noise): Student's
quantile over the normal one, squared; 1 + 4 / n; and 1 + 4 skewness^2 / n (half of it without
signal), as in the expansion of Hall (1992), since the variance of a heavy-tailed variable is
underestimated together with its mean.
"""

import math
from functools import partial

import numpy as np
from scipy.optimize import brentq
from scipy.special import fdtr, ncfdtr, ndtri, stdtrit

SMALLEST = 1e-9  # of k: more directions than a billion are not told apart
LARGE = 1e4  # noncentrality from which the central F of the same mean and variance (Patnaik, 1949)
# takes the place of the noncentral one, whose series would be too long


def scale_limits(moments):
    """level -> the limits of the noise scale, from the moments of n gradients."""
    trace, square, n = moments.trace, moments.square, moments.n
    if trace == 0:
        ends = (0.0, 0.0) if square > 0 else (0.0, math.inf)
        return partial(_constant, ends=ends)
    along = float(moments.along @ moments.along) / (n - 1) / abs(square * trace) if square else 1.0
    positive = max(trace, _stderr(moments))
    heavy = 4 * _skewness(moments.deviations) ** 2 / n
    return partial(
        _limits,
        n=n,
        statistic=n * square / positive,
        k=min(max(along, SMALLEST), 1.0),
        gaussian=2 * min(along, 1.0) / (n - 1) * (1 + heavy / 2),
        variance=_relative_variance(moments, positive) * (1 + 4 / n) * (1 + heavy),
        from_zero=trace <= 0,
    )


def _stderr(moments):
    """The standard error of the trace."""
    variance = np.var(moments.deviations, ddof=1) / moments.n
    return math.sqrt(variance + moments.probing / (moments.n - 1) ** 2)


def _relative_variance(moments, trace):
    """The squared relative error of the trace that the ratio sees."""
    n, deviations = moments.n, moments.deviations
    variance = (_stderr(moments) / trace) ** 2
    covariance = 2 * float(moments.along @ (deviations - deviations.mean())) / n / (n - 1)
    shared = covariance / (moments.square * trace) if moments.square > 0 else 0.0
    return max(variance, variance - 2 * shared)


def _skewness(values):
    centred = values - values.mean()
    deviation = math.sqrt(float(np.mean(centred**2)))
    return float(np.mean((centred / deviation) ** 3)) if deviation > 0 else 0.0


def _constant(level, *, ends):  # noqa: ARG001 - the same at each level
    return ends


def _limits(level, *, n, statistic, k, gaussian, variance, from_zero):
    tail = (1 - level) / 2
    few = (stdtrit(n - 1, 1 - tail) / ndtri(1 - tail)) ** 2
    shape = min(k * few, 1.0), gaussian * few, max(variance, gaussian) * few
    # Below its mean without a signal, F says only that the signal is small: x is never below that.
    largest = _signal_at(tail, max(statistic, 1.0), shape)
    smallest = _signal_at(1 - tail, statistic, shape)
    low, high = (n / x if x else math.inf for x in (largest, smallest))
    return 0.0 if from_zero else low, high


def _signal_at(probability, statistic, shape):
    """The x at which F is below `statistic` with this probability; 0 if there is none."""

    def excess(x):
        return _distribution(statistic, x, *shape) - probability

    if not statistic > 0 or excess(0.0) <= 0:
        return 0.0
    upper = 1.0
    while excess(upper) > 0:
        upper *= 2
    return brentq(excess, 0.0, upper, xtol=1e-300, rtol=1e-10)


def _distribution(statistic, x, k, gaussian, variance):
    """The probability of F below `statistic` for the signal x."""
    noise = 1 + x
    dof = 2 / (gaussian + (x / noise) ** 2 * (variance - gaussian))
    m = 1 / min(k * (2 * noise**2 - 1) / (2 * noise**2 - noise), 1.0)
    if m * x < LARGE:
        return ncfdtr(m, dof, m * x, statistic)
    return fdtr(m * noise**2 / (noise + x), dof, statistic / noise)


def batch_limits(low, high, small, big, *, paired):
    """level -> the limits of the noise scale, from squared norms at two batch sizes.

    E |G_b|^2 / E |G_B|^2 = (1 + scale / b) / (1 + scale / B) grows with the scale from 1 to B / b,
    and the logarithm of the ratio of the mean norms has Student's law with the dof of Welch (1947).
    """
    center = _logarithm(low.mean()) - _logarithm(high.mean())
    first, second = (norms / (norms.mean() or 1.0) for norms in (low, high))
    if paired:
        variance, dof = float(np.var(first - second, ddof=1)) / low.size, low.size - 1
    else:
        pieces = [(np.var(norms, ddof=1) / norms.size, norms.size - 1) for norms in (first, second)]
        variance = float(sum(piece for piece, _ in pieces))
        inverse = sum(piece**2 / dof for piece, dof in pieces)
        dof = variance**2 / inverse if inverse else min(low.size, high.size) - 1
    return partial(
        _batch_limits, center=center, error=variance**0.5, dof=float(dof), small=small, big=big
    )


def _batch_limits(level, *, center, error, dof, small, big):
    half = float(stdtrit(dof, (1 + level) / 2)) * error
    # Where the norms say that there is no signal, the lower end is that of just no signal.
    return tuple(
        _scale_at(math.exp(min(end, 700.0)), small, big)
        for end in (min(center, math.log(big / small)) - half, center + half)
    )


def _scale_at(ratio, small, big):
    """The scale at which the mean squared norms of the two batch sizes have this ratio."""
    if ratio >= big / small:
        return math.inf
    return max(0.0, (ratio - 1) / (1 / small - ratio / big))


def _logarithm(value):
    return math.log(value) if value > 0 else -math.inf
