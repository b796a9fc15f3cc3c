"""Exact moments of descent and of its equations, against all that may be drawn."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp
from witnesses import SURE

from derivations import weak as derived
from sgdnoise.core import mean
from sgdnoise.theory import (
    AffineGradients,
    euler_maruyama_map,
    linear_scaling_ratio,
    observed_orders,
    propagate_moments,
    regression_gradients,
    sde_map,
    sgd_map,
    stationary_covariance,
    stationary_moments,
    stationary_variance_ratio,
    svag_map,
    talay_tubaro,
    weak_error,
    weak_error_coefficient,
)

START = np.asarray([0.8, -1.1])
RATES = np.asarray([1 / 64, 1 / 128, 1 / 256])


@pytest.fixture
def data(rng):
    return rng.normal(size=(4, 2)), rng.normal(size=4)


def each_gradient(data, thetas):
    """(outcome, example, p)."""
    x, y = data
    return (thetas @ x.T - y)[:, :, None] * x


def second(thetas):
    """E z z^T over equally likely thetas."""
    z = np.concatenate([thetas, np.ones((len(thetas), 1))], axis=1)
    return z.T @ z / len(z)


def all_ends(data, step, drawn, steps=2):
    """Where steps lead, each with each thing that may be drawn."""
    thetas = START[None]
    for _ in range(steps):
        values = each_gradient(data, thetas)
        thetas = np.concatenate([step(thetas, values, d) for d in drawn])
    return second(thetas)


def minibatch(rate):
    return lambda thetas, each, batch: thetas - rate * each[:, list(batch)].mean(axis=1)


# --- one map, three laws ---


@pytest.mark.parametrize("replace", [True, False])
def test_descent_has_the_moments_of_all_minibatches(replace, data):
    batches = list(product(range(4), repeat=2) if replace else combinations(range(4), 2))
    step = sgd_map(regression_gradients(*data, 2, replacement=replace), 0.3)
    expected = all_ends(data, minibatch(0.3), batches)
    assert_allclose(propagate_moments(step, START, 2), expected, rtol=1e-12)


@pytest.mark.parametrize(("rate", "dt"), [(0.3, 0.3), (0.3, 0.1), (0.2, 0.7)])
def test_euler_has_the_moments_of_its_coins(rate, dt, data):
    """Coins in place of normal numbers, along the gradients of examples: 2^4 outcomes."""
    x, y = data

    def step(thetas, each, coins):
        center = each.mean(axis=1, keepdims=True)
        kick = np.einsum("i,kij->kj", np.asarray(coins), each - center) / (4 * 3) ** 0.5
        return thetas - dt * center[:, 0] + (rate * dt) ** 0.5 * kick

    expected = all_ends(data, step, list(product((-1, 1), repeat=4)))
    result = propagate_moments(
        euler_maruyama_map(regression_gradients(x, y, 3), rate, dt), START, 2
    )
    assert_allclose(result, expected, rtol=1e-12)


def test_euler_steps_of_one_rate_have_the_moments_of_descent_exactly(data):
    """Coins against minibatches, neither of them our map."""
    x, y = data
    rate = 0.4

    def kicked(thetas, each, coins):
        center = each.mean(axis=1, keepdims=True)
        kick = np.einsum("i,kij->kj", np.asarray(coins), each - center) / (4 * 2) ** 0.5
        return thetas - rate * (center[:, 0] + kick)

    coins = all_ends(data, kicked, list(product((-1, 1), repeat=4)))
    batches = all_ends(data, minibatch(rate), list(product(range(4), repeat=2)))
    assert_allclose(coins, batches, rtol=1e-12)
    assert_allclose(
        propagate_moments(sgd_map(regression_gradients(x, y, 2), rate), START, 2), coins, rtol=1e-12
    )


def test_svag_has_the_moments_of_all_pairs_of_minibatches(data):
    rate, stretch = 0.5, 3
    plus, minus = ((1 + sign * (2 * stretch - 1) ** 0.5) / 2 for sign in (1, -1))

    def step(thetas, each, pair):
        first, two = (each[:, list(batch)].mean(axis=1) for batch in pair)
        return thetas - rate / stretch * (plus * first + minus * two)

    pairs = list(product(combinations(range(4), 2), repeat=2))
    result = propagate_moments(
        svag_map(regression_gradients(*data, 2, replacement=False), rate, stretch), START, 2
    )
    assert_allclose(result, all_ends(data, step, pairs), rtol=1e-12)


# --- the equations ---


@pytest.mark.parametrize("order", [0, 1, 2])
def test_an_equation_solves_the_differential_equation_of_its_moments(order, data):
    """Mean and second moment by hand: dS = E(f t^T + t f^T + rate Cov) dt."""
    x, y = data
    rate, hessian = 0.3, x.T @ x / 4
    tilt = np.eye(2) + (rate / 2 * hessian if order == 2 else 0)

    def speed(_, state):
        m, s = state[:2], state[2:].reshape(2, 2)
        force, cross = -tilt @ (hessian @ m - x.T @ y / 4), hessian @ s - np.outer(x.T @ y / 4, m)
        covariance = -(hessian @ s @ hessian)
        push = x.T @ y / 4
        covariance += np.outer(hessian @ m, push) + np.outer(push, hessian @ m)
        covariance -= np.outer(push, push)
        for a, b in zip(x, y, strict=True):
            square = a @ s @ a - 2 * b * (a @ m) + b**2
            covariance += square * np.outer(a, a) / 4
        moved = -tilt @ cross + (-tilt @ cross).T + (order > 0) * rate / 2 * covariance
        return np.concatenate([force, moved.ravel()])

    begin = np.concatenate([START, np.outer(START, START).ravel()])
    end = solve_ivp(speed, (0, 1.5), begin, rtol=1e-12, atol=1e-13).y[:, -1]
    result = propagate_moments(
        sde_map(regression_gradients(x, y, 2), rate, 1.5, order=order), START, 1
    )
    assert_allclose(result[:2, 2], end[:2], rtol=1e-9)
    assert_allclose(result[:2, :2].ravel(), end[2:], rtol=1e-9)


def closes_at(order, errors):
    """The next order of the rate spoils a slope by an amount that halves with it."""
    far, near = observed_orders(errors, RATES) - order
    return abs(near) < 0.1 and abs(far / 2 - near) < 0.3 * abs(near) + 0.01


@pytest.mark.parametrize(("equation", "order"), [(0, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("replace", [True, False])
def test_equations_are_followed_to_their_orders(equation, order, replace, data):
    problem = regression_gradients(*data, 2, replacement=replace)
    errors = [weak_error(problem, rate, 2.0, START, order=equation) for rate in RATES]
    assert closes_at(order, errors)


def test_euler_solves_the_equation_to_first_order_in_its_step(data):
    problem, rate = regression_gradients(*data, 2), 0.25
    exact = propagate_moments(sde_map(problem, rate, 1.0), START, 1)
    errors = [
        np.max(
            np.abs(
                propagate_moments(euler_maruyama_map(problem, rate, dt), START, round(1 / dt))
                - exact
            )
        )
        for dt in RATES
    ]
    assert closes_at(1, errors)


@pytest.mark.parametrize("order", [1, 2])
def test_svag_tends_to_the_equation_as_its_noise_is_stretched(order, data):
    """To that of order 1; that of order 2 it does not reach."""
    problem, rate = regression_gradients(*data, 1), 0.1
    exact = propagate_moments(sde_map(problem, rate, 1.0, order=order), START, 1)
    errors = [
        np.max(np.abs(propagate_moments(svag_map(problem, rate, el), START, 10 * el) - exact))
        for el in (64, 128, 256)
    ]
    assert closes_at(1, errors) if order == 1 else min(errors) > 1e-3


def paired(rng):
    """One parameter, examples in pairs about theta = 0: no linear term in the variance."""
    x, y = rng.normal(size=3), rng.normal(size=3)
    x, y = np.tile(x, 2)[:, None], np.concatenate([y, -y])
    h = np.mean(x**2)
    return x, y, h, np.mean(x**4) - h**2, np.mean(x[:, 0] ** 2 * y**2)


@pytest.mark.parametrize("order", [1, 2])
def test_the_first_coefficient_of_the_error_is_as_predicted(order, rng):
    """What it leaves is one order smaller."""
    x, y, h, v, w = paired(rng)
    batch, start, time = 2, 1.3, 1.0
    c = weak_error_coefficient(h, v / batch, w / batch, start, time, order=order)

    def rest(rate):
        problem = regression_gradients(x, y, batch)
        ends = propagate_moments(sgd_map(problem, rate), [start], round(time / rate))
        solved = propagate_moments(sde_map(problem, rate, time, order=order), [start], 1)
        return abs(ends[0, 0] - solved[0, 0] - c * rate**order)

    assert closes_at(order + 1, [rest(rate) for rate in RATES])


def test_talay_and_tubaro_gain_an_order(data):
    """Two runs of Euler on the equation of order 2, with steps of one rate and of half of it."""
    problem = regression_gradients(*data, 2)

    def error(rate):
        coarse, fine = (
            propagate_moments(euler_maruyama_map(problem, rate, dt, order=2), START, round(2 / dt))
            for dt in (rate, rate / 2)
        )
        descended = propagate_moments(sgd_map(problem, rate), START, round(2 / rate))
        return [np.max(np.abs(e - descended)) for e in (coarse, talay_tubaro(coarse, fine))]

    plain, better = np.transpose([error(rate) for rate in RATES])
    assert closes_at(1, plain)
    assert closes_at(2, better)


@given(order=integers(1, 4), truth=floats(-10, 10), c=floats(-10, 10), h=floats(0.01, 1))
def test_extrapolation_is_exact_where_there_is_but_one_term(order, truth, c, h):
    at = [truth + c * step**order for step in (h, h / 2)]
    assert_allclose(talay_tubaro(*at, order=order), truth, rtol=1e-12, atol=1e-12 * (1 + abs(c)))


# --- at rest ---


def test_a_law_at_rest_is_left_as_it_is(data):
    step = sgd_map(regression_gradients(*data, 1), 0.1)
    stationary = stationary_moments(step)
    assert_allclose((step @ stationary.ravel()).reshape(3, 3), stationary, rtol=1e-10)
    assert_allclose(stationary[:2, 2], np.linalg.lstsq(*data, rcond=None)[0], rtol=1e-10)
    assert stationary[2, 2] == 1


def one_curvature(h):
    """Examples of equal inputs: constant noise."""
    return np.full((4, 1), h**0.5), np.asarray([1.0, -1.0, 2.0, -2.0])


@pytest.mark.parametrize("rate", [0.1, 0.9])
@pytest.mark.parametrize("stretch", [1, 4])
@pytest.mark.parametrize("order", [1, 2])
def test_descent_rests_wider_than_its_equation_by_the_ratio(rate, stretch, order):
    h = 1.6
    problem = regression_gradients(*one_curvature(h), 2)
    wide = stationary_moments(svag_map(problem, rate, stretch))[0, 0]
    narrow = stationary_moments(sde_map(problem, rate, 1.0, order=order))[0, 0]
    result = stationary_variance_ratio(rate, h, stretch=stretch, order=order)
    assert_allclose(result, wide / narrow, rtol=1e-9)


def test_the_ratio_is_that_of_stationary_covariances():
    h, rate = 1.6, 0.9
    descent = stationary_covariance(np.asarray([[h]]), np.eye(1), rate)[0, 0]
    assert_allclose(stationary_variance_ratio(rate, h), descent / (rate / (2 * h)), rtol=1e-12)


def test_sampled_descent_has_the_exact_second_moments(data, rng):
    """2000 chains, minibatches of 2 of 4 without replacement."""
    x, y = data
    thetas = np.tile(START, (2000, 1))
    for _ in range(15):
        drawn = rng.permuted(np.tile(range(4), (2000, 1)), axis=1)[:, :2]
        residual = np.einsum("kbi,ki->kb", x[drawn], thetas) - y[drawn]
        thetas = thetas - 0.3 * np.einsum("kb,kbi->ki", residual, x[drawn]) / 2
    expected = propagate_moments(
        sgd_map(regression_gradients(x, y, 2, replacement=False), 0.3), START, 15
    )
    for i, j in ((0, 0), (0, 1), (1, 1)):
        assert abs(mean(thetas[:, i] * thetas[:, j]).z(expected[i, j])) < SURE


# --- rate and batch together ---


def test_the_first_equation_knows_only_rate_over_batch(data):
    """And the second differs by its penalty alone; without replacement nothing is the same."""
    first, two = regression_gradients(*data, 1), regression_gradients(*data, 2)
    small, large = (sde_map(p, r, 1.0) for p, r in ((first, 0.1), (two, 0.2)))
    assert_allclose(small, large, rtol=1e-12, atol=1e-14)
    finite = [
        sde_map(regression_gradients(*data, b, replacement=False), r, 1.0)
        for b, r in ((1, 0.1), (2, 0.2))
    ]
    assert np.abs(finite[0] - finite[1]).max() > 1e-3
    seconds = [sde_map(p, r, 1.0, order=2) for p, r in ((first, 0.1), (two, 0.2))]
    assert np.abs(seconds[0] - seconds[1]).max() > 1e-3


@pytest.mark.parametrize("factor", [2, 4])
def test_scaled_descent_differs_first_by_its_steps(factor, rng):
    """By (factor - 1) rate times the first coefficient; what that leaves is of order 2."""
    x, y, h, v, w = paired(rng)
    c = weak_error_coefficient(h, v, w, 1.3, 1.0)

    def rest(rate):
        few, many = (
            propagate_moments(sgd_map(regression_gradients(x, y, b), r), [1.3], round(1 / r))[0, 0]
            for b, r in ((1, rate), (factor, factor * rate))
        )
        return abs(many - few - (factor - 1) * rate * c)

    assert closes_at(2, [rest(rate / 4) for rate in RATES])


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_scaling_changes_the_rest_by_its_ratio(factor):
    h, rate, data = 1.6, 0.3, one_curvature(1.6)
    before = stationary_moments(sgd_map(regression_gradients(*data, 2), rate))[0, 0]
    after = stationary_moments(
        sgd_map(regression_gradients(*data, round(2 * factor)), factor * rate)
    )[0, 0]
    assert_allclose(linear_scaling_ratio(rate, h, factor), after / before, rtol=1e-10)


# --- the derived formulas ---


def number(equation, **letters):
    """The right side of a derived equation, with numbers for its letters as printed."""
    return float(equation.rhs.subs({s: letters[str(s)] for s in equation.rhs.free_symbols}))


def test_an_euler_step_is_the_derived_one():
    """One parameter: M is laid out as (theta^2, theta, theta, 1)."""
    h, v, w, moment = 1.3, 0.7, 0.2, 0.9
    scatter = np.zeros((4, 4))
    scatter[0, [0, 3]] = v, w
    problem = AffineGradients(np.diag([h, 0.0]), scatter)
    result = (euler_maruyama_map(problem, 0.4, 0.15) @ [moment, 0.3, 0.3, 1.0])[0]
    letters = {"eta": 0.4, "tau": 0.15, "h": h, "v": v, "w": w, "S": moment}
    assert_allclose(result, number(derived.euler_step(), **letters), rtol=1e-12)


def test_coded_formulas_are_the_derived_ones():
    letters = {"h": 1.3, "eta": 0.4, "l": 3, "k": 2.5, "v": 0.7, "w": 0.2, "t": 0.9, "s": 1.1}
    once = {**letters, "l": 1}
    arguments = (1.3, 0.7, 0.2, 1.1, 0.9)
    for coded, equation in (
        (stationary_variance_ratio(0.4, 1.3, stretch=3), derived.svag_ratio()),
        (stationary_variance_ratio(0.4, 1.3, order=2), derived.second_order_ratio()),
        (linear_scaling_ratio(0.4, 1.3, 2.5), derived.scaling_ratio()),
        (0.4 * weak_error_coefficient(*arguments), derived.first_error()),
        (0.4**2 * weak_error_coefficient(*arguments, order=2), derived.second_error()),
    ):
        assert_allclose(coded, number(equation, **letters), rtol=1e-12)
    assert_allclose(
        stationary_variance_ratio(0.4, 1.3), number(derived.svag_ratio(), **once), rtol=1e-12
    )
    steps = {r"x_{\tau}": 1.0, r"x_{\tau/2}": 0.7}
    assert_allclose(talay_tubaro(1.0, 0.7), number(derived.extrapolation(), **steps))


# --- bad input ---


def test_bad_input_is_refused_in_a_sentence(data):
    problem = regression_gradients(*data, 1)
    for call, words in (
        (lambda: regression_gradients(*data, 0), "batches of 0 cannot be drawn from 4 examples"),
        (
            lambda: regression_gradients(*data, 5, replacement=False),
            "batches of 5 cannot be drawn from 4",
        ),
        (lambda: euler_maruyama_map(problem, -0.1, 0.1), r"rate must be .* not -0\.1"),
        (lambda: euler_maruyama_map(problem, 0.1, 0.0), r"dt must be positive, not 0\.0"),
        (lambda: sde_map(problem, 0.1, 1.0, order=3), "order 0, 1 and 2 are known, not 3"),
        (lambda: sde_map(problem, 0.1, -1.0), r"time must be positive, not -1\.0"),
        (lambda: svag_map(problem, 0.1, 0), "stretches the noise by l >= 1, not 0"),
        (
            lambda: stationary_moments(sgd_map(problem, 50.0)),
            "never stationary: the rate is unstable",
        ),
        (lambda: weak_error(problem, 0.3, 1.0, START), "not a whole number of steps of 0.3"),
        (lambda: weak_error_coefficient(1, 1, 1, 1, 1, order=0), "order 1 and 2 are known, not 0"),
        (
            lambda: stationary_variance_ratio(2.0, 1.0),
            "between 0 and 2 for a stationary law, not at 2",
        ),
        (
            lambda: stationary_variance_ratio(0.1, 1.0, stretch=0),
            "stretch >= 1 and order 1 or 2, not 0",
        ),
        (
            lambda: linear_scaling_ratio(0.5, 1.0, 4.0),
            "between 0 and 2 for a stationary law, not at 2",
        ),
        (lambda: linear_scaling_ratio(0.5, 1.0, -1.0), "factor must be positive, not -1"),
        (lambda: talay_tubaro(1.0, 2.0, order=0), "needs weak order 1 or more, not 0"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_a_free_direction_never_rests(data):
    """As many parameters as examples leave descent at a perfect fit; more leave it free."""
    x, y = data
    with pytest.raises(ValueError, match="inputs do not span all directions"):
        stationary_moments(sgd_map(regression_gradients(x[:1], y[:1], 1), 0.1))
