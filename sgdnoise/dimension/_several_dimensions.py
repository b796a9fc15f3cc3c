"""Whether the points are of two kinds, whose dimensions differ."""

import numpy as np

from sgdnoise.core._arrays import as_numpy
from sgdnoise.dimension._assumptions import MIN_POINTS
from sgdnoise.dimension._warnings import SeveralDimensions

K = 20  # neighbours for the dimension at each point
ROUNDS = 2  # of means over neighbours, which are mostly of the same kind
LEAST = 0.15  # fraction of the points in the smaller part; a tail of heavy laws is smaller
EXPLAINED = 0.92  # of the variance of log dimensions, by two values; 0.64 if it is normal
WIDE, PIECES = 10, 0.05  # points with a gap of so many others, and their fraction in pieces
RATIO = 1.35  # of the two dimensions, below which one number is not far from either


def several_dimensions(distances, index) -> SeveralDimensions | None:
    """A warning if the dimensions at the points are around two values, with few between them.

    distances, index (n, k): of 20 neighbours or more.  The inverse dimension at a point is
    sum log(r_20 / r_j) / 19, and its mean over the point and its 20 neighbours is taken twice.  The
    logarithms are divided in two where the variance between parts is largest (Otsu, 1979).
    It says nothing of clusters of about 20 points or fewer, beyond which neighbours reach.
    """
    n, known = distances.shape
    if n < MIN_POINTS or known < K:
        return None
    logarithms = np.log(as_numpy(distances[:, :K]).astype(np.float64))
    index = as_numpy(index[:, :K])
    gaps = np.diff(logarithms, axis=1) * np.arange(1, K)  # exponentials of mean 1 / d
    inverse, widest = np.mean(gaps, axis=1), np.max(gaps, axis=1)
    if np.mean((K - 2) * widest > WIDE * ((K - 1) * inverse - widest)) > PIECES:
        return None
    for _ in range(ROUNDS):
        inverse = (inverse + np.sum(inverse[index], axis=1)) / (K + 1)
    if not inverse.min() > 0:  # ties, which have their own warning
        return None
    fraction, low, high, explained = _divided(-np.log(inverse))
    if not explained > EXPLAINED or high / low < RATIO:
        return None
    return SeveralDimensions(
        f"{fraction:.0%} of {n} points have a dimension of about {low:.2g} around them, and the "
        f"others of {high:.2g}: no single number describes them; divide the points, or look at "
        "local_levina_bickel"
    )


def _divided(logs):
    """The fraction of the lower part, both dimensions, and the fraction of variance explained."""
    ordered, n = np.sort(logs), len(logs)
    count = np.arange(int(np.ceil(LEAST * n)), int((1 - LEAST) * n) + 1)
    total = np.cumsum(ordered)
    low, high = total[count - 1] / count, (total[-1] - total[count - 1]) / (n - count)
    fraction = count / n
    between = fraction * (1 - fraction) * (high - low) ** 2
    best = int(np.argmax(between))
    variance = max(float(np.var(logs)), np.finfo(float).tiny)
    means = np.exp([low[best], high[best]])
    return float(fraction[best]), *map(float, means), float(between[best] / variance)
