"""The error of the mean of correlated series: its coverage, its size, and wrong input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import lfilter

from sgdnoise.core import mean, series_mean


def autoregressive(phi, n, count, rng):
    """Stationary series x_t = phi x_{t-1} + noise, (count, n)."""
    white = rng.normal(size=(count, n))
    white[:, 0] /= (1 - phi**2) ** 0.5
    return lfilter([1.0], [1.0, -phi], white, axis=1)


@pytest.mark.parametrize(
    ("phi", "n"), [(-0.5, 500), (0.0, 200), (0.5, 300), (0.9, 500), (0.95, 1000), (0.99, 4000)]
)
def test_intervals_contain_the_mean_as_often_as_they_say(phi, n):
    count = 800
    series = autoregressive(phi, n, count, np.random.default_rng(7))
    low, high = series_mean(series.T).interval(0.95)
    assert 0.92 < np.mean((low < 0) & (high > 0)) < 0.985


def test_the_error_is_that_of_the_sum_of_autocovariances():
    series = autoregressive(0.8, 20_000, 20, np.random.default_rng(0))
    exact = (1 / (1 - 0.8) ** 2 / 20_000) ** 0.5
    assert_allclose(series_mean(series.T).stderr.mean(), exact, rtol=0.05)


def test_independent_samples_have_the_usual_error(rng):
    samples = rng.normal(size=50_000)
    assert_allclose(series_mean(samples).stderr, mean(samples).stderr, rtol=0.03)


def test_a_constant_series_has_no_error():
    estimate = series_mean(np.ones((20, 2)))
    assert estimate.value.tolist() == [1.0, 1.0]
    assert estimate.stderr.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("samples", [np.ones(7), np.float64(3.0), [1.0] * 10 + [np.nan]])
def test_what_is_no_series_is_refused(samples):
    with pytest.raises(ValueError, match=r"samples"):
        series_mean(samples)
