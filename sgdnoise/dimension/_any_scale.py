"""Estimators that take points of any scale, as lists or arrays, and whole numbers as floats."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from sgdnoise.core._arguments import as_whole
from sgdnoise.core._arrays import concrete, namespace

Function = TypeVar("Function", bound=Callable)

WHOLE = {"k", "max_k", "inner_rank", "outer_rank", "groups"}
SIZED = {"noise", "repeat", "neighbours"}  # arguments that have the scale of the points
COMFORTABLE = {32: 1e4, 64: 1e40}  # bits: ratio to 1 within which powers do not overflow


def any_scale(function: Function) -> Function:
    """An estimator that gives the same number for points times a constant.

    Points whose coordinates differ by more than 1e40 or less than 1e-40 (1e4 and 1e-4 in float32)
    are divided by a power of two, which is exact, so that no power of them overflows.  They are
    left as they are beside arguments that have their scale.  Numbers of neighbours may be floats
    such as 5.0.
    """
    names = list(inspect.signature(function).parameters)
    whole = WHOLE.intersection(names)

    @wraps(function)
    def scaled(points, *args, **kwargs):
        args = (
            tuple(
                as_whole(name, value) if name in whole and value is not None else value
                for name, value in zip(names[1:], args, strict=False)
            )
            + args[len(names) - 1 :]
        )
        for name in whole.intersection(kwargs):
            if kwargs[name] is not None:
                kwargs[name] = as_whole(name, kwargs[name])
        if not any(kwargs.get(name) is not None for name in SIZED):
            points = comfortable(points)
        return function(points, *args, **kwargs)

    return scaled  # type: ignore[return-value]


def comfortable(points: Any) -> Any:
    """The points, divided by a power of two if their scale is extreme; lists as arrays."""
    if isinstance(points, (list, tuple)):
        return comfortable(np.asarray(points)) if _regular(points) else points
    dtype = str(getattr(points, "dtype", "")).rpartition(".")[2]
    bits = {"float32": 32, "float64": 64}.get(dtype)
    if bits is None or getattr(points, "ndim", 0) != 2 or not all(points.shape):
        return points
    try:
        xp = namespace(points)
    except TypeError:  # a table, or an array of another library
        return points
    half = xp.max(xp.max(points, axis=0) / 2 - xp.min(points, axis=0) / 2)
    limit = COMFORTABLE[bits]
    if not concrete((half > limit) | ((half < 1 / limit) & (half > 0))) or not concrete(
        xp.isfinite(half)
    ):
        return points
    exponent = int(np.floor(np.log2(float(half))))
    first = exponent // 2  # in two steps, since one power may be beyond the range
    return points * 2.0**-first * 2.0 ** (first - exponent)


def _regular(points):
    try:
        return np.asarray(points).dtype.kind in "biuf"
    except ValueError:
        return False
