"""Dimension from how many of the neighbours within one radius lie within a smaller one."""

import math
from statistics import NormalDist

from jaxtyping import Int

from sgdnoise.core._arrays import Array, concrete, device, namespace
from sgdnoise.dimension._distance_ratios import twonn
from sgdnoise.dimension._neighbours import TILE
from sgdnoise.dimension._points import Neighbours, check_points, find_neighbours

SHARE = 0.2031878699799799  # (1 - p) / (p log^2 p) is least here: least variance of log p / log r
FEWEST = 3  # neighbours, below which `adaptive_neighbours` tests nothing


def binomial(
    points, k: int = 20, ratio: float | None = None, *, neighbours: Neighbours | None = None
):
    """Binomial dimension of Macocco et al. (2023), between two radii.  (n, D) -> ()

    Where the density hardly varies over k neighbours, each of the k - 1 before the k-th lies within
    `ratio` of its distance with probability p = ratio^d; p is measured over all points.
    Without a ratio, it is p = 0.2032 that is chosen, where the variance of d is least, at the
    dimension of Levina & Bickel (2004) from the same neighbours.  A fixed ratio sees nothing once
    ratio^d n k is below 1: d is infinite then.  Raises ValueError for k < 2, for a ratio not
    between 0 and 1, or for fewer than k + 1 points.
    """
    if k < 2:
        raise ValueError(f"counts within two radii need k of 2 or more neighbours, not {k}")
    if ratio is not None and not 0 < ratio < 1:
        raise ValueError(f"the inner radius is a ratio between 0 and 1 of the outer, not {ratio}")
    near = find_neighbours(points, k, neighbours).distances
    xp = namespace(near)
    scaled = near[:, :-1] / near[:, -1:]
    within = _best_ratio(-1 / xp.mean(xp.log(scaled))) if ratio is None else ratio
    inside = xp.mean(xp.astype(scaled <= within, near.dtype))
    return _log(inside) / (xp.log(within) if ratio is None else math.log(ratio))


def abide(
    points,
    most: int = 100,
    alpha: float = 1e-6,
    steps: int = 5,
    *,
    neighbours: Neighbours | None = None,
):
    """Dimension within neighbourhoods of constant density, ABIDE of Di Noia et al. (2024).

    (n, D) -> ()  Each point takes as many neighbours as `adaptive_neighbours` allows it, of `most`
    at most, at the dimension known; the binomial estimate over all of these, at the ratio of least
    variance, is the next dimension; `steps` times, from `twonn`.  Counts are whole, so that later
    steps go on moving it by some 1e-4.  Neighbourhoods are as large as a test of the density lets
    them be: curvature and edges, which it does not see, bias more than among few neighbours.
    Infinite where none lies within the inner radius, as among few points.
    Raises ValueError for alpha not between 0 and 1, or fewer than 5 points.
    """
    near = find_neighbours(points, most, neighbours, fewer=True)
    if near.distances.shape[1] <= FEWEST:
        found = near.distances.shape[1] + 1
        raise ValueError(f"at least {FEWEST + 2} distinct points are needed, not {found}")
    _check_level(alpha)
    d, half = twonn(near.points, neighbours=near), _half_contrasts(near)
    for _ in range(steps):
        if concrete(namespace(d).isinf(d)):
            break
        d = _within_adaptive(near, half, d, alpha)
    return d


def adaptive_neighbours(neighbours: Neighbours, d, alpha: float = 1e-6) -> Int[Array, " n"]:
    """How many neighbours of each point have its density, of those given, at dimension d.

    From 3 on, the k nearest of point i, in a ball of volume r_ik^d, are tested against the k
    nearest of its next neighbour j: twice the logarithm of the ratio of likelihoods,
    4 k log cosh(d log(r_ik / r_jk) / 2), is chi^2(1) where the densities are equal (Rodriguez et
    al. 2018).  The first k to fail at level alpha is the answer; the last, where none does.
    Raises ValueError for alpha not between 0 and 1, or fewer than 4 neighbours.
    """
    _check_level(alpha)
    known = neighbours.distances.shape[1]
    if known <= FEWEST:
        raise ValueError(f"{FEWEST + 1} or more neighbours are needed for a test, not {known}")
    return _adaptive(_half_contrasts(neighbours), d, alpha)


def i3d(points, inner: int, outer: int):
    """Dimension on a lattice, I3D of Macocco et al. (2023): whole points, whole radii.

    (n, D) -> ()  V(t, d) = sum_j 2^j C(t, j) C(d, j) lattice points lie within t of one by the sum
    of coordinate differences, also for d between whole numbers.  Where the density hardly varies,
    others within `inner` are to those within `outer` as V(inner, d) to V(outer, d), summed over
    points.  Points that coincide are distinct ones on one site, and are not merged.  0 where
    all others within `outer` are within `inner`.
    Raises ValueError unless 0 <= inner < outer, for coordinates that are not whole, and where no
    other point lies within `inner`.
    """
    if not 0 <= inner < outer:
        raise ValueError(
            f"an inner radius of 0 or more is below the outer, not {inner} and {outer}"
        )
    points = check_points(points, apart=False)
    xp = namespace(points)
    if concrete(xp.any(points != xp.round(points))):
        raise ValueError("points of a lattice have whole coordinates, and these have fractions")
    near, far = _pairs_within(xp, points, (inner, outer))
    if concrete(near == 0):
        raise ValueError(f"no two points lie within {inner} of each other; take a larger radius")
    return _lattice_dimension(xp, _log(far) - _log(near), inner, outer)


def _check_level(alpha):
    if not 0 < alpha < 1:
        raise ValueError(f"a test has a level alpha between 0 and 1, not {alpha}")


def _half_contrasts(near):
    """|log(r_ik / r_jk)| / 2 for k from the fewest on, j the next neighbour of i, (n, ranks)."""
    xp, known = namespace(near.distances), near.distances.shape[1]
    logarithms = xp.log(near.distances)
    rank = xp.arange(FEWEST, known, device=device(logarithms))
    own = logarithms[:, FEWEST - 1 : known - 1]
    place = near.index[:, FEWEST:] * known + rank[None, :] - 1
    other = xp.take(xp.reshape(logarithms, (-1,)), xp.reshape(place, (-1,)))
    return xp.abs(own - xp.reshape(other, own.shape)) / 2


def _adaptive(half, d, alpha):
    """The first k at which d times a half contrast exceeds arcosh(e^c), c = chi^2 / (4 k)."""
    xp, ranks = namespace(half), half.shape[1]
    most = NormalDist().inv_cdf(alpha / 2) ** 2
    rank = xp.arange(FEWEST, FEWEST + ranks, dtype=half.dtype, device=device(half))
    c = most / (4 * rank)
    failed = half * d > c + xp.log1p(xp.sqrt(-xp.expm1(-2 * c)))
    first = xp.argmax(xp.astype(failed, xp.uint8), axis=1)
    return FEWEST + xp.where(xp.any(failed, axis=1), first, xp.full_like(first, ranks))


def _best_ratio(d):
    """Inner radius over outer, of least variance at dimension d."""
    return SHARE ** (1 / d)


def _log(value):
    """Minus infinity at zero, without a warning."""
    xp = namespace(value)
    return xp.where(value > 0, xp.log(xp.where(value > 0, value, 1.0)), -xp.inf)


def _within_adaptive(near, half, d, alpha):
    """One step of `abide`."""
    xp, ratio = namespace(near.distances), _best_ratio(d)
    k = _adaptive(half, d, alpha)
    radius = xp.take_along_axis(near.distances, (k - 1)[:, None], axis=1)
    inside = xp.sum(xp.astype(near.distances <= ratio * radius, radius.dtype))
    return _log(inside / xp.sum(xp.astype(k - 1, radius.dtype))) / xp.log(ratio)


def _pairs_within(xp, points, radii):
    """How many ordered pairs of points lie within each radius, by sums of differences."""
    n, width = points.shape
    columns = [xp.asarray(points[:, i], copy=True) for i in range(width)]  # each in one piece
    counts = [xp.sum(0 * points) - n for _ in radii]
    rows = max(1, TILE // 32 // n)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        apart = xp.abs(columns[0][start:stop, None] - columns[0][None, :])
        for column in columns[1:]:
            apart = apart + xp.abs(column[start:stop, None] - column[None, :])
        for i, radius in enumerate(radii):
            counts[i] = counts[i] + xp.astype(xp.count_nonzero(apart <= radius), points.dtype)
    return counts


def _lattice_dimension(xp, target, inner, outer, steps=60):
    """The d at which log V(outer, d) - log V(inner, d), which grows with d, meets the target.

    Halves the interval of d / (1 + d), from 0 to 1.
    """
    low, high = 0 * target, 0 * target + 1
    for _ in range(steps):
        middle = (low + high) / 2
        volumes = _lattice_volumes(middle / (1 - middle), outer)
        below = xp.log(volumes[outer] / volumes[inner]) < target
        low, high = xp.where(below, middle, low), xp.where(below, high, middle)
    return low / (1 - low)


def _lattice_volumes(d, last):
    """V(t, d) for t = 0 ... last: (t + 1) V(t + 1) = (2 d + 1) V(t) + t V(t - 1), all positive."""
    volumes = [0 * d + 1, 2 * d + 1]
    for t in range(1, last):
        volumes.append(((2 * d + 1) * volumes[t] + t * volumes[t - 1]) / (t + 1))
    return volumes
