"""Dimension from the angles between the points of a neighbourhood, whatever their distances."""

import math

from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import gammaln

from sgdnoise.core._arrays import Array, as_numpy, device, namespace
from sgdnoise.dimension._points import Neighbours, find_neighbours

BLOCK = 1 << 16  # numbers in a block of neighbourhoods, few enough for a processor's cache


def ess(points, k: int = 20, *, neighbours: Neighbours | None = None):
    r"""Expected simplex skewness of Johnsson, Soneson & Fontes (2015).  (n, D) -> ()

    With x_i the k nearest of a point, seen from their mean, s = sum |x_i ^ x_j| / sum |x_i| |x_j|
    over all pairs is E|sin| of the angle between random directions of R^d where a neighbourhood is
    flat.  s is averaged over the points and then inverted, in real d: about 1 - 1/(2d), it makes a
    mean over local dimensions too large.  Curvature makes the dimension too large, more so at
    large k.  Raises ValueError for k < 3 or fewer than k + 1 points.
    """
    if k < 3:
        raise ValueError(f"skewness needs k of 3 or more neighbours, not {k}")
    near = find_neighbours(points, k, neighbours)
    xp = namespace(near.points)
    parts = [skewness(gram) for gram in gram_matrices(near, about_mean=True)]
    mean = xp.mean(xp.concat(parts))
    return xp.asarray(_dimension_of(float(as_numpy(mean))), dtype=mean.dtype, device=device(mean))


def abid(points, k: int = 20, *, neighbours: Neighbours | None = None):
    r"""Angle-based dimension of Thordsen & Schubert (2022).  (n, D) -> ()

    1 / mean cos^2 of the angle at a point between two different ones of its k nearest, over all
    points: E cos^2 = 1/d where directions are uniform.  Pairs of a neighbour with itself are left
    out, so that 1/d is unbiased and d is not held below k; at an edge directions lie to one side,
    which makes d too small, and much so in high dimension.
    Raises ValueError for k < 2 or fewer than k + 1 points.
    """
    if k < 2:
        raise ValueError(f"an angle needs k of 2 or more neighbours, not {k}")
    near = find_neighbours(points, k, neighbours)
    xp = namespace(near.points)
    parts = [_squared_cosine(gram) for gram in gram_matrices(near)]
    return 1 / xp.mean(xp.concat(parts))


def gram_matrices(near: Neighbours, *, about_mean: bool = False):
    """Scalar products x_i . x_j of the neighbours of each point, some points at a time.  (m, k, k)

    x_i leads to the neighbour from the point itself, or from the mean of its neighbours.
    """
    xp, (n, k) = namespace(near.points), near.index.shape
    rows = max(1, BLOCK // k**2)
    few = max(1, BLOCK // (k * near.points.shape[1]))
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        blocks = [slice(i, min(i + few, stop)) for i in range(start, stop, few)]
        yield xp.concat([_products(xp, near, block, about_mean) for block in blocks])


def _products(xp, near, block, about_mean):
    """Those of `gram_matrices` of some points, all at once."""
    index = near.index[block, :]
    there = xp.reshape(xp.take(near.points, xp.reshape(index, (-1,)), axis=0), (*index.shape, -1))
    there = there - near.points[block, None, :]
    if about_mean:
        there = there - xp.mean(there, axis=1, keepdims=True)
    return there @ xp.matrix_transpose(there)


def cosines(gram: Float[Array, "m k k"]) -> Float[Array, "m k k"]:
    """Cosine of the angle between each two, at most 1 in size."""
    xp = namespace(gram)
    length = _lengths(gram)
    return xp.clip(gram / (length[:, :, None] * length[:, None, :]), -1.0, 1.0)


def _lengths(gram):
    xp = namespace(gram)
    return xp.sqrt(xp.linalg.diagonal(gram))


def skewness(gram):
    """Sum of |x_i ^ x_j| over that of |x_i| |x_j|, both over the pairs of each neighbourhood."""
    xp = namespace(gram)
    length = _lengths(gram)
    full = length[:, :, None] * length[:, None, :]
    volume = xp.sqrt(xp.clip((full - gram) * (full + gram), 0.0))
    everything = xp.sum(length, axis=1) ** 2 - xp.sum(length**2, axis=1)
    return (xp.sum(volume, axis=(1, 2)) - xp.sum(xp.linalg.diagonal(volume), axis=1)) / everything


def _squared_cosine(gram):
    """Mean cos^2 over the pairs of each neighbourhood."""
    xp, k = namespace(gram), gram.shape[1]
    return (xp.sum(cosines(gram) ** 2, axis=(1, 2)) - k) / (k * (k - 1))


def _mean_sine(d):
    """E|sin| of the angle between random directions of R^d, for real d > 1."""
    return math.exp(2 * gammaln(d / 2) - gammaln((d - 1) / 2) - gammaln((d + 1) / 2))


def _dimension_of(skewness):
    """The real d at which E|sin| is this."""
    if not skewness > 0:
        return 1.0
    return brentq(lambda d: _mean_sine(d) - skewness, 1 + 1e-12, 2 / (1 - skewness), rtol=1e-14)
