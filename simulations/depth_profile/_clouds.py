"""What is estimated of one cloud, all of it from the inner products of its centred points.

Distances, covariance and the points of a part of the cloud are all in that one (n, n) matrix, and
so are those of Gaussian points of equal covariance: Z G Z^T / (n - 1) for Z of normal numbers.
"""

import warnings
from functools import partial

import numpy as np
import torch

from sgdnoise.core import Estimate, with_group_error
from sgdnoise.dimension import Neighbours, debiased, geodesic, gride, levina_bickel, twonn

__all__ = ["CLOSE", "LEAST", "NAMES", "estimates", "factor", "gram", "matched", "surrogate"]

RANKS = ((8, 16), (32, 64))  # neighbours that gride compares; twonn is that of (1, 2)
CLOSE = {"twonn": twonn, "levina_bickel": levina_bickel}
LOCAL = CLOSE | {f"gride {a}-{b}": partial(gride, near=a, far=b) for a, b in RANKS}
NAMES = ("participation_ratio", *LOCAL, "geodesic")
NEAR, ALONG = 64, 10  # neighbours that are looked at, and that are linked
SPLITS = 2  # of the points into groups
GROUPS = 5  # of the points, whose spread gives an error
LEAST = GROUPS * (NEAR + 1)
SAME = 1e-12  # of the largest squared distance, below which it is but rounding


def gram(rows: torch.Tensor) -> torch.Tensor:
    """Inner products of the rows about their mean, in float64.  (n, D) -> (n, n)"""
    rows = rows.double()
    beside = rows - rows.mean(0)
    return beside @ beside.T


def surrogate(products: torch.Tensor, rng) -> torch.Tensor:
    """The same of n Gaussian points whose covariance is that of the sample."""
    n = len(products)
    z = torch.asarray(rng.standard_normal((n, n)), device=products.device)
    return z @ products @ z.T / (n - 1)


def matched(products, others) -> float:
    """Participation ratio of a cloud's surrogate, made unbiased as for normal rows, over its own.

    Both moments of the surrogate are those of the cloud on average; the ratio is 1 but for terms
    of order 1 / n.
    """
    (own, own_spread), drawn = _moments(products), _moments(others)
    square, spread = debiased(drawn[0], drawn[1], len(others) - 1)
    return (square / spread) / (own / own_spread)


def estimates(products: torch.Tensor) -> dict[str, Estimate]:
    """Each of `NAMES`, with its error from disjoint groups; nan where it cannot be had.

    Paths need many points, so that the error of `geodesic` is from halves alone.
    """
    table = products.cpu().numpy()
    apart, everyone = _distances(table), np.arange(len(table))
    ratio = with_group_error(partial(_participation, table), everyone, splits=SPLITS)
    local = with_group_error(partial(_local, apart), everyone, GROUPS, splits=SPLITS)
    paths = with_group_error(partial(_geodesic, apart), everyone, 2, splits=SPLITS)
    each = (Estimate(*pair) for pair in zip(local.value, local.stderr, strict=True))
    return dict(zip(NAMES, (ratio, *each, paths), strict=True))


def factor(before: torch.Tensor, after: torch.Tensor) -> Estimate:
    """Each of `CLOSE` after a layer over that before it, the same points in both.  -> (2,)"""
    tables = [_distances(products.cpu().numpy()) for products in (before, after)]

    def ratio(some):
        first, second = (_local(table, some, CLOSE) for table in tables)
        return second / first

    return with_group_error(ratio, np.arange(len(before)), GROUPS, splits=SPLITS)


def _moments(products):
    """(Tr S)^2 and Tr S^2 of the sample covariance."""
    beside = _centred(products)
    m = len(beside) - 1
    return float(beside.trace() / m) ** 2, float((beside**2).sum() / m**2)


def _centred(products):
    return products - products.mean(0) - products.mean(1)[:, None] + products.mean()


def _participation(products, some):
    """As `participation_ratio` has it, of some of the points."""
    square, spread = _moments(products[np.ix_(some, some)])
    return square / spread if spread > 0 else np.nan


def _distances(products):
    """Between all points; infinite from each to itself, and to those at the same place."""
    own = np.diag(products)
    squared = own[:, None] + own[None, :] - 2 * products
    none = squared <= SAME * squared.max()
    np.fill_diagonal(none, True)
    return np.sqrt(np.where(none, np.inf, squared))


def _neighbours(apart, some, k):
    """The k nearest among some of the points; None where one of these has fewer."""
    table = apart[np.ix_(some, some)]
    index = np.argpartition(table, k, axis=1)[:, :k]
    found = np.take_along_axis(table, index, axis=1)
    order = np.argsort(found, axis=1)
    near = (np.take_along_axis(each, order, axis=1) for each in (found, index))
    return Neighbours(table, *near) if np.isfinite(found).all() else None


def _local(apart, some, of=LOCAL):
    """Estimates from the same few neighbours."""
    near = _neighbours(apart, some, NEAR)
    if near is None:
        return np.full(len(of), np.nan)
    return np.asarray([each(near.points, neighbours=near) for each in of.values()])


def _geodesic(apart, some):
    near = _neighbours(apart, some, ALONG)
    if near is None:
        return np.nan
    with warnings.catch_warnings():  # of points left out, as classes far apart are
        warnings.simplefilter("ignore")
        try:
            return geodesic(near.points, ALONG, neighbours=near)
        except ValueError:
            return np.nan
