"""Rank correlations of settings that come in groups, with errors from groups drawn anew.

Settings of a group are alike in most of what was chosen, and networks of a setting in all of it:
only whole groups are independent, and only groups are drawn again.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.special import stdtr

from sgdnoise.core import Estimate, mean

__all__ = ["concordance", "discordant", "drawn_again", "kendall", "partial_spearman", "shuffled"]
__all__ += ["sign", "spearman"]

TIMES = 1000  # that groups are drawn again
SEED = 7


def spearman(x, y, weights=None):
    """Spearman (1904): the correlation of ranks, ties at their mean, each setting counted w times.

    (n,), (n,), weights (..., n) -> (...); settings where either is not finite do not count.
    """
    weights = _counted(x, y, weights=weights)
    return _correlation(_ranks(x, weights), _ranks(y, weights), weights)


def partial_spearman(x, y, z, weights=None):
    """The same of what is left of both ranks after a straight line in the ranks of z.

    (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)); it takes nothing off but what is monotone
    in z, so that what z explains otherwise stays.
    """
    weights = _counted(x, y, z, weights=weights)
    a, b, c = (_ranks(each, weights) for each in (x, y, z))
    xy, xz, yz = (_correlation(*p, weights) for p in ((a, b), (a, c), (b, c)))
    left = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / np.sqrt(np.where(left > 0, left, np.nan))


def concordance(x, y, weights=None, *, among=None):
    """Pairs in the same order less pairs in opposite order, over both; ties are left out.

    That of Goodman & Kruskal (1954).  among (n, n): which pairs count, both of one group each;
    those of a group drawn twice count twice, while of all pairs, where among is not said, those of
    two copies of a group count too.
    """
    weights = _counted(x, y, weights=weights)
    both = _signs(x) * _signs(y)
    if among is not None:
        both, weights = both * among, weights**0.5
    net, all_ = (np.sum(weights @ part * weights, axis=-1) for part in (both, abs(both)))
    return net / np.where(all_ > 0, all_, np.nan)


def kendall(x, y, groups, *, among=None) -> Estimate:
    """`concordance` with its error, of pairs within groups at least what one group moves it by.

    Groups that all agree in these would else have no error at all.
    """
    found = drawn_again(partial(concordance, x, y, among=among), groups)
    least = 0.0 if among is None else 1 / (found.freedom + 1)
    return found._replace(stderr=max(found.stderr, least))


def discordant(x, y, groups) -> Estimate:
    """Per cent of the pairs of which the one with less x has more y."""
    found = kendall(x, y, groups)
    return Estimate(50 * (1 - found.value), 50 * found.stderr, found.freedom)


def drawn_again(statistic: Callable, groups, times: int = TIMES) -> Estimate:
    """A statistic of weights (..., n) -> (...) of settings, and its spread over groups drawn anew.

    groups (n,): to which group a setting belongs.  As many groups as there are come with
    replacement, each with all its settings (Davison & Hinkley, 1997); the variance is enlarged by
    g / (g - 1), by which that of g draws from g is too small.  Its law is near Student's with
    g - 1 degrees of freedom.  Raises ValueError for fewer than 2 groups.
    """
    known, place = np.unique(groups, return_inverse=True)
    g = len(known)
    if g < 2:
        raise ValueError(f"an error needs at least 2 groups of settings, not {g}")
    counts = np.random.default_rng(SEED).multinomial(g, [1 / g] * g, size=times)
    values = statistic(counts[:, place].astype(float))
    error = np.nanstd(values, ddof=1) if np.isfinite(values).sum() > 1 else np.nan
    value = float(statistic(np.ones(len(place))))
    return Estimate(value, float(error * (g / (g - 1)) ** 0.5), g - 1)


def shuffled(statistic: Callable, x, y, times: int = 400, seed: int = SEED) -> Estimate:
    """Mean of statistic(x, y) where y is dealt to the settings at random: 0 but for its error."""
    rng, known = np.random.default_rng(seed), np.isfinite(x) & np.isfinite(y)
    dealt, values = np.array(y, float), []
    for _ in range(times):
        dealt[known] = rng.permutation(dealt[known])
        values.append(float(statistic(x, dealt)))
    return mean(np.asarray(values))


def sign(found: Estimate) -> Estimate:
    """The sign of an estimate, +1 or -1, on average, and the spread of what it may be.

    With p the chance by Student's law that the truth has the sign +1 (one-sided, as if nothing was
    known before): 2 p - 1, and (1 - (2 p - 1)^2)^1/2.  A verdict that predicts +1 and allows for
    36/37 holds for p > 36/37 and fails for p < 1/37: a one-sided test, at 2.7% either way.
    """
    if not found.stderr > 0:
        return Estimate(float(np.sign(found.value)), 0.0 if np.isfinite(found.value) else np.nan)
    surely = 2 * float(stdtr(found.freedom, found.value / found.stderr)) - 1
    return Estimate(surely, (1 - surely**2) ** 0.5, found.freedom)


def _counted(*columns, weights):
    known = np.all(np.isfinite(columns), axis=0)
    return np.where(known, 1.0 if weights is None else weights, 0.0)


def _signs(x):
    """Of all differences x_i - x_j, (n, n)."""
    x = np.nan_to_num(np.asarray(x, float))
    return np.sign(x[:, None] - x[None, :])


def _ranks(x, weights):
    """Twice the ranks about their mean: how many settings lie below each, less how many above."""
    return weights @ _signs(x).T


def _correlation(a, b, weights):
    """Of columns whose weighted means are 0."""
    both, one, two = (np.sum(weights * p, axis=-1) for p in (a * b, a * a, b * b))
    spread = one * two
    return both / np.sqrt(np.where(spread > 0, spread, np.nan))
