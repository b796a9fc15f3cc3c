"""Watching a walk makes a Dataset of what the probes saw."""

import numpy as np
import pytest
import torch

from sgdnoise import noise
from sgdnoise.dynamics import descent
from sgdnoise.estimate import mean
from sgdnoise.nets import walk
from sgdnoise.problem import Problem
from sgdnoise.track import track


def test_probes_see_every_so_many_steps_and_errors_ride_along(rng):
    centres = torch.asarray(rng.normal(size=(20, 3)))
    problem = Problem(lambda t, c: 0.5 * ((t - c) ** 2).sum(1), (centres,), torch.func)
    process = descent(noise.minibatch(problem, 4), 0.1)
    start = torch.zeros(3, dtype=torch.float64)
    probes = {"loss": problem.value, "theta": lambda theta: mean(theta)}
    seen = track(walk(process, start, 0), probes, steps=7, every=3)

    by_hand = walk(process, start, 0)
    thetas = [next(by_hand) for _ in range(7)]
    np.testing.assert_array_equal(seen.step, [3, 6])
    np.testing.assert_allclose(seen.loss, [problem.value(thetas[i]) for i in (2, 5)], rtol=1e-12)
    expected = [mean(thetas[i]) for i in (2, 5)]
    np.testing.assert_allclose(seen.theta, [e.value for e in expected], rtol=1e-12)
    np.testing.assert_allclose(seen.theta_stderr, [e.stderr for e in expected], rtol=1e-12)


def test_watching_nothing_is_refused():
    with pytest.raises(ValueError, match="every 5 of 3 steps"):
        track(iter([]), {}, steps=3, every=5)
