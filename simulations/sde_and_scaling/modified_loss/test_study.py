"""The study of modified losses: its ensembles, a small run, and wrong results."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sgdnoise.dynamics import Process, moments, simulate
from sgdnoise.lab import exit_status
from sgdnoise.noise import StepNumber
from simulations.sde_and_scaling.modified_loss import claims, study

TINY = {"rate": [0.2], "batch": [1], "chains": 200}


@pytest.fixture(scope="module")
def results():
    """One rate, and all orders, in this process."""
    return study.study.simulate("small", **TINY)


def failing(results):
    return [v.name for v in claims.verdicts(results) if v.outcome == "fails"]


def test_the_smallest_run_holds(results):
    verdicts = claims.verdicts(results)
    assert exit_status(verdicts) == 0
    assert [v.outcome for v in verdicts[:6]] == 6 * ["holds"]
    assert len(verdicts) == 9


def test_another_stationary_mean_fails(results):
    unmoved = results.assign(rest=0 * results.rest)
    assert failing(unmoved) == ["batch 1, rate 0.2: shift by reshuffling, exact"]
    both = results.assign(rest=0 * results.rest + results.exact)
    assert failing(both) == ["batch 1, rate 0.2: shift by independent batches"]


def test_gaps_of_another_order_fail(results):
    """The one of each pair in place of the other: all six slopes are wrong."""
    swapped = results.gap.values[[1, 0, 3, 2, 5, 4]]
    wrong = results.assign(gap=(("case", "halved"), swapped))
    assert sum(name.startswith("order") for name in failing(wrong)) == 6


@pytest.mark.parametrize("order", [2, 3])
def test_a_slope_is_extrapolated_to_rate_zero(order):
    """It is off by the third power of the rate only; first and second are accounted for."""
    rates = np.asarray(study.HALVED)
    slope = claims.slope(rates**order * (1 + 20 * rates))
    assert abs(slope.value - order) < 3 * slope.stderr < claims.SLOPE


def test_ensembles_are_complete_and_their_examples_equal():
    orders, sequences = (study.example_weights(name) for name in ("orders", "sequences"))
    assert len(orders) == math.factorial(4)
    assert len(sequences) == 4**4
    for weights in (orders, sequences, study.example_weights("step")):
        equal = torch.full((weights.shape[1], 4), 0.25, dtype=torch.float64)
        assert_allclose(weights.mean(0).numpy(), equal.numpy(), rtol=1e-12)
    assert_allclose(orders.sum(1).numpy(), 1)


def test_least_squares_is_zero():
    x, y = study.regression()
    assert_allclose(x.T @ y, 0, atol=1e-13)


def test_only_what_comes_after_the_start_counts():
    """A walk that counts its steps: the mean of 6, 8, 10 after 4."""
    process = Process(lambda theta, k: 0 * theta + k + 1, StepNumber(), 1.0)
    observe = study.after(moments(), 4)
    start = jnp.zeros((2, 1))
    records = simulate(process, jax.random.key(0), start, steps=10, every=2, observe=observe)
    assert_allclose(np.asarray(records.mean), 8)
    assert_allclose(np.asarray(records.count), 3)
