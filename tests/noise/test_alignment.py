"""Alignment of noise and curvature: against dense matrices, and its errors against repeats."""

from itertools import product

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose
from witnesses import SURE, entries, value_and_error

from sgdnoise.core import Diagonal, Factor, GradientMatrix, Gram
from sgdnoise.noise import alignment, alignment_exponent

P = 7
CURVED = np.geomspace(3.0, 0.1, P)


def turned(values, rng):
    """A symmetric matrix of these eigenvalues."""
    basis, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return basis @ np.diag(values) @ basis.T


def rooted(matrix):
    """Rows of which it is the Gram matrix."""
    values, basis = np.linalg.eigh(matrix)
    return (basis * np.sqrt(np.clip(values, 0, None))).T


def test_it_is_what_the_matrices_say(xp, rng):
    h, c = turned(CURVED, rng), turned(rng.uniform(0.1, 2, P), rng)
    result = alignment(Factor(xp.asarray(rooted(c))), xp.asarray(h), 4)
    assert_allclose(value_and_error(result.product), (np.trace(h @ c), 0), rtol=1e-12)
    cosine = np.trace(h @ c) / np.sqrt(np.sum(h**2) * np.sum(c**2))
    assert_allclose(value_and_error(result.cosine), (cosine, 0), rtol=1e-12)
    (_, u), (_, v) = np.linalg.eigh(h), np.linalg.eigh(c)
    assert_allclose(result.overlap, np.linalg.norm(u[:, -4:].T @ v[:, -4:]) ** 2 / 4, rtol=1e-10)
    along = np.diag(u.T @ c @ u)[-4:]
    slope = np.polyfit(np.log(np.linalg.eigvalsh(h)[-4:]), np.log(along), 1)[0]
    assert_allclose(result.exponent.value, slope, rtol=1e-9)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_noise_that_is_a_power_of_curvature_has_that_exponent(power, rng):
    basis, _ = np.linalg.qr(rng.normal(size=(P, P)))
    h, c = ((basis * values) @ basis.T for values in (CURVED, CURVED**power))
    result = alignment(Factor(rooted(c)), lambda v: h @ v, 5)
    assert_allclose(value_and_error(result.exponent), (power, 0), atol=1e-9)
    assert_allclose(result.overlap, 1, rtol=1e-9)
    assert (result.cosine.value > 1 - 1e-12) == (power == 1)
    assert result.exponent.dof == 3


def test_a_direction_of_noise_flat_in_the_loss_has_nothing_to_do_with_it():
    c, h = Diagonal(np.asarray([0, 0, 0, 0, 1, 2.0])), np.diag([4.0, 3, 2, 1, 0, 0])
    with pytest.raises(ValueError, match="4 directions with both positive, not 0"):
        alignment(c, h, 4)


class Every:
    """In place of random signs, all that there are: their mean is exact."""

    def choice(self, values, size):
        return np.asarray(list(product(values, repeat=size[1])))


def test_probes_are_without_bias(xp, rng):
    """All signs there are give the exact trace and norms; a jackknife of 128 adds 1 / 128.

    Eigenvectors are found to 1e-6 of the largest eigenvalue.
    """
    h, c = turned(CURVED, rng), rooted(turned(rng.uniform(0.1, 2, P), rng))
    exact = alignment(Factor(c), h, 4)
    probed = alignment(Factor(xp.asarray(c)), xp.asarray(h), 4, n_probes=2, rng=Every())
    assert_allclose(probed.product.value, exact.product.value, rtol=1e-12)
    assert_allclose(probed.cosine.value, exact.cosine.value, rtol=1e-3)
    assert_allclose(probed.overlap, exact.overlap, rtol=1e-4)
    assert_allclose(value_and_error(probed.exponent), value_and_error(exact.exponent), rtol=1e-4)
    assert probed.product.stderr > 0 < probed.cosine.stderr


@pytest.mark.parametrize("name", ["product", "cosine"])
def test_the_error_of_probes_is_the_spread_of_repeats(name, rng):
    """A jackknifed ratio of 24 probes keeps a bias of order 24^-2."""
    h, c = turned(CURVED, rng), Factor(rooted(turned(rng.uniform(0.1, 2, P), rng)))
    exact = getattr(alignment(c, h, 4), name).value
    result = [
        value_and_error(getattr(alignment(c, h, 4, n_probes=24, rng=rng), name)) for _ in range(250)
    ]
    value, error = np.asarray(result).T
    deviation = value.std(ddof=1)
    assert abs(value.mean() - exact) < SURE * deviation / 250**0.5 + exact / 24**2
    assert abs(np.sqrt(np.mean(error**2)) / deviation - 1) < SURE * (2 / 250) ** 0.5


@given(seed=integers(0, 2**32 - 1), unit=floats(1e-6, 1e6))
def test_units_change_the_product_and_nothing_else(seed, unit):
    rng = np.random.default_rng(seed)
    h, c = turned(CURVED, rng), rooted(turned(rng.uniform(0.1, 2, P), rng))
    first, second = alignment(Factor(c), h, 4), alignment(Factor(unit**0.5 * c), h, 4)
    assert_allclose(second.product.value, unit * first.product.value, rtol=1e-9)
    assert_allclose(second.cosine.value, first.cosine.value, rtol=1e-9)
    assert_allclose(
        value_and_error(second.exponent), value_and_error(first.exponent), rtol=1e-6, atol=1e-9
    )


def test_a_covariance_of_examples_is_aligned_like_its_matrix(rng):
    gradients = rng.normal(size=(9, P))
    dense, h = np.cov(gradients.T, bias=True), turned(CURVED, rng)
    result = alignment(Gram(GradientMatrix(gradients), 1 / 9), h, 4)
    expected = alignment(Factor(rooted(dense)), h, 4)
    assert_allclose(result.overlap, expected.overlap, rtol=1e-7)
    for name in ("product", "cosine", "exponent"):
        ours, theirs = getattr(result, name), getattr(expected, name)
        assert_allclose(entries(ours), entries(theirs), rtol=1e-7)


def test_the_exponent_has_the_error_of_repeats(rng):
    """Of noise estimated from 200 examples, and of 40 directions that scatter by themselves.

    A jackknife over directions is too large by their share in the fit, 2 / 40 on average.
    """
    h = np.geomspace(0.01, 1, 40)
    sampled = [
        alignment_exponent(h, np.var(rng.normal(size=(200, 40)) * h**0.75, axis=0))
        for _ in range(400)
    ]
    scattered = [alignment_exponent(h, h**1.5 * np.exp(rng.normal(size=40))) for _ in range(400)]
    for result in (sampled, scattered):
        value, error = np.asarray([value_and_error(f) for f in result]).T
        assert abs(value.mean() - 1.5) < SURE * value.std() / 20
        reported = np.sqrt(np.mean(error**2)) / value.std(ddof=1)
        assert -SURE * (2 / 400) ** 0.5 < reported - 1 < SURE * (2 / 400) ** 0.5 + 0.05
        inside = [low < 1.5 < high for low, high in (f.interval() for f in result)]
        assert np.mean(inside) > 0.95 - SURE * (0.95 * 0.05 / 400) ** 0.5


def test_noise_in_the_curvatures_dilutes_the_exponent_and_the_inverse_bounds_it(rng):
    h = np.exp(rng.normal(size=4000))
    recorded = h * np.exp(0.5 * rng.normal(size=4000))
    variances = h**1.5 * np.exp(0.3 * rng.normal(size=4000))
    diluted = alignment_exponent(recorded, variances)
    assert abs(diluted.z(1.5 / (1 + 0.25))) < SURE
    assert 1 / alignment_exponent(variances, recorded).value > 1.5


def test_the_exponent_is_jackknifed_by_hand(xp, rng):
    x, y = rng.uniform(1, 2, (2, 8))
    x[3], y[5] = -1, 0  # are left out
    result = alignment_exponent(xp.asarray(x), xp.asarray(y))
    stored = np.log([np.delete(piece, [3, 5]) for piece in (x, y)])
    left = [np.polyfit(*np.delete(stored, i, axis=1), 1)[0] for i in range(6)]
    assert_allclose(result.value, np.polyfit(*stored, 1)[0], rtol=1e-10)
    assert_allclose(result.stderr, (5 * np.var(left)) ** 0.5, rtol=1e-9)
    assert result.dof == 4


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c, rng: alignment(c, np.eye(P), 3), "3 leading eigenvectors .* all 7"),
        (lambda c, rng: alignment(c, np.eye(P), 7), "7 leading eigenvectors .* all 7"),
        (lambda c, rng: alignment(c, np.eye(P), 4, n_probes=1, rng=rng), "2 probes, not 1"),
        (lambda c, rng: alignment(c, np.eye(P), 4, n_probes=5), "5 probes are random"),
        (lambda c, rng: alignment(c, np.eye(P), 4), "4 curvatures that are all alike"),
        (lambda c, rng: alignment_exponent(np.ones(3), np.ones(3)), "4 directions .* not 3"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, sentence, rng):
    with pytest.raises(ValueError, match=sentence):
        call(Diagonal(CURVED), rng)


LIBRARIES = {
    "numpy float32": lambda a: np.asarray(a, "float32"),
    "numpy float64": lambda a: np.asarray(a, "float64"),
    "torch float32": lambda a: torch.asarray(a, dtype=torch.float32),
    "torch float64": lambda a: torch.asarray(a, dtype=torch.float64),
    "torch bfloat16": lambda a: torch.asarray(a, dtype=torch.bfloat16),
    "jax float32": lambda a: jnp.asarray(a, "float32"),
    "numpy int32": lambda a: np.asarray(a, "int32"),
}
VARIANCES, CURVATURES = np.arange(1.0, 9.0), 2.0 ** np.arange(8)


@pytest.mark.parametrize("n_probes", [None, 6])
@pytest.mark.parametrize("steep", LIBRARIES)
@pytest.mark.parametrize("noisy", LIBRARIES)
def test_a_covariance_and_a_curvature_may_be_of_any_library_and_type(noisy, steep, n_probes):
    options = {"k": 4, "n_probes": n_probes, "rng": 0}
    exact = alignment(Diagonal(VARIANCES), np.diag(CURVATURES), **options)
    curvature = LIBRARIES[steep](np.diag(CURVATURES))
    result = alignment(Diagonal(LIBRARIES[noisy](VARIANCES)), curvature, **options)
    for name in ("product", "cosine", "exponent"):
        assert_allclose(getattr(result, name).value, getattr(exact, name).value, rtol=1e-4)
    assert result.overlap == pytest.approx(exact.overlap, rel=1e-3)


def test_a_matrix_is_a_covariance_too():
    of_matrix = alignment(np.diag(VARIANCES), np.diag(CURVATURES), k=4)
    assert of_matrix.cosine == alignment(Diagonal(VARIANCES), np.diag(CURVATURES), k=4).cosine


UNLIKE = {
    "another size": (lambda: (np.diag(VARIANCES), np.eye(7)), "8 parameters and the curvature 7"),
    "no square": (lambda: (np.diag(VARIANCES), np.ones((8, 7))), r"must be a matrix \(p, p\)"),
    "a vector": (lambda: (VARIANCES, np.eye(8)), r"must be a matrix \(p, p\)"),
    "a function of few": (lambda: (Diagonal(VARIANCES), lambda v: v[:3]), "map 8 parameters"),
    "complex": (lambda: (Diagonal(VARIANCES), 1j * np.eye(8)), "complex"),
    "not finite": (lambda: (Diagonal(VARIANCES), np.full((8, 8), np.nan)), "finite"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_does_not_fit_together_is_refused(name):
    make, sentence = UNLIKE[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        alignment(*make(), k=4)
    assert "\n" not in str(caught.value)


def test_curvatures_and_variances_have_one_length():
    with pytest.raises(ValueError, match=r"not of \(8,\) and \(7,\)"):
        alignment_exponent(VARIANCES, VARIANCES[:7])
