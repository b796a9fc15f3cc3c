"""Measures do not depend on the units of the gradients, as far as numbers of their type reach."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sgdnoise.core import Diagonal, GradientMatrix, Gram, eigenvalue_participation_ratio
from sgdnoise.noise import (
    METHODS,
    alignment,
    alignment_exponent,
    autocorrelation,
    by_layer,
    correlation_time,
    extreme_value_index,
    gaussianity,
    gradient_noise_scale,
    gradient_noise_scale_from_batches,
    gradient_norm,
    signal_to_noise,
    tail_index,
    variance_flatness,
)
from sgdnoise.noise._measure._variance_flatness import principal_directions

P = 6
STEEP = np.diag(np.linspace(0.5, 2.0, P))


def pair(estimate):
    return [estimate.value, estimate.stderr]


def limits(estimate):
    return [*pair(estimate), *estimate.interval()]


def of_diagonal(rows, **options):
    variances = (rows * rows).sum(0)
    found = alignment(Diagonal(variances), STEEP, k=4, **options)
    return [*pair(found.cosine), found.overlap, *pair(found.exponent)]


def of_curvature(rows):
    steep = np.diag(np.asarray((rows * rows).sum(0), dtype=float))
    found = alignment(Diagonal(np.linspace(1.0, 2.0, P)), steep, k=4)
    return [*pair(found.cosine), found.overlap, *pair(found.exponent)]


def of_windows(rows):
    windows = rows.reshape(2, -1, P)
    found = variance_flatness(windows, lambda center, direction: 1 + abs(float(direction[0])), k=4)
    return pair(found.exponent)


def of_batches(rows):
    norms = np.asarray((rows * rows).sum(1), dtype=float)
    return limits(
        gradient_noise_scale_from_batches(
            8 + norms[:50] / norms.mean(), norms[50:] / norms.mean(), 2, 40
        )
    )


def small(rows):
    gram = Gram(GradientMatrix(rows), 0.5)
    return [float(gram.participation_ratio()), float(gram.trace() / gram.frobenius())]


MEASURES = {
    "noise scale": lambda rows: limits(gradient_noise_scale(rows)),
    "of a population": lambda rows: pair(gradient_noise_scale(rows, population=True)),
    "critical": lambda rows: limits(gradient_noise_scale(rows, curvature=STEEP)),
    "probed": lambda rows: limits(gradient_noise_scale(rows, curvature=STEEP, n_probes=4, rng=0)),
    "signal to noise": lambda rows: pair(signal_to_noise(rows)),
    "by layer": lambda rows: pair(by_layer(rows)["theta"]),
    "relative norm": lambda rows: pair(gradient_norm(rows) / float(abs(rows).max())),
    "autocorrelation": lambda rows: pair(autocorrelation(rows, [1, 2])),
    "correlation time": lambda rows: pair(correlation_time(rows)),
    "gaussianity": lambda rows: [*(t := gaussianity(rows, draws=20))[:4], *pair(t.mardia)],
    "tail of norms": lambda rows: pair(tail_index(Gram(GradientMatrix(rows), 0.1))),
    "extreme values": lambda rows: pair(extreme_value_index(rows)),
    "alignment": of_diagonal,
    "alignment by probes": partial(of_diagonal, n_probes=6, rng=0),
    "curvature": of_curvature,
    "exponent": lambda rows: pair(alignment_exponent((rows * rows).sum(0), np.arange(1.0, P + 1))),
    "variance and flatness": of_windows,
    "directions": lambda rows: abs(np.asarray(principal_directions(rows, 3)[1])),
    "small matrix": small,
    "eigenvalues": lambda rows: [float(eigenvalue_participation_ratio((rows * rows).sum(0)))],
} | {
    f"tail by {method}": partial(
        lambda rows, method: pair(tail_index(rows, method=method)), method=method
    )
    for method in METHODS
}
LIBRARIES = {"numpy": np.asarray, "torch": torch.asarray, "jax": jnp.asarray}


def sample(seed, dtype):
    rng = np.random.default_rng(seed)
    return (np.linspace(1.0, 0.2, P) * (rng.standard_t(6, size=(120, P)) + 1.5)).astype(dtype)


def numbers(values):
    return np.concatenate([np.ravel(np.asarray(value, dtype=float)) for value in values])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("dtype", "decades"), [("float32", 15), ("float64", 150)])
@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), part=st.sampled_from([-1.0, -0.6, 0.6, 1.0]))
def test_the_unit_of_the_rows_does_not_matter(name, dtype, decades, library, seed, part):
    rows = sample(seed, dtype)
    unit = np.dtype(dtype).type(10.0 ** (part * decades))
    make, measure = LIBRARIES[library], MEASURES[name]
    expected = numbers(measure(make(rows)))
    result = numbers(measure(make(rows * unit)))
    rtol = 2e-3 if dtype == "float32" else 1e-7
    size = max(abs(expected[np.isfinite(expected)]), default=0.0)
    assert_allclose(result, expected, rtol=rtol, atol=rtol * size)


@pytest.mark.parametrize("decade", [-140, -15, 15, 140])
def test_a_norm_has_the_unit_of_the_gradients(decade):
    rows = sample(0, float)
    plain, scaled = gradient_norm(rows), gradient_norm(rows * 10.0**decade)
    assert_allclose(numbers(pair(scaled)), 10.0**decade * numbers(pair(plain)), rtol=1e-12)


@pytest.mark.parametrize("decade", [-140, -15, 15, 140])
def test_squared_norms_of_batches_may_be_in_any_unit(decade):
    rng = np.random.default_rng(0)
    small_norms, large_norms = rng.uniform(8, 10, 30), rng.uniform(6, 7, 20)
    plain = gradient_noise_scale_from_batches(small_norms, large_norms, 2, 40)
    unit = 10.0**decade
    scaled = gradient_noise_scale_from_batches(unit * small_norms, unit * large_norms, 2, 40)
    assert_allclose(limits(scaled), limits(plain), rtol=1e-10)
