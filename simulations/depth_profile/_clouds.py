"""Estimates of the dimension of a cloud, all from the inner products of its centred points.

The (n, n) matrix of inner products gives distances, covariance and parts of the cloud, and also
Gaussian points of equal covariance: Z G Z^T / (n - 1) for Z of normal numbers.
"""

import warnings
from functools import partial

import numpy as np
import torch

from sgdnoise.core import Estimate, with_group_error
from sgdnoise.dimension import Neighbours, debiased, geodesic, gride, levina_bickel, twonn

RANKS = ((8, 16), (32, 64))  # neighbours that gride compares; twonn is that of (1, 2)
NEAREST = {"twonn": twonn, "levina_bickel": levina_bickel}
LOCAL = NEAREST | {f"gride {a}-{b}": partial(gride, inner_rank=a, outer_rank=b) for a, b in RANKS}
NAMES = ("participation_ratio", *LOCAL, "geodesic")
N_NEIGHBORS, N_LINKED = 64, 10  # of local estimates, and of paths
SPLITS = 2  # partitions of the points into groups
GROUPS = 5  # of the points, whose values give an error
MIN_POINTS = GROUPS * (N_NEIGHBORS + 1)
ROUNDING = 1e-12  # of the largest squared distance, below which points coincide


def gram(rows: torch.Tensor) -> torch.Tensor:
    """Inner products of the centred rows, in float64.  (n, D) -> (n, n)"""
    rows = rows.double()
    centred = rows - rows.mean(0)
    return centred @ centred.T


def surrogate(products: torch.Tensor, rng) -> torch.Tensor:
    """The inner products of n Gaussian points whose covariance is that of the sample."""
    n = len(products)
    z = torch.asarray(rng.standard_normal((n, n)), device=products.device)
    return z @ products @ z.T / (n - 1)


def ratio_to_surrogate(products, others) -> float:
    """Participation ratio of the surrogate of a cloud, unbiased for normal rows, over its own.

    Both moments of the surrogate are those of the cloud on average; the ratio is 1 but for terms
    of order 1 / n.
    """
    (square, sum_squares), drawn = _moments(products), _moments(others)
    drawn_square, drawn_squares = debiased(drawn[0], drawn[1], len(others) - 1)
    return (drawn_square / drawn_squares) / (square / sum_squares)


def estimates(products: torch.Tensor) -> dict[str, Estimate]:
    """Each of NAMES, with its error from disjoint groups; missing where it fails.

    Paths need many points, so that the error of `geodesic` comes from halves alone.
    """
    table = products.cpu().numpy()
    distances, index = _distances(table), np.arange(len(table))
    ratio = with_group_error(partial(_participation, table), index, splits=SPLITS)
    local = with_group_error(partial(_local, distances), index, GROUPS, splits=SPLITS)
    paths = with_group_error(partial(_geodesic, distances), index, 2, splits=SPLITS)
    pairs = (Estimate(*pair) for pair in zip(local.value, local.stderr, strict=True))
    return dict(zip(NAMES, (ratio, *pairs, paths), strict=True))


def factor(before: torch.Tensor, after: torch.Tensor) -> Estimate:
    """Each of NEAREST after a layer over that before it, from the same points.  -> (2,)"""
    tables = [_distances(products.cpu().numpy()) for products in (before, after)]

    def ratio(index):
        first, second = (_local(table, index, NEAREST) for table in tables)
        return second / first

    return with_group_error(ratio, np.arange(len(before)), GROUPS, splits=SPLITS)


def _moments(products):
    """(Tr S)^2 and Tr S^2 of the sample covariance."""
    centred = products - products.mean(0) - products.mean(1)[:, None] + products.mean()
    m = len(centred) - 1
    return float(centred.trace() / m) ** 2, float((centred**2).sum() / m**2)


def _participation(products, index):
    square, sum_squares = _moments(products[np.ix_(index, index)])
    return square / sum_squares if sum_squares > 0 else np.nan


def _distances(products):
    """Between all points; infinite from each to itself and to those that coincide with it."""
    diagonal = np.diag(products)
    squared = diagonal[:, None] + diagonal[None, :] - 2 * products
    coincide = squared <= ROUNDING * squared.max()
    np.fill_diagonal(coincide, True)
    return np.sqrt(np.where(coincide, np.inf, squared))


def _neighbours(distances, index, k):
    """The k nearest among some of the points; None where one of these has fewer."""
    table = distances[np.ix_(index, index)]
    nearest = np.argpartition(table, k, axis=1)[:, :k]
    values = np.take_along_axis(table, nearest, axis=1)
    order = np.argsort(values, axis=1)
    sorted_ = (np.take_along_axis(rows, order, axis=1) for rows in (values, nearest))
    return Neighbours(table, *sorted_) if np.isfinite(values).all() else None


def _local(distances, index, estimators=LOCAL):
    """Estimates from the same neighbours."""
    neighbours = _neighbours(distances, index, N_NEIGHBORS)
    if neighbours is None:
        return np.full(len(estimators), np.nan)
    return np.asarray([f(neighbours.points, neighbours=neighbours) for f in estimators.values()])


def _geodesic(distances, index):
    neighbours = _neighbours(distances, index, N_LINKED)
    if neighbours is None:
        return np.nan
    with warnings.catch_warnings():  # distant classes are not linked, and points are left out
        warnings.simplefilter("ignore")
        try:
            return geodesic(neighbours.points, N_LINKED, neighbours=neighbours)
        except ValueError:
            return np.nan
