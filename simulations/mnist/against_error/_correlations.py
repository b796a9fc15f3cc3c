"""Rank correlations over the settings of a crossed design, with errors from resampled settings."""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from sgdnoise.core import Estimate, mean

RESAMPLINGS, PERMUTATIONS, SEED = 1000, 1600, 7


def spearman(x, y):
    """Spearman's (1904) rank correlation, with ties at their mean.  (..., n), (..., n) -> (...)"""
    return _correlation(rankdata(x, axis=-1), rankdata(y, axis=-1))


def partial_spearman(x, y, z):
    """The rank correlation given z: (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)).

    It removes only what is monotone in z.
    """
    xy, xz, yz = spearman(x, y), spearman(x, z), spearman(y, z)
    unexplained = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / np.sqrt(np.where(unexplained > 0, unexplained, np.nan))


def spearman_within(x, y, groups):
    """The correlation of ranks within groups, about their means: of what groups do not explain.

    x, y: (..., n); groups (n,).
    """
    ranks = np.zeros((2, *np.shape(x)))
    for value in np.unique(groups):
        for result, column in zip(ranks, (x, y), strict=True):
            inside = rankdata(column[..., groups == value], axis=-1)
            result[..., groups == value] = inside - inside.mean(-1, keepdims=True)
    return _correlation(*ranks)


def resampled(statistic: Callable, *columns, within=None) -> Estimate:
    """statistic(*columns) of settings (n,), its error from settings drawn with replacement.

    within: groups (n,), from each of which as many are drawn as it has.
    """
    rng, n = np.random.default_rng(SEED), len(columns[0])
    indices = rng.integers(0, n, (RESAMPLINGS, n))
    for value in np.unique(within) if within is not None else ():
        members = np.flatnonzero(within == value)
        indices[:, members] = rng.choice(members, (RESAMPLINGS, len(members)))
    values = statistic(*(column[indices] for column in columns))
    return Estimate(float(statistic(*columns)), float(np.nanstd(values, ddof=1)), n - 1)


def permuted(statistic: Callable, x, y, within=None) -> np.ndarray:
    """statistic(x, y) of random permutations of y, only among equal values of `within` if given."""
    rng, groups = np.random.default_rng(SEED), np.zeros(len(x)) if within is None else within
    dealt = np.tile(np.asarray(y, float), (PERMUTATIONS, 1))
    for value in np.unique(groups):
        dealt[:, groups == value] = rng.permuted(dealt[:, groups == value], axis=1)
    return statistic(np.broadcast_to(x, dealt.shape), dealt)


def no_correlation(statistic: Callable, x, y, within=None) -> Estimate:
    """The mean of `permuted`: 0 but for its error."""
    return mean(permuted(statistic, x, y, within))


def chance(statistic: Callable, x, y, within=None) -> float:
    """The fraction of permutations whose |statistic| is as large: a test at that level."""
    as_large = np.abs(permuted(statistic, x, y, within)) >= abs(statistic(x, y)) - 1e-12
    return float((1 + as_large.sum()) / (1 + PERMUTATIONS))


def agreement(x, y, blocks) -> Estimate:
    """Pairs of a block in the same order less pairs in opposite order, over both.  (n,) each

    That of Goodman & Kruskal (1954).  Blocks are resampled; where all agree the error is the
    influence of one of them.
    """
    order = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
    names = np.unique(blocks)
    each = [order[np.ix_(blocks == name, blocks == name)] for name in names]
    net, total = np.asarray([(b.sum(), abs(b).sum()) for b in each]).T
    g = len(names)
    counts = np.random.default_rng(SEED).multinomial(g, [1 / g] * g, size=RESAMPLINGS)
    values = (counts @ net) / np.maximum(counts @ total, 1)
    error = values.std(ddof=1) * (g / (g - 1)) ** 0.5
    return Estimate(float(net.sum() / total.sum()), float(max(error, 1 / g)), g - 1)


def _correlation(a, b):
    a, b = (ranks - ranks.mean(-1, keepdims=True) for ranks in (a, b))
    both, first, second = ((p * q).sum(-1) for p, q in ((a, b), (a, a), (b, b)))
    variance = first * second
    return both / np.sqrt(np.where(variance > 0, variance, np.nan))
