"""What is reduced while chains run is what their paths would give, and its errors are honest."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.dynamics import (
    Moments,
    Passage,
    Process,
    autocorrelation,
    combine,
    correlation_time,
    correlations,
    first_passage,
    histogram,
    moments,
    passage_rate,
    pool,
    simulate,
    simulate_resumable,
)
from sgdnoise.dynamics._chains._observables import _plus
from sgdnoise.noise import Normal

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEEP = np.asarray([[0.8, 0.0], [0.3, 0.5]])
LAGS = [1, 2, 5]
EDGES = np.linspace(-2, 2, 9)


def line(theta):
    return theta[0] + theta[1]


def far(theta):
    return theta[0] > 1.5


AR = Process(lambda theta, z: jnp.asarray(KEEP) @ theta + z + 1.0, Normal(2), 1.0)
ALL = combine(
    {
        "moments": moments(),
        "memory": autocorrelation(LAGS),
        "passage": first_passage(far),
        "bins": histogram(EDGES, line),
    }
)


@cache
def seen():
    """Paths of four chains, (chain, t, 2), and all that is reduced of them."""
    settings = {"key": jax.random.key(3), "start": np.ones((4, 2)), "steps": 24, "every": 2}
    result = simulate(AR, observe=ALL, **settings)
    return np.asarray(simulate(AR, **settings).theta), jax.tree.map(np.asarray, result)


def test_moments_are_those_of_the_path():
    path, result = seen()
    np.testing.assert_array_equal(result["moments"].count, 12)
    np.testing.assert_allclose(result["moments"].mean, path.mean(1), rtol=1e-13)
    expected = [np.cov(chain.T, bias=True) for chain in path]
    np.testing.assert_allclose(result["moments"].covariance, expected, rtol=1e-12)


def test_autocovariances_are_those_of_the_path():
    path, result = seen()
    off = path - path.mean(1, keepdims=True)
    for place, lag in enumerate([0, *LAGS]):
        pairs = [off[:, t] * off[:, t - lag] for t in range(lag, 12)]
        expected = np.sum(pairs, axis=0) / (12 - lag)
        np.testing.assert_allclose(result["memory"].covariance[:, place], expected, rtol=1e-10)
    np.testing.assert_allclose(result["memory"].mean, path.mean(1), rtol=1e-12)


def test_a_passage_is_the_first_step_seen_on_the_other_side_and_the_others_are_censored():
    path, result = seen()
    crossed = path[:, :, 0] > 1.5
    expected = np.where(crossed.any(1), 2 * (1 + crossed.argmax(1)), 24)
    np.testing.assert_array_equal(result["passage"].step, expected)
    np.testing.assert_array_equal(result["passage"].passed, crossed.any(1))


def test_a_histogram_counts_what_the_path_counts():
    path, result = seen()
    for values, bins, below, above in zip(path.sum(2), *result["bins"], strict=True):
        np.testing.assert_array_equal(bins, np.histogram(values, EDGES)[0])
        assert (below, above) == ((values < -2).sum(), (values >= 2).sum())


def test_cut_into_chunks_and_stopped_a_fold_is_the_same_bit_for_bit(tmp_path):
    settings = {"steps": 24, "every": 2, "chunk": 8, "observe": ALL, "folder": tmp_path}
    args = AR, jax.random.key(3), np.ones((4, 2))
    _, expected = seen()
    for _ in range(2):
        _, result = simulate_resumable(*args, **settings)
        jax.tree.map(np.testing.assert_array_equal, result, expected)
        (tmp_path / "chunk-0002.npz").unlink()  # as if stopped before it


def test_chains_given_rows_have_folds_of_their_own():
    rows = jnp.asarray([1.0, 2.0, 4.0])
    result = simulate(
        lambda row: Process(lambda theta, z: row + 0 * z, Normal(1), 1.0),
        jax.random.key(0),
        np.zeros((3, 1)),
        steps=4,
        observe=lambda row: moments(lambda theta: row * theta),
        given=rows,
    )
    np.testing.assert_array_equal(result.mean[:, 0], rows**2)


def test_a_million_small_terms_lose_no_digit_in_single_precision():
    """Added plainly in float32, the last of them are off by half of themselves."""
    term, many = np.float32(0.1), 1_000_000

    def both(_, kept):
        exact, plain = kept
        return _plus(exact, term), plain + term

    zero = jnp.float32(0)
    (total, _), plain = jax.jit(lambda: jax.lax.fori_loop(0, many, both, ((zero, zero), zero)))()
    truth = float(term) * many
    assert abs(float(total) / truth - 1) < np.finfo("float32").eps
    assert abs(float(plain) / truth - 1) > 1e-4


# --- statistics of AR(1): theta <- a theta + z, variance 1 / (1 - a^2), tau = (1 + a) / (1 - a) ---
DECAY = 0.7


@cache
def rested():
    """Forty times sixty short chains at rest, so that each's own mean is far off."""
    first = Process(lambda theta, z: DECAY * theta + z, Normal(1), 1.0)
    start = np.random.default_rng(0).normal(size=(2400, 1)) / (1 - DECAY**2) ** 0.5
    both = combine({"moments": moments(), "memory": autocorrelation(30)})
    result = simulate(first, jax.random.key(0), start, steps=100, observe=both)
    groups = jax.tree.map(lambda part: np.split(np.asarray(part), 40), result)
    return [
        jax.tree.map(lambda part, i=i: part[i], groups, is_leaf=lambda x: isinstance(x, list))
        for i in range(40)
    ]


STATISTICS = {
    "mean": (lambda f: pool(f["moments"])[0], 0.0),
    "variance": (lambda f: pool(f["moments"])[1], 1 / (1 - DECAY**2)),
    "rho": (lambda f: correlations(f["memory"]), DECAY ** np.arange(1, 31)),
    "time": (lambda f: correlation_time(f["memory"], 25), (1 + DECAY) / (1 - DECAY)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_pooled_over_chains_there_is_no_bias_and_the_error_is_the_spread_of_repeats(name):
    """A ratio of means over 60 chains is biased by a few hundredths of its error: hence 0.1.

    The spread of 40 repeats is known to 1 / (2 x 39)^1/2.
    """
    statistic, truth = STATISTICS[name]
    result = [statistic(piece) for piece in rested()]
    values = np.asarray([np.ravel(f.value) for f in result])
    errors = np.asarray([np.ravel(f.stderr) for f in result])
    repeats = mean(values)
    assert np.all(
        abs(repeats.value - np.ravel(truth)) < SURE * repeats.stderr + 0.1 * errors.mean(0)
    )
    ratio = (errors**2).mean(0) ** 0.5 / values.std(0, ddof=1)
    assert np.all(abs(ratio - 1) < SURE / (2 * 39) ** 0.5)


def test_chains_seen_once_have_the_covariance_of_a_sample(rng):
    """Nothing lies within a chain then, and the divisor is that of independent samples."""
    x = rng.normal(size=(7, 2))
    result = pool(Moments(np.ones(7), x, np.zeros((7, 2, 2))))
    np.testing.assert_allclose(result[0].value, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(result[1].value, np.cov(x.T), rtol=1e-12)


def test_a_bin_holds_its_lower_edge_and_not_its_upper():
    fold, stored = histogram([0.0, 1.0, 2.0], itself), None
    for x in (0.0, 1.0, 2.0, -0.5, np.nan):
        stored = fold.add(
            fold.start(jnp.float32(x)) if stored is None else stored, jnp.float32(x), 1
        )
    assert (stored.counts.tolist(), int(stored.below), int(stored.above)) == ([1, 1], 1, 1)


def itself(theta):
    return theta


def test_a_window_is_chosen_wide_enough_and_as_told():
    """What lies beyond 5 correlation times is exp(-5) of the sum, less than its error."""
    memory = rested()[0]["memory"]
    direct = correlation_time(memory)
    assert abs(direct.z((1 + DECAY) / (1 - DECAY))) < SURE
    rho = correlations(memory).value
    assert correlation_time(memory, 4).value == pytest.approx(1 + 2 * rho[:4].sum(), rel=1e-12)


def test_a_window_may_reach_the_last_lag_and_not_beyond():
    memory = rested()[0]["memory"]
    rho, last = correlations(memory).value, int(memory.lags[0][-1])
    whole = correlation_time(memory, last)
    assert whole.value == pytest.approx(1 + 2 * rho.sum(), rel=1e-12)
    with pytest.raises(ValueError, match=f"needs all of them, but the last is {last}"):
        correlation_time(memory, last + 1)


def test_the_rate_of_passages_at_random_is_found_in_spite_of_censoring():
    """Each step passes with probability 1/50, until 40 at most: half the chains are censored."""
    chance = Process(lambda theta, z: z, Normal(1), 1.0)
    result = simulate(
        chance,
        jax.random.key(0),
        np.zeros((4000, 1)),
        steps=40,
        observe=first_passage(lambda theta: theta[0] > 2.0537489106318225),
    )
    assert 0.3 < np.mean(result.passed) < 0.8
    rate = passage_rate(result)
    assert abs(rate.z(0.02)) < SURE
    assert rate.stderr == pytest.approx(rate.value / float(result.passed.sum()) ** 0.5, rel=1e-12)


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(ValueError, match="counted from 1, and are not \\[0, 2\\]"):
        autocorrelation([2, 0])
    with pytest.raises(ValueError, match="counted from 1, and are not \\[\\]"):
        autocorrelation(0)
    with pytest.raises(ValueError, match="2 edges or more, ascending"):
        histogram([0.0, 0.0], line)
    with pytest.raises(ValueError, match="the last is 5"):
        correlation_time(seen()[1]["memory"], 2)
    with pytest.raises(ValueError, match="no chain has passed in 8 steps"):
        passage_rate(Passage(np.asarray([4, 4]), np.asarray([False, False])))
