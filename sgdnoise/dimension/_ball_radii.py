"""Dimension from how the distances within a ball fill its radius."""

import math

from jaxtyping import Float

from sgdnoise.core._arrays import Array, device, namespace
from sgdnoise.dimension._points import Neighbours, find_neighbours

BLOCK = 1 << 18  # numbers in a block of neighbourhoods, few enough for a processor's cache


def mom(points, k: int = 20, *, neighbours: Neighbours | None = None):
    r"""Method of moments of Amsaleg et al. (2018).  (n, D) -> ()

    Where the density hardly varies over k neighbours, the mean of r_j / r_k over the k - 1 nearer
    ones is d / (d + 1).  One less that mean, unbiased for 1 / (d + 1), is averaged over the points
    before it is solved for d, since a mean of local dimensions is too large by about
    1 / (k - 1) of d + 1 wherever k is small.  Raises ValueError for k < 2 or fewer than k + 1
    points.
    """
    gap = _gap(_nearest(points, k, neighbours).distances)
    return 1 / namespace(gap).mean(gap) - 1


def mada(points, k: int = 20, *, vote: bool = False, neighbours: Neighbours | None = None):
    """Manifold-adaptive dimension of Farahmand et al. (2007).  (n, D) -> ()

    The mean over the points of log 2 / log(r_k / r_j), j = k / 2 rounded up, or the commonest of
    these rounded where they `vote`, lowest first.  Where the density hardly varies over k
    neighbours, a mean is too large by E[log 2 / log(1 / b)] - 1, b of law Beta(j, k - j): 8% at
    k = 20.  Local values are not cut off at D.  Raises ValueError for k < 4, below which that
    expectation has no end, or fewer than k + 1 points.
    """
    local = local_mada(_nearest(points, k, neighbours, least=4).distances)
    xp = namespace(local)
    if not vote:
        return xp.mean(local)
    values, counts = xp.unique_counts(xp.round(local))
    return values[int(xp.argmax(counts))]


def tle(points, k: int = 20, *, neighbours: Neighbours | None = None):
    """Tight local estimator of Amsaleg et al. (2019).  (n, D) -> ()

    Levina & Bickel's from all pairs: the ball about a point, shrunk by s towards neighbour i or its
    mirror image until neighbour j lies on its boundary, keeps s^d of its volume, so that a mean
    of -log s is unbiased for 1 / d where the density is constant over k neighbours.  It is averaged
    over the points, as in `levina_bickel`.  The k-th neighbour lies on every boundary and is not
    counted as j; the published sum counts it, so that its d is k / (k - 1) times this one.
    Mirror images leave a curved manifold, and d comes out larger by order r, not r^2 (5% for 500
    points of a flat torus of dimension 2, k = 10).
    Raises ValueError for k < 2 or fewer than k + 1 points.
    """
    inverse = _inverse_tle(_nearest(points, k, neighbours))
    return 1 / namespace(inverse).mean(inverse)


def local_mom(distances: Float[Array, "n k"]) -> Float[Array, " n"]:
    """Dimension at each point by moments of its ascending distances: see `mom`."""
    return 1 / _gap(distances) - 1


def local_mada(distances: Float[Array, "n k"]) -> Float[Array, " n"]:
    """Dimension at each point by the radius that halves its neighbours: see `mada`."""
    half = (distances.shape[1] + 1) // 2
    return math.log(2) / namespace(distances).log(distances[:, -1] / distances[:, half - 1])


def local_tle(near: Neighbours) -> Float[Array, " n"]:
    """Dimension at each point by all pairs of its neighbours: see `tle`."""
    return 1 / _inverse_tle(near)


def _nearest(points, k, neighbours, least=2):
    if k < least:
        raise ValueError(f"radii are compared among k of {least} or more neighbours, not {k}")
    return find_neighbours(points, k, neighbours)


def _gap(distances):
    """By how much the nearer neighbours fall short of the farthest, on average, (n,)."""
    return 1 - namespace(distances).mean(distances[:, :-1] / distances[:, -1:], axis=1)


def _inverse_tle(near):
    """Mean of -log of all measurements of each point, blocks of points at a time, (n,)."""
    xp = namespace(near.distances)
    n, k = near.distances.shape
    rows = max(1, BLOCK // (k * (near.points.shape[1] + 8 * k)))
    found = []
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        index = xp.reshape(near.index[part, :], (-1,))
        others = xp.reshape(xp.take(near.points, index, axis=0), (-1, k, near.points.shape[1]))
        radius = near.distances[part, -1:]
        scaled = (others - near.points[part, None, :]) / radius[:, :, None]
        found.append(_inverse_of_balls(xp, scaled, near.distances[part, :] / radius))
    return xp.concat(found)


def _inverse_of_balls(xp, offsets, u):
    """The same for neighbours (m, k, D) about the origin, at distances u (m, k), the last of 1.

    A pair that rounding cannot tell from coinciding, or from mirror images, is left out.
    """
    k = u.shape[1]
    gram = offsets @ xp.matrix_transpose(offsets)
    own, other = u[:, :, None] ** 2, u[:, None, :] ** 2
    squares, gap, rest = own + other, own - other, 1 - own
    direct, mirrored = (_shrunk(xp, squares + sign * gram, gap, rest) for sign in (-2, 2))
    least = 8 * xp.finfo(u.dtype).eps ** 0.5
    rank = xp.arange(k, device=device(u))
    used = (rank[:, None] != rank[None, :]) & (rank[None, :] < k - 1)
    used = used & (direct > least) & (mirrored > least)
    logarithms = xp.log(xp.where(used, direct * mirrored, 1.0))
    total = xp.sum(logarithms, axis=(1, 2)) + 2 * xp.sum(xp.log(u), axis=1)
    return -total / (2 * (xp.sum(xp.astype(used, u.dtype), axis=(1, 2)) + k - 1))


def _shrunk(xp, squared, gap, rest):
    """By how much the unit ball shrinks towards i until j, at `squared` from it, is on its edge.

    rest s^2 + b s = squared, rest = 1 - u_i^2, b = squared + gap, gap = u_i^2 - u_j^2: the positive
    root, in whichever form does not cancel.
    """
    squared = xp.clip(squared, 0.0)
    b = squared + gap
    root = b**2 + 4 * rest * squared
    root = xp.where(root == 0, root, xp.sqrt(xp.where(root == 0, 1.0, root)))  # no slope at 0
    far = xp.abs(b) + root
    stable = (b > 0) | (rest <= 0)
    below = xp.where(stable, far, 2 * rest)
    return xp.where(stable, 2 * squared, far) / xp.where(below > 0, below, 1.0)
