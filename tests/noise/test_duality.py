"""A change of weights in place of a change of inputs: it does the same, no smaller one does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers
from numpy.testing import assert_allclose

from sgdnoise.noise._duality import dual_change


def layer(rng, *examples):
    return rng.normal(size=(3, 4)), rng.normal(size=(*examples, 4)), rng.normal(size=(*examples, 4))


@pytest.mark.parametrize("examples", [(), (6,), (2, 5)])
def test_changed_weights_answer_as_to_changed_inputs(examples, rng):
    weights, a, changed = layer(rng, *examples)
    dual = dual_change(weights, a, changed)
    assert dual.shape == (*examples, 3, 4)
    answers = np.einsum("...oi,...i->...o", weights + dual, a)
    assert_allclose(answers, changed @ weights.T, rtol=1e-12, atol=1e-13)


def test_each_library_changes_weights_alike(xp, rng):
    parts = layer(rng, 6)
    found = np.asarray(dual_change(*map(xp.asarray, parts)))
    assert_allclose(found, dual_change(*parts), rtol=1e-12)


@given(seed=integers(0, 2**32 - 1))
def test_no_smaller_change_does_it(seed):
    """The least solution of dW a = W (a' - a), as least squares finds it."""
    weights, a, changed = layer(np.random.default_rng(seed))
    wanted = weights @ (changed - a)
    system = np.kron(np.eye(3), a)  # (3, 12) on the entries of dW, row by row
    least = np.linalg.lstsq(system, wanted, rcond=None)[0].reshape(3, 4)
    found = dual_change(weights, a, changed)
    assert_allclose(found, least, rtol=1e-8, atol=1e-10)
    norm = np.linalg.norm(wanted) / np.linalg.norm(a)
    assert_allclose(np.linalg.norm(found), norm, rtol=1e-10)


def test_the_loss_of_a_network_changes_alike(rng):
    """Behind the layer stands whatever there is: here a tanh and a squared error."""
    weights, a, changed = layer(rng)

    def loss(w, inputs):
        return np.sum((np.tanh(w @ inputs) - 0.3) ** 2)

    dual = dual_change(weights, a, changed)
    assert_allclose(loss(weights + dual, a), loss(weights, changed), rtol=1e-12)


def test_what_does_not_change_needs_no_change(rng):
    weights, a, _ = layer(rng, 5)
    assert not np.any(dual_change(weights, a, a))


def test_a_bias_is_a_coordinate_of_one(rng):
    weights, a, changed = layer(rng)
    a[-1] = changed[-1] = 1.0
    dual = dual_change(weights, a, changed)
    inputs = weights[:, :3] + dual[:, :3], weights[:, 3] + dual[:, 3]
    expected = weights[:, :3] @ changed[:3] + weights[:, 3]
    assert_allclose(inputs[0] @ a[:3] + inputs[1], expected, rtol=1e-12)


def test_a_silent_input_is_refused(rng):
    weights, a, changed = layer(rng, 5)
    a[[1, 3]] = 0
    with pytest.raises(ValueError, match="2 activations are zero, which no change of weights"):
        dual_change(weights, a, changed)
