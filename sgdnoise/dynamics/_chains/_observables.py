"""Observables reduced while chains run, so that no trajectory is held."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._estimate import Estimate, mean

WINDOW = 5.0  # times half a correlation time, to where correlations are summed


class Observable(NamedTuple):
    """What is kept of one chain in place of its path; `simulate` and `chunked` take it to observe.

    start: theta at the start -> what is kept of nothing.
    add: (kept, theta, steps taken so far) -> kept.
    result: kept -> what is handed back, with an axis of chains in front.
    """

    start: Callable[[Any], Any]
    add: Callable[[Any, Any, Any], Any]
    result: Callable[[Any], Any]


class Moments(NamedTuple):
    """Of k numbers along each chain: count (chain,), mean (chain, k), covariance (chain, k, k)."""

    count: Any
    mean: Any
    covariance: Any


class Autocovariance(NamedTuple):
    """Along each chain at lag 0 and at `lags` (chain, lag, k), about its own mean (chain, k)."""

    lags: Any
    mean: Any
    covariance: Any


class Passage(NamedTuple):
    """The step at which each chain first passed; where it has not, the last step it was seen."""

    step: Any
    passed: Any


class Histogram(NamedTuple):
    """How often each chain was in each bin, (chain, ..., bin), and below and above all of them."""

    counts: Any
    below: Any
    above: Any


def combine(folds: dict[str, Observable]) -> Observable:
    """Several folds of the same chains: what they keep and hand back become dicts of theirs."""

    def start(theta):
        return {name: fold.start(theta) for name, fold in folds.items()}

    def add(kept, theta, step):
        return {name: fold.add(kept[name], theta, step) for name, fold in folds.items()}

    def result(kept):
        return {name: fold.result(kept[name]) for name, fold in folds.items()}

    return Observable(start, add, result)


def moments(of=None) -> Observable:
    """Mean and covariance of theta, or of the numbers `of(theta)`, over the steps seen.

    By the updates of Welford (1962), their sums compensated as by Kahan (1965), so that a million
    additions in float32 lose no digit.  The covariance is the mean of squares about the mean: of
    one chain too small by its variance times correlation time / steps; see `pooled`.
    """

    def start(theta):
        x = _numbers(of, theta)
        return jnp.zeros((), int), _nothing(x), _nothing(x[:, None] * x)

    def add(kept, theta, step):  # noqa: ARG001 - all steps count alike
        count, middle, squares = kept
        x, count = _numbers(of, theta), count + 1
        off = x - middle[0]
        middle = _plus(middle, off / count)
        return count, middle, _plus(squares, off[:, None] * (x - middle[0]))

    def result(kept):
        count, (middle, _), (squares, _) = kept
        return Moments(count, middle, squares / count)

    return Observable(start, add, result)


def pool(found: Moments) -> tuple[Estimate, Estimate]:
    """Mean (k,) and covariance (k, k) over all steps of all chains, which are independent.

    The covariance of the chains' means (divisor chains - 1) is added to the mean covariance within
    them: unbiased at rest, whatever the chains remember.  Errors are those of the spread between
    chains.  Raises ValueError for fewer than 2 chains.
    """
    middle, within = (as_numpy(part).astype(float) for part in found[1:])
    overall, chains = mean(middle), len(middle)
    off = middle - overall.value
    between = off[:, :, None] * off[:, None, :] * chains / (chains - 1)
    return overall, mean(within + between)


def autocorrelation(lags: int | Sequence[int], of=None) -> Observable:
    """Autocovariance of theta, or of the numbers `of(theta)`, at lags in units of `every` steps.

    lags: 1 to this number, or a list.  The products are summed as they come, with the largest lag
    of values held; about each chain's own mean, which lowers all of them by the variance times
    correlation time / steps; `correlations` and `correlation_time` take a common mean instead.
    Raises ValueError for no lags, or one below 1.
    """
    lags = list(range(1, lags + 1)) if isinstance(lags, int) else sorted(map(int, lags))
    if not lags or lags[0] < 1:
        raise ValueError(f"lags are counted from 1, and are not {lags}")
    places = np.asarray(lags) - 1

    def start(theta):
        x = _numbers(of, theta)
        blank = jnp.zeros((lags[-1], *x.shape), x.dtype)
        products = _nothing(jnp.zeros((1 + len(lags), *x.shape), x.dtype))
        return jnp.zeros((), int), x, blank, blank, _nothing(x), products

    def add(kept, theta, step):  # noqa: ARG001 - steps are counted here
        count, origin, head, recent, total, products = kept
        x = _numbers(of, theta) - origin
        other = jnp.concatenate([x[None], recent[places]])
        head = jnp.where(jnp.arange(lags[-1])[:, None] == count, x, head)
        recent = jnp.concatenate([x[None], recent[:-1]])
        return count + 1, origin, head, recent, _plus(total, x), _plus(products, x * other)

    def result(kept):
        count, origin, head, recent, (total, _), (products, _) = kept
        middle, pairs = total / count, count - np.asarray([0, *lags])[:, None]
        ends = jnp.cumsum(head + recent, axis=0)[places]  # missing as later, as earlier of a pair
        missing = jnp.concatenate([jnp.zeros_like(ends[:1]), ends])
        sums = products - middle * (2 * total - missing) + pairs * middle**2
        return Autocovariance(jnp.asarray([0, *lags]), middle + origin, sums / pairs)

    return Observable(start, add, result)


def correlations(found: Autocovariance) -> Estimate:
    """rho of each lag but 0, over all k numbers and all chains as noise.autocorrelation has it.

    Chains are taken about their common mean; errors are those of a ratio, from the spread between
    chains, which must be independent.  Raises ValueError for fewer than 2 chains.
    """
    return _ratio(_about_common(found)[:, 1:], found)


def correlation_time(found: Autocovariance, window: int | None = None) -> Estimate:
    """tau = 1 + 2 sum_k rho_k to `window`, or to the first W >= 5 (1/2 + sum |rho_k|).

    A mean of t steps varies as one of t / tau independent ones.  What lies beyond the window is
    left out, about exp(-5) of it for exponential memory.
    Raises ValueError unless lags are 1, 2, ... and reach the window.
    """
    lags, rho = as_numpy(found.lags)[0], as_numpy(correlations(found).value)
    if window is None:
        size = 0.5 + np.cumsum(abs(rho))
        reach = np.flatnonzero(np.arange(1, 1 + len(rho)) >= WINDOW * size)
        window = int(reach[0]) + 1 if len(reach) else len(rho) + 1
    if window >= len(lags) or not np.array_equal(lags, np.arange(len(lags))):
        raise ValueError(f"a sum over {window} lags needs all of them, but the last is {lags[-1]}")
    values = _about_common(found)
    return _ratio(values[:, 0] + 2 * values[:, 1 : window + 1].sum(1), found)


def first_passage(condition) -> Observable:
    """The step at which `condition(theta)` was first true, of those seen (each `every` steps)."""

    def start(theta):  # noqa: ARG001 - a start that meets the condition is not a passage yet
        return jnp.zeros((), int), jnp.zeros((), bool)

    def add(kept, theta, step):
        before, passed = kept
        return jnp.where(passed, before, step), passed | condition(theta)

    return Observable(start, add, lambda kept: Passage(*kept))


def passage_rate(found: Passage) -> Estimate:
    """Passages a step, where they come at a constant rate: their number over all steps waited.

    The error is the rate over the root of that number; censored chains count by their waiting.
    Raises ValueError where no chain has passed.
    """
    passages, waited = int(as_numpy(found.passed).sum()), float(as_numpy(found.step).sum())
    if not passages:
        raise ValueError(f"no chain has passed in {waited:.0f} steps, which gives no rate")
    return Estimate(passages / waited, passages**0.5 / waited)


def histogram(edges, of) -> Observable:
    """How often `of(theta)` was in [edge, next edge), for each of the numbers it gives.

    What is not a number is counted nowhere.  Raises ValueError unless there are 2 edges or more,
    ascending.
    """
    edges = np.asarray(edges, float)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"a histogram needs 2 edges or more, ascending, not {edges}")

    def start(theta):
        x = jnp.asarray(of(theta))
        none = jnp.zeros(x.shape, int)
        return Histogram(jnp.zeros((*x.shape, len(edges) - 1), int), none, none)

    def add(kept, theta, step):  # noqa: ARG001 - all steps count alike
        x = jnp.asarray(of(theta))
        ends = edges.astype(x.dtype)
        inside = (x[..., None] >= ends[:-1]) & (x[..., None] < ends[1:])
        seen = Histogram(inside, x < ends[0], x >= ends[-1])
        return jax.tree.map(lambda old, new: old + new, kept, seen)

    return Observable(start, add, lambda kept: kept)


def _numbers(of, theta):
    """What is observed, as one vector (k,)."""
    parts = jax.tree.leaves(theta if of is None else of(theta))
    return jnp.concatenate([jnp.ravel(part) for part in parts])


def _nothing(like):
    """A sum of nothing, and what it lost by rounding."""
    return jnp.zeros_like(like), jnp.zeros_like(like)


def _plus(kept, term):
    total, lost = kept
    term = term - lost
    new = total + term
    return new, (new - total) - term


def _about_common(found):
    """Autocovariances summed over the k numbers (chain, lag), about the mean of all chains."""
    middle, within = as_numpy(found.mean), as_numpy(found.covariance)
    off = middle - middle.mean(0)
    return within.sum(2) + (off**2).sum(1)[:, None] * len(middle) / max(len(middle) - 1, 1)


def _ratio(values, found) -> Estimate:
    """Mean of values over the mean variance, the error to first order (chain, ...) -> (...)."""
    variance = _about_common(found)[:, 0]
    ratio = values.mean(0) / variance.mean()
    scale = variance if values.ndim == 1 else variance[:, None]
    return Estimate(ratio, mean((values - ratio * scale) / variance.mean()).stderr, len(values) - 1)
