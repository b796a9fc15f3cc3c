"""Collapse into invariant sets: exact exponents, sampled ones, and networks that do it."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm
from witnesses import SURE

from derivations import collapse as derived
from sgdnoise.theory.collapse import (
    lyapunov,
    mean_logarithm,
    origin_exponent,
    unit_exponent,
    unit_exponent_small,
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
    assert_allclose(mean_logarithm(middle, deviation), expected, rtol=1e-9, atol=1e-10)


def test_a_sure_number_has_its_own_logarithm():
    assert_allclose(mean_logarithm(-3.0, 0.0), np.log(3), rtol=1e-15)


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
    both = [lyapunov(sign * z, rate, batch) for sign in (-1, 1)]
    larger = max(both, key=lambda found: found.value)
    assert larger.distance(unit_exponent(slope, noise, rate, batch)) < SURE


def test_the_two_signs_of_the_slope_are_alike():
    assert unit_exponent(-SLOPE, 1, 0.3, 2) == unit_exponent(SLOPE, 1, 0.3, 2)
    assert unit_exponent_small(-SLOPE, 1, 0.3, 2) == unit_exponent_small(SLOPE, 1, 0.3, 2)


def test_the_second_order_is_right_to_the_third():
    """Halving the rate divides what is left by eight, to the next order."""
    off = [
        unit_exponent(0.4, 0.7, r, 2) - unit_exponent_small(0.4, 0.7, r, 2) for r in (4e-3, 2e-3)
    ]
    assert abs(np.log2(off[0] / off[1]) - 3) < 0.15


def number(equation, **letters):
    """The right side of a derived equation, with numbers for its letters as printed."""
    return float(equation.rhs.subs({x: letters[str(x)] for x in equation.rhs.free_symbols}))


def test_second_orders_are_the_derived_ones():
    letters = {"eta": 0.2, "B": 3, "sigma": 0.7}
    unit = number(derived.unit_growth(), s=0.4, **letters)
    assert_allclose(unit_exponent_small(0.4, 0.7, 0.2, 3), unit, rtol=1e-12)
    layer = number(derived.layer_growth(), d=5, **letters)
    assert_allclose(origin_exponent(5, 0.7, 0.2, 3), layer, rtol=1e-12)
    border = number(derived.collapse_border(), s=0.1, eta=0.2, B=3) ** 0.5
    assert abs(unit_exponent_small(0.1, border, 0.2, 3)) < 1e-15


def test_the_second_order_is_that_of_a_sample_of_curvatures(rng):
    """rate E z - rate^2 E z^2 / 2, with the moments of a batch."""
    z = drawn(3 * 400_000, rng).reshape(-1, 3).mean(1)
    terms = 0.3 * z - 0.3**2 * z**2 / 2
    error = terms.std() / len(z) ** 0.5
    assert abs(terms.mean() - unit_exponent_small(SLOPE, NOISE, 0.3, 3)) < SURE * error


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
    exact = unit_exponent(SLOPE, NOISE, rate, batch)
    assert (left < 1e-6) == (exact < 0)


def test_a_sampled_exponent_has_the_error_of_repeats(rng):
    found = [lyapunov(-drawn(600, rng), 0.4, 2) for _ in range(400)]
    value, error = np.asarray([f[:2] for f in found]).T
    assert abs(value.mean() - unit_exponent(SLOPE, NOISE, 0.4, 2)) < SURE * value.std() / 20
    assert abs(np.sqrt(np.mean(error**2)) / value.std(ddof=1) - 1) < SURE * (2 / 400) ** 0.5
    assert found[0].freedom == 299


def test_blocks_of_one_direction_are_numbers(rng):
    """And where directions do not mix the slowest to shrink is what is seen."""
    z = drawn(40_000, rng)
    alone = lyapunov(-z, 0.2)
    block = lyapunov(-z[:, None, None], 0.2)
    assert abs(block.value - alone.value) < SURE * np.hypot(block.stderr, alone.stderr)
    apart = lyapunov(-z[:, None, None] * np.diag([1.0, -1.0]), 0.2)
    assert abs(apart.value - alone.value) < SURE * np.hypot(apart.stderr, alone.stderr)
    assert block.freedom == 19


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
    found = lyapunov(whites(40_000, width, rng), 0.1)
    exact = origin_exponent(width, 1.0, 0.1, 1)
    assert abs(found.value - exact) < SURE * found.stderr + 0.1**4 * width**2
    assert (width == 2) == (exact == 0)


def test_a_unit_is_a_layer_of_width_one():
    assert_allclose(
        origin_exponent(1, 0.7, 0.01, 3), unit_exponent_small(0.0, 0.7, 0.01, 3), rtol=1e-12
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


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: lyapunov(np.ones(9), 0.1, 5), "9 curvatures do not make 2 batches of 5"),
        (lambda: lyapunov(np.ones(9), 0.1, 0), "2 batches of 0"),
        (lambda: lyapunov(np.ones((70, 2, 2)), 0.1), "70 batches do not make 20 segments"),
        (lambda: lyapunov(np.ones((70, 2, 2)), 0.1, segments=1), "do not make 1 segments"),
        (lambda: unit_exponent(0.1, 1.0, 0.1, 0), "at least one example, not 0"),
        (lambda: unit_exponent(0.1, -1.0, 0.1, 1), "a standard deviation, it cannot be -1.0"),
    ],
)
def test_what_has_no_exponent_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
