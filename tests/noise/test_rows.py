"""Rows of any library and type: widened at the door, or refused in one sentence."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sgdnoise.core import (
    Diagonal,
    Factor,
    GradientMatrix,
    Gram,
    Isotropic,
    batch_means,
    eigenvalue_participation_ratio,
    jackknife,
    mean,
    nanmean,
    with_group_error,
)
from sgdnoise.core._arrays import as_numpy
from sgdnoise.noise import (
    METHODS,
    alignment,
    alignment_exponent,
    autocorrelation,
    by_layer,
    correlation_time,
    extreme_value_index,
    fisher_inner_product,
    fisher_scatter,
    fisher_trace,
    gaussianity,
    gradient_noise_scale,
    gradient_noise_scale_from_batches,
    gradient_norm,
    signal_to_noise,
    tail_index,
    variance_flatness,
)

N, P = 120, 6
BASE = np.random.default_rng(0).integers(0, 120, size=(N, P))  # squares overflow eight bits
STEEP = np.diag(np.linspace(0.5, 2.0, P))
TORCH = ["uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
NUMPY = [*TORCH, "uint16", "uint32"]


def in_numpy(dtype):
    return BASE.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


MAKE = {f"numpy {d}": (lambda d=d: in_numpy(d)) for d in NUMPY}
MAKE |= {f"torch {d}": (lambda d=d: torch.asarray(BASE).to(getattr(torch, d))) for d in TORCH}
MAKE |= {f"jax {d}": (lambda d=d: jnp.asarray(BASE).astype(d)) for d in TORCH}


def pair(estimate):
    return [as_numpy(estimate.value), as_numpy(estimate.stderr)]


def of_gram(rows):
    gram = Gram(GradientMatrix(rows), 0.25)
    top = as_numpy(gram.top(2).values)
    return [gram.trace(), gram.participation_ratio(), *top, gram.frobenius(), *gram.diagonal()]


def of_factor(rows):
    factor = Factor(rows)
    return [factor.trace(), *as_numpy(factor @ np.ones(P)), *as_numpy(factor.eigenvalues()[:2])]


def inner(rows):
    return np.asarray(as_numpy(rows)[:P], dtype=float)


MEASURES = {
    "noise scale": lambda r: pair(gradient_noise_scale(r)),
    "critical": lambda r: pair(gradient_noise_scale(r, curvature=STEEP)),
    "signal to noise": lambda r: pair(signal_to_noise(r)),
    "norm": lambda r: pair(gradient_norm(r)),
    "layers": lambda r: pair(by_layer(r)["theta"]),
    "covariance": of_gram,
    "factor": of_factor,
    "autocorrelation": lambda r: pair(autocorrelation(r, [1, 2])),
    "correlation time": lambda r: pair(correlation_time(r)),
    "gaussianity": lambda r: [
        gaussianity(r, draws=20).energy,
        *pair(gaussianity(r, draws=20).mardia),
    ],
    "variance and flatness": lambda r: pair(
        variance_flatness(r.reshape(2, -1, P), lambda center, v: 1 + abs(float(v[0])), k=4).exponent
    ),
    "extremes": lambda r: pair(extreme_value_index(r)),
    "mean": lambda r: pair(mean(r)),
    "nanmean": lambda r: pair(nanmean(r)),
    "batch means": lambda r: [batch_means(r, 5)],
    "groups": lambda r: pair(with_group_error(lambda x: x.mean(), r)),
} | {f"tail by {m}": (lambda r, m=m: pair(tail_index(r, method=m))) for m in METHODS}
OF_COLUMNS = {
    "two batch sizes": lambda c: pair(gradient_noise_scale_from_batches(c + c, c, 2, 40)),
    "jackknife": lambda c: pair(jackknife(float(as_numpy(c).astype(float).mean()), c)),
    "exponent": lambda c: pair(alignment_exponent(c, np.arange(1.0, N + 1))),
    "eigenvalues": lambda c: [eigenvalue_participation_ratio(c)],
    "alignment": lambda c: pair(alignment(Diagonal(c[:P]), STEEP, k=4).cosine),
}


def numbers(values):
    return np.concatenate([np.ravel(as_numpy(value)).astype(float) for value in values])


def rtol_of(kind):
    return 1e-9 if kind.endswith("64") or "int" in kind else 2e-4


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("name", MEASURES)
def test_rows_of_every_type_give_what_float64_gives(name, kind):
    """Whole numbers up to 120 are exact in all of these types."""
    expected = numbers(MEASURES[name](BASE.astype(float)))
    result = numbers(MEASURES[name](MAKE[kind]()))
    assert_allclose(result, expected, rtol=rtol_of(kind), atol=rtol_of(kind))


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("name", OF_COLUMNS)
def test_columns_of_every_type_give_what_float64_gives(name, kind):
    column = MAKE[kind]()[:, 0]
    low = column % 60 + 1 if "float" not in kind else column / 2 + 1
    exact = BASE[:, 0] % 60 + 1 if "float" not in kind else BASE[:, 0] / 2 + 1
    expected = numbers(OF_COLUMNS[name](exact.astype(float)))
    assert_allclose(numbers(OF_COLUMNS[name](low)), expected, rtol=5e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["numpy uint8", "torch bfloat16", "jax float16"])
def test_inner_products_of_gradients_are_widened_too(kind):
    rows = MAKE[kind]()[:P, :]
    exact, weights = BASE[:P].astype(float), np.linspace(0.1, 0.6, P)
    gram = rows * 0 + rows  # a matrix (P, P) of that type
    assert_allclose(float(fisher_trace(gram, weights)), np.diag(exact) @ weights, rtol=1e-3)
    assert_allclose(
        float(fisher_inner_product(gram, weights, weights)),
        weights @ exact**2 @ weights,
        rtol=1e-3,
    )
    laws = np.full((2, 3), 1 / 3)
    assert_allclose(
        float(fisher_scatter(gram, laws)), float(fisher_scatter(exact, laws)), rtol=1e-3
    )


WRONG = {
    "complex": (lambda: 1j * BASE, "complex"),
    "complex of torch": (lambda: torch.asarray(1j * BASE), "complex"),
    "complex of jax": (lambda: jnp.asarray(1j * BASE), "complex"),
    "text": (lambda: BASE.astype(str), "real numbers"),
}
TAKE_ROWS = [gradient_noise_scale, signal_to_noise, gradient_norm, by_layer, GradientMatrix]
TAKE_ROWS += [autocorrelation, correlation_time, gaussianity, tail_index, mean, nanmean, Factor]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("measure", TAKE_ROWS)
def test_what_is_no_array_of_real_numbers_is_refused(measure, wrong):
    make, word = WRONG[wrong]
    with pytest.raises(ValueError, match=r"^[^\n]{20,200}$") as caught:
        measure(make())
    assert word in str(caught.value)


@pytest.mark.parametrize("measure", [gradient_noise_scale, signal_to_noise, by_layer])
def test_lists_of_rows_are_taken_for_an_array(measure):
    measure(BASE.tolist())
    with pytest.raises(ValueError, match="unequal length"):
        measure([[1.0, 2.0], [3.0]])
    with pytest.raises(ValueError, match="must be an array"):
        measure("rows")


@pytest.mark.parametrize("measure", [gradient_noise_scale, signal_to_noise, by_layer])
def test_a_vector_is_no_matrix_of_gradients(measure):
    with pytest.raises(ValueError, match=r"matrix \(n, p\)"):
        measure(BASE[:, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_that_are_not_finite_are_refused(bad):
    rows = BASE.astype(float)
    rows[3, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        gradient_noise_scale(rows)


COVARIANCES = {
    "gram": lambda rows: Gram(GradientMatrix(rows), 0.5, 0.25),
    "factor": Factor,
    "diagonal": lambda rows: Diagonal(rows[0] ** 2),
    "isotropic": lambda rows: Isotropic(rows.max(), P),
}
VECTORS = {
    "numpy": np.asarray,
    "numpy float32": lambda v: np.asarray(v, "float32"),
    "whole numbers": lambda v: np.asarray(v, int),
    "torch": torch.asarray,
    "torch float32": lambda v: torch.asarray(v, dtype=torch.float32),
    "jax": jnp.asarray,
    "a list": np.ndarray.tolist,
}
OWN = {"numpy": np.asarray, "torch": torch.asarray, "jax": jnp.asarray}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("vectors", VECTORS)
@pytest.mark.parametrize("name", COVARIANCES)
def test_a_covariance_takes_vectors_of_every_library(name, vectors, own):
    vector = np.arange(1.0, P + 1)
    expected = as_numpy(COVARIANCES[name](BASE.astype(float)) @ vector)
    covariance = COVARIANCES[name](OWN[own](BASE.astype(float)))
    assert_allclose(as_numpy(covariance @ VECTORS[vectors](vector)), expected, rtol=1e-12)
    two = np.stack([vector, vector], axis=1)
    assert_allclose(as_numpy(covariance @ VECTORS[vectors](two))[:, 1], expected, rtol=1e-12)
    white = np.linspace(-1, 1, covariance.width)
    if vectors in ("numpy", "torch", "jax"):
        coloured = as_numpy(covariance.colour(VECTORS[vectors](white)))
        exact = as_numpy(COVARIANCES[name](BASE.astype(float)).colour(white))
        assert_allclose(coloured, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("name", COVARIANCES)
def test_a_vector_of_another_length_is_refused(name, own):
    covariance = COVARIANCES[name](OWN[own](BASE.astype(float)))
    for use in (covariance.__matmul__, covariance.colour):
        with pytest.raises(
            ValueError, match=r"takes vectors of \d+ numbers, not an array of shape"
        ):
            use(np.ones(P + 1))


@pytest.mark.parametrize("own", OWN)
def test_a_small_noise_beside_a_large_mean_is_right_in_float32(own):
    """|g|^2 / Tr C of 1e10: the squares of gradients have no digit of the noise."""
    rng = np.random.default_rng(1)
    rows = (np.linspace(-1, 1, 40) + 3e-5 * rng.normal(size=(300, 40))).astype("float32")
    exact, given = rows.astype(float), OWN[own](rows)
    for measure in (gradient_noise_scale, signal_to_noise):
        assert_allclose(pair(measure(given)), pair(measure(exact)), rtol=2e-3)
    wide, narrow = (Gram(GradientMatrix(r), 0.5) for r in (exact, given))
    vector = rng.normal(size=40)
    for of in (
        lambda c: c.trace(),
        lambda c: c.diagonal(),
        lambda c: c.participation_ratio(),
        lambda c: c.top(2).values,
        lambda c: c.quadratic(vector),
        lambda c: c @ vector,
    ):
        expected = as_numpy(of(wide))
        assert_allclose(as_numpy(of(narrow)), expected, rtol=5e-3, atol=5e-3 * abs(expected).max())
