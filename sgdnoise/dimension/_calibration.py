"""Calibration of any estimator on uniform balls, by simulation and inversion."""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Hashable
from pathlib import Path

import numpy as np
from scipy.interpolate import make_smoothing_spline

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import device, namespace
from sgdnoise.data._manifolds import ball
from sgdnoise.dimension._points import check_points
from sgdnoise.dimension._trained._features import inverse

DIMENSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 30, 38, 48, 60, 75, 95, 120)
PLAIN = (str, int, float, np.generic, type(None))
POINTS = 20_000  # simulated at each dimension, in clouds of the requested size


@checked
def calibrated(estimator):
    r"""The estimator corrected so that uniform balls have their dimension.  -> (points) -> ()

    The values m(d) of `estimator` on uniform d-balls of as many points, with the same options, are
    simulated on a grid of d, smoothed in log d, and inverted: m^-1(estimator(points)).  It does not
    correct differences from a ball: curvature, uneven density, noise.  m is simulated once
    for each number of points and option (20 seconds at n = 1000 for 20 ms per evaluation), and
    stored in the folder sgdnoise of the user's cache, or of XDG_CACHE_HOME; its own error is about
    that of the estimator on 100,000 points.  Beyond d = 120 the curve is extrapolated as a power.
    Raises ValueError as the estimator does, if its value does not grow with d, and for options
    that have no hash, such as lists.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import twonn
        >>> corrected = calibrated(twonn)  # nothing is simulated before it is called
        >>> points = np.random.default_rng(0).uniform(size=(50, 2))
        >>> round(float(corrected(points)), 1)  # doctest: +SKIP
        2.1
    """

    @functools.wraps(estimator)
    def corrected(points, **options):
        neighbours = options.get("neighbours")
        points = check_points(points) if neighbours is None else neighbours.points
        key = _hashable(options)
        value = estimator(points, **options)
        curve = _curve(estimator, points.shape[0], key)
        d = inverted(np.asarray(DIMENSIONS), np.asarray(curve), float(value))
        return namespace(points).asarray(d, dtype=points.dtype, device=device(points))

    return corrected


def inverted(dimensions, values, value):
    """The dimension at which a curve of positive values takes a value; log-log, monotone.

    Raises ValueError if the curve does not grow.
    """
    x, y = np.log(dimensions), np.log(values)
    smooth = make_smoothing_spline(x, y)(x)
    growing = np.concatenate([[True], np.diff(np.maximum.accumulate(smooth)) > 1e-6])
    if growing.sum() < 3:
        raise ValueError("the estimator has no values that grow with the dimension of a ball")
    x, y = x[growing], smooth[growing]
    return float(np.exp(inverse(x, y, np.log(value))))


def _hashable(options):
    """The options that a curve depends on, sorted."""
    items = tuple(sorted((name, value) for name, value in options.items() if name != "neighbours"))
    for name, value in items:
        if not isinstance(value, Hashable):
            raise ValueError(
                f"a curve is stored by its options, and {name} is a {type(value).__name__}, which "
                "has no hash; use a tuple, or a function that contains it"
            )
    return items


@functools.cache
def _curve(estimator, n, options):
    """Mean values of the estimator on balls of each dimension, from the cache if possible."""
    file = _file(estimator, n, options)
    if file is not None and file.is_file():
        return tuple(json.loads(file.read_text()))
    values = tuple(_on_balls(estimator, n, d, dict(options)) for d in DIMENSIONS)
    if file is not None:
        _store(file, values)
    return values


def _on_balls(estimator, n, d, options):
    """Mean value over as many balls of n points as have POINTS points together."""
    rngs = (np.random.default_rng([n, d, repeat]) for repeat in range(max(1, POINTS // n)))
    return float(np.mean([float(estimator(ball(n, d, rng=rng).inputs, **options)) for rng in rngs]))


def _file(estimator, n, options):
    """The file of a curve, named by all that determines it; None if the estimator has no name."""
    module = sys.modules.get(getattr(estimator, "__module__", ""))
    name = getattr(estimator, "__qualname__", "")
    if module is None or getattr(module, name, None) is not estimator:  # a lambda, a partial
        return None
    if not all(isinstance(value, PLAIN) for _, value in options):  # a repr may be an address
        return None
    try:
        code = inspect.getsource(module)
    except (OSError, TypeError):
        return None
    key = repr((module.__name__, name, code, n, options, DIMENSIONS, POINTS))
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgdnoise"
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _store(file, values):
    """Write atomically; without a writable folder the next run simulates again."""
    new = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(values))
        new.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
