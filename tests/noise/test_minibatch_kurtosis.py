"""The excess kurtosis of a mean over a batch, against all batches."""

from itertools import combinations, product

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sgdnoise.noise import minibatch_kurtosis


def excess(values):
    centred = values - np.mean(values)
    return np.mean(centred**4) / np.mean(centred**2) ** 2 - 3


@pytest.fixture
def numbers():
    return np.random.default_rng(0).exponential(size=7)


@pytest.mark.parametrize("batch", range(1, 7))
def test_without_replacement_it_is_that_over_all_batches(numbers, batch):
    means = [numbers[list(chosen)].mean() for chosen in combinations(range(7), batch)]
    assert_allclose(minibatch_kurtosis(excess(numbers), batch, 7), excess(means), rtol=1e-10)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_with_replacement_it_is_that_over_all_sequences(numbers, batch):
    means = [numbers[list(chosen)].mean() for chosen in product(range(7), repeat=batch)]
    assert_allclose(minibatch_kurtosis(excess(numbers), batch), excess(means), rtol=1e-10)


def test_a_large_population_is_as_with_replacement_and_the_sign_changes():
    assert_allclose(minibatch_kurtosis(40.0, 8, 10**7), minibatch_kurtosis(40.0, 8), rtol=1e-4)
    n = 10**6
    root = (1 - 3**-0.5) / 2  # 6 f (1 - f) = 1
    at = minibatch_kurtosis(np.asarray([5.0, 500.0]), round(root * n), n)
    assert_allclose(at, 0, atol=1e-5)


@pytest.mark.parametrize(("batch", "n"), [(0, None), (4, 4), (1, 3)])
def test_batches_without_a_law_are_refused(batch, n):
    with pytest.raises(ValueError, match="batch"):
        minibatch_kurtosis(1.0, batch, n)
