"""The derived equations of deep flows and of the closure are the coded ones."""

import math

import numpy as np
import pytest
import sympy as sp
import torch
from numpy.testing import assert_allclose
from witnesses import number

from derivations import closure as moments
from derivations import deep_flow as deep
from sgdnoise import noise
from sgdnoise.core import Factor, Problem
from sgdnoise.theory import (
    closure_error,
    hessian_trace,
    imbalances,
    moment_closure,
    second_order_mean,
    stationary_hessian_trace,
    stationary_hidden_modes,
)

SLOPES = {"L_{1}": 0.7, "L_{2}": 1.3, "L_{3}": -0.8, "L_{4}": 0.5}
MIDDLE, SPREAD, KICK = 0.4, 0.03, 0.9  # of theta; and the variance of the gradient's noise


def quartic():
    """A loss of one parameter, whose derivatives at the middle are SLOPES."""

    def losses(theta, _):
        x = theta - MIDDLE  # (1,), a loss of the one example
        return sum(s * x ** (k + 1) / math.factorial(k + 1) for k, s in enumerate(SLOPES.values()))

    return Problem(losses, (torch.zeros(1, 1, dtype=torch.float64),))


def stepped(rate, kick=KICK):
    """Middle and spread after one step from SPREAD about MIDDLE."""
    rows = torch.full((1, 1), kick**0.5, dtype=torch.float64)
    model = noise.additive(quartic(), lambda _: Factor(rows))
    start = torch.tensor([MIDDLE], dtype=torch.float64)
    covariance = torch.full((1, 1), SPREAD, dtype=torch.float64)
    result = moment_closure(model, start, covariance, learning_rate=rate, steps=1)
    return float(result.mean[0, 0]), float(result.covariance[0][0, 0])


def test_a_step_of_the_closure_is_the_derived_one():
    letters = SLOPES | {"m": MIDDLE, "s": SPREAD, "c": KICK, "eta": 0.2}
    center, covariance = stepped(0.2)
    assert_allclose(center, number(moments.closure_mean(), **letters), rtol=1e-12)
    assert_allclose(covariance, number(moments.closure_spread(), **letters), rtol=1e-12)


def test_a_step_with_averages_is_the_derived_one():
    """The noise is that of one example drawn of two, with gradients -+(1 + 0.7 x + 0.2 x^2)."""
    x, rate = sp.Symbol("x"), 0.2
    apart = 1 + 0.7 * x + 0.2 * x**2
    kick = [float(sp.diff(apart**2, x, k).subs(x, 0)) for k in (0, 2)]
    letters = SLOPES | {"s": SPREAD, "eta": rate, "C_{0}": kick[0], "C_{2}": kick[1]}

    def losses(theta, sign):
        x = theta - MIDDLE
        shared = sum(
            s * x ** (k + 1) / math.factorial(k + 1) for k, s in enumerate(SLOPES.values())
        )
        return shared + sign[:, 0] * (x + 0.35 * x**2 + 0.2 * x**3 / 3)

    signs = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    model = noise.minibatch(Problem(losses, (signs,)), 1)
    start = torch.tensor([MIDDLE], dtype=torch.float64)
    covariance = torch.full((1, 1), SPREAD, dtype=torch.float64)
    result = moment_closure(model, start, covariance, learning_rate=rate, steps=1, averaged=1)
    middle = (letters["C_{2}"] / 2 - 0.7**2) * SPREAD / 2  # the square of it is of order s^2
    exact = number(moments.closure_average(), **letters) + rate**2 * middle**2
    assert_allclose(float(result.covariance[0][0, 0]), exact, rtol=1e-12)


def test_small_steps_of_the_closure_flow_as_derived():
    """Steps of 1e-6 with noise so much larger: the next order is as small."""
    letters = SLOPES | {"s": SPREAD, "c": KICK, "eta": 0.2}
    speed = (stepped(1e-6, KICK * 0.2 / 1e-6)[1] - SPREAD) / 1e-6
    assert_allclose(speed, number(moments.closure_flow(), **letters), rtol=1e-5)


def test_means_and_strain_over_a_spread_are_the_derived_ones():
    center, covariance = (
        torch.tensor([MIDDLE], dtype=torch.float64),
        torch.full((1, 1), SPREAD, dtype=torch.float64),
    )
    letters = SLOPES | {"s": SPREAD, "f_{0}": np.sin(MIDDLE), "f_{2}": -np.sin(MIDDLE)}
    result = second_order_mean(quartic(), lambda t: torch.sin(t[0]), center, covariance)
    assert_allclose(float(result), number(moments.closure_observable(), **letters), rtol=1e-12)
    fraction = closure_error(quartic(), center, covariance)
    assert_allclose(float(fraction), number(moments.closure_strain(), **letters), rtol=1e-10)


def test_the_trace_and_the_imbalance_of_three_layers_are_the_derived_ones():
    a, b, c, g, rate = 0.7, -1.2, 0.4, 0.9, 0.1
    layers = [np.asarray([[x]]) for x in (a, b, c)]
    letters = {"a": a, "b": b, "c": c, "G": g, "eta": rate, r"\Sigma": 1.7}
    assert_allclose(
        hessian_trace(np.asarray([[1.7]]), layers), number(deep.deep_trace(), **letters)
    )
    slopes = (g * b * c, a * g * c, a * b * g)
    after = [x - rate * slope for x, slope in zip(layers, slopes, strict=True)]
    change = imbalances(after)[0] - imbalances(layers)[0]
    assert_allclose(change[0, 0], number(deep.deep_imbalance_step(), **letters), rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_deep_networks_rest_where_derived(depth):
    moment, product = np.diag([1.0, 0.6, 0.3]), np.asarray([[1.1, 0.2], [0.3, -0.7], [0.0, 0.4]])
    s = np.linalg.svd(moment**0.5 @ product, compute_uv=False)
    letters = {"o": 2, r"{\operatorname{Tr} \Sigma}": 1.9, "S": s.sum(), "L": depth}
    smallest = stationary_hessian_trace(moment, product, depth)
    assert_allclose(smallest, number(deep.deep_trace_at_rest(), **letters), rtol=1e-12)
    modes = stationary_hidden_modes(moment, product, depth)
    scales = [number(deep.deep_scale_at_rest(), **letters, l=k + 1) for k in range(depth - 1)]
    assert_allclose(modes, np.outer(scales, s), rtol=1e-12)
    powers = [1.9, *modes.sum(1)]  # of the layer before each
    weights = [
        *(np.sum(s**2 / stationary) for stationary in modes[1:]),
        2,
    ]  # of the layers after the next
    for place, stationary in enumerate(modes):
        around = {"P_{l-1}": powers[place], "Q_{l+1}": weights[place]}
        derived = [number(deep.deep_mode_at_rest(), s=first, **around) for first in s]
        assert_allclose(stationary, derived, rtol=1e-12)
