"""Where chains start, and by which key: one chain from a vector, and either kind of jax's keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from witnesses import SIZE, curved

from sgdnoise import noise
from sgdnoise.dynamics import sgd, side_by_side, simulate, simulate_resumable

PROBLEM, THETA = curved()
PROCESS = sgd(noise.minibatch(PROBLEM, 2), 0.05)
STARTS = np.asarray(THETA) + np.linspace(0, 0.1, 3)[:, None]


def ends(key=0, start=STARTS, process=PROCESS, **options):
    return simulate(process, key, start, steps=4, every=2, **options).theta


KEYS = {
    "typed": lambda: jax.random.key(5),
    "raw": lambda: jax.random.PRNGKey(5),
    "raw in numpy": lambda: np.asarray(jax.random.PRNGKey(5)),
    "an integer of numpy": lambda: np.int64(5),
    "an integer of jax": lambda: jnp.asarray(5),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_kind_are_one_seed(kind):
    assert_array_equal(ends(KEYS[kind]()), ends(5))


@pytest.mark.parametrize("kind", ["typed", "raw"])
def test_each_chain_may_have_a_key_of_its_own(kind):
    keys = jax.random.split(jax.random.key(1), 3)
    keys = keys if kind == "typed" else jax.random.key_data(keys)
    together = ends(keys)
    assert_allclose(together[1], ends(keys[1:2], STARTS[1:2])[0], rtol=1e-12)


def test_two_raw_words_are_one_key_and_not_two():
    assert_array_equal(ends(jax.random.PRNGKey(5), STARTS[:2]), ends(5, STARTS[:2]))


START = {
    "numpy": lambda: np.asarray(THETA),
    "jax": lambda: jnp.asarray(THETA),
    "torch": lambda: torch.asarray(np.array(THETA)),
    "a list": lambda: np.asarray(THETA).tolist(),
}


@pytest.mark.parametrize("kind", START)
def test_a_vector_is_one_chain(kind):
    result = ends(0, START[kind]())
    assert result.shape == (1, 2, SIZE)
    assert_array_equal(result, ends(0, np.asarray(THETA)[None]))


def test_vectors_of_several_processes_are_one_chain():
    both = side_by_side({"a": PROCESS, "b": sgd(noise.full_batch(PROBLEM), 0.05)})
    result = ends(0, {"a": THETA, "b": THETA}, both)
    assert result["a"].shape == result["b"].shape == (1, 2, SIZE)


def test_a_vector_is_one_chain_in_a_run_that_resumes(tmp_path):
    _, result = simulate_resumable(
        PROCESS,
        5,
        np.asarray(THETA),
        steps=4,
        every=2,
        chunk=2,
        folder=tmp_path,
        observe=lambda theta: theta,
    )
    assert_array_equal(result, ends(5, np.asarray(THETA)))


def test_whole_numbers_are_a_start():
    assert_array_equal(ends(0, np.ones((2, SIZE), int)), ends(0, np.ones((2, SIZE))))


BOTH = side_by_side({"a": PROCESS, "b": PROCESS})
WRONG = {
    "a number": (lambda: ends(0, 1.0), "not a number"),
    "text": (lambda: ends(0, "here"), "start must be"),
    "no chain": (lambda: ends(0, np.ones((0, SIZE))), "no numbers"),
    "no parameter": (lambda: ends(0, np.ones((3, 0))), "no numbers"),
    "complex": (lambda: ends(0, 1j * STARTS), "complex"),
    "a vector beside chains": (lambda: ends(0, {"a": THETA, "b": STARTS}, BOTH), "not both"),
    "other chains": (lambda: ends(0, {"a": STARTS, "b": STARTS[:2]}, BOTH), r"\[2, 3\]"),
    "of another size": (lambda: ends(0, np.ones((3, SIZE + 1))), "theta must be one vector"),
    "no key": (lambda: ends(None), "key must be"),
    "a float": (lambda: ends(0.5), "key must be"),
    "a truth value": (lambda: ends(True), "key must be"),
    "a generator": (lambda: ends(np.random.default_rng(0)), "key must be"),
    "floats": (lambda: ends(np.ones(2)), "float64 of shape"),
    "other keys": (lambda: ends(jax.random.split(jax.random.key(0), 2)), "3 chains need one key"),
    "other rows": (
        lambda: simulate(lambda row: PROCESS, 0, STARTS, steps=2, given=np.ones(2)),
        "one row for each of 3 chains",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_start_or_key_is_refused(name):
    call, sentence = WRONG[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert len(str(caught.value).partition("\n--")[0]) < 200
