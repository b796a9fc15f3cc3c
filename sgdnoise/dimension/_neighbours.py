"""Nearest neighbours of points, exact, for numpy, torch and jax."""

import math

from jaxtyping import Float, Int

from sgdnoise.core._arrays import Array, as_numpy, concrete, device, namespace

TILE = 1 << 22  # entries of the distance matrix held at once
WIDE = 1 << 15  # of which in one row
BLOCK = 1 << 17  # coordinates of neighbours held at once, few enough for a processor's cache


def nearest_distances(points: Float[Array, "n D"], k: int) -> Float[Array, "n k"]:
    """Distances from each point to its `k` nearest others, ascending: see `nearest_neighbours`."""
    return nearest_neighbours(points, k)[0]


def nearest_neighbours(
    points: Float[Array, "n D"], k: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """Distances from each point to its `k` nearest others, ascending, and which these are.

    Candidates come from |y|^2 - 2 x.y in float32, one matrix product a tile, so that memory does
    not grow with n^2; the distances come from differences, in the type of `points`.  Where rounding
    could have hidden a neighbour (far clusters), the point is done again in float64, and if need
    be by all differences: by these at once where jax has no float64, for want of jax_enable_x64.
    A nan makes every distance nan.  Raises ValueError for n <= k or k < 1.
    """
    xp, n = namespace(points), points.shape[0]
    if k < 1:
        raise ValueError(f"nearest neighbours are counted from 1, and {k} are asked for")
    if n <= k:
        raise ValueError(f"{k} nearest neighbours need at least {k + 1} points, not {n}")
    unit = _unit(xp, points)
    points = points if unit == 1 else points / unit
    nothing = 0 * xp.sum(points, axis=0)  # but nan where a point is
    middle = xp.sort(points[:: max(1, n // 500), :], axis=0)
    centre = middle[middle.shape[0] // 2, :] + nothing
    everyone = xp.arange(n, device=device(points))
    squared, index, hidden = _search(xp, points, points - centre, everyone, k, xp.float32)
    wide = xp.result_type(points.dtype, xp.float64)  # jax may have none
    for dtype in (wide, None) if wide == xp.float64 else (None,):
        if not concrete(xp.any(hidden)):
            break
        again = xp.nonzero(hidden)[0]
        centred = xp.astype(points, wide) - xp.astype(centre, wide)
        better = _search(xp, points, centred, again, k, dtype)
        place = _replaced(xp, everyone, again)
        squared, index, hidden = (
            xp.take(xp.concat([old, new]), place, axis=0)
            for old, new in zip((squared, index, hidden), better, strict=True)
        )
    return unit * xp.sqrt(squared) + xp.sum(nothing), index


def nearest_among(
    points: Float[Array, "n D"], columns: Int[Array, "n c"], k: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """As `nearest_neighbours`, but among the candidates of each point, however they were found."""
    xp = namespace(points)
    everyone = xp.arange(points.shape[0], device=device(points))
    squared, index = _measured(xp, points, everyone, columns, k)
    return xp.sqrt(squared), index


def _unit(xp, points):
    """The power of two that all coordinates stay within, where squares in float32 would not do."""
    try:
        size = float(as_numpy(xp.max(xp.abs(points))))
    except TypeError:  # jax, tracing
        return 1.0
    return 1.0 if 1e-9 < size < 1e9 or not 0 < size < math.inf else 2.0 ** math.frexp(size)[1]


def _replaced(xp, everyone, again):
    """Where to take each row from, once rows for `again` stand below those of everyone."""
    below = xp.searchsorted(again, everyone)
    at = xp.minimum(below, xp.full_like(below, again.shape[0] - 1))
    redone = xp.take(again, at) == everyone
    return xp.where(redone, everyone.shape[0] + at, everyone)


def _search(xp, points, centred, asked, k, dtype):
    """Squared distances and places of the k nearest of each point asked, and whether in doubt."""
    n, found = centred.shape[0], []
    keys = None if dtype is None else _keys(xp, xp.astype(centred, dtype))
    rows = max(1, TILE // (n if dtype is None else min(n, WIDE)))
    for start in range(0, asked.shape[0], rows):
        own = asked[start : min(start + rows, asked.shape[0])]
        if dtype is None:
            columns = xp.broadcast_to(xp.arange(n, device=device(own))[None, :], (own.shape[0], n))
            floor = xp.full(own.shape, xp.inf, dtype=points.dtype, device=device(own))
        else:
            here = xp.take(centred, own, axis=0)
            columns, floor = _candidates(xp, xp.astype(here, dtype), keys, k)
        squared, index = _measured(xp, points, own, columns, k)
        found.append((squared, index, squared[:, -1] > xp.astype(floor, squared.dtype)))
    return tuple(xp.concat(parts) for parts in zip(*found, strict=True))


def _keys(xp, points):
    """Rows y, |y|^2, so that (-2x, 1) . (y, |y|^2) = |x - y|^2 - |x|^2."""
    return xp.concat([points, xp.sum(points**2, axis=1)[:, None]], axis=1)


def _candidates(xp, here, keys, k):
    """Columns likely nearest to each point, and what squared distance all others surely exceed."""
    count = _asked_for(k, keys.shape[0])
    mine = xp.sum(here**2, axis=1)[:, None]
    ask = xp.concat([-2 * here, xp.ones_like(mine)], axis=1)
    columns, values = _smallest_of_tiles(xp, ask, keys, count)
    reach = xp.max(values, axis=1) + mine[:, 0]
    doubt = 8 * (here.shape[1] ** 0.5 + 4) * xp.finfo(here.dtype).eps
    reach = reach - doubt * (2 * mine[:, 0] + xp.abs(reach))  # a hidden |y|^2 < 2|x|^2 + 2 reach
    return columns, xp.full_like(reach, xp.inf) if count == keys.shape[0] else reach


def _asked_for(k, n):
    """Candidates for k neighbours: a few more for rounding, and one for the point itself."""
    return min(k + k // 8 + 8, n)


def _smallest_of_tiles(xp, block, keys, count):
    """The `count` smallest of block @ keys^T in each row, WIDE columns at a time."""
    columns = values = None
    for left in range(0, keys.shape[0], WIDE):
        rough = block @ keys[left : min(left + WIDE, keys.shape[0]), :].T
        place = _smallest(xp, rough, min(count, rough.shape[1]))
        value = _along(xp, rough, place)
        if columns is None:
            columns, values = place, value
            continue
        columns = xp.concat([columns, place + left], axis=1)
        values = xp.concat([values, value], axis=1)
        best = _smallest(xp, values, min(count, values.shape[1]))
        columns, values = (_along(xp, each, best) for each in (columns, values))
    return columns, values


def _smallest(xp, values, count):
    """Columns of the `count` smallest entries of each row, in no order.

    Each is in one of the `count` columns of smallest minimum once a row is folded into `deep` rows:
    a minimum is one fast pass, and the slow selection sees few entries.
    """
    m, n = values.shape
    deep = int((n / count / 2) ** 0.5)
    if deep < 4:
        return _select(xp, values, count)
    across = n // deep
    folded = xp.reshape(values[:, : deep * across], (m, deep, across))
    least = _select(xp, xp.min(folded, axis=1), min(count, across))
    offsets = across * xp.arange(deep, device=device(values))
    inside = xp.reshape(least[:, None, :] + offsets[None, :, None], (m, -1))
    rest = xp.arange(deep * across, n, device=device(values))
    inside = xp.concat([inside, xp.broadcast_to(rest[None, :], (m, rest.shape[0]))], axis=1)
    return _along(xp, inside, _select(xp, _along(xp, values, inside), count))


def _select(xp, values, count):
    """Columns of the `count` smallest entries of each row, by what the library has for it."""
    if hasattr(values, "topk"):  # torch
        return values.topk(count, dim=1, largest=False).indices
    if hasattr(xp, "argpartition") and count < values.shape[1]:
        return xp.argpartition(values, count - 1, axis=1)[:, :count]
    return xp.argsort(values, axis=1)[:, :count]


def _measured(xp, points, own, columns, k):
    """The k smallest squared distances from its own points to those in its columns, and whose."""
    m, count = columns.shape
    rows = max(1, BLOCK // (count * points.shape[1]))
    blocks = [slice(start, min(start + rows, m)) for start in range(0, m, rows)]
    squared = xp.concat([_squares(xp, points, own[b], columns[b, :]) for b in blocks])
    squared = xp.where(columns == own[:, None], xp.inf + squared, squared)  # nan stays nan
    order = xp.argsort(squared, axis=1)[:, :k]
    return _along(xp, squared, order), _along(xp, columns, order)


def _along(xp, values, columns):
    """Of each row the entries in its own columns, as take_along_axis, which numpy has slower."""
    row = values.shape[1] * xp.arange(values.shape[0], device=device(values))[:, None]
    taken = xp.take(xp.reshape(values, (-1,)), xp.reshape(columns + row, (-1,)))
    return xp.reshape(taken, columns.shape)


def _squares(xp, points, own, columns):
    """Squared distances from its own points to those in its columns."""
    here = xp.take(points, own, axis=0)[:, None, :]
    near = xp.take(points, xp.reshape(columns, (-1,)), axis=0)
    return xp.sum((xp.reshape(near, (*columns.shape, -1)) - here) ** 2, axis=2)
