"""Points that nearly repeat others: pairs far closer than the law of distances allows."""

import math

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import gammainc

from sgdnoise.core._arrays import as_numpy
from sgdnoise.dimension._assumptions import MIN_POINTS, RANK, median_dimension

RANKS = (3, RANK)  # which, unlike the first, are those of the points where most have a copy
MAX_COPIES = 4  # of one point; larger clusters are structure, not copies
LEVEL = 1e-6  # probability that copies are found where there are none
CONFIRMED = 1e-3  # and at the lower dimension of the surroundings of those that were found
MIN_SURPLUS = 4.0  # groups for each one expected by chance, down to the last that is found
MIN_LOCAL = 4.0  # E_j at the dimension of the ten neighbours themselves
MIN_JUDGED = 10  # points that have a dimension of their own
AGREEMENT = 0.8  # of two dimensions that are taken for one
FIRST_TO_FIFTH = 25 / 12  # mean of d log(r_5 / r_1)
CLOSE = 0.05  # ratio of distances below which a pair is a copy for certain
MIN_EFFECT = 0.02  # of other copies on the mean log ratio, below which they do no harm


def copies(distances, index) -> np.ndarray:
    """Which points nearly repeat an earlier one, (n,) booleans.

    distances, index: of 10 neighbours.  At dimension d, E_j = j d log(r_(j+1) / r_j) is a standard
    exponential for each rank j if the density is constant.  Groups of j + 1 copies have one large
    E_j each.  The copies are the points of largest E_j, j up to 4, as long as the Poisson law of
    the number of groups makes so many improbable, and down to the last there are 4 for each one
    expected by chance.  d is the lowest of those of ranks 3 to 6, of ranks 5 to 10, of ranks 1 to 2
    of the other points, and of ranks 5 to 10 of the copies; E_j is above 4 also at the dimension of
    the point's own neighbours, and r_j below half of the typical distance to the nearest: places of
    low dimension and pairs of outliers are no copies.
    Copies at more than a twentieth of the next distance count only if together they
    change the mean of log(r_2 / r_1) by 2%: real data have a few similar pairs.
    """
    distances, index = as_numpy(distances), as_numpy(index)
    n, known = distances.shape
    if n < MIN_POINTS or known < 2 * RANK:
        return np.zeros(n, bool)
    logarithms = np.log(distances[:, : 2 * RANK].astype(np.float64))
    d = min(median_dimension(distances, rank) for rank in RANKS)
    if not 0 < d < math.inf:
        return np.zeros(n, bool)
    rank, gap = _widest_gap(logarithms[:, : MAX_COPIES + 1])
    excess = np.where(_isolated(logarithms, rank, gap, d), rank * gap, 0.0)
    found = _consistent(d * excess, rank, d, logarithms)
    if found.any() and not found.all():
        d = min(d, median_dimension(logarithms[~found], 1, logarithms=True))
        found = _consistent(d * excess, rank, d, logarithms)
    if not _matter(gap, found):
        return np.zeros(n, bool)
    return _later_of_each(found, rank, index)


def _isolated(logarithms, rank, gap, d):
    """Whether the gap of points is wide for their ten neighbours, and they are close for all.

    The typical distance to the nearest neighbour is the median or, where most points have a copy,
    that expected below the median distance to the fifth, at dimension d.
    """
    inverse = np.mean(logarithms[:, -1:] - logarithms[:, RANK - 1 : -1], axis=1)
    fifth = np.median(logarithms[:, RANK - 1]) - FIRST_TO_FIFTH / d
    typical = max(np.median(logarithms[:, 0]), fifth)
    near = logarithms[np.arange(len(rank)), rank - 1] < typical - math.log(2)
    return near & (rank * gap > MIN_LOCAL * inverse)


def _widest_gap(logarithms):
    """The rank j with the largest j log(r_(j+1) / r_j) of each point, and that logarithm."""
    gaps = np.diff(logarithms, axis=1)
    place = np.argmax(gaps * np.arange(1, gaps.shape[1] + 1), axis=1)
    return place + 1, gaps[np.arange(len(gaps)), place]


def _consistent(excess, rank, d, logarithms):
    """The improbable points at the dimension of their own surroundings, if that is lower.

    Where a part of the points has a lower dimension, its large E_j are no copies.
    """
    found, scale = _improbable(excess, rank), 1.0
    while np.count_nonzero(found) >= MIN_JUDGED:
        lower = median_dimension(logarithms[found], RANK, logarithms=True) / d
        if lower > AGREEMENT * scale:
            break
        scale = lower
        found = _improbable(scale * excess, rank, CONFIRMED)
    return found


def _improbable(excess, rank, level=LEVEL):
    """The points with the largest excess, as many as chance does not explain."""
    order = np.argsort(-excess)
    groups = np.cumsum(1 / (rank[order] + 1))
    expected = np.exp(-excess[order]) * len(excess) * np.sum(1 / np.arange(2, MAX_COPIES + 2))
    # One improbable pair must not be hidden by the next points, which are no copies.
    improbable = gammainc(groups, expected) < level
    surplus = np.where(improbable, groups - MIN_SURPLUS * expected, -math.inf)
    found = np.zeros(len(excess), bool)
    if improbable.any():
        found[order[: int(np.argmax(surplus)) + 1]] = True
    return found


def _matter(gap, found):
    """Whether any copy is certain, or all of them change the mean gap."""
    if not found.any():
        return False
    ordinary = np.median(gap)
    return bool(
        gap[found].max() > -math.log(CLOSE)
        or np.sum(gap[found] - ordinary) > MIN_EFFECT * len(gap) * ordinary
    )


def _later_of_each(found, rank, index):
    """All points but the first of each group that is joined by near copies."""
    n = len(found)
    places = np.flatnonzero(found)
    joined = np.arange(MAX_COPIES)[None, :] < rank[places, None]
    start, end = np.repeat(places, rank[places]), index[places, :MAX_COPIES][joined]
    graph = csr_array((np.ones(start.size, bool), (start, end)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    later = np.ones(n, bool)
    later[np.unique(label, return_index=True)[1]] = False
    return later
