"""The study of collapse: its steps, its smallest run, and what it says of made-up ones."""

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.lab import Session, exit_status
from sgdnoise.theory import lyapunov_of_layer, lyapunov_of_unit, stationary_squared_imbalance
from simulations.collapse import _chains as steps
from simulations.collapse import claims, study
from simulations.collapse import figure as drawing


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process."""
    jax.config.update("jax_disable_most_optimizations", True)
    results = study.study.simulate("small")
    jax.config.update("jax_disable_most_optimizations", False)
    return results


def test_the_smallest_run_holds_and_is_drawn(small):
    verdicts = claims.verdicts(small)
    assert exit_status(verdicts) == 0
    assert sum(v.holds for v in verdicts) >= 5
    figures = drawing.figures(small)
    assert all(isinstance(figure, Figure) for _, figure in figures.values())
    (table,) = claims.tables(small)
    assert [len(row) for row in table.rows] == [len(table.headings)] * 2


def test_a_seed_is_all_that_the_results_depend_on(small):
    """Another seed gives other numbers, and near-zero exponents as good as the first's."""
    names = ("strengths", "chains", "steps")
    size = {name: study.SMALL[name] for name in names}
    again, another = (study.layer(3, **size, seed=seed) for seed in (0, 1))
    expected = float(small.layer_growth.sel(width=3)[0])  # compiled otherwise: but for rounding
    assert_allclose(float(again.layer_growth[0]), expected, rtol=1e-10)
    gap = float(another.layer_growth[0] - again.layer_growth[0])
    assert 0 < abs(gap) < SURE * 2**0.5 * float(again.layer_growth_stderr[0])


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("unit_growth", 0.008),
        ("net_gone", 30),
        ("twins_growth", 0.008),
        ("layer_growth", 0.012),
    ],
)
def test_what_grows_otherwise_than_predicted_fails(small, name, off):
    wrong = small.assign({name: small[name] + off})
    if name == "twins_growth":  # the curvatures met stay as they were
        wrong = wrong.assign(twins_unlike=small.twins_unlike + off)
    failed = [v.name for v in claims.verdicts(wrong) if v.outcome == "fails"]
    named = {"unit": "unit near", "net": "whole unit", "twins": "two units", "layer": "layer"}
    assert failed
    assert all(text.startswith(named[name.split("_")[0]]) for text in failed)


def test_the_difference_of_two_units_grows_by_the_curvatures_that_it_met(small):
    """Along each path, but for the step of the smallest difference; also as committed."""
    for results in (small, study.study.read()[""]):
        assert abs(results.twins_unlike).max() < 1e-9


# --- steps ---


def losses_of(theta, x, y, width):
    """Mean of |W2 W1 x - y|^2 / 2, one hidden unit."""
    first, second = theta[:width], theta[width:]
    return (
        sum(((x[i] @ first) * second - y[i]) @ ((x[i] @ first) * second - y[i]) for i in (0, 1)) / 4
    )


@pytest.mark.parametrize("width", [1, 3])
def test_a_step_descends_the_slope_of_its_loss(width, rng):
    """By differences either side, exact for a loss of fourth degree to the step squared."""
    theta, white = rng.normal(size=2 * width), rng.normal(size=4 * width)
    x, eps = white.reshape(2, 2, width)
    targets, step = steps.LABEL_NOISE * eps, partial_layer(width)
    if width == 1:
        targets, step = targets + steps.SLOPE * x, partial_unit
    near = 1e-5
    slopes = [
        (losses_of(theta + e, x, targets, width) - losses_of(theta - e, x, targets, width))
        / 2
        / near
        for e in near * np.eye(2 * width)
    ]
    with jax.enable_x64(True):
        moved = step(0.3, jax.numpy.asarray(theta), jax.numpy.asarray(white))
    assert_allclose(moved, theta - 0.3 * np.asarray(slopes), rtol=1e-7, atol=1e-8)


def partial_unit(rate, theta, white):
    return steps.unit_step(rate, theta, white, batch=2)


def partial_layer(width):
    def step(rate, theta, white):
        return steps.layer_step(rate, theta, white, batch=2, width=width)

    return step


def test_curvatures_across_are_residuals_times_the_bend_of_a_unit(rng):
    """Half differences change no output to first order: h = r phi'' x^2."""
    x, eps = rng.normal(size=(2, 40))
    w = 0.7
    t = np.tanh(w * x)
    residual = 2 * t - sum(np.tanh(v * x) for v in steps.TEACHER) - steps.LABEL_NOISE * eps
    expected = residual * -2 * t * (1 - t**2) * x**2
    assert_allclose(steps.curvatures(w, np.stack([x, eps])), expected, rtol=1e-10, atol=1e-12)


def test_the_weight_at_rest_has_no_slope_along(rng):
    x, eps = rng.normal(size=(2, 200_000))
    w = steps.stationary_weight()
    t = np.tanh(w * x)
    residual = 2 * t - sum(np.tanh(v * x) for v in steps.TEACHER) - steps.LABEL_NOISE * eps
    assert abs(mean(residual * (1 - t**2) * x).z(0)) < SURE


def test_weights_that_grow_by_a_sure_factor_grow_by_its_logarithm():
    """However far that takes them: each step sets them back."""

    def step(rate, theta, white):
        return (1 + rate) * theta + 0 * white

    start = np.tile([steps.TINY, 0.0], (4, 1))
    growth = study.growth_rates(step, 1, start, (-0.5, 0.25), 5000, (0, 9))
    assert_allclose([e.value for e in growth], np.log([0.5, 1.25]), rtol=1e-9)


# --- theory ---


def test_a_layer_of_one_has_the_exact_exponent_to_the_fourth_order():
    """Halving the kicks divides what is left by 2^6."""
    off = [lyapunov_of_layer(1, c, 4) - lyapunov_of_unit(0.0, 1.0, 2 * c, 4) for c in (0.1, 0.05)]
    assert abs(np.log2(off[0] / off[1]) - 6) < 0.3


@pytest.mark.parametrize("width", [2, 3, 6])
def test_the_fourth_order_is_that_of_one_balanced_step(width, rng):
    """The logarithm less its second order, over kicks of either sign: what is left is k c^4."""
    c, batch, n = 0.02, 4, width
    x, eps = rng.normal(size=(2, 60_000, batch, n))
    kick = np.einsum("cbo,cbi->coi", eps, x) / batch**0.5
    g = kick[:, 0, 0]
    q = (np.sum(kick[:, 0] ** 2, axis=1) + np.sum(kick[:, :, 0] ** 2, axis=1)) / 2
    left = [
        np.log1p(2 * s * g + c**2 * q) / 2 - (2 * s * g + c**2 * (q - 2 * g**2)) / 2
        for s in (c, -c)
    ]
    even = stationary_squared_imbalance(n, c, batch)
    k = lyapunov_of_layer(n, c, batch) / c**4 - (n - 2 + 2 * even) / 2 / c**2
    result = mean(np.mean(left, axis=0) / c**4)
    assert abs(result.z(k)) < SURE
    assert result.stderr < 0.3  # a wrong term would be seen


@pytest.mark.parametrize("width", [2, 3])
def test_imbalance_is_that_of_layers_near_zero(width, rng):
    """Kicks of 0.1: the law is right to a share of c, the order that it leaves out."""
    c, batch, count = 0.1, 4, 1500
    first, second = np.zeros((2, count, width))
    first[:, 0] = second[:, 0] = 1.0
    records = []
    for at in range(400):
        x, eps = rng.normal(size=(2, count, batch, width))
        kick = c * np.einsum("cbo,cbi->coi", eps, x) / batch**0.5
        first, second = (
            first + np.einsum("coi,co->ci", kick, second),
            second + np.einsum("coi,ci->co", kick, first),
        )
        first_square, two = (first**2).sum(1, keepdims=True), (second**2).sum(1, keepdims=True)
        first, second = first / (first_square + two) ** 0.5, second / (first_square + two) ** 0.5
        if at >= 100:
            records.append(((first_square - two) / (first_square + two)) ** 2)
    result = mean(np.mean(records, axis=0)[:, 0])
    expected = stationary_squared_imbalance(width, c, batch)
    assert abs(result.value - expected) < SURE * result.stderr + c * expected


@pytest.mark.parametrize(
    ("exponent", "rate", "count", "expected"),
    [(-0.003, 0.3, 60_000, True), (-0.003, 0.3, 20_000, False), (0.0085, 0.2, 10, True)],
)
def test_networks_are_claimed_where_their_walk_has_gone_far_enough(exponent, rate, count, expected):
    assert claims.decided(exponent, rate, 1, count) == expected
    assert not claims.decided(0.001, 0.2, 1, 10**6)  # some of them always are near zero


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chains": 4}, "chains must be at least 10, not 4"),
        ({"nets": 1}, "nets must be at least 2, not 1"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("small", Session(tmp_path), changes)


def test_a_seed_below_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a seed is an integer from 0"):
        study.study.parameters("small", Session(tmp_path, seed=-1), {})
