"""Dimension from how the number of pairs of points grows with their distance."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import betainc

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._neighbours import TILE
from sgdnoise.dimension._points import Neighbours, find_neighbours, unique_points

SIDE = 1 << 10  # points along the side of a tile
TIE = 1e-6  # of a distance, under which two are the same
BINS = 1 << 12  # of cosines


def correlation(points, near: int = 10, far: int = 20, *, neighbours: Neighbours | None = None):
    r"""Correlation dimension of Grassberger & Procaccia (1983).  (n, D) -> ()

    Slope of log C(r), C the part of all pairs no farther apart than r, between the median distances
    to the `near`-th and the `far`-th nearest neighbour.  Dense places make up most of the pairs and
    edges cost some: too small in high dimension.  Counts are those of exact distances in the type
    of the points: a tile comes from one matrix product, and pairs its rounding leaves in doubt are
    measured again.  Raises ValueError unless 1 <= near < far, and for fewer than far + 1 points.
    """
    if not 1 <= near < far:
        raise ValueError(f"a slope is taken from near to a larger far, not from {near} to {far}")
    found = find_neighbours(points, far, neighbours)
    xp = namespace(found.points)
    radii = [_median(found.distances[:, at - 1]) for at in (near, far)]
    if not radii[0] < radii[1]:
        raise ValueError(f"neighbours {near} and {far} are at the same distance, {radii[0]:.6g}")
    inner, outer = _count(found.points, [(r * (1 + TIE)) ** 2 for r in radii])
    slope = np.log(outer / inner) / np.log(radii[1] / radii[0])
    return xp.asarray(slope, dtype=found.points.dtype, device=device(found.points))


def full_correlation_integral(points):
    r"""Full correlation integral of Erba, Gherardi & Rotondo (2019).  (n, D) -> ()

    Seen from their mean, points have directions u.  The part of all pairs with |u - v| <= r is
    fitted over 0 < r < 2, by least squares, with that of uniform directions of R^d,
    rho(r) = (1 + O_(d-1) / O_d (r^2 - 2) F(1/2, (3-d)/2; 3/2; (r^2-2)^2 / 4)) / 2, O_d the area of
    the unit sphere of R^d; that is, r^2 / 4 is Beta((d-1)/2, (d-1)/2), for real d > 1.  d counts
    the directions, one more than the dimension of the sphere they lie on: a whole sphere of R^d,
    as a Gaussian in it, has d.  Curvature makes it too large, and unequal variances too small.
    Raises ValueError for fewer than 3 distinct points.
    """
    points = unique_points(points)
    xp = namespace(points)
    edges, below = _cosine_law(as_numpy(on_sphere(points)))
    d = 1 + np.exp(_least_misfit(edges, below))
    return xp.asarray(d, dtype=points.dtype, device=device(points))


def on_sphere(points):
    """Directions of the points from their mean, but for points at the mean itself."""
    xp = namespace(points)
    beside = points - points[:1, :]
    centred = beside - xp.mean(beside, axis=0)
    length = xp.sqrt(xp.sum(centred**2, axis=1))
    kept = xp.nonzero(length > 64 * xp.finfo(points.dtype).eps * xp.max(length))[0]
    if kept.shape[0] < 3:
        raise ValueError(f"directions need 3 points away from their mean, not {kept.shape[0]}")
    return xp.take(centred / length[:, None], kept, axis=0)


def cosine_tiles(directions: np.ndarray):
    """Cosines between rows and columns, flat, and how often each pair i, j is to be counted.

    Over all tiles, each pair in either order and each direction with itself count once.
    """
    for rows, columns in _tiles(directions.shape[0]):
        tile = directions[rows] @ directions[columns].T
        yield np.reshape(tile, (-1,)), 1 if rows == columns else 2


def _tiles(n):
    """Slices of rows and of columns, those of the diagonal and above it."""
    slices = [slice(start, min(start + SIDE, n)) for start in range(0, n, SIDE)]
    return [(a, b) for i, a in enumerate(slices) for b in slices[i:]]


def _median(distances):
    return float(np.median(as_numpy(distances)))


def _count(points, squares):
    """How many ordered pairs have a squared distance no larger than each of these, ascending."""
    xp, (n, width) = namespace(points), points.shape
    centred = points - xp.mean(points, axis=0)
    size = as_numpy(xp.sum(centred**2, axis=1))
    total = np.full(len(squares), -n)  # each point finds itself
    for rows, columns in _tiles(n):
        most = 8 * (width**0.5 + 4) * (size[rows].max() + size[columns].max())
        rough, wide = xp.float32, xp.result_type(points.dtype, xp.float64)  # jax may have none
        dtype = rough if most * float(xp.finfo(rough).eps) < squares[0] / 16 else wide
        tile = _squares(xp, *(xp.astype(centred[part, :], dtype) for part in (rows, columns)))
        found = _count_tile(
            as_numpy(tile), points, rows, columns, squares, most * float(xp.finfo(dtype).eps)
        )
        total += found if rows == columns else 2 * found
    return total


def _squares(xp, here, there):
    """|x - y|^2 by one matrix product."""
    mine, theirs = xp.sum(here**2, axis=1)[:, None], xp.sum(there**2, axis=1)[:, None]
    left = xp.concat([-2 * here, mine, xp.ones_like(mine)], axis=1)
    right = xp.concat([there, xp.ones_like(theirs), theirs], axis=1)
    return left @ right.T


def _count_tile(tile, points, rows, columns, squares, doubt):
    """Pairs of a tile no farther apart than each; those in doubt by their differences."""
    flat = np.reshape(tile, (-1,))
    place = np.flatnonzero(flat <= squares[-1] + doubt)
    rough = flat[place].astype(np.float64)
    unsure = np.flatnonzero(np.min([abs(rough - square) for square in squares], axis=0) <= doubt)
    if unsure.size:
        own, other = np.divmod(place[unsure], tile.shape[1])
        rough[unsure] = _measured(points, rows, columns, own, other)
    return np.asarray([np.count_nonzero(rough <= square) for square in squares])


def _measured(points, rows, columns, own, other):
    """Squared distances from differences."""
    here, there = (as_numpy(points[part, :]) for part in (rows, columns))
    step = max(1, TILE // here.shape[1])
    parts = [slice(start, start + step) for start in range(0, own.size, step)]
    return np.concatenate([np.sum((here[own[p]] - there[other[p]]) ** 2, axis=1) for p in parts])


def _cosine_law(directions):
    """Cosines, and the part of all pairs with one no smaller, from 1 down to -1."""
    counts = np.zeros(BINS + 1, np.int64)
    for cosine, times in cosine_tiles(directions):
        cosine *= -BINS / 2
        cosine += BINS / 2  # by hand, in place
        counts += times * np.bincount(cosine.astype(np.intp), minlength=BINS + 1)
    counts[0] -= directions.shape[0]  # each with itself
    counts[BINS - 1] += counts[BINS]  # -1 itself
    below = np.concatenate([[0], np.cumsum(counts[:BINS])])
    return np.linspace(1, -1, BINS + 1), below / below[-1]


def _misfit(log_d, edges, below):
    """Integral over r of the squared difference to the law of uniform directions."""
    half, weight = np.exp(log_d) / 2, np.gradient(np.sqrt(2 - 2 * edges))
    return float(weight @ (below - betainc(half, half, (1 - edges) / 2)) ** 2)


def _least_misfit(edges, below):
    """log (d - 1) at which the misfit is least: roughly, then well."""
    grid = np.linspace(np.log(1e-3), np.log(1e6), 80)
    at = int(np.argmin([_misfit(x, edges[::16], below[::16]) for x in grid]))
    bounds = grid[max(at - 1, 0)], grid[min(at + 1, grid.size - 1)]
    fit = minimize_scalar(
        _misfit, args=(edges, below), bounds=bounds, options={"xatol": 1e-9}, method="bounded"
    )
    return fit.x
