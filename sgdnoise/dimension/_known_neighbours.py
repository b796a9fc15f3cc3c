"""Checks of neighbours that a caller has found."""

import numpy as np

from sgdnoise.core._arrays import as_numpy

SAMPLE = 50  # points whose distances are computed again
MAX_OWN = 0.1  # fraction of the rows that are among their own neighbours
TOLERANCE = 1e-3  # relative error of a distance


def check_neighbours(points, neighbours, exclude=0) -> None:
    """Raise ValueError unless `neighbours` are those of these points.

    Distances of up to 50 points are computed again.  Nothing is checked while jax traces, if points
    are None or a number, and if points or indices of the neighbours are all equal: unknown.
    """
    if exclude != 0:
        raise ValueError(
            "exclude has no effect on neighbours= that are known: give exclude to find_neighbours"
        )
    if not all(hasattr(neighbours, name) for name in ("points", "distances", "index")):
        raise ValueError(
            "neighbours= takes what find_neighbours returns, points with distances and indices of "
            f"their neighbours, not a {type(neighbours).__name__}"
        )
    if not hasattr(neighbours.points, "dtype"):  # none, or of another metric
        return
    try:
        known, distances, index = (as_numpy(array) for array in neighbours)
        given = None if points is None or points is neighbours.points else as_numpy(points)
    except TypeError:  # jax, tracing
        return
    if np.all(known == known[:1]) or np.ptp(index.astype(int)) == 0:  # they are unknown
        return
    _check_shapes(known, distances, index)
    rows = np.linspace(0, len(known) - 1, min(len(known), SAMPLE)).astype(int)
    _check_self(distances, index)
    _check_distances(known, distances, index, rows)
    if points is not neighbours.points:
        _check_same(given, known, rows)


def _check_shapes(points, distances, index):
    n = points.shape[0]
    if distances.shape != index.shape or distances.ndim != 2 or distances.shape[0] != n:
        raise ValueError(
            f"distances and indices of neighbours have one row for each of {n} points, not shapes "
            f"{distances.shape} and {index.shape}"
        )
    if not np.issubdtype(index.dtype, np.integer) or index.min() < 0 or index.max() >= n:
        raise ValueError(f"indices of neighbours are whole numbers from 0 to {n - 1}")


def _check_self(distances, index):
    """Refuse neighbours that hold the point itself, as scikit-learn and faiss return them."""
    own = np.mean(index == np.arange(len(index))[:, None], axis=0)  # not 1 where points repeat
    if own.max() > MAX_OWN:
        raise ValueError(
            f"column {np.argmax(own)} of neighbours holds each row itself, as kneighbors of "
            "scikit-learn and search of faiss return it: drop that column"
        )
    falling = np.any(np.diff(distances, axis=1) < 0, axis=1)
    if falling.any():
        raise ValueError(
            f"distances of neighbours ascend, and those of row {np.argmax(falling)} do not"
        )


def _check_distances(points, distances, index, rows):
    last = index.shape[1] - 1
    for column in {0, last // 2, last}:
        other = points[index[rows, column]].astype(np.float64)
        expected = np.linalg.norm(other - points[rows].astype(np.float64), axis=1)
        result = distances[rows, column]
        wrong = np.abs(result - expected) > TOLERANCE * expected  # a nan of equal points is none
        if wrong.any():
            row = np.argmax(wrong)
            raise ValueError(
                f"neighbour {column + 1} of row {rows[row]} is at {expected[row]:.4g}, and "
                f"neighbours= says {result[row]:.4g}: they belong to other points, or are squared"
            )


def _check_same(points, known, rows):
    """Refuse neighbours of other points; of points that repeat, the distinct ones are known."""
    if points.ndim != 2 or points.shape[1] != known.shape[1] or len(points) < len(known):
        raise ValueError(
            f"neighbours= belong to points of shape {known.shape}, and points have {points.shape}"
        )
    if len(points) == len(known):
        same = points[rows] == known[rows]
    else:
        same = np.asarray([np.any(np.all(points == known[row], axis=1)) for row in rows])
    if not np.all(same):
        raise ValueError("neighbours= belong to other points: find them again for these")
