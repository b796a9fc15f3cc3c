"""A run cut into chunks, stopped and taken up again gives the numbers of an undisturbed one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdnoise import noise
from sgdnoise.dynamics import descent
from sgdnoise.dynamics.chains import simulate
from sgdnoise.dynamics.resume import chunked
from sgdnoise.problem import Problem


@pytest.fixture
def run(rng):
    """A small run: what chunked and simulate both want."""
    centres = jnp.asarray(rng.normal(size=(12, 3)))
    problem = Problem(lambda t, c: 0.5 * ((t - c) ** 4).sum(1), (centres,), jax)
    process = descent(noise.minibatch(problem, 2), 0.01)
    return process, jax.random.key(5), jnp.asarray(rng.normal(size=(4, 3)))


def observe(theta):
    return {"theta": theta, "norm": jnp.sum(theta**2)}


CHUNKS = {"steps": 12, "every": 2, "chunk": 4, "observe": observe}


def test_chunks_change_no_bit(run, tmp_path):
    state, seen = chunked(*run, folder=tmp_path, **CHUNKS)
    whole = simulate(*run, steps=12, every=2, observe=observe)
    jax.tree.map(np.testing.assert_array_equal, seen, whole)
    np.testing.assert_array_equal(state.theta, whole["theta"][:, -1])
    np.testing.assert_array_equal(state.lasted, 12)
    assert len(list(tmp_path.glob("chunk-*.npz"))) == 3


class Stop(Exception):
    """Somebody pulls the plug."""


@pytest.mark.parametrize("after", [1, 2])
def test_a_stopped_run_goes_on_bit_for_bit(run, tmp_path, after):
    _, undisturbed = chunked(*run, folder=tmp_path / "whole", **CHUNKS)
    finished = []

    def pull():
        finished.append(1)
        if len(finished) == after:
            raise Stop

    with pytest.raises(Stop):
        chunked(*run, folder=tmp_path / "cut", done=pull, **CHUNKS)
    assert len(list((tmp_path / "cut").glob("chunk-*.npz"))) == after
    _, seen = chunked(*run, folder=tmp_path / "cut", **CHUNKS)
    jax.tree.map(np.testing.assert_array_equal, seen, undisturbed)


def test_finished_chunks_are_read_and_not_run(run, tmp_path):
    chunked(*run, folder=tmp_path, **CHUNKS)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    chunked(*run, folder=tmp_path, **CHUNKS)
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}


def test_a_damaged_chunk_is_run_again(run, tmp_path):
    _, good = chunked(*run, folder=tmp_path, **CHUNKS)
    hurt = tmp_path / "chunk-0001.npz"
    hurt.write_bytes(hurt.read_bytes()[:-30])
    _, seen = chunked(*run, folder=tmp_path, **CHUNKS)
    jax.tree.map(np.testing.assert_array_equal, seen, good)


def test_chunks_that_do_not_fit_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="steps 12, chunk 5, every 2"):
        chunked(*run, folder=tmp_path, **(CHUNKS | {"chunk": 5}))
