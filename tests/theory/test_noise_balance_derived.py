"""The balance of noises as coded is the derived one, formula by formula."""

import numpy as np
import pytest
import sympy as sp
from numpy.testing import assert_allclose
from scipy.integrate import quad
from witnesses import number

from derivations import balance as derived
from derivations import temperature as warm
from sgdnoise.theory import (
    imbalance_after,
    log_marginal,
    noise_balance,
    soft_threshold,
    stationary_imbalance,
    sum_rule,
)


def test_a_noisy_step_is_the_derived_one(rng):
    w, v, g = rng.normal(size=(2, 1)), rng.normal(size=(1, 1)), rng.normal(size=(2, 1))
    letters = {"W_{11}": w[0, 0], "W_{21}": w[1, 0], "V_{11}": v[0, 0]}
    letters |= {"G_{11}": g[0, 0], "G_{21}": g[1, 0], "eta": 0.1, "lambda": 0.3, "T": 0.2}
    coded = imbalance_after(w, v, g, 0.1, temperature=0.2, decay=0.3)
    assert_allclose(coded[0, 0], number(warm.langevin_step(), **letters), rtol=1e-12)


def test_units_rest_where_derived():
    derived = number(warm.imbalance_at_rest(), **{"lambda": 0.3, "T": 0.2, "d": 5, "o": 2})
    assert_allclose(stationary_imbalance(5, 2, 0.2, 0.3), derived, rtol=1e-12)
    stationary = stationary_imbalance(1 + 1, 1, 0.2, 0.3)  # an input and a bias
    lengths = {"w_1": 1.1, "b": 0.7, "v_1": (1.1**2 + 0.7**2 - stationary) ** 0.5}
    speed = number(warm.homogeneous_speed(), **{"lambda": 0.3, "T": 0.2} | lengths)
    assert_allclose(speed, 0, atol=1e-12)


def test_the_marginal_is_the_derived_one():
    moment, cross = np.asarray([[1.7]]), np.asarray([[0.6]])
    derived = [
        number(warm.marginal(), **{"K": 1.7 * x**2, "a": 0.6 * x, "T": 0.2, "lambda": 0.3})
        * np.exp(-0.3 * x**2 / 0.4)
        for x in (0.8, -0.5)
    ]
    coded = [log_marginal(np.asarray([[x]]), moment, cross, 0.2, 0.3) for x in (0.8, -0.5)]
    assert_allclose(coded[0] - coded[1], np.log(derived[0] / derived[1]), rtol=1e-12)


def test_the_sum_rule_is_the_derived_one(rng):
    w, v, moment = rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), np.diag([1.0, 2.0, 0.5])
    letters = {"|V|^{2}": (v**2).sum(), r"{\operatorname{Tr} \Sigma}": 3.5}
    letters |= {"rho": 0.2, "d": 3, "h": 4, "o": 2}
    left = 2 * np.trace(w.T @ moment @ w) - number(derived.sum_rule(), **letters)
    assert_allclose(np.trace(sum_rule(0.2, w, v, moment)), left, rtol=1e-12)


def test_one_output_has_the_readout_of_the_derived_law():
    """Of first order in c = rho / 2: halving it leaves a quarter of what is missing."""
    d, h, s = 5, 3, 1.0

    equation = derived.readout_law().rhs
    arguments = {"d": d, "h": h, "s": s, r"{\operatorname{Tr} \Sigma}": d}
    fixed = equation.subs(
        {x: arguments[str(x)] for x in equation.free_symbols if str(x) in arguments}
    )
    density = sp.lambdify(sorted(fixed.free_symbols, key=str), fixed)  # of q and rho

    def off(rho):
        center, width = s / d**0.5, (rho * s / d**1.5) ** 0.5
        ends, largest = (max(center - 12 * width, 1e-6), center + 12 * width), density(center, rho)
        full, total = (
            quad(lambda q: q**k * density(q, rho) / largest, *ends)[0]  # noqa: B023 - used at once
            for k in (0, 1)
        )
        return noise_balance(rho, np.eye(d), np.eye(d, 1) * s, h).readout - total / full

    assert off(0.05) / off(0.025) == pytest.approx(4, rel=0.1)


def test_free_units_have_the_derived_square():
    """Two outputs: E Tr A and E Tr A^2 by the derived modes and the scatter that `balance` says."""
    d, h, rho, s = 5, 4, 0.05, np.asarray([1.5, 0.8])
    c, w = rho / 4, (d / 2) ** 0.5 * s
    modes = [
        number(derived.mode_at_balance(), **{"w_1": first, "w_2": two, "c": c, "d": d, "h": h})
        for first, two in (w, w[::-1])
    ]
    scatter = c * w.sum() + 2 * c * w.prod() / w.sum()
    letters = {r"{\operatorname{Tr}A}": sum(modes), "c": c, "d": d, "m": h - 2}
    letters[r"{\operatorname{Tr}A^{2}}"] = np.sum(np.square(modes)) + scatter
    result = noise_balance(rho, np.eye(d), np.eye(d, 2) * s, h)
    assert_allclose(result.square, number(derived.free_square(), **letters), rtol=1e-12)


def test_soft_thresholds_are_the_derived_ones():
    s = np.asarray([1.5, 0.8])
    expected = number(derived.soft_threshold(), **{"s": s, "lambda": 0.3})
    assert_allclose(soft_threshold(s, 0.3), expected, rtol=1e-12)
