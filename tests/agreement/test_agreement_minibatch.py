"""The derived noise of a reshuffled epoch is that of the coded flow."""

import pytest
import torch
from numpy.testing import assert_allclose
from witnesses import number

from derivations import minibatch as derived
from sgdnoise.core import Problem
from sgdnoise.theory import minibatch_flow

SLOPES, RATE, BATCH = (0.9, -0.4, 0.7, -0.2, -1.3, 0.3), 0.4, 2


def after(curvatures, steps):
    """Mean and variance of one parameter from zero, after some steps of an epoch."""
    examples = tuple(torch.asarray(a, dtype=torch.float64) for a in (curvatures, SLOPES))
    problem = Problem(lambda x, h, e: h * x[0] ** 2 / 2 + e * x[0], examples)
    path = minibatch_flow(
        problem,
        torch.zeros(1, dtype=torch.float64),
        learning_rate=RATE,
        batch_size=BATCH,
        steps=steps,
        every=steps,
        sampling="reshuffled",
        pairs=0,
    )
    return float(path.mean[0, 0]), float(path.covariance[0][0, 0])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_variance_of_an_epoch_is_the_derived_one(steps):
    letters = {"n": 6, "B": BATCH, "eta": RATE, "h": 0.8, "t": steps}
    letters["c"] = sum(e**2 for e in SLOPES) / 6
    assert_allclose(after([0.8] * 6, steps)[1], number(derived.epoch_variance().doit(), **letters))


def test_the_force_of_an_epoch_is_the_derived_one():
    curvatures, numbers = [0.5, 1.1, 0.8, 0.6, 1.0, 0.8], {"n": 6, "eta": RATE, "h": 0.8}
    shared = sum(h * e for h, e in zip(curvatures, SLOPES, strict=True)) / 6
    mean = 0.0
    for step in range(3):
        force = number(derived.epoch_force(), **numbers, g=shared, t=step)
        mean = mean - RATE * (0.8 * mean + force)
    assert_allclose(after(curvatures, 3)[0], mean, rtol=1e-10)
