"""Memory of noise: white, autoregressive and reshuffled, against what each must give."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import lfilter
from witnesses import SURE, entries

from derivations import tails as derived
from sgdnoise.core import mean
from sgdnoise.noise import autocorrelation, correlation_time, reshuffled, reshuffled_autocorrelation

LAGS = [1, 2, 3, 10]
REPEATS = 120
SPREAD = SURE * (1 / (2 * REPEATS)) ** 0.5  # of a standard deviation from its repeats, relative
UNLIKE = np.exp(np.linspace(-2, 2, 12))  # scales of twelve directions


def recalling(phi, steps, scales, rng):
    """A stationary AR(1) of deviation 1 in each direction, times scales."""
    white = rng.normal(size=(steps, len(scales)))
    white[0] /= (1 - phi**2) ** 0.5
    return lfilter([1], [1, -phi], white, axis=0) * (1 - phi**2) ** 0.5 * scales


def test_a_window_may_reach_half_of_the_steps_and_not_beyond(rng):
    x = rng.normal(size=(12, 2))
    expected = 1 + 2 * autocorrelation(x, range(1, 7)).value.sum()
    assert_allclose(correlation_time(x, window=6).value, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="lags from 1 to 6, not 7"):
        correlation_time(x, window=7)


def test_the_window_is_at_most_half_of_the_steps_where_correlations_do_not_fall():
    """A drift is correlated at all lags: the sum ends at the last lag that the steps know."""
    drift = np.arange(12.0)[:, None] - 5.5
    expected = 1 + 2 * autocorrelation(drift, range(1, 7), mean=0.0).value.sum()
    assert_allclose(correlation_time(drift, mean=0.0).value, expected, rtol=1e-12)


@pytest.mark.parametrize("phi", [0.0, 0.8, -0.5])
@pytest.mark.parametrize("scales", [np.ones(1), UNLIKE], ids=["scalar", "vector"])
def test_an_autoregression_has_its_correlations_and_errors_and_time(phi, scales, rng):
    """The window's own choice adds a tenth to the spread of the time, and cuts off exp(-5)."""
    series = [recalling(phi, 1000, scales, rng) for _ in range(REPEATS)]
    result = [autocorrelation(x, LAGS, mean=0.0) for x in series]
    values = np.asarray([f.value for f in result])
    claimed = np.mean([f.stderr**2 for f in result], axis=0) ** 0.5
    exact = phi ** np.asarray(LAGS)
    repeats = mean(values)
    assert np.all(abs(repeats.value - exact) < SURE * repeats.stderr + 2 / 1000)  # a ratio's bias
    assert_allclose(claimed, values.std(0, ddof=1), rtol=SPREAD)

    times = [correlation_time(x, mean=0.0) for x in series]
    tau, value = (1 + phi) / (1 - phi), np.asarray([t.value for t in times])
    error = np.mean([t.stderr**2 for t in times]) ** 0.5
    repeated = mean(value)
    assert abs(repeated.value - tau) < SURE * repeated.stderr + 0.03 * tau
    assert abs(error / value.std(ddof=1) - 1) < SPREAD + 0.12


def test_the_error_of_white_noise_counts_its_directions(rng):
    """1 / t over (Tr C)^2 / Tr C^2."""
    result = autocorrelation(rng.normal(size=(4000, 12)) * UNLIKE, [1, 5], mean=0.0)
    exact = (np.sum(UNLIKE**4) / np.sum(UNLIKE**2) ** 2 / 4000) ** 0.5
    assert_allclose(result.stderr, exact, rtol=0.15)  # rho_k of noise stay in the formula


def test_errors_are_those_of_bartlett_for_an_autoregression(rng):
    """Exact for AR(1): t Var rho_k = (1 + phi^2) (1 - phi^2k) / (1 - phi^2) - 2 k phi^2k."""
    phi, k = 0.6, np.asarray([1, 2, 5])
    result = autocorrelation(recalling(phi, 40_000, np.ones(1), rng), k.tolist())
    powers = phi ** (2 * k)
    exact = (1 + phi**2) * (1 - powers) / (1 - phi**2) - 2 * k * powers
    assert_allclose(result.stderr, (exact / 40_000) ** 0.5, rtol=0.15)


def test_the_error_of_the_time_is_that_of_madras_and_sokal(rng):
    """tau (2 (2 W + 1) / t)^(1/2), to the order exp(-W / tau) and that of the estimated rho."""
    result = correlation_time(recalling(0.6, 40_000, np.ones(1), rng), window=14)
    assert_allclose(result.stderr, 4 * (2 * 29 / 40_000) ** 0.5, rtol=0.15)


def test_correlations_are_those_of_the_definition(rng):
    x = rng.normal(size=(30, 2, 3))
    centred = x - x.mean(0)
    pairs = [np.mean([np.sum(centred[s] * centred[s + k]) for s in range(30 - k)]) for k in (1, 4)]
    variance = np.mean([np.sum(row**2) for row in centred])
    assert_allclose(autocorrelation(x, [1, 4]).value, np.asarray(pairs) / variance, rtol=1e-12)
    total = 1 + 2 * sum(autocorrelation(x, range(1, 4)).value)
    assert_allclose(correlation_time(x, window=3).value, total, rtol=1e-12)


def epoch_noise(n, batch, epochs, rng):
    """Minibatch gradient less gradient, for loss |theta - c_i|^2 / 2: additive noise."""
    centres, law = rng.normal(size=(n, 3)), reshuffled(n, batch)
    steps = []
    for _ in range(epochs):
        order = rng.permutation(n)
        for start in range(0, n - batch + 1, batch):
            picked, weights = law.weights_of(order[start : start + batch], np.float64)
            steps.append(weights @ (0.3 - centres[picked]) - (0.3 - centres.mean(0)))
    return np.asarray(steps)


def test_reshuffled_batches_are_anticorrelated_as_an_epoch_sums_to_zero(rng):
    batches = 8
    lags = [1, 2, 7, 8, 11]
    runs = [epoch_noise(24, 3, 60, rng) for _ in range(80)]
    result = mean(np.asarray([autocorrelation(x, lags, mean=0.0).value for x in runs]))
    exact = np.asarray([reshuffled_autocorrelation(batches, k) for k in lags])
    fraction = 480 / (480 - np.asarray(lags))  # a run of whole epochs has more pairs inside them
    assert np.all(abs(result.value - exact * fraction) < SURE * result.stderr)
    time = mean(np.asarray([correlation_time(x, window=7, mean=0.0).value for x in runs]))
    assert abs(time.value) < SURE * time.stderr + 7 / 480


def test_two_batches_of_an_epoch_have_exactly_this_correlation(rng):
    """Within one epoch there is no chance left: all pairs of steps, averaged over permutations."""
    x = epoch_noise(6, 2, 3000, rng).reshape(3000, 3, 3)
    assert_allclose(x.sum(1), 0, atol=1e-12)
    pairs = mean(np.sum(x[:, 0] * x[:, 2], axis=1))
    variance = np.mean(np.sum(x**2, axis=2))
    assert abs(pairs.value / variance + 1 / 2) < SURE * pairs.stderr / variance


@pytest.mark.parametrize(("batches", "lag"), [(2, 1), (5, 3), (40, 39)])
def test_the_derived_correlation_is_the_coded_one(batches, lag):
    exact = derived.reshuffled_correlation().rhs.subs({derived.m: batches, derived.lag: lag})
    assert_allclose(reshuffled_autocorrelation(batches, lag), float(exact), rtol=1e-14)


@pytest.mark.parametrize("batches", [2, 3, 17])
def test_the_derived_correlations_leave_no_correlation_time(batches):
    total = sum(reshuffled_autocorrelation(batches, k) for k in range(1, 2 * batches))
    assert_allclose(1 + 2 * total, 0, atol=1e-14)


def test_the_own_mean_lowers_every_correlation(rng):
    """By 1 / t for white noise."""
    runs = rng.normal(size=(2000, 50, 1))
    result = mean(np.asarray([autocorrelation(x, [1, 3]).value for x in runs]))
    assert np.all(abs(result.z(0)) > SURE)
    assert np.all(abs(result.value + 1 / 50) < SURE * result.stderr + 2 / 50**2)


def test_every_library_sees_the_same_and_scale_changes_nothing(xp, rng):
    x = recalling(0.5, 14, UNLIKE[:3], rng)
    here, there = autocorrelation(x, [1, 2]), autocorrelation(7 * xp.asarray(x), [1, 2])
    assert_allclose(there.value, here.value, rtol=1e-10)
    assert_allclose(there.stderr, here.stderr, rtol=1e-10)
    ours, numpys = correlation_time(xp.asarray(x), window=2), correlation_time(x, window=2)
    assert_allclose(entries(ours), entries(numpys), rtol=1e-10)


def test_what_has_no_memory_to_measure_is_refused(rng):
    x = rng.normal(size=(20, 2))
    with pytest.raises(ValueError, match="lags from 1 to 10, not 11"):
        autocorrelation(x, [1, 11])
    with pytest.raises(ValueError, match="not 0"):
        autocorrelation(x, [0])
    with pytest.raises(ValueError, match="not 11"):
        correlation_time(x, window=11)
    with pytest.raises(ValueError, match=r"sum of squares of 0\.0"):
        autocorrelation(np.ones((20, 2)))
    with pytest.raises(ValueError, match="sum of squares of nan"):
        correlation_time(np.full((20, 2), np.nan))
    with pytest.raises(ValueError, match="not 1 and 1"):
        reshuffled_autocorrelation(1, 1)
    with pytest.raises(ValueError, match="not 5 and 0"):
        reshuffled_autocorrelation(5, 0)
