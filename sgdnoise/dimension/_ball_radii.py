"""Dimension from the distribution of distances within a ball."""

import math
import warnings

import numpy as np
from scipy.special import betaincinv

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._bounds import check_above
from sgdnoise.dimension._points import Neighbours, find_neighbours
from sgdnoise.dimension._warnings import Outliers

LEVEL = 1e-9  # probability of local values that are left out of a mean
BLOCK = 1 << 18  # numbers in a block of neighbourhoods, which fit in a processor's cache


@checked
@any_scale
def mom(points, k: int = 20, *, neighbours: Neighbours | None = None, exclude: int | str = 0):
    r"""The method of moments of Amsaleg et al. (2018).  (n, D) -> ()

    If the density is constant over k neighbours, the mean of r_j / r_k over the k - 1 nearer
    ones is d / (d + 1).  One minus that mean, unbiased for 1 / (d + 1), is averaged over the points
    before it is solved for d, since a mean of local dimensions is too large by the fraction
    1 / (k - 1) of d + 1.  Raises ValueError for k < 2 or fewer than k + 1
    points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(mom(points)), 1)
        2.0
    """
    neighbours = _find(points, k, neighbours, exclude)
    gap = _mean_gap(neighbours.distances)
    return check_above(1 / namespace(gap).mean(gap) - 1, neighbours)


@checked
@any_scale
def mada(
    points,
    k: int = 20,
    *,
    vote: bool = False,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    """The manifold-adaptive dimension of Farahmand et al. (2007).  (n, D) -> ()

    It is the mean over the points of log 2 / log(r_k / r_j), j = k / 2 rounded up, or with `vote`
    the most frequent of the rounded values, the lowest of several.  If the density is constant over
    k neighbours, the mean is too large by E[log 2 / log(1 / b)] - 1, b of law Beta(j, k - j): 8% at
    k = 20.  Points far from all others have k neighbours at nearly one distance: values that the
    law at the median dimension exceeds with probability 1e-9 are left out of the mean, with the
    warning `Outliers`.
    Raises ValueError for k < 4, for which that expectation is infinite, fewer than k + 1 points,
    or if more than half of the points have both neighbours at one distance.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(2000, 2))
        >>> round(float(mada(points)), 2)  # 8% too large
        2.17
        >>> float(mada(points, vote=True))
        2.0
    """
    neighbours = _find(points, k, neighbours, exclude, min_k=4)
    distances = neighbours.distances
    xp, half = namespace(distances), (distances.shape[1] + 1) // 2
    inverse = xp.log(distances[:, -1] / distances[:, half - 1]) / math.log(2)
    if vote:
        values, counts = xp.unique_counts(xp.round(1 / inverse))
        return values[int(xp.argmax(counts))]
    return check_above(_mean_plausible(xp, inverse, half, k), neighbours)


def _mean_plausible(xp, inverse, half, k):
    """The mean of local dimensions, given as inverses, without those beyond their law."""
    try:
        median = float(np.median(as_numpy(inverse)))
    except TypeError:  # jax, tracing
        return xp.mean(1 / inverse)
    if not median > 0:
        raise ValueError(
            f"neighbours {half} and {k} of half of {inverse.shape[0]} points are equally distant, "
            "as on a lattice, and determine no dimension"
        )
    smallest = median * math.log(betaincinv(half, k - half, 1 - LEVEL))
    smallest = smallest / math.log(betaincinv(half, k - half, 0.5))
    plausible = inverse > smallest
    left_out = inverse.shape[0] - int(xp.count_nonzero(plausible))
    if left_out:
        warnings.warn(
            f"{left_out} of {inverse.shape[0]} points have {k} neighbours at nearly one distance, "
            "as outliers have, and were left out of the mean",
            Outliers,
            stacklevel=4,
        )
        inverse = inverse[plausible]
    return xp.mean(1 / inverse)


@checked
@any_scale
def tle(points, k: int = 20, *, neighbours: Neighbours | None = None, exclude: int | str = 0):
    """The tight local estimator of Amsaleg et al. (2019).  (n, D) -> ()

    It is that of Levina & Bickel from all pairs: the ball about a point, shrunk by s towards
    neighbour i or its mirror image until neighbour j lies on its boundary, keeps s^d of its volume,
    so that a mean of -log s is unbiased for 1 / d if the density is constant over k neighbours.  It
    is averaged over the points, as in `levina_bickel`.  The k-th neighbour lies on every boundary
    and is not counted as j; the published sum counts it, so that its d is k / (k - 1) times this
    one.  Mirror images are off a curved manifold, so that d is too large by order r, not r^2 (5%
    for 500 points of a flat torus of dimension 2, k = 10).
    Raises ValueError for k < 2 or fewer than k + 1 points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(tle(points)), 1)
        2.0
    """
    neighbours = _find(points, k, neighbours, exclude)
    inverse = _inverse_tle(neighbours)
    return check_above(1 / namespace(inverse).mean(inverse), neighbours)


def _find(points, k, neighbours, exclude, min_k=2):
    if k < min_k:
        raise ValueError(f"radii are compared among k of {min_k} or more neighbours, not {k}")
    return find_neighbours(points, k, neighbours, exclude=exclude)


def _mean_gap(distances):
    """The mean relative difference of the nearer neighbours' distances to the farthest, (n,)."""
    return 1 - namespace(distances).mean(distances[:, :-1] / distances[:, -1:], axis=1)


def _inverse_tle(neighbours):
    """Mean of -log s over all pairs of each point, in blocks of points, (n,)."""
    points, distances, neighbour_index = neighbours
    xp, (n, k) = namespace(distances), distances.shape
    rows = max(1, BLOCK // (k * (points.shape[1] + 8 * k)))
    inverses = []
    for start in range(0, n, rows):
        block = slice(start, min(start + rows, n))
        index = xp.reshape(neighbour_index[block, :], (-1,))
        others = xp.reshape(xp.take(points, index, axis=0), (-1, k, points.shape[1]))
        radius = distances[block, -1:]
        scaled = (others - points[block, None, :]) / radius[:, :, None]
        inverses.append(_inverse_of_balls(xp, scaled, distances[block, :] / radius))
    return xp.concat(inverses)


def _inverse_of_balls(xp, offsets, u):
    """The same for neighbours (m, k, D) about the origin, at distances u (m, k), the last of 1.

    It omits pairs that coincide, or are mirror images, within rounding.
    """
    k = u.shape[1]
    gram = offsets @ xp.matrix_transpose(offsets)
    square_i, square_j = u[:, :, None] ** 2, u[:, None, :] ** 2
    total, gap, margin = square_i + square_j, square_i - square_j, 1 - square_i
    direct, mirrored = (_shrinkage(xp, total + sign * gram, gap, margin) for sign in (-2, 2))
    smallest = 8 * xp.finfo(u.dtype).eps ** 0.5
    rank = xp.arange(k, device=device(u))
    used = (rank[:, None] != rank[None, :]) & (rank[None, :] < k - 1)
    used = used & (direct > smallest) & (mirrored > smallest)
    logarithms = xp.log(xp.where(used, direct * mirrored, 1.0))
    log_sum = xp.sum(logarithms, axis=(1, 2)) + 2 * xp.sum(xp.log(u), axis=1)
    return -log_sum / (2 * (xp.sum(xp.astype(used, u.dtype), axis=(1, 2)) + k - 1))


def _shrinkage(xp, squared, gap, margin):
    """The s by which the unit ball shrinks towards i until j, at `squared` from it, is on its edge.

    It is the positive root of margin s^2 + b s = squared, with margin = 1 - u_i^2,
    b = squared + gap and gap = u_i^2 - u_j^2, in whichever form does not cancel.
    """
    squared = xp.clip(squared, 0.0)
    b = squared + gap
    root = b**2 + 4 * margin * squared
    root = xp.where(root == 0, root, xp.sqrt(xp.where(root == 0, 1.0, root)))  # no gradient at 0
    far = xp.abs(b) + root
    stable = (b > 0) | (margin <= 0)
    below = xp.where(stable, far, 2 * margin)
    return xp.where(stable, 2 * squared, far) / xp.where(below > 0, below, 1.0)
