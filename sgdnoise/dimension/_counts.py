"""Dimension from the numbers of neighbours within two radii."""

import math
import warnings
from statistics import NormalDist

from jaxtyping import Int

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, concrete, device, namespace
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._bounds import check_above
from sgdnoise.dimension._distance_ratios import pareto_exponent
from sgdnoise.dimension._neighbours import TILE
from sgdnoise.dimension._points import Neighbours, check_points, find_neighbours
from sgdnoise.dimension._warnings import NotSettled

STEPS, MAX_STEPS, SETTLED = 5, 50, 0.01  # of `abide`, and the relative change of its last step
BEST_FRACTION = 0.2031878699799799  # minimises (1 - p) / (p log^2 p), the variance of log p / log r
MIN_NEIGHBOURS = 3  # below which `adaptive_neighbours` does not test


@checked
@any_scale
def binomial(
    points,
    k: int = 20,
    ratio: float | None = None,
    *,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    """The binomial dimension of Macocco et al. (2023), between two radii.  (n, D) -> ()

    If the density is constant over k neighbours, each of the k - 1 before the k-th lies within
    `ratio` of its distance with probability p = ratio^d; p is measured over all points.
    By default the ratio has p = 0.2032, for which the variance of d is least, at the dimension of
    Levina & Bickel (2004) from the same neighbours.  For a fixed ratio d is infinite if no
    neighbour lies within it, as for ratio^d n k below 1.  Raises ValueError for k < 2, for a ratio
    not between 0 and 1, or for fewer than k + 1 points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(binomial(points)), 1)
        2.0
    """
    if k < 2:
        raise ValueError(f"counts within two radii need k of 2 or more neighbours, not {k}")
    if ratio is not None and not 0 < ratio < 1:
        raise ValueError(f"the inner radius is a ratio between 0 and 1 of the outer, not {ratio}")
    neighbours = find_neighbours(points, k, neighbours, exclude=exclude)
    distances = neighbours.distances
    xp = namespace(distances)
    scaled = distances[:, :-1] / distances[:, -1:]
    within = _best_ratio(-1 / xp.mean(xp.log(scaled))) if ratio is None else ratio
    inside = xp.mean(xp.astype(scaled <= within, distances.dtype))
    value = _log(inside) / (xp.log(within) if ratio is None else math.log(ratio))
    return check_above(value, neighbours)


@checked
@any_scale
def abide(
    points,
    max_k: int = 100,
    alpha: float = 1e-6,
    steps: int | None = None,
    *,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    """The dimension in neighbourhoods of constant density, ABIDE of Di Noia et al. (2024).

    (n, D) -> ()  Each point takes as many of `max_k` neighbours as `adaptive_neighbours` allows at
    the current dimension; the binomial estimate over all of these, at the ratio of least variance,
    is the next dimension; this is iterated `steps` times, from `twonn`; by default 5 times, and on
    until it changes by less than 1%, or n^-1/2 of it, up to 50 times, after which it warns
    `NotSettled`.  Counts are integers, so that later steps still change it by about 1e-4.
    Neighbourhoods are as large as a test of the density allows: curvature and edges, which it does
    not detect, bias more than for few neighbours.  It is infinite if no neighbour lies within the
    inner radius, as for few points.
    Raises ValueError for alpha not between 0 and 1, or fewer than 5 points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(abide(points)), 1)
        2.0
    """
    neighbours = find_neighbours(points, max_k, neighbours, allow_fewer=True, exclude=exclude)
    if neighbours.distances.shape[1] <= MIN_NEIGHBOURS:
        n = neighbours.distances.shape[1] + 1
        raise ValueError(f"at least {MIN_NEIGHBOURS + 2} distinct points are needed, not {n}")
    _check_level(alpha)
    d = pareto_exponent(neighbours.distances[:, 1] / neighbours.distances[:, 0])
    return check_above(_iterated(neighbours, d, alpha, steps), neighbours)


def _iterated(neighbours, d, alpha, steps):
    """The dimension after `steps`, or 5 and as many more as it takes to settle."""
    half, xp = _half_contrasts(neighbours), namespace(d)
    allowed = max(SETTLED, neighbours.distances.shape[0] ** -0.5)
    for step in range(1, 1 + (MAX_STEPS if steps is None else steps)):
        if concrete(xp.isinf(d)):
            return d
        last, d = d, _within_adaptive(neighbours, half, d, alpha)
        if steps is None and step >= STEPS and not concrete(xp.abs(d - last) > allowed * d):
            return d
    if steps is not None:
        return d
    warnings.warn(
        f"abide changed from {float(last):.4g} to {float(d):.4g} in its last step, and is not "
        "settled: its neighbourhoods have no constant density",
        NotSettled,
        stacklevel=4,
    )
    return d


@checked
def adaptive_neighbours(neighbours: Neighbours, d, alpha: float = 1e-6) -> Int[Array, " n"]:
    """The number of neighbours of each point that have its density, at dimension d.

    From 3 on, the k nearest of point i, in a ball of volume r_ik^d, are tested against the k
    nearest of its next neighbour j: twice the log-likelihood ratio,
    4 k log cosh(d log(r_ik / r_jk) / 2), is chi^2(1) if the densities are equal (Rodriguez et
    al. 2018).  The result is the first k to fail at level alpha, or the last if none does.
    Raises ValueError for alpha not between 0 and 1, or fewer than 4 neighbours.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import find_neighbours
        >>> points = np.random.default_rng(0).uniform(size=(500, 2))  # of constant density
        >>> counts = adaptive_neighbours(find_neighbours(points, 50), 2.0)
        >>> float(np.median(counts))
        50.0
    """
    _check_level(alpha)
    known = neighbours.distances.shape[1]
    if known <= MIN_NEIGHBOURS:
        raise ValueError(
            f"{MIN_NEIGHBOURS + 1} or more neighbours are needed for a test, not {known}"
        )
    return _adaptive(_half_contrasts(neighbours), d, alpha)


@checked
def i3d(points, inner: int, outer: int):
    """The dimension of points on a lattice, I3D of Macocco et al. (2023), for integer radii.

    (n, D) -> ()  V(t, d) = sum_j 2^j C(t, j) C(d, j) lattice points lie within t of one in the
    1-norm, extended to real d.  If the density is constant, the numbers of other points within
    `inner` and within `outer` have the ratio V(inner, d) / V(outer, d), summed over points.  Points
    that coincide are distinct points on one site, and are not merged.  The dimension is 0 if
    all others within `outer` are within `inner`.
    Raises ValueError unless 0 <= inner < outer, for coordinates that are not integers, and if no
    other point lies within `inner`.

    Example:
        >>> import numpy as np
        >>> lattice = np.random.default_rng(0).integers(0, 30, size=(1000, 2))
        >>> round(float(i3d(lattice, 2, 4)), 1)
        1.9
    """
    if not 0 <= inner < outer:
        raise ValueError(
            f"the inner radius is 0 or more and below the outer, not {inner} and {outer}"
        )
    points = check_points(points, apart=False)
    xp = namespace(points)
    if concrete(xp.any(points != xp.round(points))):
        raise ValueError("points of a lattice have integer coordinates, and these have fractions")
    inside, within = _pairs_within(xp, points, (inner, outer))
    if concrete(inside == 0):
        raise ValueError(f"no two points lie within {inner} of each other; take a larger radius")
    return _lattice_dimension(xp, _log(within) - _log(inside), inner, outer)


def _check_level(alpha):
    if not 0 < alpha < 1:
        raise ValueError(f"a test has a level alpha between 0 and 1, not {alpha}")


def _half_contrasts(neighbours):
    """|log(r_ik / r_jk)| / 2 for k from the minimum on, j the next neighbour of i, (n, ranks)."""
    xp, known = namespace(neighbours.distances), neighbours.distances.shape[1]
    logarithms = xp.log(neighbours.distances)
    rank = xp.arange(MIN_NEIGHBOURS, known, device=device(logarithms))
    log_i = logarithms[:, MIN_NEIGHBOURS - 1 : known - 1]
    place = neighbours.index[:, MIN_NEIGHBOURS:] * known + rank[None, :] - 1
    log_j = xp.take(xp.reshape(logarithms, (-1,)), xp.reshape(place, (-1,)))
    return xp.abs(log_i - xp.reshape(log_j, log_i.shape)) / 2


def _adaptive(half, d, alpha):
    """The first k at which d times a half contrast exceeds arcosh(e^c), c = chi^2 / (4 k)."""
    xp, ranks = namespace(half), half.shape[1]
    critical = NormalDist().inv_cdf(alpha / 2) ** 2
    rank = xp.arange(MIN_NEIGHBOURS, MIN_NEIGHBOURS + ranks, dtype=half.dtype, device=device(half))
    c = critical / (4 * rank)
    failed = half * d > c + xp.log1p(xp.sqrt(-xp.expm1(-2 * c)))
    first = xp.argmax(xp.astype(failed, xp.uint8), axis=1)
    return MIN_NEIGHBOURS + xp.where(xp.any(failed, axis=1), first, xp.full_like(first, ranks))


def _best_ratio(d):
    """The ratio of the inner to the outer radius with the least variance at dimension d."""
    return BEST_FRACTION ** (1 / d)


def _log(value):
    """The logarithm, minus infinity at zero without a warning."""
    xp = namespace(value)
    return xp.where(value > 0, xp.log(xp.where(value > 0, value, 1.0)), -xp.inf)


def _within_adaptive(neighbours, half, d, alpha):
    """One step of `abide`."""
    distances, ratio = neighbours.distances, _best_ratio(d)
    xp = namespace(distances)
    k = _adaptive(half, d, alpha)
    radius = xp.take_along_axis(distances, (k - 1)[:, None], axis=1)
    inside = xp.sum(xp.astype(distances <= ratio * radius, radius.dtype))
    return _log(inside / xp.sum(xp.astype(k - 1, radius.dtype))) / xp.log(ratio)


def _pairs_within(xp, points, radii):
    """The numbers of ordered pairs of points within each radius in the 1-norm."""
    n, width = points.shape
    columns = [xp.asarray(points[:, i], copy=True) for i in range(width)]  # contiguous
    counts = [xp.sum(0 * points) - n for _ in radii]
    rows = max(1, TILE // 32 // n)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        distance = xp.abs(columns[0][start:stop, None] - columns[0][None, :])
        for column in columns[1:]:
            distance = distance + xp.abs(column[start:stop, None] - column[None, :])
        for i, radius in enumerate(radii):
            counts[i] = counts[i] + xp.astype(xp.count_nonzero(distance <= radius), points.dtype)
    return counts


def _lattice_dimension(xp, target, inner, outer, steps=60):
    """The d at which log V(outer, d) - log V(inner, d), which grows with d, meets the target.

    By bisection of d / (1 + d) between 0 and 1.
    """
    low, high = 0 * target, 0 * target + 1
    for _ in range(steps):
        centre = (low + high) / 2
        volumes = _lattice_volumes(centre / (1 - centre), outer)
        below = xp.log(volumes[outer] / volumes[inner]) < target
        low, high = xp.where(below, centre, low), xp.where(below, high, centre)
    return low / (1 - low)


def _lattice_volumes(d, last):
    """V(t, d) for t = 0 ... last: (t + 1) V(t + 1) = (2 d + 1) V(t) + t V(t - 1), all positive."""
    volumes = [0 * d + 1, 2 * d + 1]
    for t in range(1, last):
        volumes.append(((2 * d + 1) * volumes[t] + t * volumes[t - 1]) / (t + 1))
    return volumes
