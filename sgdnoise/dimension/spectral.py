"""Dimension from the spectrum of the covariance of the points."""

from jaxtyping import Float

from sgdnoise.arrays import Array, namespace

__all__ = ["participation_ratio"]


def participation_ratio(points: Float[Array, "n D"]):
    r"""Participation ratio (Tr K)^2 / Tr K^2 of the covariance K of the points, about their mean.

    Between 1 and min(n - 1, D).  Naive: for points sampled from a law its inverse is too large
    by about 1 / (n - 1); nan where all points coincide.  It needs no eigenvalues, since Tr K^2 is
    the sum of squares of either Gram matrix.
    """
    xp = namespace(points)
    beside = points - points[:1, :]  # exactly zero where all coincide, as their mean need not be
    centred = beside - xp.mean(beside, axis=0)
    n, width = points.shape
    gram = centred.T @ centred if width <= n else centred @ centred.T
    total = xp.sum(centred**2)
    return 1 / xp.sum((gram / xp.where(total > 0, total, xp.nan)) ** 2)
