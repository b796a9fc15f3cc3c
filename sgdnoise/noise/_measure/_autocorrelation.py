"""Autocorrelation of gradient noise across steps."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, namespace, power_of_two, same_library, widened
from sgdnoise.core._estimate import Estimate

WINDOW = 5.0  # times half a correlation time, to where correlations are summed


@checked
def autocorrelation(
    samples: Shaped[Array, "t ..."], lags: Sequence[int] | None = None, *, mean=None
) -> Estimate:
    """The autocorrelation rho_k of noise (t, ...) at each of `lags`, in steps.

    rho_k = E xi_s . xi_(s+k) / E |xi_s|^2 with the inner product over all axes but the first: the
    sum of the autocovariances of all directions over the sum of their variances.  The errors are
    those of Bartlett (1946) for a linear process, with the sum cut at 5 correlation times, divided
    by the number (Tr C)^2 / Tr C^2 of independent directions; they are exact if all directions
    have the same autocorrelation.
    lags: 1 to 20 by default, at most t // 2.
    mean: the mean of the noise, for example 0 if the full gradient is known.  By default it is the
    sample mean, which lowers every rho_k by about correlation_time / t.
    The rows must be consecutive steps of a stationary process: a drift of scale or mean looks like
    correlation.
    Raises ValueError for lags outside 1 ... t // 2, and for noise that is all zero.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(2000, 3))
        >>> print(f"{autocorrelation(noise, [1]):.2f}")
        [0.00] ± [0.01]
    """
    flat = _flat(samples, mean)
    lags = list(range(1, min(20, len(flat) // 2) + 1) if lags is None else map(int, lags))
    _check(flat, lags)
    rho = _correlations(flat, lags)
    factors = _bartlett(flat, lags, rho, _window(flat))
    return Estimate(rho, np.sqrt(np.sum(factors**2, axis=1) / len(flat) / _directions(flat)))


@checked
def correlation_time(
    samples: Shaped[Array, "t ..."], *, window: int | None = None, mean=None
) -> Estimate:
    """The correlation time tau = 1 + 2 sum_k rho_k, in steps.

    The mean of t steps has the variance of the mean of t / tau independent steps.  The sum ends at
    `window` steps, or at the first W >= 5 (1/2 + sum_k |rho_k|), the rule of Sokal (1997) with
    absolute values.  The part beyond is left out, a bias of about exp(-5) for exponential
    correlations.  The error is that of the sum by Bartlett's formula; for AR(1) it is the
    tau (2 (2 W + 1) / t)^(1/2) of Madras & Sokal (1988).  Random reshuffling has long and weak
    anticorrelation: there `window` must span an epoch.
    Raises ValueError for a window outside 1 ... t // 2, and for noise that is all zero.

    Example:
        >>> import numpy as np
        >>> series = np.random.default_rng(0).normal(size=4000)
        >>> print(correlation_time(series))
        1.027 ± 0.055
    """
    flat = _flat(samples, mean)
    _check(flat, [1 if window is None else window])
    lags = range(1, (_window(flat) if window is None else window) + 1)
    rho = _correlations(flat, lags)
    factors = _bartlett(flat, lags, rho, len(lags)).sum(0)
    error = 2 * (np.sum(factors**2) / len(flat) / _directions(flat)) ** 0.5
    return Estimate(float(1 + 2 * rho.sum()), float(error))


@checked
def reshuffled_autocorrelation(batches: int, lag: int) -> float:
    """The autocorrelation of the noise of random reshuffling, epochs of `batches` steps.

    The noises of an epoch sum to zero and all pairs are alike, so two of them have the correlation
    -1 / (batches - 1).  A fraction 1 - lag / batches of the pairs `lag` steps apart is in one
    epoch.  The correlation time is therefore exactly 0.
    Raises ValueError for fewer than 2 batches or lag < 1.

    Example:
        >>> reshuffled_autocorrelation(batches=5, lag=1)
        -0.2
    """
    if batches < 2 or lag < 1:
        raise ValueError(f"an epoch has 2 batches or more and a lag 1, not {batches} and {lag}")
    return -max(0.0, 1 - lag / batches) / (batches - 1)


def _flat(samples, mean):
    """Steps as rows, without their mean."""
    samples = widened(samples, "samples")
    xp = namespace(samples)
    if not samples.ndim:
        raise ValueError("samples must be an array (t, ...) of consecutive steps, not a number")
    t = samples.shape[0]
    flat = xp.reshape(samples, (t, math.prod(samples.shape[1:])))
    centred = flat - (xp.mean(flat, axis=0) if mean is None else _as_mean(mean, flat))
    return centred / power_of_two(centred)  # squares of large numbers would overflow


def _as_mean(mean, flat):
    """A mean that is known, a number or one for each entry of a step, flat."""
    if not hasattr(mean, "shape"):
        return mean
    mean = same_library(widened(mean, "mean"), flat)
    if math.prod(mean.shape) not in (1, flat.shape[1]):
        raise ValueError(
            f"mean must be a number or {flat.shape[1]} of them, not of shape {tuple(mean.shape)}"
        )
    return namespace(flat).reshape(mean, (-1,))


def _check(flat, lags):
    t = len(flat)
    wrong = [lag for lag in lags if not 1 <= lag <= t // 2]
    if wrong:
        raise ValueError(f"{t} steps know lags from 1 to {t // 2}, not {wrong[0]}")
    total = float(as_numpy(namespace(flat).sum(flat**2)))
    if not 0 < total < math.inf:
        raise ValueError(
            f"noise that is all zero or not finite, with a sum of squares of {total}, "
            "has no correlations"
        )


def _correlations(flat, lags):
    """rho_k at each lag, (lag,): means over as many pairs as there are."""
    xp, t = namespace(flat), len(flat)
    scale = float(as_numpy(xp.sum(flat**2))) / t
    pairs = (float(as_numpy(xp.sum(flat[: t - k, :] * flat[k:, :]))) / (t - k) for k in lags)
    return np.asarray([pair / scale for pair in pairs])


def _window(flat):
    """The first window W >= 5 (1/2 + sum of |rho_k| up to W), at most half of the steps."""
    total, largest = 0.5, len(flat) // 2
    for lag in range(1, largest + 1):
        total += abs(float(_correlations(flat, [lag])[0]))
        if lag >= WINDOW * total:
            return lag
    return largest


def _bartlett(flat, lags, rho, cutoff):
    """The factors rho_(l+k) + rho_(l-k) - 2 rho_k rho_l of each rho_k, (lag, l >= 1).

    The sum of squares of a row is t times the variance of rho_k.  Correlations beyond `cutoff`
    count as zero.
    """
    lags, last = np.asarray(lags), cutoff + max(lags)
    correlations = np.zeros(last + max(lags) + 1)
    correlations[: cutoff + 1] = [1.0, *_correlations(flat, range(1, cutoff + 1))]
    k, shift = lags[:, None], np.arange(1, last + 1)
    return (
        correlations[shift + k]
        + correlations[abs(shift - k)]
        - 2 * rho[:, None] * correlations[shift]
    )


def _directions(flat):
    """(Tr C)^2 / Tr C^2 of the covariance, from the smaller of its two Gram matrices."""
    small = flat.T @ flat if flat.shape[1] < len(flat) else flat @ flat.T
    xp = namespace(flat)
    return float(as_numpy(xp.linalg.trace(small) ** 2 / xp.sum(small**2)))
