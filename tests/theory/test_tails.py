"""Tail indices on laws that are known, their errors, their pitfalls, and Kesten's own."""

import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis.strategies import floats, integers, sampled_from
from numpy.testing import assert_allclose
from scipy.integrate import dblquad
from scipy.stats import levy_stable
from witnesses import SURE

from derivations import symbols
from derivations import tails as derived
from sgdnoise.core import GradientMatrix, Gram, mean
from sgdnoise.noise import METHODS, extreme_value_index, tail_index
from sgdnoise.theory import kesten_index, kesten_index_small, radial_index
from sgdnoise.theory._tails import _chi_squared

PARETO = 2.0


def pareto(rng, size):
    """Either sign, P(|x| > t) = t^-2 beyond 1."""
    return rng.choice([-1, 1], size) * (1 + rng.pareto(PARETO, size))


def stable(rng, size):
    return levy_stable.rvs(1.5, 0, size=size, random_state=rng)


def repeated(estimator, draws):
    """The mean over repeats, their spread, and what they claim it to be."""
    result = [estimator(x) for x in draws]
    values = np.asarray([f.value for f in result])
    return mean(values), values.std(ddof=1), np.mean([f.stderr**2 for f in result]) ** 0.5


# --- on the law that each assumes ---


@pytest.mark.parametrize("method", ["hill", "moments", "clauset"])
def test_pure_power_laws_have_their_index(method, rng):
    """Hill's 1 / gamma is k / (k - 1) too large; moments are biased by their order 1 / k^1/2."""
    draws = pareto(rng, (20, 900) if method == "clauset" else (60, 2500))
    if method == "moments":
        result, covariance, claimed = repeated(extreme_value_index, draws)
        bias = 0.05
        assert abs(result.value - 1 / PARETO) < SURE * result.stderr + bias
    else:
        result, covariance, claimed = repeated(lambda x: tail_index(x, method=method), draws)
        assert abs(result.value - PARETO) < SURE * result.stderr + PARETO / 30
    chosen = 0.5 if method == "clauset" else 0.0  # its groups choose thresholds of their own
    assert abs(claimed / covariance - 1) < SURE * (1 / 2 / len(draws)) ** 0.5 + chosen


@pytest.mark.parametrize("method", ["stable", "blocks"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.0), (1.5, 0.0), (1.9, 0.0), (1.5, 0.7)])
def test_stable_laws_have_their_index(method, alpha, beta, rng):
    """Skewed ones too; 1 / alpha of blocks is unbiased, alpha is not by its variance over alpha."""
    draws = levy_stable.rvs(alpha, beta, size=(100, 2000), random_state=rng)
    result, covariance, claimed = repeated(lambda x: tail_index(x, method=method), draws)
    assert abs(result.value - alpha) < SURE * result.stderr + covariance**2 / alpha + 0.002
    assert abs(claimed / covariance - 1) < SURE * (1 / 200) ** 0.5


@pytest.mark.parametrize("method", ["stable", "blocks"])
def test_gaussian_noise_is_stable_of_index_two(method, rng):
    result, covariance, claimed = repeated(
        lambda x: tail_index(x, method=method), rng.normal(size=(100, 2000))
    )
    assert abs(result.value - 2) < SURE * result.stderr + covariance**2 / 2 + 0.002
    assert abs(claimed / covariance - 1) < SURE * (1 / 200) ** 0.5


@pytest.mark.parametrize(("law", "gamma"), [("uniform", -1.0), ("exponential", 0.0)])
def test_laws_without_a_power_tail_have_no_positive_index(law, gamma, rng):
    """Bounded: -1; exponential: 0.  The bias at k = 44 is of order 1 / k^1/2 or less."""
    draws = getattr(rng, law)(size=(150, 2000))
    result, covariance, claimed = repeated(extreme_value_index, draws)
    assert abs(result.value - gamma) < SURE * result.stderr + 0.15
    assert abs(claimed / covariance - 1) < SURE * (1 / 300) ** 0.5 + 0.1
    bounded = tail_index(rng.uniform(size=2000), method="moments")
    assert bounded.value == math.inf
    assert np.isnan(bounded.stderr)


# --- by hand ---


def test_hill_is_the_mean_logarithm_of_the_largest(rng):
    x = pareto(rng, 150)
    size = sorted(abs(x), reverse=True)
    gamma = np.mean([math.log(size[i] / size[12]) for i in range(12)])
    result = tail_index(x)
    assert_allclose(result.value, 1 / gamma, rtol=1e-12)
    assert_allclose(result.stderr, 1 / gamma / 12**0.5, rtol=1e-12)


def test_moments_are_those_of_the_largest(rng):
    x = rng.standard_t(4, 150)
    size = sorted(abs(x), reverse=True)
    logs = [math.log(size[i] / size[12]) for i in range(12)]
    first, two = np.mean(logs), np.mean(np.square(logs))
    gamma = extreme_value_index(x)
    assert_allclose(gamma.value, first + 1 - 0.5 / (1 - first**2 / two), rtol=1e-12)
    if gamma.value > 0:
        assert_allclose(tail_index(x, method="moments").value, 1 / gamma.value, rtol=1e-12)


def test_clauset_is_closest_to_a_power_law_of_all_thresholds(rng):
    """The index it gives belongs to the tail that is nearest to exponential in its logarithm."""
    x = rng.standard_t(2, 100)
    size = sorted(abs(x), reverse=True)
    tried = {}
    for k in range(10, 51):
        logs = [math.log(size[i] / size[k]) for i in range(k)]
        gamma = np.mean(logs)
        gaps = [
            abs(fraction / k - math.exp(-s / gamma))
            for i, s in enumerate(logs)
            for fraction in (i, i + 1)
        ]
        tried[1 / gamma] = max(gaps)
    assert_allclose(tail_index(x, method="clauset").value, min(tried, key=tried.get), rtol=1e-12)


def test_stable_is_the_slope_of_the_characteristic_function(rng):
    x = rng.standard_cauchy(300)
    low, high = np.percentile(x, [25, 75])
    times = np.arange(1, 11) / 10
    phi = [abs(np.mean(np.exp(2j * t * x / (high - low)))) for t in times]
    slope = np.polyfit(np.log(times), np.log(-np.log(np.square(phi))), 1)[0]
    assert_allclose(tail_index(x, method="stable").value, slope, rtol=1e-10)


def test_blocks_compare_sums_of_ten(rng):
    x = rng.standard_cauchy(107)
    sums = [abs(sum(x[i : i + 10])) for i in range(0, 100, 10)]
    inverse = (np.mean(np.log(sums)) - np.mean(np.log(abs(x[:100])))) / math.log(10)
    assert_allclose(tail_index(x, method="blocks").value, 1 / inverse, rtol=1e-12)


@given(
    seed=integers(0, 2**32 - 1),
    scale=floats(1e-6, 1e6),
    method=sampled_from(sorted(METHODS)),
)
def test_a_scale_and_a_sign_change_nothing(seed, scale, method):
    x = np.random.default_rng(seed).standard_t(3, 200)
    first, second = tail_index(x, method=method), tail_index(-scale * x, method=method)
    assert_allclose(second.value, first.value, rtol=1e-6)
    assert_allclose(second.stderr, first.stderr, rtol=1e-6)


def test_columns_are_measured_one_by_one_in_every_library(xp, rng):
    x = rng.standard_t(3, (120, 3))
    result = tail_index(xp.asarray(x), method="stable")
    alone = [tail_index(column, method="stable") for column in x.T]
    assert_allclose(result.value, [e.value for e in alone], rtol=1e-12)
    assert_allclose(result.stderr, [e.stderr for e in alone], rtol=1e-12)


# --- pitfalls ---

LAYERS = np.repeat([0, 1], 100)


def layered(rng, rows=400):
    """Gaussian noise whose scale differs from coordinate to coordinate, over two decades."""
    return rng.normal(size=(rows, 200)) * np.exp(rng.normal(size=200) * 2.5)


@pytest.mark.parametrize("method", ["hill", "stable", "blocks"])
def test_pooled_scales_make_gaussian_noise_look_heavy_and_layers_do_not(method, rng):
    """`layers` divides by a median of 400 numbers, which adds 0.3% to the spread of a scale."""
    x = layered(rng)
    naive = tail_index(x.reshape(-1), method=method)
    apart = tail_index(x, method=method, layers=LAYERS)
    if method == "hill":
        assert naive.value < 4
        assert np.all(apart.value > 2 * naive.value)
    else:
        assert (2 - naive.value) > 20 * naive.stderr
        assert np.all(abs(apart.value - 2) < SURE * apart.stderr + 0.01)


def test_blocks_of_coordinates_of_one_scale_are_not_fooled(rng):
    """What fakes a tail is unlike scales inside a sum, not between sums."""
    scales = np.repeat(np.exp(rng.normal(size=20) * 1.5), 10)
    x = (rng.normal(size=(400, 200)) * scales).reshape(-1)
    result = tail_index(x, method="blocks")
    assert abs(result.z(2)) < SURE


@pytest.mark.parametrize("method", ["stable", "blocks"])
def test_a_stable_fit_reads_finite_variance_as_heavy_and_more_data_do_not_help(method, rng):
    for m in (3000, 30_000):
        result = tail_index(rng.standard_t(5, m), method=method)
        assert result.value < 2 - 0.05
    assert result.value < 2 - SURE * result.stderr / (1 if method == "stable" else 1.5)


def test_hill_gives_gaussian_noise_an_index_that_grows_with_the_samples(rng):
    """As u^2 = 2 log(m / k) = log m, where the normal tail falls as x^(-u^2)."""
    few, many = (
        mean(np.asarray([tail_index(rng.normal(size=m)).value for _ in range(repeats)]))
        for m, repeats in ((1000, 40), (250_000, 5))
    )
    assert many.value - few.value > 2 * SURE * math.hypot(few.stderr, many.stderr)
    for result, m in ((few, 1000), (many, 250_000)):
        assert abs(result.value / math.log(m) - 1) < SURE * result.stderr / result.value + 0.1
    assert extreme_value_index(rng.normal(size=40_000)).value < 0.15


def test_projections_of_many_coordinates_hide_their_tails(rng):
    x = rng.standard_t(3, size=(2000, 200))
    first = tail_index(x[:, 0], method="stable")
    many = tail_index(x @ np.ones(200), method="stable")
    assert first.value < 2 - SURE * first.stderr
    assert many.value > 1.9


def test_late_power_laws_fool_the_choice_of_a_threshold(rng):
    """Stable noise of index 1.7: clauset reads above 2, where the variance would be finite."""
    draws = levy_stable.rvs(1.7, 0, size=(3, 10_000), random_state=rng)
    assert np.median([tail_index(x, method="clauset").value for x in draws]) > 2


def test_pooled_errors_are_those_of_whole_rows(rng):
    """All numbers of a row share a scale: 20 columns know little more than one."""
    draws = [rng.normal(size=(400, 20)) * pareto(rng, (400, 1)) for _ in range(60)]
    for method in ("hill", "stable"):
        result, covariance, claimed = repeated(
            lambda x, method=method: tail_index(x / 1, method=method, layers=np.zeros(20)), draws
        )
        assert abs(claimed / covariance - 1) < SURE * (1 / 120) ** 0.5 + 0.1
        assert result.value.shape == (1,)


def test_what_has_no_tail_is_refused(rng):
    x = rng.normal(size=(120, 4))
    with pytest.raises(ValueError, match="no method 'pickands'; there are hill"):
        tail_index(x, method="pickands")
    with pytest.raises(ValueError, match="100 samples, not 99"):
        tail_index(x[:99])
    with pytest.raises(ValueError, match="not finite"):
        tail_index(np.where(x > 1, np.inf, x))
    with pytest.raises(ValueError, match=r"cannot have shape \(3,\)"):
        tail_index(x, layers=[0, 1, 1])
    with pytest.raises(ValueError, match=r"all zero in 7"):
        tail_index(x * [1, 0, 1, 1], layers=[0, 7, 0, 0])
    sparse = np.zeros(200)
    sparse[:9] = 1 + np.arange(9)
    with pytest.raises(ValueError, match="tail of 14 numbers needs more of the 200"):
        tail_index(sparse)
    with pytest.raises(ValueError, match="9 numbers that are not zero"):
        tail_index(sparse, method="clauset")
    with pytest.raises(ValueError, match="half of the numbers are equal to 0"):
        tail_index(sparse, method="stable")


def test_columns_of_zeros_are_left_out_of_their_layer(rng):
    x = rng.normal(size=(120, 4))
    wider = np.concatenate([x, np.zeros((120, 2))], axis=1)
    for method in ("hill", "stable", "blocks"):
        first = tail_index(x, method=method, layers=[0] * 4)
        second = tail_index(wider, method=method, layers=[0] * 6)
        assert_allclose(second.value, first.value, rtol=1e-12)
        assert_allclose(second.stderr, first.stderr, rtol=1e-12)


# --- Kesten's index ---


@pytest.mark.parametrize("batch", [1, 2, 7, 300])
def test_the_variance_is_infinite_from_the_derived_rate_on(batch):
    h = 0.7
    right = derived.infinite_variance().rhs.subs({symbols.batch: batch, symbols.curvature: h})
    assert_allclose(kesten_index(float(right), batch, h), 2, rtol=1e-9)


@pytest.mark.parametrize("batch", [1, 3])
def test_index_four_solves_the_fourth_moment(batch):
    """E (1 - c q / B)^4 = 1 by the moments of q, which derivations know."""
    moment = derived._mean(sp.expand((1 - derived.pull * derived.q / batch) ** 4))
    roots = sp.Poly(sp.expand(moment.subs(symbols.batch, batch)) - 1, derived.pull).nroots()
    (rate,) = [float(r) for r in roots if r.is_real and r > 1e-9]
    assert_allclose(kesten_index(rate, batch), 4, rtol=1e-9)


@pytest.mark.parametrize(("rate", "batch"), [(0.3, 1), (1.2, 1), (1.0, 2), (0.4, 5), (1.9, 20)])
def test_the_index_solves_the_derived_equation(rate, batch):
    alpha = kesten_index(rate, batch)
    letters = {symbols.rate: rate, symbols.batch: batch, symbols.curvature: 1}
    integral = derived.kesten().lhs.subs(letters)
    f = sp.lambdify((derived.q, derived.alpha), integral.function, "mpmath")
    zero = batch / rate
    ends = [0, zero / 2, zero, 2 * zero, 4 * zero + 20, 8 * zero + 80, 400]
    total = mpmath.quad(lambda q: f(q, alpha), ends)
    assert_allclose(float(total), 1, rtol=1e-6)  # as the quadrature of a kink has it


def test_there_is_no_law_at_rest_beyond_the_derived_growth():
    """Batch of two: growth is 0 where Ei(1 / rate) is."""
    growth = sp.lambdify(symbols.rate, derived.growth().rhs.subs(symbols.curvature, 1), "mpmath")
    edge = float(mpmath.findroot(growth, 2.7))
    assert 0 < kesten_index(edge * 0.9999, 2) < 1e-3
    with pytest.raises(ValueError, match="has no stationary law"):
        kesten_index(edge * 1.0001, 2)


def test_small_rates_approach_the_derived_limit():
    """From below, by a share that falls as rate log(1 / rate)."""
    letters = {symbols.rate: 0.01, symbols.batch: 3, symbols.curvature: 2}
    exact = float(derived.kesten_small().rhs.subs(letters))
    assert_allclose(kesten_index_small(0.01, 3, 2.0), exact, rtol=1e-12)
    gaps = [1 - kesten_index(r, 3) / kesten_index_small(r, 3) for r in (0.1, 0.01, 0.001)]
    assert 0 < gaps[2] < gaps[1] / 4 < gaps[0] / 16


@given(rate=floats(0.01, 2.0), batch=integers(1, 200), curvature=floats(0.1, 10))
def test_larger_rates_and_smaller_batches_have_heavier_tails(rate, batch, curvature):
    alpha = kesten_index(rate, batch)
    assert kesten_index(rate * 1.01, batch) < alpha < kesten_index(rate, batch + 1)
    assert_allclose(kesten_index(rate / curvature, batch, curvature), alpha, rtol=1e-7)


@pytest.mark.parametrize(("rate", "batch"), [(1.0, 1), (0.6, 1), (1.3, 2)])
def test_descent_rests_in_the_predicted_tail(rate, batch, rng):
    """Regression on a fresh Gaussian input a step; Hill's 447 of 200 thousand are far out."""
    theta = np.zeros(200_000)
    for _ in range(50):
        factor = 1 - rate * rng.chisquare(batch, theta.size) / batch
        theta = factor * theta + rng.normal(size=theta.size)
    result = tail_index(theta)
    alpha = kesten_index(rate, batch)
    assert abs(result.value - alpha) < SURE * result.stderr
    assert result.stderr < 0.05 * alpha


def test_rates_and_batches_that_are_none_are_refused():
    for rate, batch in ((0.0, 1), (-1.0, 1), (math.inf, 1), (0.1, 0)):
        with pytest.raises(ValueError, match=r"rate x curvature > 0|learning_rate must be"):
            kesten_index(rate, batch)


# --- several inputs alike ---


@pytest.mark.parametrize("freedom", [1, 2, 4, 7])
def test_the_rule_for_chi_squared_has_its_moments(freedom):
    """Up to the largest index that is looked for, in |step|^order of which q^order is a part."""
    q, logs = _chi_squared(freedom)
    for k in (0, 1, 2, 16, 32):
        exact = math.prod(freedom + 2 * i for i in range(k))
        assert_allclose(np.sum(np.exp(logs) * q**k) / exact, 1, rtol=1e-10 if k < 32 else 1e-6)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_index_of_several_inputs_is_two_at_the_derived_rate(batch, dimension):
    letters = {symbols.batch: batch, symbols.curvature: 0.6, symbols.d: dimension}
    rate = float(derived.radial_variance().rhs.subs(letters))
    assert_allclose(radial_index(rate, batch, dimension, 0.6), 2, rtol=1e-8)


def test_the_index_of_several_inputs_solves_the_derived_equation():
    """Batches of two and five inputs, whose laws are smooth; both rules have the kink to 1e-6."""
    alpha = radial_index(0.4, 2, 5)
    letters = {symbols.rate: 0.4, symbols.batch: 2, symbols.curvature: 1, symbols.d: 5}
    integral = derived.radial().lhs.function.subs(letters).subs(derived.alpha, alpha)
    f = sp.lambdify((derived.q, derived.w), integral, "math")
    ends = [dblquad(f, a, b, 0, 120, epsabs=1e-8, epsrel=1e-8)[0] for a, b in ((0, 5), (5, 120))]
    assert_allclose(sum(ends), 1, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.05, 0.3, 1.1])
def test_one_input_of_several_has_kestens_index(rate):
    assert radial_index(rate, 2, 1, 1.7) == kesten_index(rate, 2, 1.7)


def test_more_inputs_and_smaller_batches_have_heavier_tails():
    alpha = radial_index(0.4, 2, 3)
    assert radial_index(0.4, 2, 4) < alpha < radial_index(0.4, 3, 3)
    assert_allclose(radial_index(0.1, 2, 3, 4.0), alpha, rtol=1e-12)


@pytest.mark.parametrize(("rate", "batch", "dimension"), [(0.6, 1, 2), (0.7, 2, 4)])
def test_products_of_steps_keep_the_mean_power_of_a_length(rate, batch, dimension, rng):
    """E |S_k ... S_1 u|^alpha = 1 after one step and after three: lengths multiply."""
    alpha = radial_index(rate, batch, dimension)
    u = np.tile(rng.normal(size=dimension), (60_000, 1))
    start = np.linalg.norm(u[0]) ** alpha
    for k in range(3):
        x = rng.normal(size=(len(u), batch, dimension))
        u = u - rate / batch * np.einsum("cbi,cb->ci", x, np.einsum("cbi,ci->cb", x, u))
        if k != 1:
            powers = mean(np.linalg.norm(u, axis=1) ** alpha / start)
            assert abs(powers.z(1)) < SURE
            assert powers.stderr < 0.06


def test_descent_on_several_inputs_rests_in_the_predicted_tail(rng):
    """A little below the rate of infinite variance; Hill's 200 of 40 thousand."""
    theta = np.zeros((40_000, 3))
    for _ in range(100):
        x = rng.normal(size=theta.shape)
        residual = np.sum(x * theta, axis=1) - rng.normal(size=len(theta))
        theta = theta - 0.38 * residual[:, None] * x
    result, alpha = tail_index(np.linalg.norm(theta, axis=1)), radial_index(0.38, 1, 3)
    assert abs(result.value - alpha) < SURE * result.stderr
    assert result.stderr < 0.1 * alpha


def test_indices_of_several_inputs_that_are_none_are_refused():
    for call, words in (
        (lambda: radial_index(0.3, 1, 0), "1 input or more, not 0"),
        (lambda: radial_index(-0.3, 1, 3), "learning_rate must be 0 or more and finite, not -0.3"),
        (lambda: radial_index(0.3, 0, 3), "a batch >= 1, not 0.3 and 0"),
        (lambda: radial_index(20.0, 1, 3), r"3 inputs have no stationary law: log\|theta\| grows"),
        (lambda: radial_index(0.01, 1, 3), "beyond 32, too light for this quadrature"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_of_a_covariance_the_norms_of_its_centred_gradients_are_looked_at():
    rows = np.random.default_rng(5).standard_t(2, size=(300, 4))
    result = tail_index(Gram(GradientMatrix(rows), 1.0))
    expected = tail_index(np.linalg.norm(rows - rows.mean(0), axis=1))
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-10)
