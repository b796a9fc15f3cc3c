"""The largest eigenvalues of symmetric operators, against all of a matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers

from sgdnoise.core import largest_eigenpairs

CLOSE = 1e-9  # of the largest eigenvalue; the tolerance, eps^(2/3) = 4e-11, is one of residuals
SPECTRA = {
    "random": np.random.default_rng(0).normal(size=40),
    "positive": np.random.default_rng(1).uniform(size=40),
    "negative": -np.arange(1.0, 13),
    "of low rank": np.asarray([3.0, 2, 1] + [0] * 37),
    "degenerate": np.asarray([2.0] * 4 + [1.0] * 5 + list(np.linspace(0, 0.5, 31))),
    "the same everywhere": np.ones(20),
    "zero": np.zeros(20),
    "falling fast": 10.0 ** -np.arange(20),
    "large": 1e8 * np.random.default_rng(2).uniform(size=15),
    "small": 1e-12 * np.random.default_rng(3).uniform(size=15),
    "of one number": np.asarray([3.0]),
    "of two numbers": np.asarray([1.0, 2.0]),
}


def turned(values, rng):
    """A symmetric matrix of these eigenvalues in a random basis."""
    basis = np.linalg.qr(rng.normal(size=(len(values),) * 2))[0]
    return (basis * values) @ basis.T


def check(matrix, values, vectors, k):
    """Right values, largest first, and orthonormal vectors that belong to them."""
    every = np.linalg.eigh(matrix)[0][::-1]
    size = np.abs(every).max() or 1.0
    assert values.shape == (k,)
    assert np.abs(values - every[:k]).max() <= CLOSE * size
    assert np.abs(matrix @ vectors - vectors * values).max() <= CLOSE * size
    assert np.abs(vectors.T @ vectors - np.eye(k)).max() <= CLOSE


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_they_are_those_of_the_matrix_however_many_are_asked_for(values, rng):
    matrix, m = turned(values, rng), len(values)
    for k in sorted({1, min(2, m), (m + 1) // 2, max(1, m - 1), m}):
        start = rng.normal(size=(m, min(m, k + 2)))
        check(matrix, *largest_eigenpairs(lambda v: matrix @ v, start, k), k)


@pytest.mark.parametrize("values", [SPECTRA["random"], SPECTRA["falling fast"]])
@pytest.mark.parametrize("wide", [1, 3])
def test_single_eigenvalues_are_found_from_a_block_smaller_than_their_number(values, wide, rng):
    matrix = turned(values, rng)
    check(
        matrix,
        *largest_eigenpairs(lambda v: matrix @ v, rng.normal(size=(len(values), wide)), 5),
        5,
    )


@pytest.mark.parametrize("k", [1, 10, 19, 20])
def test_where_a_block_runs_dry_others_across_it_are_tried(k, rng):
    """The image of the first is the first: nothing but rounding tells where to go next."""
    matrix = np.eye(20)
    check(matrix, *largest_eigenpairs(lambda v: matrix @ v, rng.normal(size=(20, 1)), k), k)


@given(seed=integers(0, 2**32 - 1), m=integers(1, 30), rank=integers(0, 30), k=integers(1, 30))
def test_a_covariance_of_any_rank_has_them(seed, m, rank, k):
    rng, k = np.random.default_rng(seed), min(k, m)
    rows = rng.normal(size=(rank, m))
    start = rng.normal(size=(m, min(m, k + 2)))
    check(rows.T @ rows, *largest_eigenpairs(lambda v: rows.T @ (rows @ v), start, k), k)


def test_each_library_finds_them(xp):
    rng = np.random.default_rng(4)
    matrix = turned(np.arange(6.0), rng)
    start, inside = xp.asarray(rng.normal(size=(6, 4))), xp.asarray(matrix)
    result = largest_eigenpairs(lambda v: inside @ v, start, 2)
    check(matrix, *map(np.asarray, result), 2)


def test_a_loose_tolerance_asks_less_of_the_operator(rng):
    matrix, start = turned(SPECTRA["random"], rng), rng.normal(size=(40, 3))

    def calls(tolerance):
        recorded = []
        largest_eigenpairs(
            lambda v: recorded.append(1) or matrix @ v, start, 1, tolerance=tolerance
        )
        return len(recorded)

    assert calls(1e-1) < calls(1e-13)


def test_the_residual_is_within_the_tolerance(rng):
    matrix, start = turned(SPECTRA["random"], rng), rng.normal(size=(40, 3))
    for tolerance in (1e-1, 1e-3, 1e-6):
        h, v = largest_eigenpairs(lambda v: matrix @ v, start, 1, tolerance=tolerance)
        assert np.linalg.norm(matrix @ v - v * h) <= tolerance * abs(h[0])


def test_the_residual_by_which_it_stops_is_that_of_what_it_returns(rng):
    """Just above that residual it stops at the same look, and just below it goes on."""
    matrix, start = turned(SPECTRA["positive"], rng), rng.normal(size=(40, 3))

    def stopped(tolerance):
        recorded = []
        h, v = largest_eigenpairs(
            lambda v: recorded.append(1) or matrix @ v, start, 1, tolerance=tolerance
        )
        return len(recorded), np.linalg.norm(matrix @ v - v * h) / h[0]

    calls, residual = stopped(1e-1)
    assert stopped(1.001 * residual) == (calls, residual)
    assert stopped(0.999 * residual)[0] > calls


@pytest.mark.parametrize("k", [0, -1, 6])
def test_as_many_as_there_are_can_be_asked_for(k):
    with pytest.raises(ValueError, match=f"5 numbers has 1 to 5 eigenvalues, not {k}$"):
        largest_eigenpairs(lambda v: v, np.ones((5, 2)), k)
