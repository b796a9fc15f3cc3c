"""Checks of points, the distinct ones among them, and the nearest neighbours of each."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, concrete, device, namespace
from sgdnoise.dimension._neighbours import nearest_among, nearest_neighbours

MAX_TIED = 0.1  # fraction of the points with ties above which a warning is issued


class Duplicates(UserWarning):
    """A warning that duplicate points were merged."""


class Ties(UserWarning):
    """A warning that many points have their two nearest neighbours at one distance."""


class Neighbours(NamedTuple):
    """Distinct points (n, D), and the distances and indices (n, k) of the k nearest others.

    Distances are ascending.
    """

    points: Any
    distances: Any
    index: Any

    def first(self, k: int) -> "Neighbours":
        """The same points with their `k` nearest only.  Raises ValueError if there are fewer."""
        if not 1 <= k <= self.distances.shape[1]:
            raise ValueError(
                f"{self.distances.shape[1]} neighbours are known, and {k} were requested"
            )
        return Neighbours(self.points, self.distances[:, :k], self.index[:, :k])


def check_points(points, min_points: int = 2, *, apart: bool = True):
    """The points (n, D) as floating-point numbers of their own array library, if they are valid.

    Integers become the library's default float, float16 becomes float32, since squares overflow it,
    and longer types become float64.  Raises ValueError for anything but an array of numpy, torch or
    jax, for other types of numbers, for other than two axes, for fewer than `min_points` points,
    for nan or infinity, naming the row, for coordinates so large or small that squares overflow or
    vanish, and, if `apart`, for points that all coincide.

    Example:
        >>> import numpy as np
        >>> check_points(np.eye(2, dtype=int)).dtype
        dtype('float64')
    """
    xp = _library(points)
    points = _floating(xp, points)
    if points.ndim != 2:
        raise ValueError(f"points have shape (n, D), one per row, not {tuple(points.shape)}")
    n, width = points.shape
    if n < min_points or width < 1:
        raise ValueError(
            f"at least {min_points} points of 1 coordinate are needed, not {n} of {width}"
        )
    bad = ~xp.all(xp.isfinite(points), axis=1)
    if concrete(xp.any(bad)):
        rows = np.flatnonzero(as_numpy(bad))
        raise ValueError(f"{rows.size} of {n} points are not finite, the first in row {rows[0]}")
    _check_size(xp, points, apart)
    return points


def unique_points(points, *, refuse: bool = False):
    """The distinct points (n, D), in their order, with a warning `Duplicates` if any are merged.

    Estimators from distances call it, since two points at distance zero have no scale.
    Raises ValueError if points repeat and `refuse` is true.

    Example:
        >>> import numpy as np
        >>> unique_points(np.asarray([[1.0], [2.0]])).tolist()
        [[1.0], [2.0]]
    """
    points = check_points(points)
    xp, n = namespace(points), points.shape[0]
    _, first = np.unique(as_numpy(points), axis=0, return_index=True)
    repeated = n - first.size
    if not repeated:
        return points
    if refuse:
        raise ValueError(f"{repeated} of {n} points repeat others")
    warnings.warn(f"{repeated} of {n} points repeat others and were merged", Duplicates, 3)
    return xp.take(points, xp.asarray(np.sort(first), device=device(points)), axis=0)


def find_neighbours(
    points,
    k: int,
    neighbours: Neighbours | None = None,
    *,
    allow_fewer: bool = False,
    refuse: bool = False,
    approximate: bool = False,
) -> Neighbours:
    """The k nearest neighbours of each distinct point, which estimators take as `neighbours`.

    neighbours: those of an earlier call, of which the k nearest are returned.  allow_fewer: return
    all there are if there are fewer than k.
    approximate: candidates from pynndescent's nearest-neighbour descent, on the CPU, for sets of
    10^5 points and more: their distances are exact, but some neighbours are missed, most in many
    dimensions; docs/dimension.md lists the effect on estimates.
    If more than one point in ten has its two nearest at the same distance, as on a lattice or after
    rounding, it warns `Ties` with their number: estimators assume that none has.
    Under compilation by jax, which can neither merge nor warn, a distance of zero is nan.
    Raises ValueError as `check_points` and `unique_points` do, for fewer than k + 1 distinct
    points, and k < 1.

    Example:
        >>> import numpy as np
        >>> find_neighbours(np.asarray([[0.0], [1.0], [3.0]]), 1).index.tolist()
        [[1], [0], [1]]
    """
    if neighbours is not None:
        known = neighbours.distances.shape[1]
        return neighbours.first(min(k, known) if allow_fewer else k)
    points = check_points(points, min_points=2 if allow_fewer else max(k, 1) + 1)
    search = _by_descent if approximate else nearest_neighbours
    xp = namespace(points)
    distances, index = search(points, min(k, points.shape[0] - 1) if allow_fewer else k)
    if concrete(xp.any(distances[:, 0] == 0)):
        points = unique_points(points, refuse=refuse)
        n = points.shape[0]
        if n <= k and not allow_fewer:
            raise ValueError(f"{k} neighbours need {k + 1} distinct points, and only {n} are")
        distances, index = search(points, min(k, n - 1) if allow_fewer else k)
    _warn_of_ties(xp, distances)
    return Neighbours(points, xp.where(distances > 0, distances, xp.nan), index)


def _warn_of_ties(xp, distances):
    n, k = distances.shape
    tied = xp.sum(xp.astype(distances[:, 0] == distances[:, min(1, k - 1)], distances.dtype))
    if k > 1 and concrete(tied > MAX_TIED * n):
        warnings.warn(
            f"{float(as_numpy(tied)) / n:.0%} of {n} points have their two nearest neighbours at "
            "one distance, as on a lattice, where distance ratios mislead; use i3d for lattices",
            Ties,
            3,
        )


def _by_descent(points, k):
    """Neighbours (n, k) among more candidates from pynndescent, with exact distances."""
    try:
        from pynndescent import NNDescent
    except ImportError:
        raise ValueError(
            "approximate neighbours need pynndescent: pip install 'sgdnoise[approximate]'"
        ) from None
    xp, n = namespace(points), points.shape[0]
    count = min(k + k // 2 + 10, n)
    array = as_numpy(points)
    centre = np.median(array[:: max(1, n // 500)], axis=0)
    graph = NNDescent(array - centre, n_neighbors=count, random_state=0)
    columns = xp.asarray(graph.neighbor_graph[0].astype(np.int64), device=device(points))
    return nearest_among(points, columns, k)


def _check_size(xp, points, apart):
    """Raise ValueError if squares of the widest range of a coordinate overflow or vanish."""
    n, width = points.shape
    size = xp.max(xp.max(points, axis=0) / 2 - xp.min(points, axis=0) / 2)
    if concrete(size == 0):
        if apart:
            raise ValueError(f"all {n} points coincide, and have no dimension")
        return
    info = xp.finfo(points.dtype)
    low, high = 1e6 * info.smallest_normal**0.5, info.max**0.5 / (8 * (n * width) ** 0.5)
    if concrete((size < low) | (size > high)):
        raise ValueError(
            f"coordinates that differ by {float(as_numpy(size)):.1e} have no squares in "
            f"{points.dtype}, rescale them"
        )


def _library(points):
    if isinstance(points, np.ma.MaskedArray | np.matrix):  # whose operators differ
        raise ValueError(f"points are a plain array, not a {type(points).__name__}")
    try:
        return namespace(points)
    except TypeError:
        raise ValueError(
            f"points are an array of numpy, torch or jax, not {type(points).__name__}"
        ) from None


def _floating(xp, points):
    try:
        kinds = {kind: xp.isdtype(points.dtype, kind) for kind in ("integral", "real floating")}
    except (TypeError, ValueError):  # strings, objects
        kinds = {}
    if kinds.get("integral"):
        return xp.astype(points, xp.asarray(1.0).dtype)
    if not kinds.get("real floating"):
        raise ValueError(f"points are real numbers, not of type {points.dtype}")
    bits = xp.finfo(points.dtype).bits
    return (
        points if bits in (32, 64) else xp.astype(points, xp.float32 if bits < 32 else xp.float64)
    )
