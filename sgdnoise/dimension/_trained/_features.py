"""Twelve features of points, and the dimensions at several scales that they imply."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from sgdnoise.core._arrays import Array, namespace
from sgdnoise.dimension._angles import centred_gram, gram_matrices, skewness
from sgdnoise.dimension._points import Neighbours, find_neighbours

RANKS = (2, 3, 5, 10, 20, 40)  # numbers of neighbours for the mean logarithms of distance ratios
PATCHES = (10, 20)  # numbers of neighbours for angles and spectra
DEVIATIONS = (1, 16)  # ranks of the neighbours for the variation of distances over the points
N_NEIGHBOURS = RANKS[-1]
MAX_LOG, MAX_STEP = 6.0, 0.8  # of log dimensions and of their differences in training


class Balls(NamedTuple):
    """Features (s, d, f) of uniform balls of these sizes (s,) and dimensions (d,)."""

    sizes: Any
    dimensions: Any
    features: Any


def features(points, *, neighbours: Neighbours | None = None) -> Float[Array, " f"]:
    """The features of points at several scales: (n, D) -> (12,).

    They are the log of the mean log r_k / r_j over j < k, for six k; the mean skewness of the
    simplices and the log mean participation ratio of the k nearest, for two k; and the log standard
    deviation over points of log r_k, for two k.
    """
    neighbours = find_neighbours(points, N_NEIGHBOURS, neighbours)
    xp = namespace(neighbours.points)
    distances = xp.log(neighbours.distances)
    ratios = [xp.mean(distances[:, k - 1 : k] - distances[:, : k - 1]) for k in RANKS]
    patches = _patches(xp, neighbours)
    deviations = [xp.std(distances[:, k - 1]) for k in DEVIATIONS]
    return xp.stack([*map(xp.log, ratios), *patches, *map(xp.log, deviations)])


def coordinates(
    balls: Balls, values: np.ndarray, n: int, dimensions: np.ndarray | None = None
) -> np.ndarray:
    """The inputs of the regressions, from the features of n points: (12,) -> (11,).

    Each feature is inverted to the log dimension of the balls of n points that have it.  The first
    coordinate is the log dimension at the smallest scale, to which the regressions add a
    correction; the others are differences between scales, which show curvature, edges and uneven
    density.  They are kept within the range of training.  dimensions: `log_dimensions`, if known.
    """
    dimensions = log_dimensions(balls, values, n) if dimensions is None else dimensions
    r2, r3, r5, r10, r20, r40, s10, p10, s20, p20 = np.clip(dimensions, -1.2, MAX_LOG)
    table, logs = _of_size(balls, n), np.log(balls.dimensions)
    places = (len(dimensions), len(dimensions) + 1)
    uneven = [values[place] - np.interp(r5, logs, table[:, place]) for place in places]
    steps = [r2 - r5, r3 - r5, r10 - r5, r20 - r10, r40 - r20, s10 - r5, s20 - s10, p20 - p10]
    rest = [*steps, uneven[0], uneven[1] - uneven[0]]
    return np.concatenate([[r2], np.clip(rest, -MAX_STEP, MAX_STEP)])


def log_dimensions(balls: Balls, values: np.ndarray, n: int) -> np.ndarray:
    """The log dimensions of the balls of n points that have each of the first 10 features."""
    table, logs = _of_size(balls, n), np.log(balls.dimensions)
    count = len(RANKS) + 2 * len(PATCHES)
    return np.asarray([inverse(logs, table[:, place], values[place]) for place in range(count)])


def _patches(xp, neighbours):
    """Mean skewness and log mean participation ratio, for each number of neighbours.

    Scalar products of the fewer neighbours are among those of the more, after another centring.
    """
    values: list[list[Any]] = [[] for _ in range(2 * len(PATCHES))]
    for gram in gram_matrices(neighbours.first(max(PATCHES)), about_mean=True):
        for place, k in enumerate(PATCHES):
            centred = gram if k == gram.shape[1] else centred_gram(gram[:, :k, :k])
            trace = xp.sum(xp.linalg.diagonal(centred), axis=1)
            values[2 * place].append(skewness(centred))
            values[2 * place + 1].append(trace**2 / xp.sum(centred**2, axis=(1, 2)))
    means = [xp.mean(xp.concat(blocks)) for blocks in values]
    return [xp.log(mean) if place % 2 else mean for place, mean in enumerate(means)]


def _of_size(balls, n):
    """Features of balls of n points, (d, f): linear in log n, also beyond the ends."""
    sizes = np.log(balls.sizes)
    right = int(np.clip(np.searchsorted(sizes, np.log(n)), 1, sizes.size - 1))
    weight = (np.log(n) - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
    return (1 - weight) * balls.features[right - 1] + weight * balls.features[right]


def inverse(x, y, value):
    """The x at which a monotone curve takes a value; linear beyond its ends."""
    sign = 1 if y[-1] > y[0] else -1
    y, value = sign * y, sign * value
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(y)) > 0])
    x, y = x[rising], y[rising]
    if y[0] <= value <= y[-1]:
        return float(PchipInterpolator(y, x)(value))
    end = slice(0, 2) if value < y[0] else slice(-2, None)
    slope = np.diff(x[end])[0] / np.diff(y[end])[0]
    return float(x[end][0] + slope * (value - y[end][0]))
