"""Points as estimators take them, checked and distinct, with the nearest neighbours of each."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, concrete, device, namespace
from sgdnoise.dimension._neighbours import nearest_among, nearest_neighbours

TIED = 0.1  # of the points, above which a warning says so


class Duplicates(UserWarning):
    """Points that repeat others were merged."""


class Ties(UserWarning):
    """Points have their two nearest neighbours at one distance, as on a lattice."""


class Neighbours(NamedTuple):
    """Distinct points (n, D), distances to the k nearest others (n, k), ascending, and whose."""

    points: Any
    distances: Any
    index: Any

    def first(self, k: int) -> "Neighbours":
        """The same points with the `k` nearest alone.  Raises ValueError where fewer are known."""
        if not 1 <= k <= self.distances.shape[1]:
            raise ValueError(f"{self.distances.shape[1]} neighbours were given where {k} are asked")
        return Neighbours(self.points, self.distances[:, :k], self.index[:, :k])


def check_points(points, least: int = 2, *, apart: bool = True):
    """The points (n, D) as floating numbers of their own library, or one sentence on what is wrong.

    Integers become the library's default float, float16 float32, since squares overflow it, and
    what is longer than float64 that.  Raises ValueError for what is not an array of numpy, torch or
    jax, for other types of numbers, for other than two axes, for fewer than `least` points, for nan
    or infinity, with the row, and for points that all coincide, unless these need not be `apart`,
    or lie so far or near that squares overflow or vanish.
    """
    xp = _library(points)
    points = _floating(xp, points)
    if points.ndim != 2:
        raise ValueError(f"points have shape (n, D), one a row, not {tuple(points.shape)}")
    n, width = points.shape
    if n < least or width < 1:
        raise ValueError(f"at least {least} points of 1 coordinate are needed, not {n} of {width}")
    bad = ~xp.all(xp.isfinite(points), axis=1)
    if concrete(xp.any(bad)):
        rows = np.flatnonzero(as_numpy(bad))
        raise ValueError(f"{rows.size} of {n} points are not finite, the first in row {rows[0]}")
    _check_size(xp, points, apart)
    return points


def unique_points(points, *, refuse: bool = False):
    """The points (n, D), each once, in their order; warns `Duplicates` with how many were merged.

    Estimators from distances call it, since two points at distance zero have no scale.
    Raises ValueError where points repeat and `refuse`.
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
    given: Neighbours | None = None,
    *,
    fewer: bool = False,
    refuse: bool = False,
    approximate: bool = False,
) -> Neighbours:
    """Nearest neighbours among distinct points: those `given`, or found; all there are if `fewer`.

    approximate: candidates by pynndescent's graph descent, on the CPU, for clouds of 10^5 points
    and more: their distances are exact, but some neighbours are missed, most in many dimensions;
    docs/dimension.md says what that does to estimates.
    Where more than one point in ten has its two nearest at the same distance, as on a lattice
    or after rounding, it warns `Ties` with how many: all that follows assumes that none has.
    Where jax compiles and cannot merge or warn, a distance of zero is nan.
    Raises ValueError as `cloud` and `distinct` do, for fewer than k + 1 distinct points, and k < 1.
    """
    if given is not None:
        return given.first(min(k, given.distances.shape[1]) if fewer else k)
    points = check_points(points, least=2 if fewer else max(k, 1) + 1)
    search = _by_descent if approximate else nearest_neighbours
    xp = namespace(points)
    found = search(points, min(k, points.shape[0] - 1) if fewer else k)
    if concrete(xp.any(found[0][:, 0] == 0)):
        points = unique_points(points, refuse=refuse)
        n = points.shape[0]
        if n <= k and not fewer:
            raise ValueError(f"{k} neighbours need {k + 1} distinct points, and only {n} are")
        found = search(points, min(k, n - 1) if fewer else k)
    distances, index = found
    _warn_of_ties(xp, distances)
    return Neighbours(points, xp.where(distances > 0, distances, xp.nan), index)


def _warn_of_ties(xp, distances):
    n, k = distances.shape
    tied = xp.sum(xp.astype(distances[:, 0] == distances[:, min(1, k - 1)], distances.dtype))
    if k > 1 and concrete(tied > TIED * n):
        warnings.warn(
            f"{float(as_numpy(tied)) / n:.0%} of {n} points have their two nearest neighbours at "
            "one distance, as on a lattice, where ratios of distances mislead; i3d is for lattices",
            Ties,
            3,
        )


def _by_descent(points, k):
    """Neighbours that pynndescent finds (n, k), more asked for than needed, measured again."""
    try:
        from pynndescent import NNDescent
    except ImportError:
        raise ValueError(
            "approximate neighbours need pynndescent: pip install 'sgdnoise[approximate]'"
        ) from None
    xp, n = namespace(points), points.shape[0]
    count = min(k + k // 2 + 10, n)
    seen = as_numpy(points)
    graph = NNDescent(
        seen - np.median(seen[:: max(1, n // 500)], axis=0), n_neighbors=count, random_state=0
    )
    columns = xp.asarray(graph.neighbor_graph[0].astype(np.int64), device=device(points))
    return nearest_among(points, columns, k)


def _check_size(xp, points, apart):
    """Half the widest range of a coordinate is neither zero nor of a square that has no number."""
    n, width = points.shape
    size = xp.max(xp.max(points, axis=0) / 2 - xp.min(points, axis=0) / 2)
    if concrete(size == 0):
        if apart:
            raise ValueError(f"all {n} points coincide, and have no dimension")
        return
    known = xp.finfo(points.dtype)
    least, most = 1e6 * known.smallest_normal**0.5, known.max**0.5 / (8 * (n * width) ** 0.5)
    if concrete((size < least) | (size > most)):
        raise ValueError(
            f"coordinates that differ by {float(as_numpy(size)):.1e} have no squares in "
            f"{points.dtype}, rescale them"
        )


def _library(points):
    if isinstance(points, np.ma.MaskedArray | np.matrix):  # which compute otherwise
        raise ValueError(f"points are a plain array, not a {type(points).__name__}")
    try:
        return namespace(points)
    except TypeError:
        raise ValueError(
            f"points are an array of numpy, torch or jax, not {type(points).__name__}"
        ) from None


def _floating(xp, points):
    try:
        known = {kind: xp.isdtype(points.dtype, kind) for kind in ("integral", "real floating")}
    except (TypeError, ValueError):  # strings, objects
        known = {}
    if known.get("integral"):
        return xp.astype(points, xp.asarray(1.0).dtype)
    if not known.get("real floating"):
        raise ValueError(f"points are real numbers, not of type {points.dtype}")
    bits = xp.finfo(points.dtype).bits
    return (
        points if bits in (32, 64) else xp.astype(points, xp.float32 if bits < 32 else xp.float64)
    )
