"""More close pairs than one dimension allows, where single pairs are not improbable."""

import numpy as np
from scipy.stats import poisson

from sgdnoise.dimension._assumptions import MIN_POINTS, RANK, median_dimension
from sgdnoise.dimension._warnings import ClosePairs

RANKS = (1, 3, RANK)  # the first unless most points are in pairs
MOST_MUTUAL = 2 / 3  # of points are the nearest of their nearest in one dimension, fewer in others
LEVELS = np.asarray([0.1, 0.05, 0.02, 0.01, 0.003])  # expected fractions of close points
LEVEL = 1e-6  # probability of so many pairs; arms of heavy tails have some more
MIN_EFFECT = 0.05  # on the mean of log(r_2 / r_1)


def close_pairs(distances, index) -> ClosePairs | None:
    """A warning if more points are close to their nearest neighbour than one dimension allows.

    distances, index (n, k): of 10 neighbours.  At dimension d, P((r_1 / r_2)^d < v) is v.
    It compares the numbers of such points, in pairs, with Poisson's law where this is 10, 5, 2, 1
    and 0.3%.  d is the lowest of those of ranks 1 to 2, which curvature raises least, 3 to 6 and 5
    to 10; the first is left out where most points are in pairs, which determine it.
    """
    n, known = distances.shape
    if n < MIN_POINTS or known < 2 * RANK:
        return None
    first, *others = (median_dimension(distances, rank) for rank in RANKS)
    d = min(others)
    if not (_in_pairs(index) and 2 * first < d):
        d = min(first, d)
    gap = d * (np.log(distances[:, 1]) - np.log(distances[:, 0]))
    is_close = gap[:, None] > -np.log(LEVELS)
    pairs = np.ceil(np.count_nonzero(is_close, axis=0) / 2)
    chance = poisson.sf(pairs - 1, n * LEVELS / 2)
    most = int(np.argmin(chance))
    if not chance[most] < LEVEL:
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
