"""A measured number and how far to trust it."""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from sgdnoise.core._arrays import as_numpy, concrete, device, namespace


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


def batch_means(samples, batches: int = 200) -> np.ndarray:
    """Means of disjoint batches of samples, (n, ...) -> (at most `batches`, ...), in numpy.

    Their `mean` has the mean and error of that of all, with fewer degrees of freedom: what a
    result keeps of many chains.  Sizes differ by one at most.
    """
    samples = as_numpy(samples)
    parts = np.array_split(samples, min(batches, len(samples)))
    return np.stack([part.mean(axis=0, dtype=float) for part in parts])


def mean(samples) -> Estimate:
    """Mean over the leading axis of independent samples, (n, ...) -> (...).

    The error is s / sqrt(n), with s^2 the unbiased variance.  Its law is Student's with
    n - 1 degrees of freedom.  Raises ValueError for n < 2.
    """
    xp, n = namespace(samples), samples.shape[0]
    if n < 2:
        raise ValueError(f"an error needs at least 2 samples, not {n}")
    return Estimate(xp.mean(samples, axis=0), xp.std(samples, axis=0, correction=1) / n**0.5, n - 1)


def nanmean(samples) -> Estimate:
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


def jackknife(whole, left_out) -> Estimate:
    r"""A smooth statistic of n samples from its values (n,) with each left out (Tukey, 1958).

    Bias of order 1/n taken off, n T - (n - 1) mean T_(-i); the error^2 is
    (n - 1) / n sum (T_(-i) - mean)^2.  Raises ValueError for fewer than 2 values.
    """
    n = left_out.shape[0]
    if n < 2:
        raise ValueError(f"a jackknife leaves out one of at least 2 samples, not of {n}")
    middle = np.mean(left_out)
    error = ((n - 1) * np.mean((left_out - middle) ** 2)) ** 0.5
    return Estimate(float(n * whole - (n - 1) * middle), float(error), n - 1)


def with_group_error(
    statistic, samples, groups: int = 5, *, fewer: int = 2, splits: int = 10
) -> Estimate:
    r"""A statistic of all n samples, its error from its spread over disjoint groups of them.

    Formulas for independent terms claim too little for points that share neighbours; whole groups
    are independent.  With E_g the variance between g groups over g, a mean over partitions, of
    logarithms where all values are positive, for g groups and h `fewer`

        V = ((g - 1) E_h - (h - 1) E_g) / (g - h),  at least (E_h / h  E_g / g)^1/2,

    is the variance of the whole for a statistic with a linear part, where all E_g are alike, for
    one at its maximum, where E_g is g times too large, and between (Efron & Stein, 1981, have the
    excess of such claims).  A statistic with corners, as the largest of eigenvalues that may be
    equal has, needs 4 `fewer` of 10 groups: two halves, which lie about the whole as in a mirror,
    have equal values where it is at a corner, and no variance; 10 of a smooth maximum claim more.
    There are `splits` partitions into groups and twice as many into fewer; of as many groups as
    fewer E_g is taken, as if all were linear.  Cost: 3 `splits` times the whole.
    freedom is that of a linear statistic: 10.9 of many samples as it comes, 24 of 4 and 10 groups.
    Samples must come in no order: the partitions are always the same.
    Raises ValueError for fewer samples than groups, fewer than 2 groups, or more `fewer`.
    """
    n = samples.shape[0]
    if not 2 <= groups <= n:
        raise ValueError(f"{n} samples cannot make {groups} groups; take 2 to {n}")
    if not 2 <= fewer <= groups:
        raise ValueError(f"fewer groups than {groups} are 2 to {groups}, not {fewer}")
    xp, times = namespace(samples), {fewer: 2 * splits, groups: splits}
    whole, unit = xp.asarray(statistic(samples)), 1
    parts = {g: _of_groups(statistic, samples, g, times[g]) for g in times}
    if concrete(xp.all(xp.stack([xp.min(values) for values in (whole, *parts.values())]) > 0)):
        parts, unit = {g: xp.log(values) for g, values in parts.items()}, whole
    claims = {g: _claim(values, n) for g, values in parts.items()}
    less = (fewer - 1) / (groups - fewer) if groups > fewer else 0
    least = xp.sqrt(claims[fewer] / fewer * claims[groups] / groups)
    variance = xp.maximum((1 + less) * claims[fewer] - less * claims[groups], least)
    squares = {g: times[g] * (g - 1) for g in times}
    doubt = (1 + less) ** 2 / squares[fewer] + less**2 / squares[groups] + 1 / (n - 1)
    return Estimate(whole, unit * xp.sqrt(variance), 1 / doubt)


def _of_groups(statistic, samples, groups, splits):
    """The statistic of each of the groups of each partition of the samples, (split, group, ...)."""
    xp, n = namespace(samples), samples.shape[0]
    rows = []
    for split in range(splits):
        order = np.random.default_rng([groups, split]).permutation(n)[: n - n % groups]
        picks = (xp.asarray(p, device=device(samples)) for p in order.reshape(groups, -1))
        values = (xp.asarray(statistic(xp.take(samples, pick, axis=0))) for pick in picks)
        rows.append(xp.stack([*values]))
    return xp.stack(rows)


def _claim(values, n):
    """Variance of all n samples, from that between groups of them, were it linear."""
    xp, size = namespace(values), n // values.shape[1]
    return xp.mean(xp.var(values, axis=1, correction=1), axis=0) * size / n
