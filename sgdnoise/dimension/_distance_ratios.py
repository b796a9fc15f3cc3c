"""Dimension from ratios of the distances to a few nearest neighbours."""

import math

from jaxtyping import Float
from scipy.special import exp1

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, concrete, device, namespace
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._bounds import check_above
from sgdnoise.dimension._points import Neighbours, find_neighbours, refuse_ties

EULER = 0.5772156649015329


@checked
@any_scale
def twonn(
    points,
    *,
    fit: str = "likelihood",
    discard: float | None = None,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    r"""The two-nearest-neighbour dimension of Facco et al. (2017).  (n, D) -> ()

    If the density is constant over two neighbours, mu = r2 / r1 is Pareto(d).  fit:
    "likelihood" is the unbiased maximum-likelihood exponent, "regression" the slope through the
    origin of -log(1 - F) against log mu over the lowest nine tenths, with F = i / n for the i-th of
    n ratios, on which a few outliers have less influence.
    discard: the fraction of the largest ratios to discard, such as those of points that nearly
    repeat others; by default 0 for the likelihood and 0.1 for the regression.  With the m lowest of
    n ratios and x = log mu, the likelihood is that of a censored sample, which remains unbiased:
    d = (m - 1) / [sum_(i <= m) x_i + (n - m) x_m] (Epstein & Sobel, 1953).
    Raises ValueError for fewer than 3 points, another fit, a fraction that is not in [0, 1), or if
    all ratios are 1.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(2000, 2))
        >>> round(float(twonn(points)), 1)
        2.0
    """
    neighbours = find_neighbours(points, 2, neighbours, exclude=exclude)
    _check_apart(neighbours.distances, 1, 2)
    refuse_ties(neighbours)
    distances = neighbours.distances
    ratios = distances[:, 1] / distances[:, 0]
    if discard is not None and not 0 <= discard < 1:
        raise ValueError(f"the fraction to discard is in [0, 1), not {discard}")
    match fit:
        case "likelihood":
            value = _censored(ratios, discard) if discard else pareto_exponent(ratios)
        case "regression":
            value = _slope(ratios, 1 - (0.1 if discard is None else discard))
        case _:
            raise ValueError(f"twonn fits by likelihood or regression, not {fit!r}")
    return check_above(value, neighbours)


@checked
@any_scale
def levina_bickel(
    points, k: int = 10, *, neighbours: Neighbours | None = None, exclude: int | str = 0
):
    """The maximum-likelihood dimension of Levina & Bickel (2004).  (n, D) -> ()

    Inverses are averaged, as MacKay & Ghahramani (2005) propose: each is unbiased for 1 / d if the
    density is constant and the manifold flat over k neighbours, so that the dimension itself is too
    large by the fraction 1 / (n (k - 1)).  Raises ValueError for k < 2, for fewer than k + 1
    points, or if all k neighbours of each point are equally distant.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(2000, 2))
        >>> round(float(levina_bickel(points)), 1)
        2.0
    """
    if k < 2:
        raise ValueError(f"a ratio of distances needs k of 2 or more neighbours, not {k}")
    neighbours = find_neighbours(points, k, neighbours, exclude=exclude)
    distances = neighbours.distances
    _check_apart(distances, 1, k)
    xp = namespace(distances)
    value = 1 / xp.mean(xp.log(distances[:, -1:] / distances[:, :-1]))
    return check_above(value, neighbours)


@checked
@any_scale
def l2n2(points, *, neighbours: Neighbours | None = None, exclude: int | str = 0):
    """The dimension from the mean of log log(r2 / r1), r1 and r2 those of two neighbours.

    (n, D) -> ()  log(r2 / r1) is exponential with mean 1 / d, and its mean logarithm is
    -gamma - log d: d = exp(-gamma - mean log log(r2 / r1)).  Large ratios weigh less than in
    `twonn`, near ties more.  Ties, whose logarithm is infinite, are treated as the lowest fraction
    t of all ratios: the mean is over the others, and -gamma is replaced by log q + e^q E_1(q),
    q = -log(1 - t).  It is infinite with ties under compilation by jax.
    Raises ValueError for fewer than 3 points, or if all are ties.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(l2n2(points)), 1)
        2.0
    """
    neighbours = find_neighbours(points, 2, neighbours, exclude=exclude)
    _check_apart(neighbours.distances, 1, 2)
    refuse_ties(neighbours)
    distances = neighbours.distances
    xp = namespace(distances)
    logarithms = xp.log(distances[:, 1] / distances[:, 0])
    tied = logarithms == 0
    if not concrete(xp.any(tied)):
        return check_above(xp.exp(-EULER - xp.mean(xp.log(logarithms))), neighbours)
    fraction = 1 - xp.mean(xp.astype(tied, distances.dtype))
    total = xp.mean(xp.log(xp.where(tied, 1.0, logarithms)))
    value = xp.exp(_mean_above(float(as_numpy(1 - fraction))) - total / fraction)
    return check_above(value, neighbours)


@checked
@any_scale
def gride(
    points,
    inner_rank: int = 1,
    outer_rank: int = 2,
    *,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    r"""The maximum-likelihood dimension of Denti et al. (2022), from two ranks.  (n, D) -> ()

    With a and b the inner and the outer rank, if the density is constant over b neighbours,
    mu = r_b / r_a has density d (mu^d - 1)^(b - a - 1) / (B(b - a, a) mu^((b - 1) d + 1)).  Ranks
    1 and 2 give n / sum log mu, `twonn` times n / (n - 1).  The bias is of order 1 / n, besides
    that of curvature and edges, which grows with b.  Raises ValueError unless 1 <= a < b, for
    fewer than b + 1 points, or if all ratios are 1.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(gride(points)), 1)
        1.9
    """
    if not 1 <= inner_rank < outer_rank:
        raise ValueError(
            f"gride compares rank 1 or more with a larger one, not {inner_rank} with {outer_rank}"
        )
    neighbours = find_neighbours(points, outer_rank, neighbours, exclude=exclude)
    distances = neighbours.distances
    _check_apart(distances, inner_rank, outer_rank)
    if outer_rank == 2:
        refuse_ties(neighbours)
    ratios = distances[:, outer_rank - 1] / distances[:, inner_rank - 1]
    value = _rank_likelihood(namespace(ratios).log(ratios), inner_rank, outer_rank)
    return check_above(value, neighbours)


@checked
@any_scale
def mind_ml(
    points,
    k: int = 10,
    *,
    integer: bool = False,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    """The minimum-neighbour-distance likelihood, MiND_ML of Lombardi et al. (2011).

    (n, D) -> ()  If the density is constant over k + 1 neighbours, rho = r_1 / r_{k+1} is the least
    of k distances in a ball: density k d rho^(d - 1) (1 - rho^d)^(k - 1), which is that of `gride`
    at ranks 1 and k + 1.  The maximum is over all d > 0, or over integers if `integer`, without an
    upper bound.  Raises ValueError for k < 1, for fewer than k + 2 points, or if all rho are 1.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(mind_ml(points)), 1)
        2.0
    """
    if k < 1:
        raise ValueError(f"a nearest of k neighbours needs k of 1 or more, not {k}")
    neighbours = find_neighbours(points, k + 1, neighbours, exclude=exclude)
    distances = neighbours.distances
    _check_apart(distances, 1, k + 1)
    xp = namespace(distances)
    logarithms = xp.log(distances[:, -1] / distances[:, 0])
    d = _rank_likelihood(logarithms, 1, k + 1)
    d = _likelier_integer(xp, logarithms, d, k) if integer else d
    return check_above(d, neighbours)


def pareto_exponent(ratios: Float[Array, " n"]):
    """The unbiased maximum-likelihood exponent of a Pareto sample."""
    xp = namespace(ratios)
    return (ratios.shape[0] - 1) / xp.sum(xp.log(ratios))


def _mean_above(fraction):
    """Mean logarithm of a standard exponential above its lowest fraction."""
    q = -math.log1p(-fraction)
    return math.log(q) + math.exp(q) * float(exp1(q))


def _check_apart(distances, inner_rank, outer_rank):
    """Raise ValueError if all points have both neighbours equally distant, as in a lattice."""
    xp = namespace(distances)
    if concrete(xp.all(distances[:, inner_rank - 1] == distances[:, outer_rank - 1])):
        raise ValueError(
            f"neighbours {inner_rank} and {outer_rank} of each of {distances.shape[0]} points are "
            "equally distant, as on a lattice, and determine no dimension"
        )


def _censored(ratios, discard):
    """The unbiased exponent of a Pareto sample of which the largest values are not known."""
    xp, n = namespace(ratios), ratios.shape[0]
    count = max(2, math.ceil((1 - discard) * n - 1e-9))
    x = xp.log(xp.sort(ratios)[:count])
    return (count - 1) / (xp.sum(x) + (n - count) * x[-1])


def _slope(ratios, quantile):
    """Least-squares slope through the origin of -log(1 - F) against log mu, up to a quantile."""
    xp, n = namespace(ratios), ratios.shape[0]
    count = math.ceil(quantile * (n - 1))
    x = xp.log(xp.sort(ratios)[:count])
    y = -xp.log(1 - xp.arange(1, count + 1, dtype=x.dtype, device=device(ratios)) / n)
    return xp.sum(x * y) / xp.sum(x**2)


def _rank_likelihood(logarithms, inner_rank, outer_rank, steps=40):
    """The d > 0 of maximum likelihood, given logarithms x of ratios of distances.

    With y = d x, h(y) = y / (1 - e^-y) and ranks a < b, the score vanishes where
    1 + (b - a - 1) mean h(y) = (b - 1) mean y.  The difference is convex and decreasing, so that
    Newton's steps from d = 0, the first of which is exact, increase to the only root.
    """
    xp = namespace(logarithms)
    between, mean = outer_rank - inner_rank - 1, xp.mean(logarithms)
    d = 2 * (between + 1) / ((inner_rank + outer_rank - 1) * mean)
    if not between:
        return d
    for _ in range(steps):
        y = d * logarithms
        h = xp.where(y > 0, y, 1.0) / xp.where(y > 0, -xp.expm1(-y), 1.0)
        score = 1 + between * xp.mean(h) - (outer_rank - 1) * d * mean
        # The derivative is with respect to log d.
        derivative = between * xp.mean(h * (1 + y - h)) - (outer_rank - 1) * d * mean
        d = d * (1 - score / derivative)
    return d


def _likelier_integer(xp, logarithms, d, k):
    """The more likely of the integers next to the maximum of the concave likelihood."""

    def likelihood(dimension):
        y = dimension * logarithms
        return xp.mean(xp.log(dimension) - y + (k - 1) * xp.log(-xp.expm1(-y)))

    below = xp.maximum(xp.floor(d), xp.ones_like(d))
    return below + xp.astype(likelihood(below + 1) > likelihood(below), d.dtype)
