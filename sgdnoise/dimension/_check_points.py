"""Checks of points as estimators take them, and the distinct ones among them."""

import warnings

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, concrete, device, namespace
from sgdnoise.dimension._warnings import Duplicates, NearDuplicates

MERGED = " and were merged"
TABLES = ("dask", "pandas", "polars", "xarray")  # libraries whose arrays become those of numpy


@checked
def check_points(points, min_points: int = 2, *, apart: bool = True):
    """The points (n, D) as floating-point numbers of their own array library, if they are valid.

    Integers become the library's default float, float16 becomes float32, since squares overflow it,
    and longer types become float64.  Tables of pandas and polars, and arrays of dask and xarray,
    become those of numpy.  Raises ValueError for anything but these and arrays of numpy, torch or
    jax, for other types of numbers, for other than two axes, for fewer than `min_points` points,
    for nan or infinity, naming the row, for coordinates so large or small that squares overflow or
    vanish, and, if `apart`, for points that all coincide.

    Example:
        >>> import numpy as np
        >>> check_points(np.eye(2, dtype=int)).dtype
        dtype('float64')
    """
    points = _array(points)
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


@checked
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
    repeated = int(n - first.size)
    if not repeated:
        return points
    if refuse:
        raise ValueError(f"{repeated} of {n} points repeat others")
    warnings.warn(merging(Duplicates, repeated, n), stacklevel=3)
    return xp.take(points, xp.asarray(np.sort(first), device=device(points)), axis=0)


def merging(category, count: int, n: int):
    """The warning that so many of n points were merged."""
    nearly = "nearly " if category is NearDuplicates else ""
    return category(f"{count} of {n} points {nearly}repeat others{MERGED}")


def repeated_points(points):
    """Which points repeat an earlier one, (n,)."""
    array = as_numpy(points)
    later = np.ones(array.shape[0], bool)
    later[np.unique(array, axis=0, return_index=True)[1]] = False
    return later


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


def _array(points):
    """The points as numpy has them, if they are a table or an array of dask or xarray."""
    library = type(points).__module__.partition(".")[0]
    if library == "pandas" and hasattr(points, "select_dtypes"):
        return _of_frame(points)
    return np.asarray(points) if library in TABLES else points


def _of_frame(frame):
    """The numbers of a table of pandas, missing ones of its own types as nan."""
    words = frame.columns.difference(frame.select_dtypes("number").columns, sort=False)
    if len(words):
        names = ", ".join(map(str, words[:5]))
        raise ValueError(f"points have columns that are not of numbers, drop them: {names}")
    if any(not isinstance(dtype, np.dtype) for dtype in frame.dtypes):
        return frame.to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(frame)


def _library(points):
    if isinstance(points, np.ma.MaskedArray | np.matrix):  # whose operators differ
        raise ValueError(f"points are a plain array, not a {type(points).__name__}")
    try:
        return namespace(points)
    except TypeError:
        raise ValueError(
            f"points are an array of numpy, torch or jax, not {type(points).__name__}; "
            "numpy.asarray makes one of a list"
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
