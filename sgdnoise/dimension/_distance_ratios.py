"""Dimension from ratios of the distances to a few nearest neighbours."""

import math

from jaxtyping import Float
from scipy.special import exp1

from sgdnoise.core._arrays import Array, as_numpy, concrete, device, namespace
from sgdnoise.dimension._points import Neighbours, find_neighbours

EULER = 0.5772156649015329


def twonn(points, *, fit: str = "likelihood", neighbours: Neighbours | None = None):
    r"""Two-nearest-neighbour dimension of Facco et al. (2017).  (n, D) -> ()

    Where the density hardly varies over a neighbourhood, mu = r2 / r1 is Pareto(d).  fit:
    "likelihood" is the unbiased maximum-likelihood exponent, "regression" the slope through the
    origin of -log(1 - F) against log mu over the lowest nine tenths, which a few outliers move
    less.  Raises ValueError for fewer than 3 points, another fit, or where all ratios are 1.
    """
    near = find_neighbours(points, 2, neighbours).distances
    _check_apart(near, 1, 2)
    ratios = near[:, 1] / near[:, 0]
    match fit:
        case "likelihood":
            return pareto_exponent(ratios)
        case "regression":
            return _slope(ratios)
    raise ValueError(f"twonn fits by likelihood or regression, not {fit!r}")


def levina_bickel(points, k: int = 10, *, neighbours: Neighbours | None = None):
    """Maximum-likelihood dimension of Levina & Bickel (2004).  (n, D) -> ()

    Inverses are averaged, as MacKay & Ghahramani (2005) ask: each is unbiased for 1 / d where
    density and curvature do not vary over k neighbours, so that the dimension itself is too large
    by 1 / (n (k - 1)) of it and no more.  Raises ValueError for k < 2, for fewer than k + 1 points,
    or where all k neighbours of each are equally far.
    """
    if k < 2:
        raise ValueError(f"a ratio of distances needs k of 2 or more neighbours, not {k}")
    near = find_neighbours(points, k, neighbours).distances
    _check_apart(near, 1, k)
    xp = namespace(near)
    return 1 / xp.mean(xp.log(near[:, -1:] / near[:, :-1]))


def l2n2(points, *, neighbours: Neighbours | None = None):
    """Dimension from the mean log-log ratio of two neighbours.  (n, D) -> ()

    log(r2 / r1) is exponential with mean 1 / d, and the mean logarithm of that is -gamma - log d:
    d = exp(-gamma - mean log log(r2 / r1)).  Large ratios weigh less than in `twonn`, near ties
    more.  Ties, whose logarithm has no end, are taken for the lowest share t of all ratios: the
    mean is over the rest, and for -gamma stands log q + e^q E_1(q), q = -log(1 - t).
    Infinite with ties where jax compiles.  Raises ValueError for fewer than 3 points, or where all
    are ties.
    """
    near = find_neighbours(points, 2, neighbours).distances
    _check_apart(near, 1, 2)
    xp = namespace(near)
    logarithms = xp.log(near[:, 1] / near[:, 0])
    tied = logarithms == 0
    if not concrete(xp.any(tied)):
        return xp.exp(-EULER - xp.mean(xp.log(logarithms)))
    share = 1 - xp.mean(xp.astype(tied, near.dtype))
    total = xp.mean(xp.log(xp.where(tied, 1.0, logarithms)))
    return xp.exp(_mean_above(float(as_numpy(1 - share))) - total / share)


def gride(points, near: int = 1, far: int = 2, *, neighbours: Neighbours | None = None):
    r"""Maximum-likelihood dimension of Denti et al. (2022), from two ranks.  (n, D) -> ()

    Where the density hardly varies over `far` neighbours, mu = r_far / r_near has density
    d (mu^d - 1)^(far - near - 1) / (B(far - near, near) mu^((far - 1) d + 1)).  Ranks 1 and 2 give
    n / sum log mu, `twonn` times n / (n - 1).  The bias is of order 1 / n beside that of
    curvature and edges, which grows with `far`.  Raises ValueError unless 1 <= near < far, for
    fewer than far + 1 points, or where all ratios are 1.
    """
    if not 1 <= near < far:
        raise ValueError(f"gride compares rank 1 or more with a farther one, not {near} with {far}")
    known = find_neighbours(points, far, neighbours).distances
    _check_apart(known, near, far)
    logarithms = namespace(known).log(known[:, far - 1] / known[:, near - 1])
    return _rank_likelihood(logarithms, near, far)


def mind_ml(points, k: int = 10, *, integer: bool = False, neighbours: Neighbours | None = None):
    """Minimum-neighbour-distance likelihood, MiND_ML of Lombardi et al. (2011).  (n, D) -> ()

    Where the density hardly varies over k + 1 neighbours, rho = r_1 / r_{k+1} is the least of k
    distances in a ball: density k d rho^(d - 1) (1 - rho^d)^(k - 1), which is that of `gride`
    at ranks 1 and k + 1.  The maximum is over all d > 0, or over whole d where `integer`, with no
    upper end.  Raises ValueError for k < 1, for fewer than k + 2 points, or where all rho are 1.
    """
    if k < 1:
        raise ValueError(f"a nearest of k neighbours needs k of 1 or more, not {k}")
    known = find_neighbours(points, k + 1, neighbours).distances
    _check_apart(known, 1, k + 1)
    xp = namespace(known)
    logarithms = xp.log(known[:, -1] / known[:, 0])
    d = _rank_likelihood(logarithms, 1, k + 1)
    return _likelier_integer(xp, logarithms, d, k) if integer else d


def pareto_exponent(ratios: Float[Array, " n"]):
    """Exponent of a Pareto sample, by maximum likelihood made unbiased."""
    xp = namespace(ratios)
    return (ratios.shape[0] - 1) / xp.sum(xp.log(ratios))


def _mean_above(share):
    """Mean logarithm of a standard exponential above its lowest share."""
    q = -math.log1p(-share)
    return math.log(q) + math.exp(q) * float(exp1(q))


def _check_apart(distances, near, far):
    """Not all points have both neighbours equally far, as in the middle of a lattice."""
    xp = namespace(distances)
    if concrete(xp.all(distances[:, near - 1] == distances[:, far - 1])):
        raise ValueError(
            f"neighbours {near} and {far} of each of {distances.shape[0]} points are equally far, "
            "as on a lattice, and tell no dimension"
        )


def _slope(ratios, kept=0.9):
    """Least-squares slope through the origin of -log(1 - F) against the logarithm."""
    xp, n = namespace(ratios), ratios.shape[0]
    count = math.ceil(kept * (n - 1))
    x = xp.log(xp.sort(ratios)[:count])
    y = -xp.log(1 - xp.arange(1, count + 1, dtype=x.dtype, device=device(ratios)) / n)
    return xp.sum(x * y) / xp.sum(x**2)


def _rank_likelihood(logarithms, near, far, steps=40):
    """The d > 0 of greatest likelihood, given logarithms x of ratios of distances.

    With y = d x and h(y) = y / (1 - e^-y), the score vanishes where
    1 + (far - near - 1) mean h(y) = (far - 1) mean y.  The difference is convex and falls, so that
    Newton's steps from d = 0, the first of which is exact, climb to the only root.
    """
    xp = namespace(logarithms)
    between, mean = far - near - 1, xp.mean(logarithms)
    d = 2 * (between + 1) / ((near + far - 1) * mean)
    if not between:
        return d
    for _ in range(steps):
        y = d * logarithms
        h = xp.where(y > 0, y, 1.0) / xp.where(y > 0, -xp.expm1(-y), 1.0)
        score = 1 + between * xp.mean(h) - (far - 1) * d * mean
        slope = between * xp.mean(h * (1 + y - h)) - (far - 1) * d * mean  # by log d
        d = d * (1 - score / slope)
    return d


def _likelier_integer(xp, logarithms, d, k):
    """Of the whole numbers beside the maximum the likelier, as the likelihood is concave."""

    def likelihood(whole):
        y = whole * logarithms
        return xp.mean(xp.log(whole) - y + (k - 1) * xp.log(-xp.expm1(-y)))

    below = xp.maximum(xp.floor(d), xp.ones_like(d))
    return below + xp.astype(likelihood(below + 1) > likelihood(below), d.dtype)
