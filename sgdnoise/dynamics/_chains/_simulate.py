"""Thousands of chains at once, in jax."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from sgdnoise.core._arguments import checked
from sgdnoise.dynamics._chains._blocks import (
    block_size,
    dtype_of,
    kinds_drawn,
    largest_array,
    of_chain,
    step_chain,
)
from sgdnoise.dynamics._chains._observables import Observable
from sgdnoise.dynamics._chains._random import along, keys_for, numbers, orders, streams
from sgdnoise.dynamics._chains._start import chains_of
from sgdnoise.dynamics._process import Process

MAX_STEPS = 2**31  # steps that an integer of 32 bits can count
SMALL_THETA = 256  # numbers in theta, measured between 100 and 1500


class Diverged(UserWarning):
    """Some chains are no longer finite.

    Example:
        >>> import warnings
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> from sgdnoise.noise import StepNumber
        >>> squares = Process(lambda theta, _: 10 * theta**2, StepNumber(), 1.0)
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     _ = simulate(squares, 0, jnp.ones((2, 1)), steps=9, every=9)
        >>> [warning.category.__name__ for warning in said]
        ['Diverged']
    """


class Trajectory(NamedTuple):
    """The records of a simulation: time (t,) and theta (chain, t, p).

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import Process, simulate
        >>> from sgdnoise.noise import StepNumber
        >>> count = Process(lambda theta, _: theta + 1, StepNumber(), dt=0.5)
        >>> path = simulate(count, 0, jnp.zeros((1, 1)), steps=4, every=2)
        >>> path.time.tolist(), path.theta.tolist()
        ([1.0, 2.0], [[[2.0], [4.0]]])
    """

    time: Any
    theta: Any


class State(NamedTuple):
    """The state of chains between steps.

    theta: the state of the process.  n_finite: the number of steps after which theta was finite.
    accumulator: what an Observable has accumulated, or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.dynamics import heavy_ball, start_state
        >>> from sgdnoise.noise import full_batch
        >>> from sgdnoise.core import Problem
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (jnp.eye(3),))
        >>> process = heavy_ball(full_batch(problem), 0.1, 0.9)
        >>> state = start_state(jnp.zeros((2, 3)), process)
        >>> process.theta(state.theta).shape, state.n_finite.tolist()
        ((2, 3), [0, 0])
    """

    theta: Any
    n_finite: Any
    accumulator: Any = None


@checked
def start_state(start, process=None, given=None, observe=None) -> State:
    """The State of chains before their first step, from theta (chain, ...).

    Example:
        >>> import jax.numpy as jnp
        >>> start_state(jnp.zeros((4, 2))).theta.shape
        (4, 2)
    """

    def start_one(theta, row):
        chain_process, observable = of_chain(process, observe, row)
        n_finite = jax.tree.map(lambda _: jnp.zeros((), int), theta)
        accumulator = observable.start(theta) if isinstance(observable, Observable) else None
        state = theta if chain_process is None else chain_process.begin(theta)
        return State(state, n_finite, accumulator)

    return jax.vmap(start_one, (0, _axis(given)))(start, given)


@checked
def step_many(
    process,
    keys,
    state: State,
    first=0,
    *,
    steps,
    every,
    observe,
    given=None,
    block=None,
    devices=None,
):
    """Run chains from step `first` for `steps` steps.  Returns their State and the records.

    After each `every` steps `observe(theta)` is recorded, (chain, t, ...), or an Observable is
    updated in the State.  With `given`, each chain has its own row of it, and `process(row)` and
    `observe(row)` make the process and observable of that chain: chains may differ in data, rate
    or anything else and still run together.  `every` must divide `steps`; `simulate` and
    `simulate_resumable` check this.  See `simulate` for `block` and `devices`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import sgd, start_state
        >>> process, start = sgd(noise.minibatch(problem, 1), 0.1), jnp.zeros((4, 1))
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> state = start_state(start, process)
        >>> state, records = step_many(
        ...     process, keys, state, steps=20, every=10, observe=lambda theta: theta
        ... )
        >>> records.shape
        (4, 2, 1)
    """
    devices = None if devices is None else tuple(devices)
    settings = {"records": steps // every, "observe": observe, "block": block, "devices": devices}
    return _run(process, keys, state, given, first, every, **settings)


@partial(jax.jit, static_argnames=("process", "records", "observe", "block", "devices"))
def _run(process, keys, state, given, first, every, *, records, observe, block, devices):
    """`step_many`, compiled: chains block after block, each block with all of its steps.

    `first` and `every` are arguments of the compiled program, not constants.  The compiler then
    cannot treat the first or last steps differently, and a run is the same program however it is
    cut into pieces.  That is why no bit depends on the cut.
    """
    chains, shares = keys.shape[0], len(devices or [0])
    block = block_size(process, keys, state, given, shares) if block is None else block
    blocks = shares * -(-chains // (block * shares))
    # The last block is filled up with chains from the beginning, whose results are dropped below.
    index = np.arange(blocks * block) % chains
    steps_of_block = partial(_steps, process, observe, records)

    def all_blocks(blocked, first, every):
        return lax.map(lambda one_block: steps_of_block(one_block, first, every), blocked)

    if devices is not None:
        sharded, replicated = PartitionSpec("chain"), PartitionSpec()
        mesh = Mesh(np.asarray(devices), ("chain",))
        all_blocks = jax.shard_map(
            all_blocks,
            mesh=mesh,
            in_specs=(sharded, replicated, replicated),
            out_specs=sharded,
            check_vma=False,
        )
    blocked = jax.tree.map(
        lambda array: array[index].reshape(blocks, block, *array.shape[1:]), (keys, state, given)
    )
    outcome = all_blocks(blocked, jnp.asarray(first), jnp.asarray(every))
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:chains], outcome)


@checked
def simulate(
    process: Process | Callable[[Any], Process],
    key,
    start,
    *,
    steps: int,
    every: int = 1,
    observe=None,
    given=None,
    block: int | None = None,
    devices=None,
):
    """Simulate one chain from each row of `start` (chain, p), recorded after each `every` steps.

    A start of shape (p,) is one chain, and its records have a leading axis of one.

    Returns a Trajectory; or `observe(theta)` at each record, (chain, t, ...), if `observe` is a
    function; or the result of an Observable.
    key: a jax key, typed or of two uint32, an int as seed, or one key for each chain.  The random
    numbers depend on (key, chain, step) alone, so that neither cutting a run into pieces nor
    recording it changes a bit.  More chains or devices change no bit if `block` is given, and
    otherwise only the rounding of matrix products.
    block: the number of chains computed together; by default as many as a cache holds.
    devices: the jax devices over which blocks are spread.  given: see `step_many`.
    Warns `Diverged` of chains that are no longer finite, and names the first.
    Raises ValueError unless every divides steps, steps < 2^31 and block >= 1, for a start without
    vectors, for keys or rows of `given` of another number than the chains, and for another key.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> from sgdnoise.dynamics import sgd
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> process = sgd(noise.minibatch(problem, 1), learning_rate=0.1)
        >>> simulate(process, jax.random.key(0), jnp.zeros((5, 1)), steps=20, every=10).theta.shape
        (5, 2, 1)
    """
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"steps must be a multiple of every, not {steps} of {every}")
    if steps >= MAX_STEPS:
        raise ValueError(f"a run has fewer than {MAX_STEPS} steps, not {steps}")
    if block is not None and block < 1:
        raise ValueError(f"a block needs at least one chain, not {block}")
    start, chains = chains_of(start, given)
    observable = observe if observe is not None else _identity_observable(given)
    state, recorded = step_many(
        process,
        keys_for(key, chains),
        start_state(start, process, given, observable),
        steps=steps,
        every=every,
        observe=observable,
        given=given,
        block=block,
        devices=devices,
    )
    warn_of_divergence(state.n_finite, steps)
    if observe is not None or not isinstance(process, Process):
        return recorded if state.accumulator is None else result(observe, state, given)
    n_steps = every * (1 + jnp.arange(steps // every))
    return Trajectory(jax.tree.map(partial(_time, n_steps), process.dt), recorded)


def warn_of_divergence(n_finite, steps: int) -> None:
    """Warn `Diverged` of the chains that were not finite after each step: which, and since when."""
    leaves = jax.tree.leaves(n_finite)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return
    finite = np.min([np.asarray(leaf) for leaf in leaves], axis=0)
    lost = np.flatnonzero(finite < steps)
    if lost.size:
        first = lost[np.argmin(finite[lost])]
        warnings.warn(
            Diverged(
                f"{lost.size} of {finite.size} chains are not finite, the first chain {first}, "
                f"after {finite[first] + 1} of {steps} steps; a smaller rate may help"
            ),
            stacklevel=3,
        )


def result(observe, state: State, given=None):
    """The result of an Observable, from what it has accumulated in each chain."""

    def result_of_chain(accumulator, row):
        return of_chain(None, observe, row)[1].result(accumulator)

    return jax.vmap(result_of_chain, (0, _axis(given)))(state.accumulator, given)


def _steps(process, observe, records, block, first, every):
    """All steps of one block.

    Random numbers are drawn with chains along the last axis, where that is fastest.  The chains of
    a small theta lie along the last axis too, since its arrays are added; those of a large theta
    lie along the first axis, since its matrices are multiplied.
    """
    keys, state, given = block
    kinds = kinds_drawn(process, state, given)
    small = largest_array(state.theta) <= keys.shape[0] * SMALL_THETA
    chain_axis = -1 if small else 0
    stream_list, row_axis = streams(kinds, keys), _axis(given)
    move = jax.vmap(
        partial(step_chain, process), (chain_axis, along(kinds, -1), row_axis), chain_axis
    )
    record = jax.vmap(
        partial(_record, process, observe), (chain_axis, row_axis, None), (chain_axis, 0)
    )
    dtype = dtype_of(state)

    def step(k, carry):
        state, epoch = carry
        epoch = orders(kinds, stream_list, k, epoch)
        return move(state, numbers(kinds, stream_list, k, dtype, epoch), given), epoch

    def steps_and_record(carry, k):
        state, epoch = lax.fori_loop(k, k + every, step, carry)
        state, recorded = _isolated(lambda state: record(state, given, k + every), state)
        return (state, epoch), recorded

    moved = jax.tree.map(lambda array: jnp.moveaxis(array, 0, chain_axis), state)
    carry = moved, orders(kinds, stream_list, first)
    (state, _), recorded = lax.scan(steps_and_record, carry, first + every * jnp.arange(records))
    state = jax.tree.map(lambda array: jnp.moveaxis(array, chain_axis, 0), state)
    return state, jax.tree.map(lambda array: jnp.moveaxis(array, 1, 0), recorded)


def _record(process, observe, state, row, step):
    chain_process, observable = of_chain(process, observe, row)
    theta = chain_process.theta(state.theta)
    if isinstance(observable, Observable):
        accumulator = observable.add(state.accumulator, theta, step)
        return state._replace(accumulator=accumulator), None
    return state, observable(theta)


def _isolated(function, argument):
    """A function compiled by itself, so that it rounds in the same way wherever it is used."""
    return lax.optimization_barrier(function(lax.optimization_barrier(argument)))


def _axis(given):
    """The axis of `given` along which the chains lie."""
    return None if given is None else 0


def _time(n_steps, dt):
    """The time after each number of steps, each of length dt or dt(step)."""
    if not callable(dt):
        return dt * n_steps
    return jnp.cumsum(jax.vmap(dt)(jnp.arange(n_steps[-1])))[n_steps - 1]


def _identity(theta):
    return theta


def _identity_for(row):  # noqa: ARG001 - the observable is the same for every row
    return _identity


def _identity_observable(given):
    return _identity if given is None else _identity_for
