"""Dimension from the distances to a few nearest neighbours."""

from jaxtyping import Float

from sgdnoise.arrays import Array, namespace, nearest_distances

__all__ = ["levina_bickel", "pareto_exponent", "twonn"]


def twonn(points: Float[Array, "n D"]):
    r"""Two-nearest-neighbour dimension of Facco et al. (2017).

    Where the density hardly varies over a neighbourhood, mu = r2 / r1 is Pareto(d); d is its
    unbiased maximum-likelihood exponent.  nan where two points coincide: r1 = 0 has no ratio.
    Raises ValueError for fewer than 3 points.
    """
    distances = nearest_distances(points, 2)
    return pareto_exponent(_ratios(distances[:, 1], distances[:, 0]))


def levina_bickel(points: Float[Array, "n D"], k: int = 10):
    """Maximum-likelihood dimension of Levina & Bickel (2004).

    Inverses are averaged, as MacKay & Ghahramani (2005) ask: each is unbiased for 1 / d.
    nan where two points coincide.  Raises ValueError for k < 2 or fewer than k + 1 points.
    """
    if k < 2:
        raise ValueError(f"a ratio of distances needs k of 2 or more neighbours, not {k}")
    xp = namespace(points)
    distances = nearest_distances(points, k)
    return 1 / xp.mean(xp.log(_ratios(distances[:, -1:], distances[:, :-1])))


def pareto_exponent(ratios: Float[Array, " n"]):
    """Exponent of a Pareto sample, by maximum likelihood made unbiased."""
    xp = namespace(ratios)
    return (ratios.shape[0] - 1) / xp.sum(xp.log(ratios))


def _ratios(far, near):
    """far / near, nan where near is zero and so says nothing."""
    xp = namespace(far)
    apart = near > 0
    return xp.where(apart, far / xp.where(apart, near, xp.ones_like(near)), xp.nan)
