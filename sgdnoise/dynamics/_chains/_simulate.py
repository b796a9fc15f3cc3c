"""Many chains of a process at once, in jax, each a function of its key and of the step alone."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from sgdnoise.dynamics._chains._observables import Observable
from sgdnoise.dynamics._chains._random import along, draw, keys_for, numbers, orders, streams
from sgdnoise.dynamics._process import Process
from sgdnoise.noise._draws import with_sizes

MOST = 2**31  # steps that an integer of 32 bits can count
SMALL = 256  # numbers in theta, measured between 100 and 1500
ROOM = 1 << 17  # numbers in the largest array of a step of one block: what a core's cache holds


class Trajectory(NamedTuple):
    """What was kept of a simulation: time (t,), theta (chain, t, p)."""

    time: Any
    theta: Any


class State(NamedTuple):
    """Where chains stand: the process, how many steps theta has been finite, what a Fold keeps."""

    theta: Any
    lasted: Any
    kept: Any = None


def start_state(start, process=None, given=None, observe=None) -> State:
    """Chains at their start, theta (chain, ...) in every part, as process and observable begin."""

    def one(theta, row):
        own, look = _own(process, observe, row)
        lasted = jax.tree.map(lambda part: jnp.zeros((), int), theta)
        kept = look.start(theta) if isinstance(look, Observable) else None
        return State(theta if own is None else own.begin(theta), lasted, kept)

    return jax.vmap(one, (0, _over(given)))(start, given)


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
    """Chains from step `first` on: their State after `steps` more, and what was observed.

    Each `every` steps `observe(theta)` is kept, (chain, t, ...), or added to what a Fold keeps in
    the State.  With `given`, each chain has a row of it of its own, and `process(row)` and
    `observe(row)` make its process and observable: chains may differ in data, rate or anything
    else and still run as one.  `every` must divide `steps`, as `simulate` and `chunked` see to.
    See `simulate` for `block` and `devices`.
    """
    own = None if devices is None else tuple(devices)
    how = {"looks": steps // every, "observe": observe, "block": block, "devices": own}
    return run(process, keys, state, given, first, every, **how)


@partial(jax.jit, static_argnames=("process", "looks", "observe", "block", "devices"))
def run(process, keys, state, given, first, every, *, looks, observe, block, devices):
    """`advance`, compiled: chains block after block, each with all of its steps.

    How many steps lie between looks is unknown to the compiler, which can hence not take the
    first or the last of them apart: all are the same program, however a run is cut.
    """
    chains, shares = keys.shape[0], len(devices or [0])
    block = _block(process, keys, state, given, shares) if block is None else block
    blocks = shares * -(-chains // (block * shares))
    places = np.arange(blocks * block) % chains
    one = partial(_steps, process, observe, looks)

    def each(many, first, every):
        return lax.map(lambda block: one(block, first, every), many)

    if devices is not None:
        own, all_of_it = PartitionSpec("chain"), PartitionSpec()
        mesh = Mesh(np.asarray(devices), ("chain",))
        each = jax.shard_map(
            each, mesh=mesh, in_specs=(own, all_of_it, all_of_it), out_specs=own, check_vma=False
        )
    many = jax.tree.map(
        lambda part: part[places].reshape(blocks, block, *part.shape[1:]), (keys, state, given)
    )
    done = each(many, jnp.asarray(first), jnp.asarray(every))
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:])[:chains], done)


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
    """One chain from each row of `start` (chain, p), seen after each `every` steps.

    Returns a Trajectory, or `observe(theta)` of each moment (chain, t, ...) where it is given, or
    the result of a Fold.  Draws depend on (key, chain, step) alone.  How a run is cut into chunks
    or looked at changes no bit.  More chains or devices change none if `block` is told, the
    number of chains that are computed together; else none but by the rounding of matrix products.
    block: as many as a cache holds unless told; devices: over which blocks are spread.
    See `advance` for `given`.
    Raises ValueError unless every | steps, steps < 2^31 and block >= 1.
    """
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"steps must be a multiple of every, not {steps} of {every}")
    if steps >= MOST:
        raise ValueError(f"a run has fewer than {MOST} steps, not {steps}")
    if block is not None and block < 1:
        raise ValueError(f"a block needs at least one chain, not {block}")
    start = jax.tree.map(jnp.asarray, start)
    look = observe if observe is not None else _itself(given)
    state, seen = step_many(
        process,
        keys_for(key, jax.tree.leaves(start)[0].shape[0]),
        start_state(start, process, given, look),
        steps=steps,
        every=every,
        observe=look,
        given=given,
        block=block,
        devices=devices,
    )
    if observe is not None or not isinstance(process, Process):
        return seen if state.kept is None else result(observe, state, given)
    after = every * (1 + jnp.arange(steps // every))
    return Trajectory(jax.tree.map(partial(_time, after), process.dt), seen)


def result(observe, state: State, given=None):
    """What a Fold hands back of what it has kept, (chain, ...)."""

    def one(kept, row):
        return _own(None, observe, row)[1].result(kept)

    return jax.vmap(one, (0, _over(given)))(state.kept, given)


def _steps(process, observe, looks, block, first, every):
    """One block.  Numbers are drawn with chains along the last axis, where that is fastest.

    So lie the chains of a small theta, which is added; of a large one they lie along the first
    axis, as its matrices are multiplied.
    """
    keys, state, given = block
    kinds, small = (
        _kinds(process, state, given),
        _largest_part(state.theta) <= keys.shape[0] * SMALL,
    )
    own, over, axis = streams(kinds, keys), _over(given), -1 if small else 0
    move = jax.vmap(partial(_step, process), (axis, along(kinds, -1), over), axis)
    look = jax.vmap(partial(_look, process, observe), (axis, over, None), (axis, 0))
    dtype = _dtype(state)

    def step(k, carry):
        state, epoch = carry
        epoch = orders(kinds, own, k, epoch)
        return move(state, numbers(kinds, own, k, dtype, epoch), given), epoch

    def leap(carry, k):
        state, epoch = lax.fori_loop(k, k + every, step, carry)
        state, seen = _apart(lambda state: look(state, given, k + every), state)
        return (state, epoch), seen

    turned = jax.tree.map(lambda part: jnp.moveaxis(part, 0, axis), state)
    begun = turned, orders(kinds, own, first)
    (state, _), seen = lax.scan(leap, begun, first + every * jnp.arange(looks))
    state = jax.tree.map(lambda part: jnp.moveaxis(part, axis, 0), state)
    return state, jax.tree.map(lambda part: jnp.moveaxis(part, 1, 0), seen)


def _step(process, state, drawn, row):
    own = _own(process, None, row)[0]
    theta = own.step(state.theta, drawn)
    return state._replace(theta=theta, lasted=jax.tree.map(_still, state.lasted, own.theta(theta)))


def _look(process, observe, state, row, step):
    own, look = _own(process, observe, row)
    theta = own.theta(state.theta)
    if isinstance(look, Observable):
        return state._replace(kept=look.add(state.kept, theta, step)), None
    return state, look(theta)


def _apart(function, given):
    """A function compiled by itself, so that it rounds alike wherever it stands."""
    return lax.optimization_barrier(function(lax.optimization_barrier(given)))


def _own(process, observe, row):
    """Process and observable of a chain that is given a row, or nothing."""
    if row is None:
        return process, observe
    return process and process(row), observe and observe(row)


def _over(given):
    """Over which axis of what is given the chains lie."""
    return None if given is None else 0


def _kinds(process, state, given):
    """What a step of any chain draws; the first chain tells the sizes that depend on theta."""
    state, row = jax.tree.map(lambda part: part[0], (state, given))
    own = _own(process, None, row)[0]
    return with_sizes(own.draw, own.theta(state.theta))


def _largest_part(theta):
    return max(part.size for part in jax.tree.leaves(theta))


def _dtype(state):
    return jax.tree.leaves(state.theta)[0].dtype


def _still(lasted, theta):
    return lasted + jnp.isfinite(jnp.sum(theta)).astype(lasted.dtype)


def _block(process, keys, state, given, shares):
    """Chains for one block: as many as fit, and blocks as equal as can be."""

    kinds = _kinds(process, state, given)

    def one(key, state, row):
        drawn = draw(kinds, key, 0, _dtype(state))
        return _step(process, state, drawn, row)

    first = jax.tree.map(lambda part: part[0], (keys, state, given))
    fit = max(1, ROOM // _largest(jax.make_jaxpr(one)(*first).jaxpr))
    chains = -(-keys.shape[0] // shares)
    return -(-chains // -(-chains // fit))


def _largest(jaxpr):
    """Numbers in the largest array that a computation makes."""
    own = [math.prod(v.aval.shape) for eqn in jaxpr.eqns for v in eqn.outvars]
    return max([1, *own, *map(_largest, within(jaxpr))])


def within(jaxpr):
    """The computations that a computation calls."""
    for eqn in jaxpr.eqns:
        yield from (v for v in jax.tree.leaves(tuple(eqn.params.values())) if hasattr(v, "eqns"))


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
