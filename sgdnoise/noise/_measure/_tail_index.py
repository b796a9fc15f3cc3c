"""Tail index of gradient noise: the alpha of P(|x| > t) ~ t^-alpha.

No estimator gives alpha without an assumption that the data cannot check; each states its own.
Numbers that are pooled must have one law: a mixture of Gaussian scales has tails that look heavy.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, power_of_two, widened
from sgdnoise.core._covariance import Gram
from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.core._gradients import centred

LEAST = 100  # rows
BLOCK = 10  # numbers summed by `blocks`
POINTS = 10  # of the characteristic function, at 0.1, 0.2, ... 1 over the scale
GRID = 60  # thresholds tried by `clauset`


@checked
def tail_index(
    samples: Shaped[Array, "m ..."] | Gram, *, method: str = "hill", layers=None
) -> Estimate:
    """The tail index of noise about zero: of (m,) one number, of (m, p) one for each column.

    layers: labels (p,).  There is then one result for each label, in ascending order, from all
    numbers under that label; each column is first divided by the median of its nonzero |x|.  Rows
    are independent samples; numbers of one row need not be independent, and pooled errors are
    those of whole rows.  Of a Gram, the norms |g_i - g| of its examples are used.  Vectors are not
    projected: `samples @ directions` does this, and makes tails of many independent coordinates
    more Gaussian.
    method:
    "hill" (Hill, 1975): 1 / mean log(|x| / u) over the k = floor(sqrt(m)) largest, u the next one.
    It assumes a power law there.  For Gaussian noise it gives a finite number that grows as log m.
    "clauset" (Clauset, Shalizi & Newman, 2009): k has the smallest Kolmogorov-Smirnov distance.
    It is best for pure power laws, and biased if a power law begins late: 2.2 for stable noise of
    1.7.
    "moments" (Dekkers, Einmahl & de Haan, 1989): 1 / `extreme_value_index`, infinite if that is <=
    0.
    "stable" (Koutrouvelis, 1980; points of Kogon & Williams, 1998): log(-log|phi(t)|^2) against
    log t.  It is right for a stable law only: it uses the centre, not the tail, and gives alpha <
    2 for noise of finite variance, 1.85 for Student's t with 5 degrees of freedom.
    "blocks" (Mohammadi, Mohammadpour & Ogata, 2015): 1 / alpha = (mean log|sum of 10| -
    mean log|x|) / log 10 over sums of consecutive rows.  It assumes a stable law; a nonzero mean
    or correlated rows move it towards 1.  Simsekli, Sagun & Gurbuzbalaban (2019) apply it to all
    coordinates of one step of a network.  Coordinates of unequal scale are no stable law, and
    Gaussian noise then gives alpha < 2.
    Raises ValueError for fewer than 100 rows, numbers that are not finite, an unknown method,
    labels of another number, or too few numbers that differ from zero.

    Example:
        >>> import numpy as np
        >>> cauchy = np.random.default_rng(0).standard_cauchy(20_000)  # alpha = 1
        >>> print(f"{tail_index(cauchy):.1f}")
        1.1 ± 0.1
    """
    if isinstance(samples, Gram):
        samples = _norms(samples)
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    return _each(METHODS[method], samples, layers)


@checked
def extreme_value_index(samples: Shaped[Array, "m ..."], *, layers=None) -> Estimate:
    """The index gamma of the law of extremes of |x|: 1 / alpha for a power law, else <= 0.

    gamma = M1 + 1 - 1 / (2 (1 - M1^2 / M2)), where M_j is the mean of log(|x| / u)^j over the
    floor(sqrt(m)) largest (Dekkers, Einmahl & de Haan, 1989).  Zero is an exponential or Gaussian
    tail, below zero a bounded one.  Gaussian noise gives -0.16 at m = 1000 and -0.09 at 10000,
    since its limit is reached as 1 / log m.  Arguments and errors are those of `tail_index`.

    Example:
        >>> import numpy as np
        >>> heavy = np.random.default_rng(0).standard_t(3, size=(20_000, 1))
        >>> print(extreme_value_index(heavy))
        [0.208] ± [0.086]
    """
    return _each(_moments, samples, layers)


def _norms(covariance):
    """|g_i - g| of each example, (n,)."""
    return np.sqrt(as_numpy(centred(covariance.rows)[1].squares()).astype(float))


def _each(estimator, samples, layers):
    """An estimator of (m, q) numbers, of every column alone or of those under each label."""
    x = as_numpy(widened(samples, "samples")).astype(float)
    _check(x, layers)
    x = x / power_of_two(x)  # the methods sum and multiply numbers
    if x.ndim == 1:
        return estimator(x[:, None])
    if layers is None:
        groups = [x[:, [j]] for j in range(x.shape[1])]
    else:
        labels, scaled = np.asarray(layers), _scaled(x)
        groups = [scaled[:, (labels == label) & scaled.any(0)] for label in np.unique(labels)]
        empty = [
            str(c) for c, group in zip(np.unique(labels), groups, strict=True) if not group.size
        ]
        if empty:
            raise ValueError(f"the samples are all zero in {', '.join(empty)[:80]}")
    estimates = [estimator(group) for group in groups]
    entries = zip(*((e.value, e.stderr, e.dof) for e in estimates), strict=True)
    return Estimate(*map(np.asarray, entries))


def _scaled(x):
    """Each column over the median of its |x| that is not zero; columns of zeros stay so."""
    size = np.where(x == 0, np.nan, abs(x))
    nonzero = ~np.isnan(size).all(0)
    unit = np.ones(x.shape[1])
    unit[nonzero] = np.nanmedian(size[:, nonzero], axis=0)
    return x / unit


def _hill(x):
    """The influences of a row add up, hence a factor on the error for independent numbers."""
    logs, above = _excess(x)
    k = above.sum()
    gamma = logs.sum() / k
    error = gamma / k**0.5 * _clustered((logs - gamma) * above)
    return Estimate(float(1 / gamma), float(error / gamma**2))


def _moments(x):
    logs, above = _excess(x)
    k = above.sum()
    first, second = logs.sum() / k, (logs**2).sum() / k
    ratio = first**2 / second
    gamma = first + 1 - 0.5 / (1 - ratio)
    first_influence, second_influence = (logs - first) * above, (logs**2 - second) * above
    derivative = (2 * first * first_influence - ratio * second_influence) / second
    clustering = _clustered(first_influence - 0.5 / (1 - ratio) ** 2 * derivative)
    return Estimate(float(gamma), float((_moments_variance(gamma) / k) ** 0.5 * clustering))


def _moments_variance(g):
    """Of the moment estimator, times k, Dekkers, Einmahl & de Haan (1989)."""
    if g >= 0:
        return 1 + g**2
    tail = (5 - 11 * g) * (1 - 2 * g) / ((1 - 3 * g) * (1 - 4 * g))
    return (1 - g) ** 2 * (1 - 2 * g) * (4 - 8 * (1 - 2 * g) / (1 - 3 * g) + tail)


def _inverse_moments(x):
    gamma = _moments(x)
    if gamma.value <= 0:
        return Estimate(np.inf, np.nan)
    return Estimate(1 / gamma.value, gamma.stderr / gamma.value**2)


def _excess(x):
    """log(|x| / u) of the floor(sqrt(size)) largest |x|, else 0, and which they are."""
    size, k = abs(x), int(x.size**0.5)
    threshold = np.partition(size, x.size - k - 1, axis=None)[x.size - k - 1]
    if threshold <= 0:
        raise ValueError(f"a tail of {k} numbers needs more of the {x.size} to differ from zero")
    above = size > threshold
    return np.log(np.where(above, size, threshold) / threshold), above


def _clauset(x):
    result = with_group_error(_fitted_tail, x)
    return Estimate(float(result.value), float(result.stderr))


def _fitted_tail(x):
    """Hill's estimate at the threshold above which the sample is closest to a power law."""
    size = np.sort(abs(x), axis=None)[::-1]
    size = size[size > 0]
    if len(size) < LEAST // 5:
        raise ValueError(f"a tail cannot be fitted to {len(size)} numbers that are not zero")
    logs = np.log(size)
    counts = np.unique(np.geomspace(10, len(size) // 2, GRID).astype(int))
    gammas = np.cumsum(logs)[counts - 1] / counts - logs[counts]
    distances = [_distance(logs[:k] - logs[k], g) for k, g in zip(counts, gammas, strict=True)]
    return 1 / gammas[np.argmin(distances)]


def _distance(excess, gamma):
    """Kolmogorov-Smirnov distance of descending numbers from the exponential law of a mean."""
    beyond, ranks = np.exp(-excess / gamma), np.arange(len(excess)) / len(excess)
    return max(np.max(ranks + 1 / len(excess) - beyond), np.max(beyond - ranks))


def _stable(x):
    """Errors from the influence of each number on log(-log|phi|^2), to first order."""
    lower_quartile, median, upper_quartile = np.percentile(x, [25, 50, 75])
    if upper_quartile <= lower_quartile:
        raise ValueError(f"half of the numbers are equal to {median:.3g}: no stable law is so")
    step = np.exp(2j * (x - median) / (upper_quartile - lower_quartile) / POINTS)
    logs = np.log(np.arange(1, POINTS + 1))
    weights = (logs - logs.mean()) / np.sum((logs - logs.mean()) ** 2)
    alpha, wave, influence = 0.0, np.ones_like(step), np.zeros(x.shape)
    for weight in weights:
        wave = wave * step
        phi = wave.mean()
        size = abs(phi) ** 2
        alpha += weight * np.log(-np.log(size))
        change = 2 * (np.conj(phi) * (wave - phi)).real / size
        influence += weight / np.log(size) * change
    return Estimate(float(alpha), float(np.sum(influence.sum(1) ** 2) ** 0.5 / x.size))


def _blocks(x):
    rows = len(x) - len(x) % BLOCK
    blocks = x[:rows].reshape(-1, BLOCK, x.shape[1])
    nonzero = (blocks != 0).any(1)  # of zeros alone no logarithm is taken
    sums = np.where(nonzero, blocks.sum(1), 1)
    log_terms = np.sum(np.log(np.where(blocks == 0, 1, abs(blocks))), axis=1)
    count = np.maximum(np.sum(blocks != 0, axis=1), 1)
    log_growth = nonzero * (np.log(abs(sums)) - log_terms / count) / np.log(BLOCK)
    inverse = log_growth.sum() / nonzero.sum()
    errors = np.sum(log_growth - inverse * nonzero, axis=1)
    stderr = (np.sum(errors**2) * len(errors) / (len(errors) - 1)) ** 0.5 / nonzero.sum()
    return Estimate(float(1 / inverse), float(stderr / inverse**2), len(errors) - 1)


def _clustered(influence):
    """Error of a sum of influences over what it were if all were independent, not only rows."""
    if influence.shape[1] == 1:
        return 1.0
    return (np.sum(influence.sum(1) ** 2) / np.sum(influence**2)) ** 0.5


METHODS: dict[str, Callable[[Any], Estimate]] = {
    "hill": _hill,
    "clauset": _clauset,
    "moments": _inverse_moments,
    "stable": _stable,
    "blocks": _blocks,
}


def _check(x, layers):
    if x.ndim not in (1, 2):
        raise ValueError(f"samples must be an array (m,) or (m, p), not of shape {x.shape}")
    if len(x) < LEAST:
        raise ValueError(f"tails need at least {LEAST} samples, not {len(x)}")
    if not np.isfinite(x).all():
        raise ValueError(f"the samples {x.shape} hold numbers that are not finite")
    if layers is not None and np.shape(layers) != x.shape[1:]:
        raise ValueError(
            f"layers name each of {x.shape[1:]} columns, and cannot have shape {np.shape(layers)}"
        )
