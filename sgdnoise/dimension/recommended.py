"""The dimension we would answer with: a portrait of the cloud, held against known manifolds."""

from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from sgdnoise.arrays import Array, as_numpy, device, namespace
from sgdnoise.dimension.angles import gram_matrices, skewness
from sgdnoise.dimension.cloud import Neighbours, cloud, nearest
from sgdnoise.estimate import Estimate, grouped

__all__ = [
    "Reference",
    "coordinates",
    "estimate",
    "learned",
    "matern",
    "portrait",
    "reference",
    "regression",
]

RANKS = (2, 3, 5, 10, 20, 40)  # neighbours over whose distances logarithms are averaged
PATCHES = (10, 20)  # neighbours whose angles and spectra are looked at
SPREADS = (1, 16)  # neighbours the unevenness of whose distances is looked at
GROUPS = 5
LEAST = GROUPS * (RANKS[-1] + 1)
TABLE = Path(__file__).with_name("reference.npz")


class Reference(NamedTuple):
    """What portraits look like: of balls, on a grid, and of other manifolds, at scattered places.

    sizes (s,) and dimensions (d,) of the balls, portraits (s, d, f); places (m, c) of manifolds in
    `coordinates`, lengths (c,) over which these matter, weights (m,) of the regression.
    """

    sizes: Any
    dimensions: Any
    portraits: Any
    places: Any
    lengths: Any
    weights: Any


def estimate(points, *, noisy: bool = False) -> Estimate:
    r"""Dimension of a cloud by the most accurate means we have, and its error.  (n, D) -> ()

    The value is that of `learned`, the error statistical: from its spread over groups of points.
    On the 24 manifolds of Campadelli et al. (2015), of which it has seen none, docs/dimension.md
    says how far off it is, kind by kind; that is more than the statistical error says.
    Do not trust it above d = 80, on few points of a highly curved manifold, for lattices, for
    unions of pieces of several dimensions, or where noise is as large as the distance between
    neighbours; where there is noise, noisy=True looks below it, and is less accurate without.
    Raises ValueError as `cloud` does, and for fewer than 205 distinct points.
    """
    near = nearest(cloud(points, least=LEAST), RANKS[-1])
    points = cloud(near.points, least=LEAST)
    return grouped(partial(learned, noisy=noisy), points, GROUPS, splits=6)


def learned(points, *, noisy: bool = False, neighbours: Neighbours | None = None):
    r"""Dimension of the known manifolds that look like the cloud.  (n, D) -> ()

    The cloud's `portrait`, held against those of uniform balls of as many points, gives a dimension
    at each of several scales; how these differ says what curvature, edges and uneven density have
    done, which a Gaussian-process regression has learned from simulated manifolds
    (`simulations/reference.py`), with noise of 1 to 10% of the radius if `noisy`.
    Raises ValueError for fewer than 41 points.
    """
    near = nearest(points, RANKS[-1], neighbours)
    xp, n = namespace(near.points), near.points.shape[0]
    seen = as_numpy(portrait(near.points, neighbours=near))
    found = regression(reference(noisy), seen, n)
    return xp.asarray(found, dtype=near.points.dtype, device=device(near.points))


def portrait(points, *, neighbours: Neighbours | None = None) -> Float[Array, " f"]:
    """What a cloud looks like at several scales: (n, D) -> (12,).

    The log of the mean log r_k / r_j over j < k, for six k; the mean skewness of the simplices and
    the log mean participation ratio of the k nearest, for two k; the log spread over points of
    log r_k, for two k.
    """
    near = nearest(points, RANKS[-1], neighbours)
    xp = namespace(near.points)
    distances = xp.log(near.distances)
    ratios = [xp.mean(distances[:, k - 1 : k] - distances[:, : k - 1]) for k in RANKS]
    patches = [value for k in PATCHES for value in _patches(xp, near.first(k))]
    spreads = [xp.std(distances[:, k - 1]) for k in SPREADS]
    return xp.stack([*map(xp.log, ratios), *patches, *map(xp.log, spreads)])


def coordinates(known: Reference, seen: np.ndarray, n: int) -> np.ndarray:
    """Log-dimensions at which balls of n points look so, and how they differ: (12,) -> (11,).

    The first is the log-dimension at the smallest scale, and it is to this that the rest is added.
    """
    table = _of_size(known, n)
    logs = np.log(known.dimensions)
    count = len(RANKS) + 2 * len(PATCHES)
    r2, r3, r5, r10, r20, r40, s10, p10, s20, p20 = (
        _inverted(logs, table[:, place], seen[place]) for place in range(count)
    )
    uneven = [seen[place] - np.interp(r5, logs, table[:, place]) for place in (count, count + 1)]
    steps = [r2 - r5, r3 - r5, r10 - r5, r20 - r10, r40 - r20, s10 - r5, s20 - s10, p20 - p10]
    return np.concatenate([[r2], np.clip([*steps, uneven[0], uneven[1] - uneven[0]], -0.8, 0.8)])


def regression(known: Reference, seen: np.ndarray, n: int) -> float:
    """The dimension of a cloud of n points with this portrait."""
    place = coordinates(known, seen, n)
    return float(
        np.exp(place[0] + matern(place[None], known.places, known.lengths)[0] @ known.weights)
    )


def matern(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Matern covariance of smoothness 3/2 between places (m, c) and (k, c).  -> (m, k)"""
    apart = np.sqrt(3 * np.sum(((a[:, None, :] - b[None, :, :]) / lengths) ** 2, axis=2))
    return (1 + apart) * np.exp(-apart)


@cache
def reference(noisy: bool = False) -> Reference:
    """What `simulations/reference.py` found, as it is shipped."""
    kind = "noisy" if noisy else "clean"
    with np.load(TABLE) as kept:
        balls = (kept[name] for name in ("sizes", "dimensions", "portraits"))
        return Reference(
            *balls, *(kept[f"{kind}_{name}"] for name in ("places", "lengths", "weights"))
        )


def _patches(xp, near):
    """Mean skewness of simplices, and mean participation ratio, of the neighbours of each point."""
    skew, ratio = [], []
    for gram in gram_matrices(near, about_mean=True):
        skew.append(skewness(gram))
        spread = xp.sum(xp.linalg.diagonal(gram), axis=1)
        ratio.append(spread**2 / xp.sum(gram**2, axis=(1, 2)))
    return xp.mean(xp.concat(skew)), xp.log(xp.mean(xp.concat(ratio)))


def _of_size(known, n):
    """Portraits of balls of n points, (d, f): linear in log n, and beyond the ends."""
    sizes = np.log(known.sizes)
    right = int(np.clip(np.searchsorted(sizes, np.log(n)), 1, sizes.size - 1))
    share = (np.log(n) - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
    return (1 - share) * known.portraits[right - 1] + share * known.portraits[right]


def _inverted(x, y, value):
    """Where a curve that rises or falls takes a value; straight beyond its ends."""
    sign = 1 if y[-1] > y[0] else -1
    y, value = sign * y, sign * value
    kept = np.concatenate([[True], np.diff(np.maximum.accumulate(y)) > 0])
    x, y = x[kept], y[kept]
    if y[0] <= value <= y[-1]:
        return float(PchipInterpolator(y, x)(value))
    end = slice(0, 2) if value < y[0] else slice(-2, None)
    slope = np.diff(x[end])[0] / np.diff(y[end])[0]
    return float(np.clip(x[end][0] + slope * (value - y[end][0]), -1.2, 6))
