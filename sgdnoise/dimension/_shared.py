"""Neighbours within a random subset of points, from those within all of them.

The k nearest in a subset are its first k members among the K nearest of all.  For errors
from groups one search then serves all groups: `with_group_error(twonn)` took 20 searches before.
"""

import math

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._groups import Group
from sgdnoise.dimension._neighbours import gather, nearest_neighbours
from sgdnoise.dimension._warnings import SerialDependence

MAX_NUMBERS = 50_000_000  # neighbours in memory; beyond, each group is searched
MIN_BLOCKS = 20  # of rows that stay together, so that groups can differ
BLOCK_WINDOWS = 5  # length of such a block, in windows


def n_shared(k: int, groups: int) -> int:
    """The number of neighbours among which a row has k in its group, but for one row in a hundred.

    Of K neighbours a group has K / groups on average, with a standard deviation below its root.
    """
    return math.ceil(groups * (k + 2 * math.sqrt(k) + 3))


def n_for_groups(n: int, k: int, groups: int) -> int:
    """The number of neighbours to search for if groups share them; k if that is too many."""
    count = n_shared(k, groups)
    return count if n * min(count, n) <= MAX_NUMBERS else k


def block_length(n: int, window: int) -> int:
    """The number of rows that stay together in groups, for rows that depend on `window` others."""
    return max(1, min(BLOCK_WINDOWS * window, n // MIN_BLOCKS)) if window else 1


def arrays_of_group(group: Group, points, k: int):
    """Distances and indices (m, k) of the nearest within a group, None if none are shared.

    points (m, D): those of the group.  Rows with fewer than k members among the neighbours of all
    are searched.
    """
    whole, rows = group.shared.get("neighbours"), group.rows
    if whole is None or rows is None or len(rows) <= k:
        return None
    xp, limit = namespace(points), n_shared(k, group.groups)
    place = np.full(group.whole.shape[0], -1, np.int32)
    place[rows] = np.arange(len(rows))
    members = place[group.shared["index"][rows, :limit]]
    rank = np.cumsum(members >= 0, axis=1, dtype=np.int32)
    enough = rank[:, -1] >= k
    chosen = (members >= 0) & (rank <= k) & enough[:, None]
    columns = np.nonzero(chosen)[1].reshape(-1, k)
    index = np.take_along_axis(members[enough], columns, axis=1).astype(np.int64)
    at = xp.asarray(rows[enough], device=device(points))
    distances = xp.take(whole.distances[:, :limit], at, axis=0)
    found = gather(xp, distances, xp.asarray(columns, device=device(points)))
    found_index = xp.asarray(index, device=device(points))
    if enough.all():
        return found, found_index
    return _with_searched(group, points, k, enough, (found, found_index))


def _with_searched(group, points, k, enough, found):
    """The same with the rows that lack members, which are searched."""
    xp, here = namespace(points), device(points)
    lacking = xp.asarray(np.flatnonzero(~enough), device=here)
    window = group.shared.get("window", 0)
    times = xp.asarray(group.rows, device=here)
    searched = nearest_neighbours(points, k, rows=lacking, times=times, window=window)
    order = np.argsort(np.concatenate([np.flatnonzero(enough), np.flatnonzero(~enough)]))
    order = xp.asarray(order, device=here)
    return tuple(
        xp.take(xp.concat(pair), order, axis=0) for pair in zip(found, searched, strict=True)
    )


def share(group: Group, neighbours, window: int) -> None:
    """Leave the neighbours of all points for the groups, unless points were merged."""
    n = group.whole.shape[0]
    if neighbours.points.shape[0] == n:
        group.shared["neighbours"] = neighbours
        group.shared["index"] = as_numpy(neighbours.index).astype(np.int32)
    dependent = any(isinstance(doubt, SerialDependence) for doubt in neighbours.doubts)
    group.shared["window"] = window
    group.shared["block"] = max(1, n // MIN_BLOCKS) if dependent else block_length(n, window)
