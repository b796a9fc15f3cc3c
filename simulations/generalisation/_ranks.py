"""Rank correlations of settings that come in groups, with errors from resampled groups.

Settings of a group share most factors, and networks of a setting share all of them.  Only whole
groups are independent, so that only groups are resampled.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from sgdnoise.core import Estimate, mean

RESAMPLINGS, SEED = 1000, 7


def spearman(x, y, weights=None):
    """Spearman's (1904) rank correlation with ties at their mean, each setting counted w times.

    (n,), (n,), weights (..., n) -> (...); settings where either value is missing do not count.
    """
    weights = _finite_weights(x, y, weights=weights)
    return _correlation(_ranks(x, weights), _ranks(y, weights), weights)


def partial_spearman(x, y, z, weights=None):
    """The rank correlation given z: (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)).

    It removes only what is monotone in z.
    """
    weights = _finite_weights(x, y, z, weights=weights)
    a, b, c = (_ranks(column, weights) for column in (x, y, z))
    xy, xz, yz = (_correlation(*pair, weights) for pair in ((a, b), (a, c), (b, c)))
    unexplained = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / np.sqrt(np.where(unexplained > 0, unexplained, np.nan))


def spearman_within(x, y, groups, weights=None):
    """The correlation of ranks within groups, about their means: of what groups do not explain.

    groups: (n,).  Unlike `partial_spearman` given the groups it is zero on average where y is dealt
    at random within each of them, whatever the dependence on the groups.
    """
    weights = _finite_weights(x, y, weights=weights)
    same = np.asarray(groups)[:, None] == groups
    return _correlation(_ranks(x, weights, same), _ranks(y, weights, same), weights)


def concordance(x, y, weights=None, *, among=None):
    """Pairs in the same order less pairs in opposite order, over both; ties do not count.

    That of Goodman & Kruskal (1954).  among (n, n): which pairs count, each within one group; pairs
    of a group that is drawn twice count twice.  Without it, all pairs count, also those between two
    copies of a group.
    """
    weights = _finite_weights(x, y, weights=weights)
    order = _signs(x) * _signs(y)
    if among is not None:
        order, weights = order * among, weights**0.5
    net, total = (np.sum(weights @ pairs * weights, axis=-1) for pairs in (order, abs(order)))
    return net / np.where(total > 0, total, np.nan)


def kendall(x, y, groups, *, among=None) -> Estimate:
    """`concordance` with its error; of pairs within groups at least the influence of one group.

    Otherwise groups that all agree would have no error.
    """
    estimate = bootstrap(partial(concordance, x, y, among=among), groups)
    floor = 0.0 if among is None else 1 / (estimate.dof + 1)
    return Estimate(estimate.value, max(estimate.stderr, floor), estimate.dof)


def discordant(x, y, groups) -> Estimate:
    """Percentage of the pairs in which the setting with smaller x has the larger y."""
    estimate = kendall(x, y, groups)
    return Estimate(50 * (1 - estimate.value), 50 * estimate.stderr, estimate.dof)


def bootstrap(statistic: Callable, groups, times: int = RESAMPLINGS) -> Estimate:
    """A statistic of weights (..., n) -> (...) of settings, its error from resampled groups.

    groups (n,): the group of each setting.  As many groups as there are are drawn with replacement,
    each with all its settings (Davison & Hinkley, 1997); the variance is multiplied by g / (g - 1),
    by which that of g draws from g is too small.  The law is near Student's with g - 1 degrees of
    freedom.  Raises ValueError for fewer than 2 groups.
    """
    names, index = np.unique(groups, return_inverse=True)
    g = len(names)
    if g < 2:
        raise ValueError(f"an error needs at least 2 groups of settings, not {g}")
    counts = np.random.default_rng(SEED).multinomial(g, [1 / g] * g, size=times)
    values = statistic(counts[:, index].astype(float))
    error = np.nanstd(values, ddof=1) if np.isfinite(values).sum() > 1 else np.nan
    value = float(statistic(np.ones(len(index))))
    return Estimate(value, float(error * (g / (g - 1)) ** 0.5), g - 1)


def permuted(statistic: Callable, x, y, within=None, times: int = 1600) -> Estimate:
    """Mean of statistic(x, y) over random permutations of y: 0 but for its error.

    within: groups (n,), only among whose members y is permuted.
    """
    rng, finite = np.random.default_rng(SEED), np.isfinite(x) & np.isfinite(y)
    groups = np.zeros(len(finite)) if within is None else within
    members = [finite & (groups == value) for value in np.unique(groups)]
    permutation, values = np.array(y, float), []
    for _ in range(times):
        for group in members:
            permutation[group] = rng.permutation(permutation[group])
        values.append(float(statistic(x, permutation)))
    return mean(np.asarray(values))


def _finite_weights(*columns, weights):
    finite = np.all(np.isfinite(columns), axis=0)
    return np.where(finite, 1.0 if weights is None else weights, 0.0)


def _signs(x):
    """Signs of all differences x_i - x_j, (n, n)."""
    x = np.nan_to_num(np.asarray(x, float))
    return np.sign(x[:, None] - x[None, :])


def _ranks(x, weights, among=1.0):
    """Twice the ranks about their mean: settings below each, less those above, of pairs `among`."""
    return weights @ (_signs(x) * among).T


def _correlation(a, b, weights):
    """The correlation of columns whose weighted means are 0."""
    both, first, second = (np.sum(weights * p, axis=-1) for p in (a * b, a * a, b * b))
    variance = first * second
    return both / np.sqrt(np.where(variance > 0, variance, np.nan))
