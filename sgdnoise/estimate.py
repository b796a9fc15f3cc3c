"""A measured number and how far to trust it."""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from sgdnoise.arrays import as_numpy, concrete, device, namespace

__all__ = ["Estimate", "finite_mean", "grouped", "mean"]


class Estimate(NamedTuple):
    """A value with its standard error, both of the same shape, and how well the error is known.

    freedom: Student's degrees of freedom of (value - truth) / stderr; infinite where not said.
    """

    value: Any
    stderr: Any
    freedom: Any = math.inf

    def distance(self, truth):
        """How many standard errors the value lies from `truth`."""
        return abs(self.value - truth) / self.stderr

    def interval(self, level: float = 0.95):
        """Ends of the central interval of this level, by Student's law."""
        times = stdtrit(as_numpy(self.freedom), (1 + level) / 2)
        if not isinstance(self.stderr, float):
            where = device(self.stderr)
            times = namespace(self.stderr).asarray(times, dtype=self.stderr.dtype, device=where)
        reach = times * self.stderr
        return self.value - reach, self.value + reach


def mean(samples) -> Estimate:
    """Mean over the leading axis of independent samples, (n, ...) -> (...).

    The error is s / sqrt(n), with s^2 the unbiased variance.  Its law is Student's with
    n - 1 degrees of freedom.  Raises ValueError for n < 2.
    """
    xp, n = namespace(samples), samples.shape[0]
    if n < 2:
        raise ValueError(f"an error needs at least 2 samples, not {n}")
    return Estimate(xp.mean(samples, axis=0), xp.std(samples, axis=0, correction=1) / n**0.5, n - 1)


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


def grouped(statistic, samples, groups: int = 5, *, splits: int = 10) -> Estimate:
    r"""A statistic of all n samples, its error from its spread over disjoint groups of them.

    Formulas for independent terms claim too little for points that share neighbours; whole groups
    are independent.  The variance between groups, a mean over `splits` partitions and of the
    logarithm where all values are positive, falls by n over the size of a group.  Where it falls
    faster, at the maximum of a smooth statistic, the error is too large, by up to groups^1/2.
    Samples must come in no order: the partitions are always the same.
    Raises ValueError for fewer samples than groups, or fewer than 2 groups.
    """
    n = samples.shape[0]
    if not 2 <= groups <= n:
        raise ValueError(f"{n} samples cannot make {groups} groups; take 2 to {n}")
    xp, size = namespace(samples), n // groups
    whole = xp.asarray(statistic(samples))
    parts = xp.stack([_of_groups(statistic, samples, groups, split) for split in range(splits)])
    unit = xp.ones_like(whole)
    if concrete(xp.all(parts > 0) & xp.all(whole > 0)):
        parts, unit = xp.log(parts), whole
    variance = xp.mean(xp.var(parts, axis=1, correction=1), axis=0)
    return Estimate(whole, unit * xp.sqrt(variance * size / n), splits * (groups - 1))


def _of_groups(statistic, samples, groups, split):
    """The statistic of each of the groups of one partition of the samples, (groups, ...)."""
    xp, n = namespace(samples), samples.shape[0]
    shares = np.random.default_rng(split).permutation(n)[: n - n % groups].reshape(groups, -1)
    picks = (xp.asarray(share, device=device(samples)) for share in shares)
    return xp.stack([xp.asarray(statistic(xp.take(samples, pick, axis=0))) for pick in picks])
