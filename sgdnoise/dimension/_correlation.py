"""Dimension from the growth of the number of pairs of points with their distance."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import betainc

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._bounds import check_above
from sgdnoise.dimension._neighbours import TILE
from sgdnoise.dimension._points import Neighbours, find_neighbours, unique_points

SIDE = 1 << 10  # points along the side of a tile
TIE = 1e-6  # relative difference below which two distances are equal
BINS = 1 << 12  # of cosines


@checked
@any_scale
def correlation(
    points,
    inner_rank: int = 10,
    outer_rank: int = 20,
    *,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    r"""The correlation dimension of Grassberger & Procaccia (1983).  (n, D) -> ()

    It is the slope of log C(r), C the fraction of all pairs within a distance r, between the median
    distances to the neighbours of the inner and of the outer rank.  Dense regions dominate the
    pairs and edges reduce them: it is too small in high dimension.  Counts are those of exact
    distances in the type of the points: a tile comes from one matrix product, and pairs within its
    rounding error are recomputed.  Raises ValueError unless 1 <= inner_rank < outer_rank, and for
    fewer than outer_rank + 1 points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(correlation(points)), 1)
        2.0
    """
    ranks = (inner_rank, outer_rank)
    if not 1 <= inner_rank < outer_rank:
        raise ValueError(f"a slope needs ranks 1 <= inner_rank < outer_rank, not {ranks}")
    neighbours = find_neighbours(points, outer_rank, neighbours, exclude=exclude)
    points, distances, _ = neighbours
    radii = [float(np.median(as_numpy(distances[:, rank - 1]))) for rank in ranks]
    if not radii[0] < radii[1]:
        raise ValueError(
            f"correlation compares neighbours {ranks[0]} and {ranks[1]}, which are at the same "
            f"distance, {radii[0]:.6g}, as on a lattice; take other ranks, or i3d for whole numbers"
        )
    squares = [(r * (1 + TIE)) ** 2 for r in radii]
    inner, outer = _count(points, squares) - _count_near_rows(neighbours, squares)
    slope = np.log(outer / inner) / np.log(radii[1] / radii[0])
    d = namespace(points).asarray(slope, dtype=points.dtype, device=device(points))
    return check_above(d, neighbours)


@checked
@any_scale
def full_correlation_integral(points):
    r"""The full correlation integral of Erba, Gherardi & Rotondo (2019).  (n, D) -> ()

    Relative to their mean, points have directions u.  The fraction of all pairs with |u - v| <= r
    is fitted over 0 < r < 2, by least squares, with that of uniform directions of R^d,
    rho(r) = (1 + O_(d-1) / O_d (r^2 - 2) F(1/2, (3-d)/2; 3/2; (r^2-2)^2 / 4)) / 2, O_d the area of
    the unit sphere of R^d; that is, r^2 / 4 is Beta((d-1)/2, (d-1)/2), for real d > 1.  d is one
    more than the dimension of the sphere of directions: the sphere in R^d and a Gaussian in R^d
    both have d.  Curvature makes it too large, and unequal variances too small.
    Raises ValueError for fewer than 3 distinct points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(full_correlation_integral(points)), 1)
        2.0
    """
    points = unique_points(points)
    xp = namespace(points)
    edges, below = _cosine_law(as_numpy(on_sphere(points)))
    d = 1 + np.exp(_least_misfit(edges, below))
    return xp.asarray(d, dtype=points.dtype, device=device(points))


def on_sphere(points):
    """Directions of the points from their mean, without points at the mean itself."""
    xp = namespace(points)
    offsets = points - points[:1, :]
    centred = offsets - xp.mean(offsets, axis=0)
    length = xp.sqrt(xp.sum(centred**2, axis=1))
    index = xp.nonzero(length > 64 * xp.finfo(points.dtype).eps * xp.max(length))[0]
    if index.shape[0] < 3:
        raise ValueError(f"directions need 3 points away from their mean, not {index.shape[0]}")
    return xp.take(centred / length[:, None], index, axis=0)


def cosine_tiles(directions: np.ndarray):
    """Cosines between rows and columns, flat, and the multiplicity of each pair i, j.

    Over all tiles, each ordered pair, and each direction with itself, counts once.
    """
    for rows, columns in _tiles(directions.shape[0]):
        tile = directions[rows] @ directions[columns].T
        yield np.reshape(tile, (-1,)), 1 if rows == columns else 2


def _tiles(n):
    """Slices of rows and of columns, on and above the diagonal."""
    slices = [slice(start, min(start + SIDE, n)) for start in range(0, n, SIDE)]
    return [(a, b) for i, a in enumerate(slices) for b in slices[i:]]


def _count(points, squares):
    """The numbers of ordered pairs with squared distances up to each of these, ascending."""
    xp, (n, width) = namespace(points), points.shape
    centred = points - xp.mean(points, axis=0)
    size = as_numpy(xp.sum(centred**2, axis=1))
    total = np.full(len(squares), -n)  # without each point and itself
    for rows, columns in _tiles(n):
        # Rounding of the matrix product, in units of eps; float32 suffices if it is small.
        scale = 8 * (width**0.5 + 4) * (size[rows].max() + size[columns].max())
        rough, wide = xp.float32, xp.result_type(points.dtype, xp.float64)  # jax may have none
        dtype = rough if scale * float(xp.finfo(rough).eps) < squares[0] / 16 else wide
        tile = _squares(xp, *(xp.astype(centred[block, :], dtype) for block in (rows, columns)))
        rounding = scale * float(xp.finfo(dtype).eps)
        counts = _count_tile(as_numpy(tile), points, rows, columns, squares, rounding)
        total += counts if rows == columns else 2 * counts
    return total


def _count_near_rows(neighbours, squares):
    """The numbers of these pairs whose rows are within the window that was excluded."""
    total = np.zeros(len(squares), np.int64)
    if not neighbours.window:
        return total
    order = np.argsort(neighbours.rows)
    rows, points = neighbours.rows[order], as_numpy(neighbours.points)[order]
    for shift in range(1, neighbours.window + 1):
        near = rows[shift:] - rows[:-shift] <= neighbours.window
        squared = np.sum((points[shift:] - points[:-shift])[near] ** 2, axis=1)
        total += [2 * np.count_nonzero(squared <= square) for square in squares]
    return total


def _squares(xp, x, y):
    """|x - y|^2 by one matrix product."""
    norm_x, norm_y = xp.sum(x**2, axis=1)[:, None], xp.sum(y**2, axis=1)[:, None]
    left = xp.concat([-2 * x, norm_x, xp.ones_like(norm_x)], axis=1)
    right = xp.concat([y, xp.ones_like(norm_y), norm_y], axis=1)
    return left @ right.T


def _count_tile(tile, points, rows, columns, squares, rounding):
    """The numbers of pairs of a tile within each; those within rounding by their differences."""
    flat = np.reshape(tile, (-1,))
    place = np.flatnonzero(flat <= squares[-1] + rounding)
    rough = flat[place].astype(np.float64)
    gaps = np.min([abs(rough - square) for square in squares], axis=0)
    unsure = np.flatnonzero(gaps <= rounding)
    if unsure.size:
        i, j = np.divmod(place[unsure], tile.shape[1])
        rough[unsure] = _exact_squares(points, rows, columns, i, j)
    return np.asarray([np.count_nonzero(rough <= square) for square in squares])


def _exact_squares(points, rows, columns, i, j):
    """Squared distances of pairs of a tile from their differences, in blocks."""
    x, y = (as_numpy(points[block, :]) for block in (rows, columns))
    step = max(1, TILE // x.shape[1])
    blocks = [slice(start, start + step) for start in range(0, i.size, step)]
    return np.concatenate([np.sum((x[i[b]] - y[j[b]]) ** 2, axis=1) for b in blocks])


def _cosine_law(directions):
    """Cosines from 1 down to -1, and the fraction of all pairs with a cosine of at least each."""
    counts = np.zeros(BINS + 1, np.int64)
    for cosine, times in cosine_tiles(directions):
        cosine *= -BINS / 2
        cosine += BINS / 2  # in place, without another array
        counts += times * np.bincount(cosine.astype(np.intp), minlength=BINS + 1)
    counts[0] -= directions.shape[0]  # without each direction and itself
    counts[BINS - 1] += counts[BINS]  # a cosine of exactly -1
    below = np.concatenate([[0], np.cumsum(counts[:BINS])])
    return np.linspace(1, -1, BINS + 1), below / below[-1]


def _misfit(log_d, edges, below):
    """Integral over r of the squared difference to the law of uniform directions."""
    half, weight = np.exp(log_d) / 2, np.gradient(np.sqrt(2 - 2 * edges))
    return float(weight @ (below - betainc(half, half, (1 - edges) / 2)) ** 2)


def _least_misfit(edges, below):
    """The log (d - 1) of least misfit, first on a grid of coarse bins."""
    grid = np.linspace(np.log(1e-3), np.log(1e6), 80)
    at = int(np.argmin([_misfit(x, edges[::16], below[::16]) for x in grid]))
    bounds = grid[max(at - 1, 0)], grid[min(at + 1, grid.size - 1)]
    fit = minimize_scalar(
        _misfit, args=(edges, below), bounds=bounds, options={"xatol": 1e-9}, method="bounded"
    )
    return fit.x
