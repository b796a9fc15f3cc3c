"""A measured number and its standard error."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import stdtrit

from sgdnoise.core._arrays import as_numpy, concrete, device, namespace


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """A value with its standard error, both of the same shape.

    dof: degrees of freedom of Student's law of (value - truth) / stderr; infinite if unknown.

    Estimates add, subtract, multiply and divide with numbers, arrays and other estimates.  Errors
    are propagated to first order, as if the two estimates were independent: if they share data,
    the error of the result is wrong, and the caller must compute it from the data.  The dof of a
    result is that of Welch (1947) and Satterthwaite (1946).  `<`, `>` and `float` raise TypeError,
    since they would hide the error: use `.value`, `.z` or `.interval`.  `==` compares records:
    all three entries must be identical.

    Example:
        >>> length, width = Estimate(4.5, 0.3), Estimate(2.0, 0.4)
        >>> print(length - width)
        2.50 ± 0.50
        >>> length.interval(0.95)[0].round(2)
        np.float64(3.91)
    """

    value: Any
    stderr: Any
    dof: Any = math.inf
    __array_ufunc__ = None  # numpy then leaves arithmetic with an Estimate to this class

    def z(self, truth):
        """(value - truth) / stderr, the deviation from `truth` in standard errors, with sign."""
        return (self.value - truth) / self.stderr

    def interval(self, level: float = 0.95):
        """Both ends of the central confidence interval of this level, by Student's law."""
        quantile = stdtrit(as_numpy(self.dof), (1 + level) / 2)
        if not isinstance(self.stderr, float):
            quantile = namespace(self.stderr).asarray(
                quantile, dtype=self.stderr.dtype, device=device(self.stderr)
            )
        half_width = quantile * self.stderr
        return self.value - half_width, self.value + half_width

    def __add__(self, other):
        return self._combine(other, lambda a, b: a + b, lambda a, b: (1.0, 1.0))

    def __sub__(self, other):
        return self._combine(other, lambda a, b: a - b, lambda a, b: (1.0, 1.0))

    def __mul__(self, other):
        return self._combine(other, lambda a, b: a * b, lambda a, b: (abs(b), abs(a)))

    def __truediv__(self, other):
        return self._combine(
            other, lambda a, b: a / b, lambda a, b: (1 / abs(b), abs(a) / abs(b) ** 2)
        )

    def __radd__(self, other):
        return self + other

    def __rsub__(self, other):
        return -self + other

    def __rmul__(self, other):
        return self * other

    def __rtruediv__(self, other):
        return Estimate(other, 0.0 * abs(other)) / self

    def __neg__(self):
        return Estimate(-self.value, self.stderr, self.dof)

    def _combine(self, other, operation, sensitivities):
        """operation(self, other) with the error propagated to first order."""
        if not isinstance(other, Estimate):
            if not (isinstance(other, Real) or hasattr(other, "shape")):
                return NotImplemented
            own, _ = sensitivities(self.value, other)
            return Estimate(operation(self.value, other), own * self.stderr, self.dof)
        by_self, by_other = sensitivities(self.value, other.value)
        first, second = (by_self * self.stderr) ** 2, (by_other * other.stderr) ** 2
        total = first + second
        inverse = first**2 / self.dof + second**2 / other.dof
        return Estimate(operation(self.value, other.value), total**0.5, _divided(total**2, inverse))

    def _refuse(self, *_):
        raise TypeError(
            "an Estimate has an error, so it has no order and is not a float: "
            "use its .value, or ask .z(number) or .interval(level)"
        )

    __lt__ = __le__ = __gt__ = __ge__ = __float__ = __bool__ = _refuse

    def __eq__(self, other):
        if not isinstance(other, Estimate):
            return NotImplemented
        pairs = zip(self._entries(), other._entries(), strict=True)
        return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)

    def __hash__(self):
        return hash(tuple(array.tobytes() for array in self._entries()))

    def _entries(self):
        return [as_numpy(entry) for entry in (self.value, self.stderr, self.dof)]

    def __format__(self, spec: str) -> str:
        value, stderr, _ = self._entries()
        if value.ndim:
            return f"{_brief(value, spec or '.3g')} ± {_brief(stderr, spec or '.3g')}"
        spec = spec or f".{_decimals(float(stderr))}f"
        return f"{float(value):{spec}} ± {float(stderr):{spec}}"

    def __str__(self):
        return format(self)

    def __repr__(self):
        return f"Estimate({self})"


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


def _divided(a, b):
    """a / b, infinite where b is 0."""
    if isinstance(b, Real):
        return a / b if b else math.inf
    xp = namespace(b)
    return xp.where(b == 0, xp.inf, a / xp.where(b == 0, 1, b))


def _decimals(stderr: float) -> int:
    """Decimals that show two digits of an error; 2 where there is none."""
    if not 0 < stderr < math.inf:
        return 2
    return max(0, min(12, 1 - math.floor(math.log10(stderr))))


def _brief(array, spec) -> str:
    """The first entries of an array as text."""
    flat = array.ravel()
    text = ", ".join(f"{float(entry):{spec}}" for entry in flat[:4])
    return f"[{text}{', ...' if flat.size > 4 else ''}]"
