"""A measured number and how far to trust it."""

import math
from typing import Any, NamedTuple

from sgdnoise.arrays import namespace

__all__ = ["Estimate", "finite_mean", "grouped", "mean"]


class Estimate(NamedTuple):
    """A value with its standard error, both of the same shape."""

    value: Any
    stderr: Any

    def distance(self, truth):
        """How many standard errors the value lies from `truth`."""
        return abs(self.value - truth) / self.stderr


def mean(samples) -> Estimate:
    """Mean over the leading axis of independent samples, (n, ...) -> (...).

    The error is s / sqrt(n), with s^2 the unbiased variance.  Raises ValueError for n < 2.
    """
    xp, n = namespace(samples), samples.shape[0]
    if n < 2:
        raise ValueError(f"an error needs at least 2 samples, not {n}")
    return Estimate(xp.mean(samples, axis=0), xp.std(samples, axis=0, correction=1) / n**0.5)


def finite_mean(samples) -> Estimate:
    """As `mean`, over those samples (leading axis) that are finite throughout.

    nan where fewer than 2 are; whoever calls says how many were left out.
    """
    xp, n = namespace(samples), samples.shape[0]
    flat = xp.reshape(samples, (n, math.prod(samples.shape[1:])))
    kept = samples[xp.all(xp.isfinite(flat), axis=1), ...]
    if kept.shape[0] < 2:
        blank = xp.full(samples.shape[1:], xp.nan)
        return Estimate(blank, blank)
    return mean(kept)


def grouped(statistic, samples, groups=20) -> Estimate:
    """A statistic of all samples, its error from the spread over disjoint groups of them.

    Samples must come in no order.  Neighbouring points share neighbours, so that formulas for
    independent terms claim too little; whole groups are independent.
    Raises ValueError for fewer samples than groups, or fewer than 2 groups.
    """
    xp, n = namespace(samples), samples.shape[0]
    if not 2 <= groups <= n:
        raise ValueError(f"{n} samples cannot make {groups} groups; take 2 to {n}")
    parts = xp.stack([xp.asarray(statistic(samples[g::groups, ...])) for g in range(groups)])
    return Estimate(statistic(samples), xp.std(parts, axis=0, correction=1) / groups**0.5)
