"""Data sets: real, cut honestly, scaled as they say."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sgdnoise.data import Data, digits, one_hot, principal, split


def test_the_digits_are_those_of_scikit_learn():
    data, pixels, labels = digits(3), *load_digits(return_X_y=True)
    np.testing.assert_array_equal(data.inputs * 16, pixels[labels < 3])
    np.testing.assert_array_equal(data.targets.argmax(axis=1), labels[labels < 3])
    assert data.targets.shape == (537, 3)
    assert len(digits().inputs) == 1797


def test_one_hot_rows_are_of_the_identity():
    np.testing.assert_array_equal(one_hot(np.asarray([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def test_a_split_is_a_partition_which_the_seed_decides():
    data = Data(np.arange(10), np.arange(10) * 2)
    first, two = split(data, 4, rng=7)
    assert sorted([*first.inputs, *two.inputs]) == list(range(10))
    np.testing.assert_array_equal(first.targets, 2 * first.inputs)
    np.testing.assert_array_equal(first.inputs, split(data, 4, rng=7)[0].inputs)
    assert any((split(data, 4, rng=s)[0].inputs != first.inputs).any() for s in (1, 2, 3))


@pytest.mark.parametrize("whiten", [True, False])
def test_principal_axes_diagonalise_and_scale_the_training_inputs(rng, whiten):
    inputs = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 3
    train, test = split(Data(inputs, inputs[:, :1]), 200, rng=0)
    first, two = principal(train, test, 4, whiten=whiten, power=2.5)
    covariance = first.inputs.T @ first.inputs / 200
    np.testing.assert_allclose(first.inputs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-12)
    np.testing.assert_allclose(np.trace(covariance), 2.5, rtol=1e-12)
    variances = np.diag(covariance)
    if whiten:
        np.testing.assert_allclose(variances, 2.5 / 4, rtol=1e-12)
    else:
        levels = np.linalg.eigvalsh(np.cov(train.inputs.T))[::-1][:4]
        np.testing.assert_allclose(variances / variances[0], levels / levels[0], rtol=1e-10)
    alone = principal(train, test._replace(inputs=test.inputs[:3]), 4, whiten=whiten, power=2.5)[1]
    np.testing.assert_allclose(two.inputs[:3], alone.inputs, rtol=1e-12)  # nothing learnt from it


def test_bad_input_is_one_sentence(rng):
    data = Data(rng.normal(size=(10, 3)), rng.normal(size=(10, 1)))
    with pytest.raises(ValueError, match="classes of digits is 2 to 10"):
        digits(11)
    with pytest.raises(ValueError, match="1 to 9 of them, not 10"):
        split(data, 10, rng=0)
    with pytest.raises(ValueError, match="have 3 principal axes, not 4"):
        principal(data, data, 4, whiten=True)
