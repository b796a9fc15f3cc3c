"""Neighbours under other metrics than the Euclidean, and from a matrix of distances."""

import warnings
from typing import Any

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, concrete, namespace
from sgdnoise.dimension._points import Duplicates, Neighbours, check_points, find_neighbours

# Estimators that need distances to neighbours only, and so take any metric.
OF_DISTANCES = (
    *("twonn", "l2n2", "levina_bickel", "gride", "mind_ml", "mom", "mada", "binomial", "abide"),
    "geodesic",
)
ANGLES = ("cosine", "correlation")  # metrics that are Euclidean after a map of each row
COORDINATES = ("euclidean", "l2", *ANGLES)  # metrics for all estimators
BLOCK = 1 << 16  # coordinates of neighbours at once, which fit in a processor's cache
MAX_ASYMMETRY = 1e-6  # of a matrix of distances, as a fraction of the largest


class NoCoordinates:
    """What stands for n points of which only the distances are known.

    Estimators that use coordinates raise ValueError, since they do not know the metric.
    """

    def __init__(self, n: int):
        self.shape, self.ndim = (n, 0), 2

    def __len__(self):
        return self.shape[0]

    def _refuse(self, *_, **__):
        raise ValueError(
            "this estimator needs coordinates, and neighbours of this metric have none; take one "
            f"of {', '.join(OF_DISTANCES)}"
        )

    __array__ = __array_namespace__ = __getitem__ = _refuse


@checked
def metric_neighbours(points, k: int, metric: Any = "cosine") -> Neighbours:
    """The k nearest neighbours of each point under a metric, for estimators from distances.

    metric: "euclidean"; "cosine", the distance between rows scaled to length 1, which grows as the
    angle; "correlation", the same for rows less their mean; "precomputed", for which `points` is
    the matrix (n, n) of distances; or a metric of scikit-learn's NearestNeighbors, such as
    "manhattan" or a function of two rows, which runs in numpy.
    1 - cos is not a metric but half the square of one, and would halve every dimension, as would
    squared distances: take their root before passing them as "precomputed".
    Unless the metric is Euclidean, cosine or correlation, the points of the result have no
    coordinates, and estimators that use some (`learned`, `tle`, `ess`, `danco` ...) refuse them.
    Raises ValueError as `find_neighbours` does, for a matrix that is not of distances, a row
    without direction, and an unknown metric.

    Example:
        >>> from sgdnoise.dimension import levina_bickel
        >>> points = np.random.default_rng(0).normal(size=(2000, 4))
        >>> near = metric_neighbours(points, 10, "cosine")  # on a sphere of dimension 3
        >>> round(float(levina_bickel(near.points, neighbours=near)))
        3
    """
    if isinstance(metric, str) and metric in COORDINATES:
        return find_neighbours(in_metric(points, metric), k)
    if metric == "precomputed":
        return _merged(_of_matrix(points), k)
    check_metric(metric)
    return _merged(_of_library(points, metric), k)


def check_metric(metric: Any) -> None:
    """Raise ValueError for a name that is not of a metric."""
    from sklearn.neighbors import VALID_METRICS

    if metric in ("sqeuclidean", "squared euclidean"):
        raise ValueError("squared distances halve every dimension: take metric='euclidean'")
    known = {*COORDINATES, "precomputed", *VALID_METRICS["brute"]} - {"sqeuclidean"}
    if not callable(metric) and metric not in known:
        raise ValueError(f"there is no metric {metric!r}; there are {', '.join(sorted(known))}")


def in_metric(points, metric: Any):
    """The points, mapped so that their Euclidean distances are those of the metric.  (n, D)

    Raises ValueError for a metric other than "euclidean", "cosine" and "correlation", and for rows
    of length 0, which have no direction.
    """
    if metric in ("euclidean", "l2"):
        return points
    if metric not in ANGLES:
        raise ValueError(f"the metric is euclidean, cosine or correlation here, not {metric!r}")
    points = check_points(points)
    xp = namespace(points)
    if metric == "correlation":
        points = points - xp.mean(points, axis=1)[:, None]
    scale = xp.max(xp.abs(points), axis=1)[:, None]
    if concrete(xp.any(scale == 0)):
        row = int(np.flatnonzero(as_numpy(scale)[:, 0] == 0)[0])
        flat = "constant" if metric == "correlation" else "zero"
        raise ValueError(f"row {row} is {flat} and has no direction, which {metric} needs")
    points = points / xp.where(scale > 0, scale, 1.0)
    return points / xp.sqrt(xp.sum(points**2, axis=1))[:, None]


def nearest_rows(X, points, count: int, metric: Any) -> tuple[np.ndarray, np.ndarray]:
    """Distances and places (m, count) of the points nearest to each row of X, ascending.

    X: rows in the coordinates of the points, or with "precomputed" their distances (m, n).
    """
    from sklearn.neighbors import NearestNeighbors

    if isinstance(metric, str) and metric == "precomputed":
        index = np.argsort(X, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(X, index, axis=1), index
    if isinstance(metric, str) and metric in COORDINATES:
        index = NearestNeighbors(n_neighbors=count).fit(points).kneighbors(X)[1]
        return _exactly(X, points, index)
    return NearestNeighbors(n_neighbors=count, metric=metric).fit(points).kneighbors(X)


def _exactly(X, points, index):
    """Distances without the rounding of products, so that a point is at 0 from itself."""
    distances = np.empty(index.shape)
    rows = max(1, BLOCK // (index.shape[1] * points.shape[1]))
    for start in range(0, len(X), rows):
        part = slice(start, start + rows)
        offsets = points[index[part]].astype(float, copy=False) - X[part, None, :]
        distances[part] = np.sqrt(np.einsum("ijk,ijk->ij", offsets, offsets))
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(index, order, axis=1)


def _of_library(points, metric):
    """A search of scikit-learn for k neighbours of the rows in `left`."""
    from sklearn.neighbors import NearestNeighbors

    array = as_numpy(check_points(points))

    def search(left, k):
        try:
            found = NearestNeighbors(n_neighbors=k, metric=metric).fit(array[left])
        except ValueError as error:
            raise ValueError(f"there is no metric {metric!r} here: {_first(error)}") from None
        return found.kneighbors()

    return search, len(array)


def _of_matrix(matrix):
    """A search in a matrix of distances for k neighbours of the rows in `left`."""
    matrix = np.asarray(as_numpy(matrix), dtype=float)
    check_matrix(matrix)

    def search(left, k):
        distances, index = np.empty((len(left), k)), np.empty((len(left), k), np.int64)
        for row, place in enumerate(left):
            values = matrix[place, left]
            values[row] = np.inf
            nearest = np.argpartition(values, k - 1)[:k]
            nearest = nearest[np.argsort(values[nearest], kind="stable")]
            distances[row], index[row] = values[nearest], nearest
        return distances, index

    return search, len(matrix)


def check_matrix(matrix):
    """Raise ValueError for anything but a symmetric matrix of distances, 0 on its diagonal."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"precomputed distances are a matrix (n, n), not of shape {matrix.shape}")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        row = int(np.flatnonzero(~((matrix >= 0) & np.isfinite(matrix)).all(axis=1))[0])
        raise ValueError(f"distances are finite and 0 or more, and row {row} has others")
    allowed = MAX_ASYMMETRY * matrix.max()
    if (diagonal := np.abs(np.diagonal(matrix))).max() > allowed:
        row = int(np.argmax(diagonal))
        raise ValueError(f"a point is at distance 0 from itself, and row {row} at {diagonal[row]}")
    if (difference := np.abs(matrix - matrix.T)).max() > allowed:
        i, j = np.unravel_index(np.argmax(difference), matrix.shape)
        raise ValueError(f"distances are symmetric, and those of rows {i} and {j} differ")


def _merged(searched, k):
    """The neighbours of the points that are left after all at distance 0 from others are merged."""
    search, n = searched
    left = np.arange(n)
    while True:
        if len(left) < k + 1 or k < 1:
            raise ValueError(f"{k} neighbours need {k + 1} distinct points, and {len(left)} are")
        distances, index = search(left, k)
        repeated = (distances[:, 0] == 0) & (index[:, 0] < np.arange(len(left)))
        if not (distances[:, 0] == 0).any():
            break
        if not repeated.any():  # each of them has a later one first
            repeated[index[distances[:, 0] == 0, 0].max()] = True
        left = left[~repeated]
    if len(left) < n:
        warnings.warn(
            f"{n - len(left)} of {n} points are at distance 0 from others and were merged",
            Duplicates,
            4,
        )
    return Neighbours(NoCoordinates(len(left)), distances, index)


def _first(error):
    return " ".join(str(error).split()).split(". ")[0][:120]
