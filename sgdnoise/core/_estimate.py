"""A measured number and its standard error."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import stdtrit

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, concrete, device, namespace, widened
from sgdnoise.core._groups import Group, check_groups, evaluate, of_groups, shared_with
from sgdnoise.core._scalars import described


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """A value with its standard error, both of the same shape.

    dof: degrees of freedom of Student's law of (value - truth) / stderr; infinite if unknown.

    Estimates add, subtract, multiply and divide with numbers, arrays and other estimates.  Errors
    are propagated to first order, as if the two estimates were independent: if they share data,
    the error of the result is wrong, and the caller must compute it from the data.  The dof of a
    result is that of Welch (1947) and Satterthwaite (1946).  `<`, `>` and `float` raise TypeError,
    since they would hide the error: use `.value`, `.z` or `.interval`.  `==` compares records:
    all three entries must be identical.  Raises ValueError for a negative stderr.

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

    def __post_init__(self):
        if isinstance(self.stderr, (Real, np.ndarray)) and np.any(_as_floats(self.stderr) < 0):
            raise ValueError(f"a standard error is 0 or more, not {self.stderr}")

    def z(self, truth):
        """(value - truth) / stderr, the deviation from `truth` in standard errors, with sign."""
        return (self.value - truth) / self.stderr

    def interval(self, level: float = 0.95):
        """Both ends of the central confidence interval of this level, by Student's law.

        Raises ValueError unless 0 < level < 1.
        """
        check_level(level)
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
            sensitivity, _ = sensitivities(self.value, other)
            return Estimate(operation(self.value, other), sensitivity * self.stderr, self.dof)
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


def check_level(level):
    """Raise ValueError unless a confidence level lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, as 0.95 does, not {level}")


@checked
def batch_means(samples, batches: int = 200) -> np.ndarray:
    """Means of disjoint batches of samples, (n, ...) -> (at most `batches`, ...), in numpy.

    The `mean` of the batch means and its error are those of all samples, with fewer degrees of
    freedom.  It is what a result stores of many chains.  Batch sizes differ by one at most.

    Example:
        >>> import numpy as np
        >>> batch_means(np.asarray([1.0, 3.0, 5.0, 7.0]), batches=2).tolist()
        [2.0, 6.0]
    """
    samples = as_numpy(widened(samples, "samples"))
    batches_of_samples = np.array_split(samples, min(batches, len(samples)))
    return np.stack([batch.mean(axis=0, dtype=float) for batch in batches_of_samples])


@checked
def mean(samples) -> Estimate:
    """The mean over the leading axis of independent samples, (n, ...) -> (...).

    The error is s / sqrt(n), where s^2 is the unbiased variance; it has n - 1 degrees of freedom.
    Raises ValueError for n < 2.

    Example:
        >>> print(mean(np.asarray([1.0, 2.0, 3.0])))
        2.00 ± 0.58
    """
    samples = widened(samples, "samples")
    xp, n = namespace(samples), _length(samples)
    if n < 2:
        raise ValueError(f"an error needs at least 2 samples, not {n}")
    return Estimate(xp.mean(samples, axis=0), xp.std(samples, axis=0, correction=1) / n**0.5, n - 1)


@checked
def nanmean(samples) -> Estimate:
    """The `mean` over those samples (leading axis) that are finite throughout.

    It is nan if fewer than 2 samples are finite.  The caller reports how many were left out.

    Example:
        >>> import numpy as np
        >>> print(nanmean(np.asarray([1.0, 3.0, np.nan])))
        2.0 ± 1.0
    """
    samples = widened(samples, "samples")
    xp, n = namespace(samples), _length(samples)
    flat = xp.reshape(samples, (n, math.prod(samples.shape[1:])))
    finite = samples[xp.all(xp.isfinite(flat), axis=1), ...]
    if finite.shape[0] < 2:
        blank = xp.full(samples.shape[1:], xp.nan)
        return Estimate(blank, blank)
    return mean(finite)


@checked
def jackknife(value, values_left_out) -> Estimate:
    r"""A smooth statistic T of n samples from its values (n,) with each sample left out.

    The bias of order 1/n is removed: n T - (n - 1) mean T_(-i).  The squared error is
    (n - 1) / n sum_i (T_(-i) - mean)^2 (Tukey, 1958).
    Raises ValueError for fewer than 2 values.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 2.0, 3.0, 4.0])
        >>> left_out = np.asarray([np.var(np.delete(x, i)) for i in range(4)])
        >>> round(float(jackknife(np.var(x), left_out).value), 4)  # the variance over n - 1: 5 / 3
        1.6667
    """
    values_left_out = as_numpy(widened(values_left_out, "values_left_out"))
    n = _length(values_left_out)
    if n < 2:
        raise ValueError(f"a jackknife leaves out one of at least 2 samples, not of {n}")
    center = np.mean(values_left_out)
    error = ((n - 1) * np.mean((values_left_out - center) ** 2)) ** 0.5
    return Estimate(float(n * value - (n - 1) * center), float(error), n - 1)


@checked
def with_group_error(
    statistic,
    samples,
    groups: int = 5,
    *,
    n_fewer: int = 2,
    splits: int = 10,
    block: int | None = None,
) -> Estimate:
    r"""A statistic of all n samples, with an error from its values on disjoint groups of them.

    Formulas for independent terms underestimate the error if points share neighbours; whole groups
    are independent.  Let E_g be the variance between g groups divided by g, averaged over
    partitions, of logarithms if all values are positive.  For g groups and h = `n_fewer` groups

        V = ((g - 1) E_h - (h - 1) E_g) / (g - h),  at least (E_h / h  E_g / g)^1/2,

    is the variance of the statistic of all samples if the statistic is linear (all E_g are equal),
    if it is at its maximum (E_g is g times too large), and between the two (Efron & Stein, 1981).
    A statistic with corners, such as the largest of eigenvalues that may be equal, needs n_fewer=4
    and groups=10: two halves have equal values at a corner, and then no variance.
    There are `splits` partitions into g groups and twice as many into h.  With g = h the result is
    E_g, as for a linear statistic.  The cost is 3 `splits` times that of the statistic; estimators
    of dimension search for neighbours once.
    dof is that of a linear statistic: 10.9 for many samples by default.
    The samples must be in random order, since the partitions are always the same, unless `block`
    consecutive samples stay together, which then must be more than depend on each other; by default
    1, or what a statistic with an option exclude= asks for.
    Raises ValueError for fewer samples, or blocks of them, than groups, fewer than 2 groups, or
    n_fewer > groups.

    Example:
        >>> samples = np.random.default_rng(0).normal(size=400)
        >>> print(with_group_error(np.std, samples))
        0.995 ± 0.032
    """
    samples = samples if _may_be_indices(samples) else widened(samples, "samples")
    n = _length(samples)
    check_groups(n, groups, n_fewer, block or 1)
    xp, repeats = namespace(samples), {n_fewer: 2 * splits, groups: splits}
    shared = shared_with(samples)
    whole = Group(samples, samples, None, 1, groups, shared)
    value, unit = evaluate(statistic, whole), 1
    block = shared.get("block", 1) if block is None else block
    check_groups(n, groups, n_fewer, block)
    shared["partitions"] = {g: (repeats[g], block) for g in repeats}
    group_values = {
        g: of_groups(statistic, whole._replace(groups=g), repeats[g], block) for g in repeats
    }
    shared["group_values"] = group_values
    if concrete(xp.all(xp.stack([xp.min(v) for v in (value, *group_values.values())]) > 0)):
        group_values, unit = {g: xp.log(v) for g, v in group_values.items()}, value
    claims = {g: _claim(values, n // block) for g, values in group_values.items()}
    weight = (n_fewer - 1) / (groups - n_fewer) if groups > n_fewer else 0
    smallest = xp.sqrt(claims[n_fewer] / n_fewer * claims[groups] / groups)
    variance = xp.maximum((1 + weight) * claims[n_fewer] - weight * claims[groups], smallest)
    squares = {g: repeats[g] * (g - 1) for g in repeats}
    inverse_dof = (1 + weight) ** 2 / squares[n_fewer] + weight**2 / squares[groups]
    return Estimate(value, unit * xp.sqrt(variance), 1 / (inverse_dof + 1 / (n // block - 1)))


def _as_floats(stderr) -> np.ndarray:
    try:
        return np.asarray(stderr, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"a standard error is a number, not {described(stderr)}") from None


def _may_be_indices(samples) -> bool:
    """Whether samples are a vector of wide integers: numbers of rows that a statistic looks up."""
    kind = str(getattr(samples, "dtype", "")).rpartition(".")[2]
    return kind in ("int32", "int64") and samples.ndim == 1


def _length(samples):
    """The number of samples along the first axis."""
    if not samples.ndim:
        raise ValueError("samples must be an array with the samples along its first axis, not one")
    return samples.shape[0]


def _claim(values, n):
    """The variance of a linear statistic of n samples, from its variance between groups."""
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
