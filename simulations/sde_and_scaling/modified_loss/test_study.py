"""The study of modified losses: its parts, its smallest run, its word on made-up results."""

import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sgdnoise.dynamics import Process, moments, simulate
from sgdnoise.lab import exit_status
from sgdnoise.noise import StepNumber
from simulations.sde_and_scaling.modified_loss import figure as picture
from simulations.sde_and_scaling.modified_loss import study

HOME = Path(__file__).parents[1]
TINY = study.Size((0.2,), (1,), 200)


@pytest.fixture(scope="module")
def results():
    """One rate, and all orders, in this process."""
    found = study.run(0.2, 1, size=TINY).expand_dims(rate=[0.2], batch=[1])
    return found.assign(study.deterministic())


def failing(results):
    return [v.name for v in study.verdicts(results) if v.claimed and v.outcome == "fails"]


def test_the_smallest_run_holds_and_is_drawn(results):
    verdicts = study.verdicts(results)
    assert exit_status(verdicts) == 0
    assert [v.outcome for v in verdicts[:6]] == 6 * ["holds"]
    assert len(verdicts) == 9
    assert all(isinstance(figure, Figure) for _, figure in picture.figures(results).values())
    assert len(study.tables(results)[0].rows) == 1


def test_a_rest_elsewhere_fails(results):
    still = results.assign(rest=0 * results.rest)
    assert failing(still) == ["batch 1, rate 0.2: shift by reshuffling, exact"]
    both = results.assign(rest=0 * results.rest + results.exact)
    assert failing(both) == ["batch 1, rate 0.2: shift by independent batches"]


def test_gaps_of_another_order_fail(results):
    """The one of each pair in place of the other: all six slopes are wrong."""
    swapped = results.gap.values[[1, 0, 3, 2, 5, 4]]
    wrong = results.assign(gap=(("case", "halved"), swapped))
    assert sum(name.startswith("order") for name in failing(wrong)) == 6


@pytest.mark.parametrize("order", [2, 3])
def test_a_slope_is_carried_on_to_rate_zero(order):
    """Off by the third power of the rate, where its first and second are taken into account."""
    rates = np.asarray(study.HALVED)
    found = study.slope(rates**order * (1 + 20 * rates))
    assert abs(found.value - order) < 3 * found.stderr < study.SLOPE


def test_all_ways_are_all_and_alike():
    orders, free = study.ways("orders"), study.ways("sequences")
    assert len(orders) == math.factorial(4)
    assert len(free) == 4**4
    for many in (orders, free, study.ways("step")):
        each = torch.full((many.shape[1], 4), 0.25, dtype=torch.float64)
        assert_allclose(many.mean(0).numpy(), each.numpy(), rtol=1e-12)
    assert_allclose(orders.sum(1).numpy(), 1)


def test_least_squares_is_zero():
    x, y = study.regression()
    assert_allclose(x.T @ y, 0, atol=1e-13)


def test_what_comes_late_is_all_that_counts():
    """A walk that counts its steps: the mean of 6, 8, 10 after 4."""
    process = Process(lambda theta, k: 0 * theta + k + 1, StepNumber(), 1.0)
    look = study.late(moments(), 4)
    found = simulate(process, jax.random.key(0), jnp.zeros((2, 1)), steps=10, every=2, observe=look)
    assert_allclose(np.asarray(found.mean), 8)
    assert_allclose(np.asarray(found.count), 3)


def test_bad_input_is_answered_by_one_sentence(tmp_path):
    command = [sys.executable, "simulations/modified_loss.py", "--chains", "1"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=HOME, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "an error needs at least 2 chains, not 1" in done.stderr
    assert "Traceback" not in done.stderr
