"""Neighbours within a random subset of points, from those within all of them.

The k nearest in a subset are its first k members among the K nearest of all.  For errors
from groups one search then serves all groups: `with_group_error(twonn)` took 20 searches before.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._groups import Group, partition
from sgdnoise.dimension._neighbours import gather, nearest_neighbours
from sgdnoise.dimension._products import products_of
from sgdnoise.dimension._warnings import SerialDependence

MAX_NUMBERS = 50_000_000  # neighbours in memory; beyond, each group is searched
WIDER = 2  # times as many neighbours of the points that lack members of a group
MAX_LACKING = 0.1  # fraction of the points up to which they are found for all groups at once
MIN_BLOCKS = 20  # of rows that stay together, so that groups can differ
BLOCK_WINDOWS = 5  # length of such a block, in windows


def n_shared(k: int, groups: int) -> int:
    """The number of neighbours among which a row has k in its group, but for one row in a hundred.

    Of K neighbours a group has K / groups on average, with a standard deviation below its root.
    """
    return k if groups == 1 else math.ceil(groups * (k + 2 * math.sqrt(k) + 3))


def n_for_groups(n: int, k: int, groups: int) -> int:
    """The number of neighbours to search for if groups share them; k if that is too many."""
    count = n_shared(k, groups)
    return count if n * min(count, n) <= MAX_NUMBERS else k


def block_length(n: int, window: int) -> int:
    """The number of rows that stay together in groups, for rows that depend on `window` others."""
    return max(1, min(BLOCK_WINDOWS * window, n // MIN_BLOCKS)) if window else 1


class _Table(NamedTuple):
    """Neighbours (m, k) of some points, and the row of each point, (n,), -1 for the others."""

    distances: Any
    index: Any
    row: np.ndarray


def arrays_of_group(group: Group, points, k: int):
    """Distances and indices (m, k) of the nearest within a group, None if none are shared.

    points (m, D): those of the group.  Rows with fewer than k members among the neighbours of all
    are looked up among more neighbours, and searched if these have too few.
    """
    whole, rows = group.shared.get("neighbours"), group.rows
    if whole is None or rows is None or len(rows) <= k:
        return None
    xp, here = namespace(points), device(points)
    place = np.full(group.whole.shape[0], -1, np.int32)
    place[rows] = np.arange(len(rows))
    lacking, found = np.arange(len(rows)), []
    for table in _tables(group, k):
        enough, distances, index = _members(table, rows[lacking], place, k)
        found.append((lacking[enough], distances, xp.asarray(index, device=here)))
        lacking = lacking[~enough]
        if not lacking.size:
            break
    if lacking.size:
        found.append((lacking, *_searched(group, points, k, lacking)))
    if len(found) == 1:
        return found[0][1:]
    order = xp.asarray(np.argsort(np.concatenate([part[0] for part in found])), device=here)
    return tuple(
        xp.take(xp.concat(arrays), order, axis=0)
        for arrays in zip(*(part[1:] for part in found), strict=True)
    )


def _tables(group, k):
    """The neighbours of all points, then more of those that lack members of some group."""
    whole, index = group.shared["neighbours"], group.shared["index"]
    everyone = np.arange(index.shape[0])
    limit = min(n_shared(k, group.groups), index.shape[1])
    yield _Table(whole.distances[:, :limit], index[:, :limit], everyone)
    if index.shape[1] > limit:
        yield _Table(whole.distances, index, everyone)
    if group.groups in group.shared.get("partitions", ()):
        wider = group.shared.setdefault("wider", {})
        if k not in wider:
            wider[k] = _wider(group, k)
        if wider[k] is not None:
            yield wider[k]


def _members(table, rows, place, k):
    """Which of these rows have k members of the group in a table, and their neighbours.

    place (n,): the place of each point in the group, -1 for the others.
    """
    at = table.row[rows]
    members = np.where(at[:, None] >= 0, place[table.index[at]], -1)
    rank = np.cumsum(members >= 0, axis=1, dtype=np.int32)
    enough = rank[:, -1] >= k
    chosen = (members >= 0) & (rank <= k) & enough[:, None]
    columns = np.nonzero(chosen)[1].reshape(-1, k)
    index = np.take_along_axis(members[enough], columns, axis=1).astype(np.int64)
    xp, here = namespace(table.distances), device(table.distances)
    distances = xp.take(table.distances, xp.asarray(at[enough], device=here), axis=0)
    return enough, gather(xp, distances, xp.asarray(columns, device=here)), index


def _wider(group, k):
    """Twice as many neighbours of the points that lack members in any group, in one search.

    None if these are too many: their groups are not random then, and are searched.
    """
    whole, points = group.shared["neighbours"], group.whole
    xp, n = namespace(points), points.shape[0]
    lacking = np.flatnonzero(_lacks(group, k))
    window = group.shared.get("window", 0)
    count = min(WIDER * whole.distances.shape[1], n - 1 - 2 * window)
    if not 0 < lacking.size <= MAX_LACKING * n or count <= whole.distances.shape[1]:
        return None
    rows = xp.asarray(lacking, device=device(points))
    times = _times(group, slice(None), points)
    distances, index = nearest_neighbours(points, count, rows=rows, times=times, window=window)
    row = np.full(n, -1)
    row[lacking] = np.arange(lacking.size)
    return _Table(distances, as_numpy(index).astype(np.int32), row)


def _lacks(group, k):
    """Which points have fewer than k members of their group among the shared neighbours, (n,)."""
    index = group.shared["index"]
    lacks = np.zeros(len(index), bool)
    for groups, (splits, block) in group.shared["partitions"].items():
        for split in range(splits):
            parts = partition(len(index), groups, split, block)
            label = np.full(len(index), -1, np.int16)
            label[parts] = np.arange(groups)[:, None]
            count = np.count_nonzero(label[index] == label[:, None], axis=1)
            lacks |= (label >= 0) & (count < k) & (parts.shape[1] > k)
    return lacks


def _searched(group, points, k, lacking):
    """The neighbours of some points of a group, by a search within it."""
    rows = namespace(points).asarray(lacking, device=device(points))
    times = _times(group, group.rows, points)
    window = group.shared.get("window", 0)
    return nearest_neighbours(points, k, rows=rows, times=times, window=window)


def _times(group, rows, points):
    """The times of rows: their numbers in the data."""
    known = group.shared["neighbours"].rows
    times = np.arange(group.whole.shape[0]) if known is None else as_numpy(known)
    return namespace(points).asarray(times[rows], device=device(points))


def share(group: Group, neighbours, window: int) -> None:
    """Leave the neighbours of all points for the groups, unless points were merged."""
    n = group.whole.shape[0]
    if neighbours.points.shape[0] == n:
        neighbours.products = products_of(neighbours.points)
        group.shared.pop("wider", None)
        group.shared["neighbours"] = neighbours
        group.shared["index"] = as_numpy(neighbours.index).astype(np.int32)
    dependent = any(isinstance(doubt, SerialDependence) for doubt in neighbours.doubts)
    group.shared["window"] = window
    group.shared["block"] = max(1, n // MIN_BLOCKS) if dependent else block_length(n, window)
