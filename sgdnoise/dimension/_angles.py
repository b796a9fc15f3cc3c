"""Dimension from the angles between the points of a neighbourhood."""

import math

from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import gammaln

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, device, namespace
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._bounds import check_above
from sgdnoise.dimension._points import Neighbours, find_neighbours

BLOCK = 1 << 16  # numbers in a block of neighbourhoods, which fit in a processor's cache


@checked
@any_scale
def ess(points, k: int = 20, *, neighbours: Neighbours | None = None, exclude: int | str = 0):
    r"""The expected simplex skewness of Johnsson, Soneson & Fontes (2015).  (n, D) -> ()

    With x_i the k nearest of a point, relative to their mean, s = sum |x_i ^ x_j| / sum |x_i| |x_j|
    over all pairs is E|sin| of the angle between random directions of R^d if the neighbourhood is
    flat.  s, about 1 - 1/(2d), is averaged over the points and then inverted for real d, since a
    mean over local dimensions is too large.  Curvature makes the dimension too large, more so at
    large k.  Raises ValueError for k < 3 or fewer than k + 1 points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(ess(points)), 1)
        2.0
    """
    if k < 3:
        raise ValueError(f"skewness needs k of 3 or more neighbours, not {k}")
    neighbours = find_neighbours(points, k, neighbours, exclude=exclude)
    xp = namespace(neighbours.points)
    values = [skewness(gram) for gram in gram_matrices(neighbours, about_mean=True)]
    mean = xp.mean(xp.concat(values))
    d = xp.asarray(_dimension_of(float(as_numpy(mean))), dtype=mean.dtype, device=device(mean))
    return check_above(d, neighbours)


@checked
@any_scale
def abid(points, k: int = 20, *, neighbours: Neighbours | None = None, exclude: int | str = 0):
    r"""The angle-based dimension of Thordsen & Schubert (2022).  (n, D) -> ()

    1 / mean cos^2 of the angle at a point between two different ones of its k nearest, over all
    points: E cos^2 = 1/d for uniform directions.  Pairs of a neighbour with itself are omitted, so
    that 1/d is unbiased and d is not bounded by k; at an edge directions lie to one side,
    which makes d too small, especially in high dimension.
    Raises ValueError for k < 2 or fewer than k + 1 points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(abid(points)), 1)
        2.0
    """
    if k < 2:
        raise ValueError(f"an angle needs k of 2 or more neighbours, not {k}")
    neighbours = find_neighbours(points, k, neighbours, exclude=exclude)
    xp = namespace(neighbours.points)
    values = [_squared_cosine(gram) for gram in gram_matrices(neighbours)]
    return check_above(1 / xp.mean(xp.concat(values)), neighbours)


def gram_matrices(neighbours: Neighbours, *, about_mean: bool = False):
    """Scalar products x_i . x_j of the neighbours of each point, in blocks of points.  (m, k, k)

    x_i is the position of a neighbour relative to the point, or to the mean of its neighbours.
    """
    xp, (n, k) = namespace(neighbours.points), neighbours.index.shape
    rows = max(1, BLOCK // k**2)
    size = max(1, BLOCK // (k * neighbours.points.shape[1]))
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        products = neighbours.products if about_mean else None
        known = products and products.of(neighbours.index[start:stop, :])
        if known is not None:
            yield known
            continue
        blocks = [slice(i, min(i + size, stop)) for i in range(start, stop, size)]
        yield xp.concat([_products(xp, neighbours, block, about_mean) for block in blocks])


def _products(xp, neighbours, block, about_mean):
    """The matrices of `gram_matrices` for a block of points."""
    points, index = neighbours.points, neighbours.index[block, :]
    others = xp.reshape(xp.take(points, xp.reshape(index, (-1,)), axis=0), (*index.shape, -1))
    if not about_mean:
        offsets = others - points[block, None, :]
        return offsets @ xp.matrix_transpose(offsets)
    # About the nearest one first, which is among them: the point may be far from all of them.
    offsets = others - others[:, :1, :]
    return centred_gram(offsets @ xp.matrix_transpose(offsets))


def centred_gram(gram: Float[Array, "m k k"]) -> Float[Array, "m k k"]:
    """Scalar products of vectors less their mean, from those of the vectors."""
    xp = namespace(gram)
    rows = xp.mean(gram, axis=2, keepdims=True)
    return gram - rows - xp.matrix_transpose(rows) + xp.mean(rows, axis=1, keepdims=True)


def cosines(gram: Float[Array, "m k k"]) -> Float[Array, "m k k"]:
    """Cosines of the angles between all pairs, clipped to [-1, 1]."""
    xp = namespace(gram)
    length = _lengths(gram)
    return xp.clip(gram / (length[:, :, None] * length[:, None, :]), -1.0, 1.0)


def _lengths(gram):
    xp = namespace(gram)
    return xp.sqrt(xp.clip(xp.linalg.diagonal(gram), 0.0))  # rounding may be negative


def skewness(gram):
    """The sum of |x_i ^ x_j| over that of |x_i| |x_j|, over the pairs of each neighbourhood."""
    xp = namespace(gram)
    length = _lengths(gram)
    products = length[:, :, None] * length[:, None, :]
    areas = xp.sqrt(xp.clip((products - gram) * (products + gram), 0.0))
    total = xp.sum(length, axis=1) ** 2 - xp.sum(length**2, axis=1)
    return (xp.sum(areas, axis=(1, 2)) - xp.sum(xp.linalg.diagonal(areas), axis=1)) / total


def _squared_cosine(gram):
    """Mean cos^2 over the pairs of each neighbourhood."""
    xp, k = namespace(gram), gram.shape[1]
    return (xp.sum(cosines(gram) ** 2, axis=(1, 2)) - k) / (k * (k - 1))


def _mean_sine(d):
    """E|sin| of the angle between random directions of R^d, for real d > 1."""
    return math.exp(2 * gammaln(d / 2) - gammaln((d - 1) / 2) - gammaln((d + 1) / 2))


def _dimension_of(skewness):
    """The real d at which E|sin| takes this value."""
    if not skewness > 0:
        return 1.0
    return brentq(lambda d: _mean_sine(d) - skewness, 1 + 1e-12, 2 / (1 - skewness), rtol=1e-14)
