"""A cloud in twelve numbers that know its dimension at several scales."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from sgdnoise.core._arrays import Array, namespace
from sgdnoise.dimension._angles import gram_matrices, skewness
from sgdnoise.dimension._points import Neighbours, find_neighbours

RANKS = (2, 3, 5, 10, 20, 40)  # neighbours over whose distances logarithms are averaged
PATCHES = (10, 20)  # neighbours whose angles and spectra are looked at
SPREADS = (1, 16)  # neighbours the unevenness of whose distances is looked at
MOST = RANKS[-1]


class Balls(NamedTuple):
    """Portraits (s, d, f) of uniform balls of these sizes (s,) and dimensions (d,)."""

    sizes: Any
    dimensions: Any
    portraits: Any


def features(points, *, neighbours: Neighbours | None = None) -> Float[Array, " f"]:
    """What a cloud looks like at several scales: (n, D) -> (12,).

    The log of the mean log r_k / r_j over j < k, for six k; the mean skewness of the simplices and
    the log mean participation ratio of the k nearest, for two k; the log spread over points of
    log r_k, for two k.
    """
    near = find_neighbours(points, MOST, neighbours)
    xp = namespace(near.points)
    distances = xp.log(near.distances)
    ratios = [xp.mean(distances[:, k - 1 : k] - distances[:, : k - 1]) for k in RANKS]
    patches = [value for k in PATCHES for value in _patches(xp, near.first(k))]
    spreads = [xp.std(distances[:, k - 1]) for k in SPREADS]
    return xp.stack([*map(xp.log, ratios), *patches, *map(xp.log, spreads)])


def coordinates(balls: Balls, seen: np.ndarray, n: int) -> np.ndarray:
    """Log-dimensions at which balls of n points look so, and how they differ: (12,) -> (11,).

    The first is the log-dimension at the smallest scale, and it is to this that the rest is added.
    """
    table = _of_size(balls, n)
    logs = np.log(balls.dimensions)
    count = len(RANKS) + 2 * len(PATCHES)
    r2, r3, r5, r10, r20, r40, s10, p10, s20, p20 = (
        np.clip(inverse(logs, table[:, place], seen[place]), -1.2, 6) for place in range(count)
    )
    uneven = [seen[place] - np.interp(r5, logs, table[:, place]) for place in (count, count + 1)]
    steps = [r2 - r5, r3 - r5, r10 - r5, r20 - r10, r40 - r20, s10 - r5, s20 - s10, p20 - p10]
    return np.concatenate([[r2], np.clip([*steps, uneven[0], uneven[1] - uneven[0]], -0.8, 0.8)])


def _patches(xp, near):
    """Mean skewness of simplices, and mean participation ratio, of the neighbours of each point."""
    skew, ratio = [], []
    for gram in gram_matrices(near, about_mean=True):
        skew.append(skewness(gram))
        spread = xp.sum(xp.linalg.diagonal(gram), axis=1)
        ratio.append(spread**2 / xp.sum(gram**2, axis=(1, 2)))
    return xp.mean(xp.concat(skew)), xp.log(xp.mean(xp.concat(ratio)))


def _of_size(balls, n):
    """Portraits of balls of n points, (d, f): linear in log n, and beyond the ends."""
    sizes = np.log(balls.sizes)
    right = int(np.clip(np.searchsorted(sizes, np.log(n)), 1, sizes.size - 1))
    share = (np.log(n) - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
    return (1 - share) * balls.portraits[right - 1] + share * balls.portraits[right]


def inverse(x, y, value):
    """Where a curve that rises or falls takes a value; straight beyond its ends."""
    sign = 1 if y[-1] > y[0] else -1
    y, value = sign * y, sign * value
    kept = np.concatenate([[True], np.diff(np.maximum.accumulate(y)) > 0])
    x, y = x[kept], y[kept]
    if y[0] <= value <= y[-1]:
        return float(PchipInterpolator(y, x)(value))
    end = slice(0, 2) if value < y[0] else slice(-2, None)
    slope = np.diff(x[end])[0] / np.diff(y[end])[0]
    return float(x[end][0] + slope * (value - y[end][0]))
