"""Observables that are reduced while chains run, so that no trajectory is stored."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._estimate import Estimate, mean
from sgdnoise.core._scalars import described

WINDOW = 5.0  # times half a correlation time, to where correlations are summed


class Observable(NamedTuple):
    """What is accumulated along one chain; pass it to `simulate` as `observe`.

    start: theta at the start -> the empty accumulator.
    add: (accumulator, theta, number of steps so far) -> accumulator.
    result: accumulator -> the result; `simulate` adds an axis of chains in front.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> from sgdnoise.noise import StepNumber
        >>> count = Process(lambda theta, _: theta + 1, StepNumber(), 1.0)
        >>> total = Observable(jnp.zeros_like, lambda sum, theta, _: sum + theta, lambda sum: sum)
        >>> simulate(count, 0, jnp.zeros((1, 1)), steps=4, every=1, observe=total).tolist()
        [[10.0]]
    """

    start: Callable[[Any], Any]
    add: Callable[[Any, Any, Any], Any]
    result: Callable[[Any], Any]


class Moments(NamedTuple):
    """Moments of k numbers: count (chain,), mean (chain, k) and covariance (chain, k, k).

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, moments, simulate
        >>> from sgdnoise.noise import StepNumber
        >>> count = Process(lambda theta, _: theta + 1, StepNumber(), 1.0)
        >>> found = simulate(count, 0, jnp.zeros((1, 1)), steps=3, every=1, observe=moments())
        >>> found.count.tolist(), found.mean.tolist()  # of 1, 2 and 3
        ([3], [[2.0]])
    """

    count: Any
    mean: Any
    covariance: Any


class Autocovariance(NamedTuple):
    """Autocovariance (chain, lag, k) at lag 0 and `lags`, about the mean (chain, k) of a chain.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, autocorrelation, simulate
        >>> from sgdnoise.noise import Rademacher
        >>> signs = Process(lambda theta, drawn: drawn, Rademacher(1), 1.0)
        >>> observe = autocorrelation(2)
        >>> found = simulate(signs, 0, jnp.zeros((1, 1)), steps=4000, every=1, observe=observe)
        >>> found.lags.tolist(), found.covariance[0].round(1).tolist()  # independent: only lag 0
        ([[0, 1, 2]], [[1.0], [-0.0], [-0.0]])
    """

    lags: Any
    mean: Any
    covariance: Any


class Passage(NamedTuple):
    """The step of the first passage of each chain, or the last recorded step if there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, first_passage, simulate
        >>> from sgdnoise.noise import StepNumber
        >>> count = Process(lambda theta, _: theta + 1, StepNumber(), 1.0)
        >>> observe, start = first_passage(lambda theta: theta[0] > 4), jnp.asarray([[0.0], [-9.0]])
        >>> passage = simulate(count, 0, start, steps=8, every=1, observe=observe)
        >>> passage.step.tolist(), passage.passed.tolist()
        ([5, 8], [True, False])
    """

    step: Any
    passed: Any


class Histogram(NamedTuple):
    """Counts of each bin, (chain, ..., bin), and the counts below and above all bins.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, histogram, simulate
        >>> from sgdnoise.noise import StepNumber
        >>> count = Process(lambda theta, _: theta + 1, StepNumber(), 1.0)
        >>> observe = histogram(jnp.asarray([2.0, 4.0, 6.0]), of=lambda theta: theta[0])
        >>> found = simulate(count, 0, jnp.zeros((1, 1)), steps=8, every=1, observe=observe)
        >>> found.counts.tolist(), found.below.tolist(), found.above.tolist()  # of 1, 2, ..., 8
        ([[2, 2]], [1], [3])
    """

    counts: Any
    below: Any
    above: Any


@checked
def combine(observables: dict[str, Observable]) -> Observable:
    """Several observables of the same chains; the result is a dict of their results.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import autocorrelation, moments, sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> start = jnp.zeros((500, 1))
        >>> both = combine({"moments": moments(), "autocorrelation": autocorrelation(3)})
        >>> found = simulate(process, 0, start, steps=100, every=1, observe=both)
        >>> sorted(found)
        ['autocorrelation', 'moments']
    """

    def start(theta):
        return {name: observable.start(theta) for name, observable in observables.items()}

    def add(state, theta, step):
        return {
            name: observable.add(state[name], theta, step)
            for name, observable in observables.items()
        }

    def result(state):
        return {name: observable.result(state[name]) for name, observable in observables.items()}

    return Observable(start, add, result)


@checked
def moments(of=None) -> Observable:
    """Mean and covariance of theta, or of the numbers `of(theta)`, over the recorded steps.

    The updates are those of Welford (1962), with sums compensated as by Kahan (1965): a million
    additions in float32 lose no digit.  The covariance of one chain is about its own mean, and so
    too small by the variance times correlation time / steps; `pool` corrects this.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import pool, sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> start = jnp.zeros((500, 1))
        >>> found = simulate(process, 0, start, steps=200, every=10, observe=moments())
        >>> mean, covariance = pool(found)
        >>> covariance.value.shape
        (1, 1)
    """

    def start(theta):
        x = _numbers(of, theta)
        return jnp.zeros((), int), _nothing(x), _nothing(x[:, None] * x)

    def add(state, theta, step):  # noqa: ARG001 - all steps count alike
        count, mean, squares = state
        x, count = _numbers(of, theta), count + 1
        off = x - mean[0]
        mean = _plus(mean, off / count)
        return count, mean, _plus(squares, off[:, None] * (x - mean[0]))

    def result(state):
        count, (mean, _), (squares, _) = state
        return Moments(count, mean, squares / count)

    return Observable(start, add, result)


@checked
def pool(moments: Moments) -> tuple[Estimate, Estimate]:
    """The mean (k,) and covariance (k, k) over all steps of all chains, with errors.

    The covariance of the means of the chains (divisor chains - 1) is added to the mean covariance
    within chains.  The sum is unbiased for stationary chains, whatever their correlation time.
    The errors are those between chains, which must be independent.
    Raises ValueError for fewer than 2 chains.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import moments, sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> start = jnp.zeros((500, 1))
        >>> found = simulate(process, 0, start, steps=200, every=10, observe=moments())
        >>> mean, covariance = pool(found)
        >>> mean.value.shape, covariance.value.shape
        ((1,), (1, 1))
    """
    chain_means, within = (as_numpy(array).astype(float) for array in moments[1:])
    overall, chains = mean(chain_means), len(chain_means)
    deviation = chain_means - overall.value
    between = deviation[:, :, None] * deviation[:, None, :] * chains / (chains - 1)
    return overall, mean(within + between)


@checked
def autocorrelation(lags: int | Sequence[int], of=None) -> Observable:
    """Autocovariance of theta, or of the numbers `of(theta)`, at lags in units of `every` steps.

    lags: 1 to this number, or a list.  As many values are stored as the largest lag.  The
    autocovariances are about the mean of each chain, which lowers all of them by the variance
    times correlation time / steps; `correlations` and `correlation_time` use the common mean.
    Raises ValueError for no lags, or one below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import correlations, sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> start = jnp.zeros((500, 1))
        >>> found = simulate(process, 0, start, steps=100, every=1, observe=autocorrelation(3))
        >>> correlations(found).value.shape
        (3,)
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

    def add(state, theta, step):  # noqa: ARG001 - steps are counted here
        count, origin, head, recent, total, products = state
        x = _numbers(of, theta) - origin
        lagged = jnp.concatenate([x[None], recent[places]])
        head = jnp.where(jnp.arange(lags[-1])[:, None] == count, x, head)
        recent = jnp.concatenate([x[None], recent[:-1]])
        return count + 1, origin, head, recent, _plus(total, x), _plus(products, x * lagged)

    def result(state):
        count, origin, head, recent, (total, _), (products, _) = state
        mean, pairs = total / count, count - np.asarray([0, *lags])[:, None]
        ends = jnp.cumsum(head + recent, axis=0)[places]  # missing as later, as earlier of a pair
        missing = jnp.concatenate([jnp.zeros_like(ends[:1]), ends])
        sums = products - mean * (2 * total - missing) + pairs * mean**2
        return Autocovariance(jnp.asarray([0, *lags]), mean + origin, sums / pairs)

    return Observable(start, add, result)


@checked
def correlations(autocovariance: Autocovariance) -> Estimate:
    """The autocorrelation at each lag but 0, over all k numbers and all chains.

    It is defined as in `noise.autocorrelation`, about the common mean of the chains.  Errors are
    those of a ratio, from the differences between chains, which must be independent.
    Raises ValueError for fewer than 2 chains.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import autocorrelation, sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> start = jnp.zeros((500, 1))
        >>> found = simulate(process, 0, start, steps=100, every=1, observe=autocorrelation(3))
        >>> correlations(found).value.shape
        (3,)
    """
    return _ratio(_about_common(autocovariance)[:, 1:], autocovariance)


@checked
def correlation_time(autocovariance: Autocovariance, window: int | None = None) -> Estimate:
    """The correlation time tau = 1 + 2 sum_k rho_k.

    The sum ends at `window`, or at the first W >= 5 (1/2 + sum_k |rho_k|) (Sokal, 1997).  A mean
    of t steps has the variance of a mean of t / tau independent steps.  The part beyond the window
    is left out, about exp(-5) of the sum for exponential correlations.
    Raises ValueError unless the lags are 1, 2, ... and reach the window.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import autocorrelation, sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.5)
        >>> start = jnp.zeros((500, 1))
        >>> found = simulate(process, 0, start, steps=500, every=1, observe=autocorrelation(20))
        >>> bool(2 < correlation_time(found).value < 4)
        True
    """
    lags, rho = as_numpy(autocovariance.lags)[0], as_numpy(correlations(autocovariance).value)
    if window is None:
        total = 0.5 + np.cumsum(abs(rho))
        cutoff = np.flatnonzero(np.arange(1, 1 + len(rho)) >= WINDOW * total)
        window = int(cutoff[0]) + 1 if len(cutoff) else len(rho) + 1
    if window >= len(lags) or not np.array_equal(lags, np.arange(len(lags))):
        raise ValueError(f"a sum over {window} lags needs all of them, but the last is {lags[-1]}")
    values = _about_common(autocovariance)
    return _ratio(values[:, 0] + 2 * values[:, 1 : window + 1].sum(1), autocovariance)


@checked
def first_passage(condition) -> Observable:
    """The first recorded step (each `every` steps) at which `condition(theta)` is true.

    condition: theta (p,) -> boolean ().  The result is a Passage of each chain: the step, and
    whether the chain has passed.  A chain that has not passed counts all its steps.  A start that
    meets the condition is not a passage before the first record.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import passage_rate, sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> start = jnp.zeros((500, 1))
        >>> leaving = first_passage(lambda theta: theta[0] > 0.3)
        >>> passage = simulate(process, 0, start, steps=50, every=1, observe=leaving)
        >>> bool(0 < passage_rate(passage).value < 1)
        True
    """

    def start(theta):  # noqa: ARG001 - a start that meets the condition is not a passage yet
        return jnp.zeros((), int), jnp.zeros((), bool)

    def add(state, theta, step):
        before, passed = state
        return jnp.where(passed, before, step), passed | condition(theta)

    return Observable(start, add, lambda state: Passage(*state))


@checked
def passage_rate(passage: Passage) -> Estimate:
    """The rate of passages per step, if it is constant: their number over all steps waited.

    The error is the rate over the square root of the number of passages.  Chains that have not
    passed count with the steps they waited.  Raises ValueError if no chain has passed.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import first_passage, sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> start = jnp.zeros((500, 1))
        >>> leaving = first_passage(lambda theta: theta[0] > 0.3)
        >>> passage = simulate(process, 0, start, steps=50, every=1, observe=leaving)
        >>> bool(0 < passage_rate(passage).value < 1)
        True
    """
    count, waited = int(as_numpy(passage.passed).sum()), float(as_numpy(passage.step).sum())
    if not count:
        raise ValueError(f"no chain has passed in {waited:.0f} steps, which gives no rate")
    return Estimate(count / waited, count**0.5 / waited)


@checked
def histogram(edges, of) -> Observable:
    """Counts of `of(theta)` in [edge, next edge), for each of its numbers.

    A nan is counted in no bin.  Raises ValueError unless there are 2 edges or more,
    ascending.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import sgd, simulate
        >>> process = sgd(noise.minibatch(problem, 1), 0.1)
        >>> counted = histogram(jnp.linspace(-2, 2, 9), of=lambda theta: theta[0])
        >>> start = jnp.zeros((50, 1))
        >>> simulate(process, 0, start, steps=100, every=10, observe=counted)._fields
        ('counts', 'below', 'above')
    """
    edges = np.asarray(edges, float)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"a histogram needs 2 edges or more, ascending, not {described(edges)}")

    def start(theta):
        x = jnp.asarray(of(theta))
        none = jnp.zeros(x.shape, int)
        return Histogram(jnp.zeros((*x.shape, len(edges) - 1), int), none, none)

    def add(state, theta, step):  # noqa: ARG001 - all steps count alike
        x = jnp.asarray(of(theta))
        ends = edges.astype(x.dtype)
        inside = (x[..., None] >= ends[:-1]) & (x[..., None] < ends[1:])
        bins = Histogram(inside, x < ends[0], x >= ends[-1])
        return jax.tree.map(lambda old, new: old + new, state, bins)

    return Observable(start, add, lambda state: state)


def _numbers(of, theta):
    """The observed numbers as one vector (k,)."""
    arrays = jax.tree.leaves(theta if of is None else of(theta))
    return jnp.concatenate([jnp.ravel(array) for array in arrays])


def _nothing(like):
    """An empty sum and its rounding error so far."""
    return jnp.zeros_like(like), jnp.zeros_like(like)


def _plus(total_and_lost, term):
    total, lost = total_and_lost
    term = term - lost
    new = total + term
    return new, (new - total) - term


def _about_common(autocovariance):
    """Autocovariances summed over the k numbers (chain, lag), about the mean of all chains."""
    mean, within = as_numpy(autocovariance.mean), as_numpy(autocovariance.covariance)
    deviation = mean - mean.mean(0)
    return within.sum(2) + (deviation**2).sum(1)[:, None] * len(mean) / max(len(mean) - 1, 1)


def _ratio(values, autocovariance) -> Estimate:
    """Mean of values over the mean variance, the error to first order (chain, ...) -> (...)."""
    variance = _about_common(autocovariance)[:, 0]
    ratio = values.mean(0) / variance.mean()
    scale = variance if values.ndim == 1 else variance[:, None]
    return Estimate(ratio, mean((values - ratio * scale) / variance.mean()).stderr, len(values) - 1)
