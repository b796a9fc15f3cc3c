"""Neighbours within random subsets of equal size, from one search for all of them."""

from typing import Any

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._groups import Group
from sgdnoise.dimension._assumptions import near_ties
from sgdnoise.dimension._neighbours import nearest_neighbours
from sgdnoise.dimension._points import N_TESTED, Neighbours
from sgdnoise.dimension._shared import arrays_of_group, n_shared


def neighbours_in_sets(
    points, sets: np.ndarray, groups: int, k: int, shared: dict[str, Any]
) -> list[Neighbours]:
    """The k nearest neighbours within each set of rows (s, m), one in `groups` of all points.

    shared: what `share` has left.  Copies were merged in all points.  The doubts of a set are its
    ties, since ratios of distances have no dimension then.
    """
    whole, size = shared["neighbours"], sets.shape[1]
    window, count = shared["window"], min(max(k, N_TESTED), size - 1)
    parts = [_taken(points, rows) for rows in sets]
    if whole.distances.shape[1] >= n_shared(count, groups):
        members = [
            Group(part, points, rows, groups, groups, shared)
            for part, rows in zip(parts, sets, strict=True)
        ]
        arrays = [arrays_of_group(group, group.samples, count) for group in members]
    else:
        arrays = _searched(points, sets, count, window)
    return [
        _complete(part, found, rows, whole, window).first(min(k, count))
        for part, found, rows in zip(parts, arrays, sets, strict=True)
    ]


def _searched(points, sets, count, window):
    """Distances and indices in each set, by one search."""
    xp, (number, size) = namespace(points), sets.shape
    flat = sets.reshape(-1)
    times = xp.asarray(flat, device=device(points))
    distances, index = nearest_neighbours(
        _taken(points, flat), count, size=size, times=times, window=window
    )
    ranges = [slice(i * size, (i + 1) * size) for i in range(number)]
    return [(distances[part, :], index[part, :] - part.start) for part in ranges]


def _complete(points, arrays, rows, whole, window):
    result = Neighbours(points, *arrays)
    ties = near_ties(as_numpy(result.distances)[:, :N_TESTED])
    result.doubts = () if ties is None else (ties,)
    result.searched, result.rows, result.window = True, rows, window
    if whole.products is not None:
        result.products = whole.products._replace(rows=rows)
    return result


def _taken(points, rows):
    xp = namespace(points)
    return xp.take(points, xp.asarray(rows, device=device(points)), axis=0)
