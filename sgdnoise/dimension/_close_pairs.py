"""More close pairs than one dimension allows, where single pairs are not improbable."""

import numpy as np
from scipy.special import pdtrc

from sgdnoise.dimension._assumptions import MIN_POINTS, RANK, median_dimension
from sgdnoise.dimension._warnings import ClosePairs

RANKS = (1, 3, RANK)  # the first unless most points are in pairs
MOST_MUTUAL = 2 / 3  # of points are the nearest of their nearest in one dimension, fewer in others
LEVELS = np.asarray([0.1, 0.05, 0.02, 0.01, 0.003])  # expected fractions of close points
LEVEL = 1e-6  # probability of so many pairs; arms of heavy tails have some more
STEADY_LEVEL = (
    1e-5  # and at the dimension of ranks 3 to 10, if it is the same at 3 to 6 and 5 to 10
)
STEADY = (0.93, 1.1)  # of which the ratio is between these; curled manifolds are mostly outside
CURVE = 1.3  # dimension below which arms of a curve look like pairs
MIN_EFFECT = 0.05  # on the mean of log(r_2 / r_1)


def close_pairs(distances, index) -> ClosePairs | None:
    """A warning if more points are close to their nearest neighbour than one dimension allows.

    distances, index (n, k): of 10 neighbours.  At dimension d, P((r_1 / r_2)^d < v) is v.
    It compares the numbers of such points, in pairs, with Poisson's law where this is 10, 5, 2, 1
    and 0.3%.  d is the lowest of those of ranks 1 to 2, which curvature raises least, 3 to 6 and 5
    to 10; the first is left out where most points are in pairs, which determine it.  Where ranks 3
    to 6 and 5 to 10 agree, it compares again without the first, at the level 1e-5, but only
    points that are also close at the dimension of their own neighbours of ranks 2 to 10.
    """
    n, known = distances.shape
    if n < MIN_POINTS or known < 2 * RANK:
        return None
    logarithms = np.log(distances[:, : 2 * RANK].astype(np.float64))
    first, *others = (median_dimension(logarithms, rank, logarithms=True) for rank in RANKS)
    ratio, farther = logarithms[:, 1] - logarithms[:, 0], min(others)
    d = farther if _in_pairs(index) and 2 * first < farther else min(first, farther)
    found = _warning(d * ratio, d, LEVEL)
    if found is None and first > CURVE and STEADY[0] < others[0] / others[1] < STEADY[1]:
        return _warning(np.minimum(farther * ratio, _local_gap(logarithms)), farther, STEADY_LEVEL)
    return found


def _local_gap(logarithms):
    """A standard exponential for each point, if the density is constant over ten neighbours.

    m log(r_(m + 1) / r_m), m = 1 to 9, are independent exponentials of mean 1 / d, so that the
    first over the sum of the others has P(ratio > t) = (1 + t)^-8 for any d.
    """
    gaps = np.diff(logarithms, axis=1) * np.arange(1, logarithms.shape[1])
    return (gaps.shape[1] - 1) * np.log1p(gaps[:, 0] / np.sum(gaps[:, 1:], axis=1))


def _warning(gap, d, level):
    """The warning if too many of n gaps, which are standard exponentials, are large."""
    n = len(gap)
    is_close = gap[:, None] > -np.log(LEVELS)
    pairs = np.ceil(np.count_nonzero(is_close, axis=0) / 2)
    chance = np.where(pairs > 0, pdtrc(np.maximum(pairs - 1, 0), n * LEVELS / 2), 1.0)  # Poisson
    most = int(np.argmin(chance))
    if not chance[most] < level:
        return None
    close = is_close[:, most]
    fraction = np.mean(close)
    effect = (fraction - LEVELS[most]) * (np.mean(gap[close]) - 1)
    if effect < MIN_EFFECT:
        return None
    return ClosePairs(
        f"{fraction:.1%} of {n} points are as close to their nearest neighbour as "
        f"{LEVELS[most]:.1%} are in {d:.3g} dimensions: near copies, "
        f"or parts of lower dimension; they lower twonn by about {effect / (1 + effect):.0%}"
    )


def _in_pairs(index):
    """Whether more points are the nearest of their nearest than in one dimension."""
    n = len(index)
    mutual = np.mean(index[index[:, 0], 0] == np.arange(n))
    return mutual > MOST_MUTUAL + n**-0.5
