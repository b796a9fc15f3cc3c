"""The recommended estimate against scale, for the picture of the command."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sgdnoise.core._estimate import Estimate
from sgdnoise.core._groups import sharing
from sgdnoise.dimension._distance_ratios import levina_bickel, twonn
from sgdnoise.dimension._points import find_neighbours
from sgdnoise.dimension._scale import Profile, scale_profile
from sgdnoise.dimension._trained._features import N_NEIGHBOURS
from sgdnoise.dimension._trained._predict import learned
from sgdnoise.lab._survey import FIRST, Settings

MIN_BLOCK = 64  # points of a block by `learned`, which needs 41
BLOCKS = 8  # from which the errors of a profile come


def profile_of(
    points, settings: Settings, seed: int, told, shared: dict[str, Any]
) -> tuple[Profile | None, str]:
    """The recommended estimate against scale, and its name; None for too few points.

    If it refuses the points, or they are few, it is another estimator.  Rows in time are thinned
    by their number, so that the excluded rows remain a time.  shared: what estimators have left.
    """
    n, rng = len(points), np.random.default_rng(seed)
    blocks = [2**i for i in range(max(1, (n // MIN_BLOCK).bit_length()))]
    recommended = partial(learned, noisy=settings.noisy)
    tries: list[tuple[Callable[..., Any], str, list[int] | None]] = [
        (recommended, FIRST, blocks),
        (levina_bickel, "levina_bickel", None),
        (twonn, "twonn", None),
    ]
    refusal = f"dimension against scale needs {3 * BLOCKS} points, and there are {n}"
    for estimator, by, chosen in tries[n < BLOCKS * (N_NEIGHBOURS + 1) :]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were printed already
            try:
                if settings.exclude:
                    return _in_time(points, settings, blocks), FIRST
                with sharing(points, shared):
                    return scale_profile(estimator, points, chosen, rng=rng), by
            except ValueError as error:
                refusal = refusal if n < 3 * BLOCKS else str(error)
    told.say(f"no picture: {refusal}")
    return None, ""


def _in_time(points, settings, blocks):
    """The profile of every b-th row, for each b of `blocks`, without rows close in time."""
    thinned = {b: _every(points, b, settings) for b in {*blocks, BLOCKS}}
    scales, values = (np.asarray([thinned[b][:, i].mean() for b in blocks]) for i in (0, 1))
    samples = [thinned[max(b, BLOCKS)][:, 1] for b in blocks]
    errors = np.asarray([np.std(sample, ddof=1) / sample.size**0.5 for sample in samples])
    return Profile(scales, Estimate(values, errors))


def _every(points, b, settings):
    """Mean distance to the nearest neighbour, and dimension, of rows i, i + b ...  -> (b, 2)"""
    window, results = math.ceil(settings.exclude / b), []
    for start in range(b):
        near = find_neighbours(points[start::b], N_NEIGHBOURS, exclude=window)
        value = learned(near.points, noisy=settings.noisy, neighbours=near)
        results.append((float(near.distances[:, 0].mean()), float(value)))
    return np.asarray(results)
