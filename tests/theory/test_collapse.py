"""Collapse into invariant sets: exact exponents, sampled ones, and networks that do it."""

from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm
from witnesses import SURE, number

from derivations import collapse as derived
from derivations import imbalance as derived_imbalance
from sgdnoise.core import mean
from sgdnoise.theory import (
    lyapunov_exponent,
    lyapunov_of_layer,
    lyapunov_of_unit,
    lyapunov_of_unit_small_rate,
    mean_log_growth,
    origin_exponent,
    stationary_squared_imbalance,
)

SLOPE, NOISE = 0.15, 1.0


def drawn(count, rng, slope=SLOPE, noise=NOISE):
    """x y of examples: minus the curvature across the set along w1 + w2."""
    x, eps = rng.normal(size=(2, count))
    return x * (slope * x + noise * eps)


@pytest.mark.parametrize(
    ("middle", "deviation"),
    [(0.0, 1.0), (0.3, 1.0), (-2.0, 0.7), (3.0, 1.0), (1.0, 1 / 11.9), (1.0, 1 / 12.1), (5, 0.01)],
)
def test_a_mean_logarithm_is_its_integral(middle, deviation):
    def part(low, high):
        law = norm(middle, deviation)
        return quad(lambda x: law.pdf(x) * np.log(abs(x)), low, high, epsabs=1e-13, limit=500)[0]

    low, high = middle - 10 * deviation, middle + 10 * deviation
    cuts = [low, 0.0, high] if low < 0 < high else [low, high]
    expected = sum(part(*ends) for ends in pairwise(cuts))
    assert_allclose(mean_log_growth(middle, deviation), expected, rtol=1e-9, atol=1e-10)


def test_a_sure_number_has_its_own_logarithm():
    assert_allclose(mean_log_growth(-3.0, 0.0), np.log(3), rtol=1e-15)


@pytest.mark.parametrize(
    ("slope", "noise", "rate", "batch"),
    [
        (SLOPE, 1.0, 0.1, 1),
        (SLOPE, 1.0, 0.4, 1),
        (SLOPE, 1.0, 0.4, 4),
        (-0.5, 0.3, 1.2, 2),
        (1.0, 0.0, 0.9, 1),
        (1.0, 0.0, 2.5, 3),
    ],
)
def test_the_exact_exponent_is_that_of_samples(slope, noise, rate, batch, rng):
    z = drawn(batch * 200_000, rng, slope, noise)
    both = [lyapunov_exponent(sign * z, rate, batch) for sign in (-1, 1)]
    larger = max(both, key=lambda found: found.value)
    assert abs(larger.z(lyapunov_of_unit(slope, noise, rate, batch))) < SURE


def test_the_two_signs_of_the_slope_are_alike():
    assert lyapunov_of_unit(-SLOPE, 1, 0.3, 2) == lyapunov_of_unit(SLOPE, 1, 0.3, 2)
    assert lyapunov_of_unit_small_rate(-SLOPE, 1, 0.3, 2) == lyapunov_of_unit_small_rate(
        SLOPE, 1, 0.3, 2
    )


def test_the_second_order_is_right_to_the_third():
    """Halving the rate divides what is left by eight, to the next order."""
    off = [
        lyapunov_of_unit(0.4, 0.7, r, 2) - lyapunov_of_unit_small_rate(0.4, 0.7, r, 2)
        for r in (4e-3, 2e-3)
    ]
    assert abs(np.log2(off[0] / off[1]) - 3) < 0.15


def test_second_orders_are_the_derived_ones():
    letters = {"eta": 0.2, "B": 3, "sigma": 0.7}
    unit = number(derived.unit_growth(), s=0.4, **letters)
    assert_allclose(lyapunov_of_unit_small_rate(0.4, 0.7, 0.2, 3), unit, rtol=1e-12)
    layer = number(derived.layer_growth(), d=5, **letters)
    assert_allclose(origin_exponent(5, 0.7, 0.2, 3), layer, rtol=1e-12)
    border = number(derived.collapse_border(), s=0.1, eta=0.2, B=3) ** 0.5
    assert abs(lyapunov_of_unit_small_rate(0.1, border, 0.2, 3)) < 1e-15


def test_the_second_order_is_that_of_a_sample_of_curvatures(rng):
    """rate E z - rate^2 E z^2 / 2, with the moments of a batch."""
    z = drawn(3 * 400_000, rng).reshape(-1, 3).mean(1)
    terms = 0.3 * z - 0.3**2 * z**2 / 2
    error = terms.std() / len(z) ** 0.5
    assert abs(terms.mean() - lyapunov_of_unit_small_rate(SLOPE, NOISE, 0.3, 3)) < SURE * error


@pytest.mark.parametrize(("rate", "batch"), [(0.1, 1), (0.4, 1), (0.4, 4)])
def test_networks_collapse_where_the_exponent_is_negative(rate, batch, rng):
    """The whole of y = w2 w1 x, not only near zero; what collapses is below all it could learn."""
    steps, chains = 6000, 64
    w1, w2 = rng.normal(size=(2, chains)) * 0.3
    for _ in range(steps):
        x, eps = rng.normal(size=(2, batch, chains))
        residual = w2 * w1 * x - SLOPE * x - NOISE * eps
        g = np.mean(residual * x, axis=0)
        w1, w2 = w1 - rate * w2 * g, w2 - rate * w1 * g
        lost = ~(abs(w1) + abs(w2) < 1e3)  # a few blow up at such rates
        w1[lost] = w2[lost] = np.nan
    left = np.nanmedian(abs(w1 * w2))
    assert np.isnan(w1).mean() < 0.5
    exact = lyapunov_of_unit(SLOPE, NOISE, rate, batch)
    assert (left < 1e-6) == (exact < 0)


def test_a_sampled_exponent_has_the_error_of_repeats(rng):
    result = [lyapunov_exponent(-drawn(600, rng), 0.4, 2) for _ in range(400)]
    value, error = np.asarray([(f.value, f.stderr) for f in result]).T
    assert abs(value.mean() - lyapunov_of_unit(SLOPE, NOISE, 0.4, 2)) < SURE * value.std() / 20
    assert abs(np.sqrt(np.mean(error**2)) / value.std(ddof=1) - 1) < SURE * (2 / 400) ** 0.5
    assert result[0].dof == 299


def test_blocks_of_one_direction_are_numbers(rng):
    """And where directions do not mix the slowest to shrink is what is seen."""
    z = drawn(40_000, rng)
    alone = lyapunov_exponent(-z, 0.2)
    block = lyapunov_exponent(-z[:, None, None], 0.2)
    assert abs(block.value - alone.value) < SURE * np.hypot(block.stderr, alone.stderr)
    apart = lyapunov_exponent(-z[:, None, None] * np.diag([1.0, -1.0]), 0.2)
    assert abs(apart.value - alone.value) < SURE * np.hypot(apart.stderr, alone.stderr)
    assert block.dof == 19


def whites(count, width, rng):
    """Blocks of the Hessian across zero for one column of W1 and row of W2, under label noise.

    -[[0, G^T], [G, 0]] with G = sum of eps x^T over a batch large enough to be normal.
    """
    g = rng.normal(size=(count, width, width))
    zero = np.zeros_like(g)
    return -np.block([[zero, np.swapaxes(g, 1, 2)], [g, zero]])


@pytest.mark.parametrize("width", [2, 3, 6])
def test_a_layer_is_repelled_from_zero_as_said(width, rng):
    """The next order is rate^2 smaller, and segments forget their start within a quarter."""
    result = lyapunov_exponent(whites(40_000, width, rng), 0.1)
    exact = origin_exponent(width, 1.0, 0.1, 1)
    assert abs(result.value - exact) < SURE * result.stderr + 0.1**4 * width**2
    assert (width == 2) == (exact == 0)


def test_a_unit_is_a_layer_of_width_one():
    assert_allclose(
        origin_exponent(1, 0.7, 0.01, 3), lyapunov_of_unit_small_rate(0.0, 0.7, 0.01, 3), rtol=1e-12
    )


def test_matrices_near_zero_grow_under_label_noise_while_units_shrink(rng):
    """Two-layer networks of 4 hidden units, fed batches of 2 with no signal, far below their noise.

    Steps are linear there, so weights are rescaled at will.
    """
    rate, batch, steps, chains = 0.1, 2, 1500, 60
    grown = {}
    for width in (1, 6):
        first = rng.normal(size=(chains, 4, width))
        second = rng.normal(size=(chains, width, 4))
        total = np.zeros(chains)
        for _ in range(steps):
            x, eps = rng.normal(size=(2, chains, batch, width))
            pull = np.einsum("cbo,cbi->coi", eps, x) / batch
            first, second = (
                first + rate * np.swapaxes(second, 1, 2) @ pull,
                second + rate * pull @ np.swapaxes(first, 1, 2),
            )
            size = np.sqrt(np.sum(first**2, axis=(1, 2)) + np.sum(second**2, axis=(1, 2)))
            first, second = first / size[:, None, None], second / size[:, None, None]
            total += np.log(size)
        grown[width] = total.mean() / steps, total.std(ddof=1) / chains**0.5 / steps
    value, error = grown[6]
    exact = origin_exponent(6, 1.0, rate, batch)
    assert abs(value - exact) < SURE * error + 6 / steps  # the start is forgotten in a few units
    assert grown[1][0] < 0 < value


# --- a layer at finite rates ---


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_the_refined_exponent_is_the_derived_one(width):
    c, letters = 0.2, {"c": 0.2, "d": width, "B": 4}
    even = stationary_squared_imbalance(width, c, 4)
    second = number(derived_imbalance.unbalanced_growth(), D=even**0.5, **letters)
    fourth = number(derived_imbalance.fourth_order(), **letters)
    assert_allclose(lyapunov_of_layer(width, c, 4), second + c**4 * fourth, rtol=1e-12)


@pytest.mark.parametrize(("width", "strength"), [(2, 0.1), (3, 0.3), (4, 1e-3), (6, 0.2)])
def test_the_imbalance_has_the_derived_law(width, strength):
    """The coded integrals against those of its derived form, with the derived spread about zero."""
    letters = {"c": strength, "d": width, "B": 4}
    smallest = number(derived_imbalance.imbalance_spread(), D=0, **letters) / strength**2
    law = derived_imbalance.imbalance_law().rhs.subs({derived_imbalance.n: width})
    p = sp.lambdify(derived_imbalance.imbalance, law.subs(derived_imbalance.noise_floor, smallest))
    cuts = [0, *(smallest**0.5 * np.asarray([0.3, 1, 3, 10, 30])).clip(max=0.9), 1]
    total, second = (
        sum(quad(lambda x, k=k: x**k * p(x), *ends, epsrel=1e-11)[0] for ends in pairwise(cuts))
        for k in (0, 2)
    )
    assert_allclose(stationary_squared_imbalance(width, strength, 4), second / total, rtol=1e-7)


def test_the_law_of_the_imbalance_stands_still_under_the_derived_moves():
    """drift p = (spread p)' / 2 for the law that is coded, by its fourth moment.

    In the mean over it a step leaves D^2 as it is: 2 E D drift + E spread = 0.
    """
    width, c, smallest = 5, 0.3, 0.3**2 * 4 * (1 + 6 / 4)
    letters = {"c": c, "d": width, "B": 4}
    drift, covariance = (
        sp.lambdify(derived_imbalance.imbalance, e.rhs.subs({s: letters[str(s)] for s in names}))
        for e in (derived_imbalance.imbalance_drift(), derived_imbalance.imbalance_spread())
        for names in [e.rhs.free_symbols - {derived_imbalance.imbalance}]
    )
    law = derived_imbalance.imbalance_law().rhs.subs(derived_imbalance.n, width)
    p = sp.lambdify(derived_imbalance.imbalance, law.subs(derived_imbalance.noise_floor, smallest))
    flows = quad(lambda x: (2 * x * drift(x) + covariance(x)) * p(x), 0, 1)[0]
    edge = covariance(1.0) * p(1.0)  # what the law, of leading order, lets through at D = 1
    assert abs(flows - edge) < 1e-8 * quad(lambda x: covariance(x) * p(x), 0, 1)[0]


def kicked(first, second, c, batch, rng):
    """Weights in and out (chains, n) after a step, and what is linear in the kick of the growth."""
    count, n = first.shape
    x, eps = rng.normal(size=(2, count, batch, n))
    kick = c * np.einsum("cbo,cbi->coi", eps, x) / batch**0.5
    into = first + np.einsum("coi,co->ci", kick, second)
    out = second + np.einsum("coi,ci->co", kick, first)
    total = np.sum(first**2 + second**2, axis=1)
    return into, out, 2 * np.einsum("co,coi,ci->c", second, kick, first) / total


@pytest.mark.parametrize("width", [1, 2, 3])
def test_layers_grow_by_the_refined_exponent(width, rng):
    """Products of steps at kicks of 0.1, of which 2 c^4 is allowed; the linear part has no mean."""
    c, batch, count, grown, observed = 0.1, 4, 500, 0, 0
    first, second = np.zeros((2, count, width))
    first[:, 0] = second[:, 0] = 0.5**0.5
    for at in range(700):
        first, second, linear = kicked(first, second, c, batch, rng)
        size = np.sum(first**2 + second**2, axis=1) ** 0.5
        first, second = first / size[:, None], second / size[:, None]
        if at >= 300:
            grown, observed = grown + np.log(size) - linear, observed + 1
    result, exact = mean(grown / observed), lyapunov_of_layer(width, c, batch)
    assert abs(result.value - exact) < SURE * result.stderr + 2 * c**4
    base = origin_exponent(width, 1.0, c * batch**0.5, batch)
    if width > 1:
        assert result.value - base > SURE * result.stderr  # what a finite rate adds is seen


def test_one_step_decays_the_difference_and_moves_the_imbalance_as_derived(rng):
    """Width 3, kicks of 0.1; the imbalance to second order, what is left out is c^4."""
    c, batch, count = 0.1, 2, 200_000
    into, out = np.zeros((2, count, 3))
    into[:, 0], out[:, 0] = 0.8**0.5, 0.2**0.5
    first, second, _ = kicked(into, out, c, batch, rng)
    gap, total = (np.sum(first**2 + sign * second**2, axis=1) for sign in (-1, 1))
    letters = {"eta": c * batch**0.5, "sigma": 1.0, "B": batch, "d": 3}
    decay = mean(gap / 0.6)
    assert abs(decay.z(number(derived.balance_decay(), **letters))) < SURE
    assert decay.stderr < 0.1 * c**2
    moved, letters = gap / total - 0.6, {"c": c, "d": 3, "B": batch, "D": 0.6}
    drift = number(derived_imbalance.imbalance_drift(), **letters)
    covariance = number(derived_imbalance.imbalance_spread(), **letters)
    result, scatter = mean(moved), mean(moved**2)
    assert abs(result.value - drift) < SURE * result.stderr + 20 * c**4
    assert abs(scatter.value - covariance) < SURE * scatter.stderr + 20 * c**4


def test_balanced_weights_scatter_as_derived(rng):
    """The fourth order, which is all there is at D = 0; beyond it c^2 of it."""
    c, batch, count = 0.03, 2, 200_000
    first, second = np.zeros((2, count, 3))
    first[:, 0] = second[:, 0] = 0.5**0.5
    first, second, _ = kicked(first, second, c, batch, rng)
    single, two = np.sum(first**2, axis=1), np.sum(second**2, axis=1)
    covariance = number(derived_imbalance.imbalance_spread(), c=c, d=3, B=batch, D=0)
    result = mean(((single - two) / (single + two)) ** 2 / covariance)
    assert abs(result.value - 1) < SURE * result.stderr + 40 * c**2


def test_imbalance_vanishes_for_one_input_and_falls_as_the_rate_allows():
    assert stationary_squared_imbalance(1, 0.1, 4) == 0
    two, six = ([stationary_squared_imbalance(n, c, 4) for c in (2e-4, 1e-4)] for n in (2, 6))
    assert_allclose([two[0] / two[1], six[0] / six[1]], [2, 4], rtol=0.01)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: stationary_squared_imbalance(0, 0.1, 4),
            "width and batch must be at least 1, not 0 and 4",
        ),
        (lambda: lyapunov_of_layer(3, 0.1, 0), "width and batch must be at least 1, not 3 and 0"),
        (lambda: lyapunov_of_layer(3, 0.0, 4), "strength of the kicks must be positive, not 0.0"),
        (lambda: stationary_squared_imbalance(3, np.inf, 4), "kicks must be positive, not inf"),
        (lambda: lyapunov_exponent(np.ones(9), 0.1, 5), "9 curvatures do not make 2 batches of 5"),
        (lambda: lyapunov_exponent(np.ones(9), 0.1, 0), "2 batches of 0"),
        (lambda: lyapunov_exponent(np.ones((70, 2, 2)), 0.1), "70 batches do not make 20 segments"),
        (lambda: lyapunov_exponent(np.ones((70, 2, 2)), 0.1, segments=1), "do not make 1 segments"),
        (lambda: lyapunov_of_unit(0.1, 1.0, 0.1, 0), "at least one example, not 0"),
        (lambda: lyapunov_of_unit(0.1, -1.0, 0.1, 1), "label_noise must be 0 or more and finite"),
    ],
)
def test_what_has_no_exponent_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
