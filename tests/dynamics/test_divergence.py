"""Chains that diverge are named at the end of a simulation."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import Diverged, sgd, simulate, simulate_resumable

QUARTIC = Problem(lambda theta, x: (theta**4).sum() / 4 + 0 * x[:, 0], (jnp.ones((2, 1)),))
PROCESS = sgd(noise.full_batch(QUARTIC), 0.1)
START = jnp.asarray([[0.1], [50.0], [0.2], [9.0]])


def test_the_first_chain_and_its_step_are_named():
    """From 50 the cubes leave float32 after a few steps, from 9 later."""
    with pytest.warns(Diverged, match=r"2 of 4 chains are not finite, the first chain 1, after"):
        paths = simulate(PROCESS, 0, START, steps=20).theta
    step = int(jnp.argmin(jnp.isfinite(paths[1, :, 0])))
    with pytest.warns(Diverged, match=rf"after {step + 1} of 20 steps"):
        simulate(PROCESS, 0, START, steps=20)


def test_a_run_in_chunks_names_them_too(tmp_path):
    settings = {"steps": 20, "every": 10, "chunk": 10, "folder": tmp_path}
    with pytest.warns(Diverged, match="2 of 4"):
        simulate_resumable(PROCESS, 0, START, observe=lambda theta: theta, **settings)


def test_finite_chains_and_compiled_simulations_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(PROCESS, 0, START[::2], steps=20)
        jax.jit(lambda start: simulate(PROCESS, 0, start, steps=5).theta)(START)
