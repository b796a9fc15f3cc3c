"""Each law of weights, outcome by outcome, against the mean and covariance it claims."""

from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from witnesses import dense_weights, moments

from sgdnoise.dynamics._chains._random import draw
from sgdnoise.nets._walk import draws
from sgdnoise.noise import (
    Permutation,
    bernoulli,
    gaussian_weights,
    reshuffled,
    svag_weights,
    with_replacement,
    without_replacement,
)

FINITE = {
    "with_replacement": lambda: with_replacement(4, 2),
    "with_replacement, batch of 1": lambda: with_replacement(3, 1),
    "with_replacement, batch above n": lambda: with_replacement(2, 5),
    "without_replacement": lambda: without_replacement(4, 2),
    "without_replacement, batch of 3": lambda: without_replacement(5, 3),
    "without_replacement, all": lambda: without_replacement(4, 4),
    "without_replacement, one of one": lambda: without_replacement(1, 1),
    "reshuffled": lambda: reshuffled(4, 2),
    "reshuffled, one left out": lambda: reshuffled(5, 2),
    "bernoulli": lambda: bernoulli(4, 2),
    "bernoulli, batch of 1": lambda: bernoulli(3, 1),
    "bernoulli, all": lambda: bernoulli(3, 3),
    "svag of with_replacement": lambda: svag_weights(with_replacement(4, 2), 3),
    "svag of without_replacement": lambda: svag_weights(without_replacement(4, 2), 4),
    "svag of reshuffled": lambda: svag_weights(reshuffled(4, 2), 2),
    "svag, stretch of 1": lambda: svag_weights(without_replacement(4, 3), 1),
}


@pytest.fixture(params=FINITE.values(), ids=FINITE.keys())
def law(request):
    """Each law with finitely many outcomes."""
    return request.param()


def claimed(law):
    """own (I - J) + shared J."""
    j = np.ones((law.n, law.n)) / law.n
    return law.var_within * (np.eye(law.n) - j) + law.var_mean * j


def test_a_law_has_the_mean_and_covariance_it_claims(law):
    result, covariance = moments(dense_weights(law))
    np.testing.assert_allclose(result, 1 / law.n, rtol=1e-12)
    np.testing.assert_allclose(covariance, claimed(law), rtol=1e-12, atol=1e-15)


def test_its_gaussian_twin_has_the_same_mean_and_covariance(law):
    """It is affine in what is drawn: offset and columns are read off with basis vectors."""
    pick = gaussian_weights(law).weights_of
    offset = pick(np.zeros(law.n), np.float64)[1]
    b = np.stack([pick(e, np.float64)[1] - offset for e in np.eye(law.n)], axis=1)
    np.testing.assert_allclose(offset, np.full(law.n, 1 / law.n), rtol=1e-15)
    np.testing.assert_allclose(b @ b.T, claimed(law), rtol=1e-12, atol=1e-15)


def test_svag_stretches_the_covariance_and_nothing_else():
    law = without_replacement(5, 2)
    stretched = svag_weights(law, 3)
    assert stretched.var_within == pytest.approx(3 * law.var_within, rel=1e-15)
    assert (stretched.n, stretched.var_mean) == (law.n, law.var_mean)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_have_the_type_that_was_asked_for(xp, dtype):
    """A third in single precision is off by 1e-8, whatever it is cast to afterwards."""
    drawn = xp.asarray([0, 2, 1])
    result = with_replacement(4, 3).weights_of(drawn, getattr(xp, dtype))[1]
    assert result.dtype == getattr(xp, dtype)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(1 / 3, dtype))


def orders(kind, steps, how):
    """The batches of so many steps, (step, batch), as each driver draws them."""
    if how == "torch":
        stream = draws(kind, torch.Generator().manual_seed(0), torch.float64)
        return torch.stack(list(islice(stream, steps))).numpy()

    def one(k):
        return draw(kind, jax.random.key(0), k, float)

    return np.asarray(jax.vmap(one)(jnp.arange(steps)))


@pytest.mark.parametrize("how", ["jax", "torch"])
def test_a_reshuffled_epoch_uses_each_example_once_and_the_next_another_order(how):
    """Two of 24! orders coincide never."""
    epochs = orders(Permutation(4, 24), 30, how).reshape(5, 24)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(24), (5, 1)))
    assert len(np.unique(epochs, axis=0)) == 5


@pytest.mark.parametrize("how", ["jax", "torch"])
def test_where_the_batch_does_not_divide_n_no_example_comes_twice_in_an_epoch(how):
    epochs = orders(Permutation(4, 11), 40, how).reshape(20, 8)
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert set(epochs.ravel()) == set(range(11))
