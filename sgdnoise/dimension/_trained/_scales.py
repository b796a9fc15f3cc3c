"""Whether points have one dimension at all scales between their neighbours and their thinned set.

The regressions were trained where log dimensions of neighbouring scales differ by less than 0.8.
Beyond that, and where thinned points have less than half of the dimension, there is no single
number: noise has its own dimension below its size, and so has a path in time.
"""

import math
from typing import NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy
from sgdnoise.dimension._subsets import neighbours_in_sets
from sgdnoise.dimension._trained._features import MAX_STEP, N_NEIGHBOURS, RANKS

THINNED = {4: 1, 16: 3}  # factors by which points are thinned, and numbers of subsets
MIN_SIZE = 100  # points of a thinned set
MAX_RATIO = 2.0  # of the dimension of all points to that of thinned ones
BENEATH = (0.7, 0.9)  # the dimension beneath noise over that of the most thinned points


class NoSingleDimension(ValueError):
    """An error that the dimension depends on scale.  profile: pairs of scale and dimension.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import estimate
        >>> rng = np.random.default_rng(0)
        >>> angles = rng.uniform(0, 2 * np.pi, 2000)
        >>> points = 0.003 * rng.normal(size=(2000, 20))  # noise of 20 dimensions
        >>> points[:, :2] += np.stack([np.cos(angles), np.sin(angles)], axis=1)  # about a circle
        >>> try:
        ...     estimate(points)
        ... except NoSingleDimension as error:
        ...     dimensions = [dimension for _, dimension in error.profile]
        ...     print(round(min(dimensions)), round(max(dimensions)))
        2 12
    """

    def __init__(self, message: str, profile: list[tuple[float, float]]) -> None:
        super().__init__(message)
        self.profile = profile


class Scale(NamedTuple):
    """A dimension, the median distance between neighbours, and whether training had its like."""

    size: float
    dimension: float
    trained: bool


def of_ranks(distances, log_dimensions) -> list[Scale]:
    """The scales of a single set of points: those of ranks 2, 3, 5, 10, 20 and 40."""
    logs = log_dimensions[: len(RANKS)]
    sizes = [float(np.median(as_numpy(distances[:, rank - 1]))) for rank in RANKS]
    trained = within_training(log_dimensions)
    return [Scale(s, math.exp(d), trained) for s, d in zip(sizes, logs, strict=True)]


def within_training(log_dimensions) -> bool:
    """Whether the smallest scales differ as little as in training.

    Larger ranks reach beyond the pieces of points that are in pieces.
    """
    r2, r3, r5, r10 = log_dimensions[:4]
    steps = np.asarray([r2 - r5, r3 - r5, r10 - r5])
    return bool(np.all(np.abs(steps) < MAX_STEP))


def of_thinned(points, look, shared) -> list[Scale]:
    """The scales of random subsets, the mean over subsets of equal size.

    look: a function from neighbours to a `Scale`.  shared: what `share` has left.
    """
    n = points.shape[0]
    scales = []
    for factor, count in THINNED.items():
        size = n // factor
        if size < max(MIN_SIZE, N_NEIGHBOURS + 1):
            break
        sets = np.stack([_subset(n, factor, number, size) for number in range(count)])
        found = [
            look(near) for near in neighbours_in_sets(points, sets, factor, N_NEIGHBOURS, shared)
        ]
        logs = np.log([(scale.size, scale.dimension) for scale in found])
        scale, dimension = np.exp(logs.mean(axis=0)).tolist()
        scales.append(Scale(scale, dimension, all(scale.trained for scale in found)))
    return scales


def disagreement(ranks: list[Scale], thinned: list[Scale], value: float) -> tuple | None:
    """The finest and the most different scale, if the dimension depends on scale, or None."""
    if not ranks[0].trained:
        finest = ranks[0]
        coarse = max(
            ranks[1:], key=lambda scale: abs(math.log(scale.dimension / ranks[0].dimension))
        )
        return finest, coarse
    lower = [scale for scale in thinned if scale.trained and value > MAX_RATIO * scale.dimension]
    if not lower:
        return None
    return Scale(ranks[0].size, value, True), lower[-1]


def is_beneath(thinned: list[Scale], value: float) -> bool:
    """Whether a value is the dimension beneath noise that the most thinned points nearly show.

    They still see a little of the noise, so that the value is somewhat lower than theirs; if it is
    not, noise dominates them too.
    """
    if not thinned or not thinned[-1].trained:
        return False
    low, high = BENEATH
    return low < value / thinned[-1].dimension < high


def sentence(finest: Scale, coarse: Scale) -> str:
    """What disagrees, for a message."""
    noise = " (noise?)" if finest.dimension > coarse.dimension else ""
    return (
        f"{finest.dimension:.3g} at scale {finest.size:.3g}{noise}, {coarse.dimension:.3g} at "
        f"{coarse.size:.3g}"
    )


def _subset(n, factor, number, size) -> np.ndarray:
    return np.sort(np.random.default_rng([factor, number]).choice(n, size, replace=False))
