"""Gaussian surrogates: covariances by the smaller Gram matrix, and twonn from variances alone."""

import jax
import numpy as np
import pytest
import torch
from scipy.stats import ncx2
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.dimension import _surrogate as module
from sgdnoise.dimension import (
    covariance_spectrum,
    gaussian_surrogate,
    gaussian_twonn,
    participation_ratio,
    twonn,
)


@pytest.mark.parametrize("shape", [(30, 5), (9, 40), (12, 12)])
def test_the_spectrum_is_that_of_the_covariance(shape, rng):
    points = rng.normal(size=shape) + 100
    eigenvalues = np.linalg.eigvalsh(np.cov(points.T))[::-1][: min(shape)]
    np.testing.assert_allclose(covariance_spectrum(points), eigenvalues, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [(30, 5), (9, 40)])
def test_the_spectrum_has_the_participation_ratio_of_the_points(shape, xp, rng):
    points = xp.asarray(rng.normal(size=shape) * np.linspace(1, 3, shape[1]))
    variances = covariance_spectrum(points)
    expected = xp.sum(variances) ** 2 / xp.sum(variances**2)
    assert float(participation_ratio(points)) == pytest.approx(float(expected), rel=1e-10)


def test_the_spectrum_compiles(rng):
    points = rng.normal(size=(9, 40))
    result = jax.jit(covariance_spectrum)(points)
    np.testing.assert_allclose(result, covariance_spectrum(points), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 6), (40, 300)])
def test_a_surrogate_has_the_trace_moments_of_the_points_on_average(shape, rng):
    """E (Tr S)^2 = (Tr K)^2 + 2 Tr K^2 / m and E Tr S^2 = (Tr K)^2 / m + (1 + 1 / m) Tr K^2."""
    points = rng.normal(size=shape) * np.linspace(3, 1, shape[1])
    k = covariance_spectrum(points)
    squares, traces, m = k.sum() ** 2, (k**2).sum(), shape[0] - 1
    values = []
    for _ in range(400):
        drawn = covariance_spectrum(gaussian_surrogate(points, rng=rng))
        values.append([drawn.sum() ** 2, (drawn**2).sum()])
    expected = [squares + 2 * traces / m, squares / m + (1 + 1 / m) * traces]
    assert np.all(abs(mean(np.asarray(values)).z(np.asarray(expected))) < SURE)


@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray])
def test_a_surrogate_is_in_the_library_and_type_of_the_points(asarray, rng):
    points = asarray(rng.normal(size=(20, 30)).astype(np.float32))
    result = gaussian_surrogate(points, rng=3)
    assert result.dtype == points.dtype
    assert tuple(result.shape) == (20, 20)
    np.testing.assert_array_equal(result, gaussian_surrogate(points, rng=3))


def mean_log_ratio(square, d, n):
    """The integral for isotropic points, by the noncentral chi-squared law of scipy."""
    log_r = np.linspace(-30, 8, 20_000)
    p = ncx2.cdf(np.exp(2 * log_r), d, square)
    return np.trapezoid((n - 1) * p * (1 - p) ** (n - 2), log_r)


@pytest.mark.parametrize("n", [100, 1000, 10_000])
@pytest.mark.parametrize("d", [2, 3, 10, 60, 500])
def test_ratios_of_isotropic_points_are_those_of_the_exact_law(d, n, rng):
    """Within the 2% of the docstring, and 0.3% from 10 dimensions on."""
    for _ in range(3):
        square = rng.chisquare(d)
        result = module._mean_log_ratio(np.ones(1), np.asarray([d]), np.asarray([square]), n)
        expected = mean_log_ratio(square, d, n)
        assert result == pytest.approx(expected, rel=0.003 if d >= 10 else 0.02)


@pytest.mark.parametrize("spectrum", ["power", "few", "two scales"])
def test_twonn_of_normal_points_follows_from_their_variances(spectrum, rng):
    variances = {
        "power": 1 / np.arange(1, 200),
        "few": np.asarray([1.0, 0.5, 0.25, 0.0]),
        "two scales": np.r_[np.ones(3), np.full(40, 0.01)],
    }[spectrum]
    points = rng.normal(size=(12, 400, len(variances))) * variances**0.5
    measured = mean(np.asarray([twonn(cloud) for cloud in points]))
    difference = measured - gaussian_twonn(variances, 400, rng=rng)
    allowed = SURE * difference.stderr + 0.01 * measured.value
    assert abs(difference.value) < allowed
    assert allowed < measured.value / 4


def test_twonn_of_normal_points_needs_neither_scale_nor_order(rng):
    variances = rng.uniform(size=20)
    first = gaussian_twonn(variances, 500, n_points=400)
    second = gaussian_twonn(torch.asarray(1e-9 * variances[::-1].copy()), 500, n_points=400, rng=1)
    assert abs((first - second).z(0)) < SURE


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (lambda: gaussian_twonn([1.0, -1.0], 100), "finite numbers that are 0 or more"),
        (lambda: gaussian_twonn([[1.0]], 100), "a list of finite numbers"),
        (lambda: gaussian_twonn([0.0, 0.0], 100), "one that is above 0"),
        (lambda: gaussian_twonn([1.0], 2), "n is 3 or more"),
        (lambda: gaussian_twonn([1.0], 100, n_points=1), "n_points 2 or more"),
        (lambda: covariance_spectrum(np.ones((5, 2))), "coincide"),
        (lambda: gaussian_surrogate(np.full((5, 2), np.nan), rng=0), "not finite"),
    ],
)
def test_bad_input_is_one_sentence(attempt, words):
    with pytest.raises(ValueError, match=words) as caught:
        attempt()
    assert ". " not in str(caught.value)
