"""Dimension from ratios of the distances to a few nearest neighbours."""

import math

from jaxtyping import Float

from sgdnoise.arrays import Array, namespace
from sgdnoise.dimension.cloud import Neighbours, nearest

__all__ = ["l2n2", "levina_bickel", "pareto_exponent", "twonn"]


def twonn(points, *, fit: str = "likelihood", neighbours: Neighbours | None = None):
    r"""Two-nearest-neighbour dimension of Facco et al. (2017).  (n, D) -> ()

    Where the density hardly varies over a neighbourhood, mu = r2 / r1 is Pareto(d).  fit:
    "likelihood" is the unbiased maximum-likelihood exponent, "regression" the slope through the
    origin of -log(1 - F) against log mu over the lowest nine tenths, which a few outliers move
    less.  Raises ValueError for fewer than 3 points, or another fit.
    """
    near = nearest(points, 2, neighbours).distances
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
    by 1 / (n (k - 1)) of it and no more.  Raises ValueError for k < 2 or fewer than k + 1 points.
    """
    if k < 2:
        raise ValueError(f"a ratio of distances needs k of 2 or more neighbours, not {k}")
    near = nearest(points, k, neighbours).distances
    xp = namespace(near)
    return 1 / xp.mean(xp.log(near[:, -1:] / near[:, :-1]))


def l2n2(points, *, neighbours: Neighbours | None = None):
    """Dimension from the mean log-log ratio of two neighbours.  (n, D) -> ()

    log(r2 / r1) is exponential with mean 1 / d, and the mean logarithm of that is -gamma - log d:
    d = exp(-gamma - mean log log(r2 / r1)).  Large ratios weigh less than in `twonn`, near ties
    more.  Raises ValueError for fewer than 3 points.
    """
    near = nearest(points, 2, neighbours).distances
    xp = namespace(near)
    return xp.exp(-0.5772156649015329 - xp.mean(xp.log(xp.log(near[:, 1] / near[:, 0]))))


def pareto_exponent(ratios: Float[Array, " n"]):
    """Exponent of a Pareto sample, by maximum likelihood made unbiased."""
    xp = namespace(ratios)
    return (ratios.shape[0] - 1) / xp.sum(xp.log(ratios))


def _slope(ratios, kept=0.9):
    """Least-squares slope through the origin of -log(1 - F) against the logarithm."""
    xp, n = namespace(ratios), ratios.shape[0]
    count = math.ceil(kept * (n - 1))
    x = xp.log(xp.sort(ratios)[:count])
    y = -xp.log(1 - xp.arange(1, count + 1, dtype=x.dtype, device=x.device) / n)
    return xp.sum(x * y) / xp.sum(x**2)
