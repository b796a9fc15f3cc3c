"""Exact nearest neighbours of points, for numpy, torch and jax.

Our own search: no library has an exact one for torch and jax arrays on their device, and in many
dimensions one matrix product per tile is faster than the trees of scipy and scikit-learn.
"""

import math
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sgdnoise.core._arrays import Array, as_numpy, concrete, device, namespace

TILE = 1 << 22  # entries of the distance matrix in memory at once
WIDE = 1 << 15  # of which in one row
BLOCK = 1 << 17  # coordinates of neighbours at once, which fit in a processor's cache


def nearest_distances(points: Float[Array, "n D"], k: int) -> Float[Array, "n k"]:
    """The ascending distances from each point to its `k` nearest others."""
    return nearest_neighbours(points, k)[0]


def nearest_neighbours(
    points: Float[Array, "n D"], k: int, *, rows=None, times=None, window: int = 0, size: int = 0
) -> tuple[Float[Array, "m k"], Int[Array, "m k"]]:
    """The ascending distances from each point to its `k` nearest others, and their indices.

    rows (m,): the points whose neighbours are sought, by default all.  times (n,), window: points
    whose integer times differ by `window` or less are not neighbours; by default times are 0, 1 ...
    size: if not 0, each `size` consecutive points are a set of their own, without neighbours in
    others; one search of all sets has less to prepare than a search of each.
    Candidates come from |y|^2 - 2 x.y in float32, one matrix product per tile, so that memory does
    not grow with n^2; their distances come from differences, in the type of `points`.  If rounding
    could have hidden a neighbour (distant clusters), the point is searched again in float64, and if
    necessary by all differences, without float64 if jax lacks it (jax_enable_x64 is off).
    A nan makes every distance nan.  Raises ValueError for k < 1, and for n below k + 1, or
    k + 1 + 2 window with a window.
    """
    xp, n = namespace(points), size or points.shape[0]
    if k < 1:
        raise ValueError(f"the number of nearest neighbours is 1 or more, not {k}")
    if n <= k + 2 * window:
        beyond = f", beyond a window of {window} rows on both sides," if window else ""
        raise ValueError(
            f"{k} nearest neighbours{beyond} need at least {k + 1 + 2 * window} points, not {n}"
        )
    unit = _unit(xp, points)
    points = points if unit == 1 else points / unit
    zero = 0 * xp.sum(points, axis=0)  # nan if a point is
    # Centring on a median of some points keeps |y|^2 and its rounding small despite outliers.
    everyone = xp.arange(points.shape[0], device=device(points))
    sample = xp.sort(points[:: max(1, points.shape[0] // 500), :], axis=0)
    centre = sample[sample.shape[0] // 2, :] + zero
    rows = everyone if rows is None else rows
    apart = _Apart(times if times is not None else everyone, window)
    search = partial(_search, xp, points, k=k, apart=apart, size=size)
    squared, index, uncertain = search(points - centre, rows, dtype=xp.float32)
    wide = xp.result_type(points.dtype, xp.float64)  # jax may have none
    # Uncertain rows are searched in float64 first; dtype None stands for all differences.
    for dtype in (wide, None) if wide == xp.float64 else (None,):
        if not concrete(xp.any(uncertain)):
            break
        repeat = xp.nonzero(uncertain)[0]
        centred = xp.astype(points, wide) - xp.astype(centre, wide)
        better = search(centred, xp.take(rows, repeat), dtype=dtype)
        place = _replacements(xp, xp.arange(rows.shape[0], device=device(points)), repeat)
        squared, index, uncertain = (
            xp.take(xp.concat([old, new]), place, axis=0)
            for old, new in zip((squared, index, uncertain), better, strict=True)
        )
    return unit * xp.sqrt(squared) + xp.sum(zero), index


class _Apart(NamedTuple):
    """Which pairs are too close in time to be neighbours: those within `window`, and itself."""

    times: Any
    window: int

    def excluded(self, xp, rows, columns):
        """Whether columns (m, c), or (c,) for all rows, are within the window of rows (m,)."""
        if not self.window:
            return columns == rows[:, None]
        flat = xp.reshape(columns, (-1,))
        times = xp.reshape(xp.take(self.times, flat), columns.shape)
        return xp.abs(times - xp.take(self.times, rows)[:, None]) <= self.window


def nearest_among(
    points: Float[Array, "n D"], columns: Int[Array, "n c"], k: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """As `nearest_neighbours`, but among given candidates of each point."""
    xp = namespace(points)
    rows = xp.arange(points.shape[0], device=device(points))
    squared, index = _nearest_candidates(xp, points, rows, columns, k, _Apart(rows, 0))
    return xp.sqrt(squared), index


def _unit(xp, points):
    """A power of two above all coordinates, if their squares would leave the range of float32."""
    try:
        size = float(as_numpy(xp.max(xp.abs(points))))
    except TypeError:  # jax, tracing
        return 1.0
    return 1.0 if 1e-9 < size < 1e9 or not 0 < size < math.inf else 2.0 ** math.frexp(size)[1]


def _replacements(xp, rows, repeat):
    """The source of each row, after new rows of `repeat` are appended to those of all.

    jax has no assignment to an index, so that rows are replaced by a gather.
    """
    insertion = xp.searchsorted(repeat, rows)
    position = xp.minimum(insertion, xp.full_like(insertion, repeat.shape[0] - 1))
    repeated = xp.take(repeat, position) == rows
    return xp.where(repeated, rows.shape[0] + position, rows)


def _search(xp, points, centred, rows, k, dtype, apart, size):
    """Squared distances and indices of the k nearest of some rows, and whether uncertain."""
    n, results = size or centred.shape[0], []
    keys: Any = None if dtype is None else _keys(xp, xp.astype(centred, dtype))
    for block, left in _blocks(rows, size, max(1, TILE // (n if dtype is None else min(n, WIDE)))):
        if dtype is None:
            members = xp.arange(left, left + n, device=device(block))
            columns = xp.broadcast_to(members[None, :], (block.shape[0], n))
            bound = xp.full(block.shape, xp.inf, dtype=points.dtype, device=device(block))
        else:
            queries = xp.astype(xp.take(centred, block, axis=0), dtype)
            columns, bound = _candidates(
                xp, queries, keys[left : left + n, :], k, block, apart, left
            )
        squared, index = _nearest_candidates(xp, points, block, columns, k, apart)
        # Certain if the k-th distance is below all that points that are no candidates can have.
        results.append((squared, index, squared[:, -1] > xp.astype(bound, squared.dtype)))
    return tuple(xp.concat(arrays) for arrays in zip(*results, strict=True))


def _blocks(rows, size, step):
    """At most `step` rows of one set at a time, and the first point of the set."""
    count = rows.shape[0]
    firsts = size * (as_numpy(rows) // size) if size else np.zeros(count, int)
    edges = (1 + np.flatnonzero(np.diff(firsts))).tolist()
    for start, stop in pairwise([0, *edges, count]):
        for begin in range(start, stop, step):
            yield rows[begin : min(begin + step, stop)], int(firsts[start])


def _keys(xp, points):
    """Rows (y, |y|^2), so that (-2x, 1) . (y, |y|^2) = |x - y|^2 - |x|^2."""
    return xp.concat([points, xp.sum(points**2, axis=1)[:, None]], axis=1)


def _candidates(xp, queries, keys, k, rows, apart, first):
    """Candidate columns of each query, and a squared distance that all others exceed.

    first: the column of the first key.
    """
    count = _n_candidates(k, keys.shape[0])
    norms = xp.sum(queries**2, axis=1)[:, None]
    columns, values = _smallest_of_tiles(
        xp, xp.concat([-2 * queries, xp.ones_like(norms)], axis=1), keys, count, rows, apart, first
    )
    bound = xp.max(values, axis=1) + norms[:, 0]
    # The rounding of x.y and |y|^2 in a product of D + 1 terms is a few eps of |x|^2 + |y|^2,
    # where a point that was missed has |y|^2 < 2 |x|^2 + 2 bound.
    rounding = 8 * (queries.shape[1] ** 0.5 + 4) * xp.finfo(queries.dtype).eps
    # It is infinite where a window leaves fewer than `count` candidates: none was missed then.
    all_found = (bound == xp.inf) | (count == keys.shape[0])
    bound = xp.where(all_found, 0.0, bound)
    bound = bound - rounding * (2 * norms[:, 0] + xp.abs(bound))
    return columns + first, xp.where(all_found, xp.inf, bound)


def _n_candidates(k, n):
    """The number of candidates: a few more than k for rounding, and one for the point itself."""
    return min(k + k // 8 + 8, n)


def _smallest_of_tiles(xp, block, keys, count, rows, apart, first):
    """The `count` smallest of block @ keys^T in each row, WIDE columns at a time.

    With a window, columns within it are infinite; without, the row itself is among the smallest.
    """
    columns = values = None
    for left in range(0, keys.shape[0], WIDE):
        right = min(left + WIDE, keys.shape[0])
        tile = block @ keys[left:right, :].T
        if apart.window:
            here = xp.arange(first + left, first + right, device=device(rows))
            tile = xp.where(apart.excluded(xp, rows, here), xp.inf, tile)
        place = _smallest(xp, tile, min(count, tile.shape[1]))
        value = gather(xp, tile, place)
        if columns is None:
            columns, values = place, value
            continue
        columns = xp.concat([columns, place + left], axis=1)
        values = xp.concat([values, value], axis=1)
        best = _smallest(xp, values, min(count, values.shape[1]))
        columns, values = (gather(xp, array, best) for array in (columns, values))
    return columns, values


def _smallest(xp, values, count):
    """Columns of the `count` smallest entries of each row, unordered.

    A row is folded into `deep` rows.  Each of its smallest entries is in one of the `count` columns
    of smallest minimum: a minimum is one fast pass, and the slow selection has few entries left.
    """
    m, n = values.shape
    deep = int((n / count / 2) ** 0.5)
    if deep < 4:
        return _select(xp, values, count)
    across = n // deep
    folded = xp.reshape(values[:, : deep * across], (m, deep, across))
    smallest = _select(xp, xp.min(folded, axis=1), min(count, across))
    offsets = across * xp.arange(deep, device=device(values))
    columns = xp.reshape(smallest[:, None, :] + offsets[None, :, None], (m, -1))
    # The last columns, which do not fill a folded row, are always candidates.
    tail = xp.arange(deep * across, n, device=device(values))
    columns = xp.concat([columns, xp.broadcast_to(tail[None, :], (m, tail.shape[0]))], axis=1)
    return gather(xp, columns, _select(xp, gather(xp, values, columns), count))


def _select(xp, values, count):
    """Columns of the `count` smallest entries of each row, by the library's own selection."""
    if hasattr(values, "topk"):  # torch
        return values.topk(count, dim=1, largest=False).indices
    if hasattr(xp, "argpartition") and count < values.shape[1]:
        return xp.argpartition(values, count - 1, axis=1)[:, :count]
    return xp.argsort(values, axis=1)[:, :count]


def _nearest_candidates(xp, points, rows, columns, k, apart):
    """The k smallest squared distances from points to their candidates, and their indices."""
    m, count = columns.shape
    step = max(1, BLOCK // (count * points.shape[1]))
    blocks = [slice(start, min(start + step, m)) for start in range(0, m, step)]
    squared = xp.concat([_squares(xp, points, rows[b], columns[b, :]) for b in blocks])
    # A point is not its own neighbour; adding infinity keeps nan.
    squared = xp.where(apart.excluded(xp, rows, columns), xp.inf + squared, squared)
    order = xp.argsort(squared, axis=1)[:, :k]
    return gather(xp, squared, order), gather(xp, columns, order)


def gather(xp, values, columns):
    """Entries of each row in its own columns: a take_along_axis that is faster in numpy."""
    row = values.shape[1] * xp.arange(values.shape[0], device=device(values))[:, None]
    taken = xp.take(xp.reshape(values, (-1,)), xp.reshape(columns + row, (-1,)))
    return xp.reshape(taken, columns.shape)


def _squares(xp, points, rows, columns):
    """Squared distances from points to their candidates, by differences."""
    queries = xp.take(points, rows, axis=0)[:, None, :]
    candidates = xp.take(points, xp.reshape(columns, (-1,)), axis=0)
    differences = xp.reshape(candidates, (*columns.shape, -1)) - queries
    return xp.vecdot(differences, differences)
