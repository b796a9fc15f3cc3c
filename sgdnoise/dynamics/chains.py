"""Many chains of a process at once, in jax, each a function of its key and of the step alone."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32

import jax
import jax.numpy as jnp

from sgdnoise.dynamics.process import Process
from sgdnoise.noise.draws import Choice, Index, Normal, Shuffle, Sign, Step, Three, Uniform

__all__ = ["State", "Trajectory", "advance", "begin", "draw", "keys_for", "simulate"]


class Trajectory(NamedTuple):
    """What was kept of a simulation: time (t,), theta (chain, t, p)."""

    time: Any
    theta: Any


class State(NamedTuple):
    """Where chains stand: theta, and how many steps it has been finite."""

    theta: Any
    lasted: Any


def draw(kinds, key, step, dtype):
    """What `kinds` ask for at an integer step; no other step, kind or chain has a part in it."""
    tree: Any
    found, tree = jax.tree_util.tree_flatten_with_path(kinds)
    named = [(kind, crc32(jax.tree_util.keystr(path).encode())) for path, kind in found]
    return tree.unflatten(
        [_numbers(kind, jax.random.fold_in(key, name), step, dtype) for kind, name in named]
    )


def _numbers(kind, key, step, dtype):
    fresh = jax.random.fold_in(key, step)
    match kind:
        case Normal(size):
            return jax.random.normal(fresh, (size,), dtype)
        case Sign(size):
            return jax.random.rademacher(fresh, (size,), dtype)
        case Three(size):
            face = jax.random.randint(fresh, (size,), 0, 6)
            return 3**0.5 * ((face == 5).astype(dtype) - (face == 0).astype(dtype))
        case Step():
            return step
        case Uniform(size):
            return jax.random.uniform(fresh, (size,), dtype)
        case Index(size, below):
            return jax.random.randint(fresh, (size,), 0, below)
        case Choice(size, below):
            return jax.random.permutation(fresh, below)[:size]
        case Shuffle(size, below):
            epoch, place = jnp.divmod(step, below // size)
            order = jax.random.permutation(jax.random.fold_in(key, epoch), below)
            return jax.lax.dynamic_slice(order, (place * size,), (size,))
    raise TypeError(f"no way to draw {kind!r}")


def begin(start, process=None, given=None) -> State:
    """Chains at their start, theta (chain, ...) in every part, as the process begins."""
    lasted = jax.tree.map(lambda part: jnp.zeros(part.shape[0], int), start)
    if process is None:
        return State(start, lasted)
    if given is None:
        return State(jax.vmap(process.begin)(start), lasted)
    return State(jax.vmap(lambda theta, row: process(row).begin(theta))(start, given), lasted)


def keys_for(key, chains: int):
    """One key a chain, of which the first ones do not depend on how many there are."""
    if key.ndim:
        return key
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(chains))


@partial(jax.jit, static_argnames=("process", "steps", "every", "observe"))
def advance(process, keys, state: State, first=0, *, steps, every, observe, given=None):
    """Chains from step `first` on: their State after `steps` more, and what was observed.

    Each `every` steps `observe(theta)` is kept, (chain, t, ...).  With `given`, each chain has a
    row of it of its own, and `process(row)` and `observe(row)` make its process and observable:
    chains may differ in data, rate or anything else and still run as one.
    `every` must divide `steps`, as `simulate` and `chunked` see to.
    """

    def chain(key, state, row):
        own, look = (process, observe) if given is None else (process(row), observe(row))

        def step(state, k):
            dtype = jax.tree.leaves(state.theta)[0].dtype
            theta = own.step(state.theta, draw(own.draw, key, k, dtype))
            return State(theta, jax.tree.map(_still, state.lasted, own.theta(theta))), None

        def leap(state, k):
            state, _ = jax.lax.scan(step, state, k + jnp.arange(every))
            return state, look(own.theta(state.theta))

        return jax.lax.scan(leap, state, first + every * jnp.arange(steps // every))

    return jax.vmap(chain, (0, 0, None if given is None else 0))(keys, state, given)


def _still(lasted, theta):
    return lasted + jnp.isfinite(jnp.sum(theta)).astype(lasted.dtype)


def simulate(
    process: Process | Callable[[Any], Process],
    key,
    start,
    *,
    steps: int,
    every: int = 1,
    observe=None,
    given=None,
):
    """One chain from each row of `start` (chain, p), seen after each `every` steps.

    Returns a Trajectory, or `observe(theta)` of each moment (chain, t, ...) where it is given.
    Chains depend on (key, chain, step) alone: other chunks change no number, more chains none but
    by rounding.
    See `advance` for `given`.  Raises ValueError unless `every` divides `steps`.
    """
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"steps must be a multiple of every, not {steps} of {every}")
    start = jax.tree.map(jnp.asarray, start)
    chains = jax.tree.leaves(start)[0].shape[0]
    look = observe if observe is not None else _itself(given)
    seen = advance(
        process,
        keys_for(key, chains),
        begin(start, process, given),
        steps=steps,
        every=every,
        observe=look,
        given=given,
    )[1]
    if observe is not None or not isinstance(process, Process):
        return seen
    after = every * (1 + jnp.arange(steps // every))
    return Trajectory(jax.tree.map(partial(_time, after), process.dt), seen)


def _time(after, dt):
    """When so many steps have been taken, each of length dt or dt(step)."""
    if not callable(dt):
        return dt * after
    return jnp.cumsum(jax.vmap(dt)(jnp.arange(after[-1])))[after - 1]


def _same(theta):
    return theta


def _same_for(row):  # noqa: ARG001 - every chain keeps itself, whatever it is given
    return _same


def _itself(given):
    return _same if given is None else _same_for
