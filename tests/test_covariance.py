"""Each covariance operator against its dense matrix."""

import numpy as np
import pytest
from witnesses import colours, matrix

from sgdnoise.covariance import Diagonal, Factor, Isotropic

ROWS = np.random.default_rng(0).normal(size=(3, 4))
VARIANCES = np.asarray([0.3, 0.0, 2.0, 1 / 3])
OPERATORS = {
    "isotropic of a float": (lambda xp: Isotropic(0.7, 4), 0.7 * np.eye(4)),
    "isotropic": (lambda xp: Isotropic(xp.asarray(VARIANCES)[3], 4), np.eye(4) / 3),
    "diagonal": (lambda xp: Diagonal(xp.asarray(VARIANCES)), np.diag(VARIANCES)),
    "flat factor": (lambda xp: Factor(xp.asarray(ROWS)), ROWS.T @ ROWS),
    "tall factor": (lambda xp: Factor(xp.asarray(ROWS.T)), ROWS @ ROWS.T),
}


@pytest.fixture(params=OPERATORS.values(), ids=OPERATORS.keys())
def pair(request, xp):
    """An operator and its dense matrix."""
    make, dense = request.param
    return make(xp), dense


def test_it_multiplies_as_its_matrix(pair, xp):
    covariance, dense = pair
    np.testing.assert_allclose(matrix(covariance, len(dense), xp.asarray), dense, atol=1e-14)


def test_its_colours_have_it_as_their_gram_matrix(pair, xp):
    covariance, dense = pair
    b = colours(covariance, xp.asarray)
    assert b.shape == (len(dense), covariance.width)
    np.testing.assert_allclose(b @ b.T, dense, atol=1e-14)


def test_its_trace_and_diagonal_are_those_of_its_matrix(pair):
    covariance, dense = pair
    np.testing.assert_allclose(float(covariance.trace()), dense.trace(), rtol=1e-14)
    np.testing.assert_allclose(np.asarray(covariance.diagonal()), dense.diagonal(), rtol=1e-14)


@pytest.mark.parametrize("rows", [ROWS, ROWS.T, np.ones((3, 2))], ids=["flat", "tall", "rank one"])
def test_the_eigenvalues_of_a_factor_are_those_of_its_matrix_but_for_zeros(rows, xp):
    found = np.asarray(Factor(xp.asarray(rows)).eigenvalues())
    expected = np.linalg.eigvalsh(rows.T @ rows)
    size = max(rows.shape)
    padded = [np.sort(np.pad(h, (size - len(h), 0))) for h in (found, expected)]
    np.testing.assert_allclose(*padded, atol=1e-13)
    assert np.all(np.diff(found) <= 0)
    assert np.all(found >= 0)
