"""Each covariance operator against its dense matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers
from witnesses import SURE, colours, matrix

from sgdnoise.core import (
    Diagonal,
    Factor,
    GradientMatrix,
    Gram,
    Isotropic,
    PerExampleGradients,
    mean,
)
from sgdnoise.noise import bernoulli, svag_weights, with_replacement, without_replacement

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
    result = np.asarray(Factor(xp.asarray(rows)).eigenvalues())
    expected = np.linalg.eigvalsh(rows.T @ rows)
    size = max(rows.shape)
    padded = [np.sort(np.pad(h, (size - len(h), 0))) for h in (result, expected)]
    np.testing.assert_allclose(*padded, atol=1e-13)
    assert np.all(np.diff(result) <= 0)
    assert np.all(result >= 0)


OWN_SHARED = {
    "with replacement": with_replacement(6, 2),
    "without replacement": without_replacement(6, 4),
    "all at once": without_replacement(6, 6),
    "bernoulli": bernoulli(6, 2),
    "svag": svag_weights(with_replacement(6, 2), 3),
}
GRADIENTS = np.random.default_rng(5).normal(size=(6, 4)) + 1


@pytest.fixture(params=OWN_SHARED.values(), ids=OWN_SHARED)
def law(request):
    return request.param


def gram(g, law, xp=np):
    return Gram(GradientMatrix(xp.asarray(g)), law.var_within, law.var_mean)


def weighed(g, law):
    """G^T Cov(w) G, from the eigenvalues of Cov(w) and their projectors."""
    along = np.ones((len(g), len(g))) / len(g)
    return g.T @ (law.var_within * (np.eye(len(g)) - along) + law.var_mean * along) @ g


def check(c, dense, asarray, rng):
    """All that it says of itself, against its matrix."""
    p, equal = len(dense), {"atol": 1e-12 * max(1, np.abs(dense).max())}
    several = rng.normal(size=(p, 3))
    v, b = several[:, 0], colours(c, asarray)
    np.testing.assert_allclose(matrix(c, p, asarray), dense, **equal)
    np.testing.assert_allclose(np.asarray(c @ asarray(several)), dense @ several, **equal)
    np.testing.assert_allclose(b @ b.T, dense, **equal)
    np.testing.assert_allclose(float(c.quadratic(asarray(v))), v @ dense @ v, **equal)
    np.testing.assert_allclose(float(c.trace()), dense.trace(), **equal)
    np.testing.assert_allclose(np.asarray(c.diagonal()), dense.diagonal(), **equal)
    np.testing.assert_allclose(float(c.frobenius()), np.linalg.norm(dense), **equal)
    result = np.asarray(c.eigenvalues())
    assert result.shape == (min(c.width, p),)
    np.testing.assert_allclose(result, np.linalg.eigvalsh(dense)[::-1][: c.width], **equal)


def check_top(c, dense, k):
    """The largest of its eigenvalues, and vectors; that of an eigenvalue of zero is zero."""
    pairs = c.top(k)
    values, vectors = np.asarray(pairs.values), np.asarray(pairs.vectors)
    every = np.pad(np.linalg.eigvalsh(dense)[::-1], (0, max(0, k - len(dense))))
    size = every[0]
    np.testing.assert_allclose(values, every[:k], atol=1e-11 * size)
    np.testing.assert_allclose(dense @ vectors, vectors * values, atol=1e-9 * size)
    real = (values > 1e-11 * size).astype(float)
    np.testing.assert_allclose(vectors.T @ vectors, np.diag(real), atol=1e-9)


@pytest.mark.parametrize("g", [GRADIENTS, GRADIENTS[:, :1], np.tile(GRADIENTS, 3)])
def test_a_gram_covariance_is_that_of_the_law_of_weights(g, law, rng):
    check(gram(g, law), weighed(g, law), np.asarray, rng)


def test_its_largest_eigenvalues_and_vectors_are_those_of_its_matrix(law):
    c, dense = gram(GRADIENTS, law), weighed(GRADIENTS, law)
    for k in (1, 4, 6) if dense.any() else ():
        check_top(c, dense, k)


def test_each_library_has_the_same_gram_covariance(xp, rng):
    c = gram(GRADIENTS, OWN_SHARED["bernoulli"], xp)
    dense = weighed(GRADIENTS, OWN_SHARED["bernoulli"])
    check(c, dense, xp.asarray, rng)
    drawn = c.draw(rng=1)
    np.testing.assert_allclose(np.asarray(drawn), c.draw(rng=np.random.default_rng(1)), rtol=1e-12)


def test_how_many_directions_the_noise_has_is_between_one_and_their_number(law):
    c, dense = gram(GRADIENTS, law), weighed(GRADIENTS, law)
    if dense.any():
        expected = dense.trace() ** 2 / (dense**2).sum()
        np.testing.assert_allclose(c.participation_ratio(), expected, rtol=1e-12)
        assert 1 <= expected <= 4


def test_no_noise_has_no_eigenvalue_and_no_direction():
    g = np.tile(GRADIENTS[:1], (6, 1))
    pairs = gram(g, with_replacement(6, 1)).top(3)
    assert np.all(np.abs(pairs.values) <= 1e-14)
    assert np.all(gram(0 * g, OWN_SHARED["bernoulli"]).top(3).vectors == 0)


def test_torch_finds_the_same_largest_eigenvalues():
    law = OWN_SHARED["bernoulli"]
    check_top(gram(GRADIENTS, law, torch), weighed(GRADIENTS, law), 2)


@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray])
def test_rounding_makes_no_variance_negative(asarray):
    """All gradients are the same, and n times 1 / n is not 1; single precision shows it."""
    for n in (3, 6, 7, 49):
        g = np.full((n, 5), np.asarray([0.1, 1, 3, 7, 1e3]), dtype=np.float32)
        c = Gram(GradientMatrix(asarray(g)), 1.0)
        assert c.trace() >= 0
        assert np.all(np.asarray(c.diagonal()) >= 0)
        assert np.all(np.asarray(c.eigenvalues()) >= 0)


@pytest.mark.parametrize("name", ["without replacement", "bernoulli"])
def test_draws_have_the_covariance(name):
    c, dense = gram(GRADIENTS, OWN_SHARED[name]), weighed(GRADIENTS, OWN_SHARED[name])
    rng = np.random.default_rng(0)
    drawn = np.stack([c.draw(rng=rng) for _ in range(3000)])
    assert np.all(abs(mean(drawn).z(0)) < SURE)
    products = drawn[:, :, None] * drawn[:, None, :]
    assert np.all(abs(mean(products).z(dense)) < SURE)


def test_a_seed_decides_a_draw_and_a_generator_moves_on():
    c = gram(GRADIENTS, OWN_SHARED["svag"])
    first, again, second = (np.asarray(c.draw(rng=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != second)
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(np.asarray(c.draw(rng=rng)), first)
    assert np.any(np.asarray(c.draw(rng=rng)) != first)


@given(seed=integers(0, 2**32 - 1), n=integers(2, 9), p=integers(1, 9), scale=floats(1e-3, 1e3))
def test_any_covariance_is_positive_and_its_trace_is_all_there_is(seed, n, p, scale):
    """Tr C = sum of eigenvalues = own sum_i |g_i - g|^2 + shared n |g|^2."""
    rng = np.random.default_rng(seed)
    g, law = scale * (rng.normal(size=(n, p)) + 1), bernoulli(n, 1)
    c, center = gram(g, law), g.mean(0)
    deviation = law.var_within * ((g - center) ** 2).sum() + law.var_mean * n * (center**2).sum()
    np.testing.assert_allclose([c.trace(), c.eigenvalues().sum(), c.diagonal().sum()], deviation)
    v = rng.normal(size=p)
    assert c.quadratic(v) >= 0
    np.testing.assert_allclose(c.quadratic(v), v @ (c @ v), rtol=1e-9, atol=1e-12 * deviation)
    turned = gram(g[rng.permutation(n)], law)
    np.testing.assert_allclose(turned.trace(), c.trace(), rtol=1e-12)
    np.testing.assert_allclose(turned.eigenvalues(), c.eigenvalues(), atol=1e-9 * deviation)


def test_a_larger_batch_has_less_noise_by_its_size():
    first, four = (gram(GRADIENTS, with_replacement(6, b)) for b in (1, 4))
    np.testing.assert_allclose(four.trace() * 4, first.trace(), rtol=1e-13)
    np.testing.assert_allclose(four.eigenvalues() * 4, first.eigenvalues(), atol=1e-13)


@pytest.mark.parametrize("k", [0, 7])
def test_there_are_as_many_eigenvalues_as_examples(k):
    with pytest.raises(ValueError, match=f"6 numbers has 1 to 6 eigenvalues, not {k}$"):
        gram(GRADIENTS, OWN_SHARED["svag"]).top(k)


def test_a_matrix_of_gradients_has_no_layers():
    rows = GradientMatrix(GRADIENTS)
    assert isinstance(rows, PerExampleGradients)
    assert rows.by_parameter() == {"theta": rows}
    with pytest.raises(ValueError, match="come without names, so there is no 'first' in them"):
        gram(GRADIENTS, OWN_SHARED["svag"]).layer("first")
