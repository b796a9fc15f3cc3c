"""A run cut into chunks, stopped and taken up again gives the numbers of an undisturbed one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import sgd, simulate, simulate_resumable


@pytest.fixture
def run(rng):
    """A small run: what chunked and simulate both want."""
    centres = jnp.asarray(rng.normal(size=(12, 3)))
    problem = Problem(lambda t, c: 0.5 * ((t - c) ** 4).sum(1), (centres,))
    process = sgd(noise.minibatch(problem, 2), 0.01)
    return process, jax.random.key(5), jnp.asarray(rng.normal(size=(4, 3)))


def observe(theta):
    return {"theta": theta, "norm": jnp.sum(theta**2)}


CHUNKS = {"steps": 12, "every": 2, "chunk": 4, "observe": observe}


def test_chunks_change_no_bit(run, tmp_path):
    state, recorded = simulate_resumable(*run, folder=tmp_path, **CHUNKS)
    full = simulate(*run, steps=12, every=2, observe=observe)
    jax.tree.map(np.testing.assert_array_equal, recorded, full)
    np.testing.assert_array_equal(state.theta, full["theta"][:, -1])
    np.testing.assert_array_equal(state.n_finite, 12)
    assert len(list(tmp_path.glob("chunk-*.npz"))) == 3


class Stop(Exception):
    """Somebody pulls the plug."""


@pytest.mark.parametrize("after", [1, 2])
def test_a_stopped_run_goes_on_bit_for_bit(run, tmp_path, after):
    _, undisturbed = simulate_resumable(*run, folder=tmp_path / "whole", **CHUNKS)
    finished = []

    def pull():
        finished.append(1)
        if len(finished) == after:
            raise Stop

    with pytest.raises(Stop):
        simulate_resumable(*run, folder=tmp_path / "cut", done=pull, **CHUNKS)
    assert len(list((tmp_path / "cut").glob("chunk-*.npz"))) == after
    _, recorded = simulate_resumable(*run, folder=tmp_path / "cut", **CHUNKS)
    jax.tree.map(np.testing.assert_array_equal, recorded, undisturbed)


@pytest.mark.slow
def test_finished_chunks_are_read_and_not_run(run, tmp_path):
    simulate_resumable(*run, folder=tmp_path, **CHUNKS)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    simulate_resumable(*run, folder=tmp_path, **CHUNKS)
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}


@pytest.mark.slow
def test_a_damaged_chunk_is_run_again(run, tmp_path):
    _, good = simulate_resumable(*run, folder=tmp_path, **CHUNKS)
    hurt = tmp_path / "chunk-0001.npz"
    hurt.write_bytes(hurt.read_bytes()[:-30])
    _, recorded = simulate_resumable(*run, folder=tmp_path, **CHUNKS)
    jax.tree.map(np.testing.assert_array_equal, recorded, good)


def test_chunks_that_do_not_fit_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="steps 12, chunk 5, every 2"):
        simulate_resumable(*run, folder=tmp_path, **(CHUNKS | {"chunk": 5}))


def other(run, **changed):
    """The same run but for what is changed."""
    process, key, start = run
    pieces = {"process": process, "key": key, "start": start} | changed
    return pieces["process"], pieces["key"], pieces["start"]


def cubed(noise_of=2, rate=0.01, power=4, far=0.0):
    centres = jnp.linspace(-1, 1, 12)[:, None] * jnp.ones(3) + far
    problem = Problem(lambda t, c: 0.5 * ((t - c) ** power).sum(1), (centres,))
    return sgd(noise.minibatch(problem, noise_of), rate)


OTHERS = {
    "key": {"key": jax.random.key(6)},
    "start": {"start": jnp.ones((4, 3))},
    "rate": {"process": cubed(rate=0.010001)},
    "batch": {"process": cubed(3)},
    "loss": {"process": cubed(power=2)},
    "examples": {"process": cubed(far=1e-9)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_folder_of_another_run_is_refused(run, tmp_path, what):
    run = other(run, process=cubed())
    simulate_resumable(*run, folder=tmp_path, **CHUNKS | {"steps": 4})
    with pytest.raises(ValueError, match="holds another run, so take a new one or empty it"):
        simulate_resumable(*other(run, **OTHERS[what]), folder=tmp_path, **CHUNKS)
    simulate_resumable(
        *other(run, process=cubed()), folder=tmp_path, **CHUNKS
    )  # made anew, the same run


@pytest.mark.parametrize("change", [{"every": 4}, {"observe": lambda t: t[0]}, {"chunk": 6}])
def test_a_folder_of_other_looks_is_refused(run, tmp_path, change):
    simulate_resumable(*run, folder=tmp_path, **CHUNKS)
    with pytest.raises(ValueError, match="holds another run"):
        simulate_resumable(*run, folder=tmp_path, **(CHUNKS | change))


@pytest.mark.slow
def test_chunks_of_unknown_origin_are_refused(run, tmp_path):
    simulate_resumable(*run, folder=tmp_path, **CHUNKS)
    (tmp_path / "run.txt").unlink()
    with pytest.raises(ValueError, match="holds another run"):
        simulate_resumable(*run, folder=tmp_path, **CHUNKS)


def test_a_finished_run_may_go_on_for_longer(run, tmp_path):
    simulate_resumable(*run, folder=tmp_path, **CHUNKS)
    _, longer = simulate_resumable(*run, folder=tmp_path, **(CHUNKS | {"steps": 16}))
    full = simulate(*run, steps=16, every=2, observe=observe)
    jax.tree.map(np.testing.assert_array_equal, longer, full)


AGAIN = """
import sys, jax
jax.config.update("jax_enable_x64", True)
from dynamics.test_checkpoint import begun
begun(sys.argv[1])
"""


def begun(folder):
    """A run that any process may begin or continue."""
    return simulate_resumable(cubed(), jax.random.key(2), jnp.ones((2, 3)), folder=folder, **CHUNKS)


@pytest.mark.slow
def test_another_process_takes_up_the_run(tmp_path):
    """What tells runs apart must not depend on where things lie in memory."""
    begun(tmp_path)
    here, times = Path(__file__).parent, [p.stat().st_mtime_ns for p in sorted(tmp_path.iterdir())]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    subprocess.run([sys.executable, "-c", AGAIN, str(tmp_path)], env=env, check=True)
    assert times == [p.stat().st_mtime_ns for p in sorted(tmp_path.iterdir())]
