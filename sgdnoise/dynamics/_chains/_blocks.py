"""One step of one chain, and the number of chains that are computed together."""

import math

import jax
import jax.numpy as jnp

from sgdnoise.dynamics._chains._random import draw
from sgdnoise.noise._draws import with_sizes

CACHE_NUMBERS = 1 << 17  # numbers in the largest array of a step of one block: a core's cache


def of_chain(process, observe, row):
    """The process and observable of a chain, made from its row if there is one."""
    if row is None:
        return process, observe
    return process and process(row), observe and observe(row)


def step_chain(process, state, drawn, row):
    """The State of one chain after one more step."""
    chain_process = of_chain(process, None, row)[0]
    theta = chain_process.step(state.theta, drawn)
    n_finite = jax.tree.map(_count_finite, state.n_finite, chain_process.theta(theta))
    return state._replace(theta=theta, n_finite=n_finite)


def kinds_drawn(process, state, given):
    """What a step of any chain draws; sizes that depend on theta are those of the first chain."""
    state, row = jax.tree.map(lambda array: array[0], (state, given))
    chain_process = of_chain(process, None, row)[0]
    return with_sizes(chain_process.draw, chain_process.theta(state.theta))


def largest_array(theta):
    return max(array.size for array in jax.tree.leaves(theta))


def dtype_of(state):
    return jax.tree.leaves(state.theta)[0].dtype


def _count_finite(n_finite, theta):
    return n_finite + jnp.isfinite(jnp.sum(theta)).astype(n_finite.dtype)


def block_size(process, keys, state, given, shares):
    """The chains of one block: as many as fit into a cache, with blocks as equal as possible."""
    kinds = kinds_drawn(process, state, given)

    def one_step(key, state, row):
        return step_chain(process, state, draw(kinds, key, 0, dtype_of(state)), row)

    # One step is traced but not run: the shapes of its arrays say how much memory a chain needs.
    first = jax.tree.map(lambda array: array[0], (keys, state, given))
    fit = max(1, CACHE_NUMBERS // _largest_in(jax.make_jaxpr(one_step)(*first).jaxpr))
    chains = -(-keys.shape[0] // shares)
    return -(-chains // -(-chains // fit))


def _largest_in(jaxpr):
    """The size of the largest array that a computation makes."""
    sizes = [math.prod(v.aval.shape) for eqn in jaxpr.eqns for v in eqn.outvars]
    return max([1, *sizes, *map(_largest_in, computations_in(jaxpr))])


def computations_in(jaxpr):
    """The computations that a computation calls."""
    for eqn in jaxpr.eqns:
        yield from (v for v in jax.tree.leaves(tuple(eqn.params.values())) if hasattr(v, "eqns"))
