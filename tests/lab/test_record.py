"""Watching a walk makes a Dataset of what the probes saw."""

import numpy as np
import pytest
import torch

from sgdnoise import noise
from sgdnoise.core import Estimate, Problem, mean
from sgdnoise.core._dataset import as_dataset, as_numbers
from sgdnoise.dynamics import sgd
from sgdnoise.lab import track
from sgdnoise.nets import walk


def test_probes_see_every_so_many_steps_and_errors_ride_along(rng):
    centres = torch.asarray(rng.normal(size=(20, 3)))
    problem = Problem(lambda t, c: 0.5 * ((t - c) ** 2).sum(1), (centres,))
    process = sgd(noise.minibatch(problem, 4), 0.1)
    start = torch.zeros(3, dtype=torch.float64)
    probes = {"loss": problem.value, "theta": lambda theta: mean(theta)}
    records = track(walk(process, start, 0), probes, steps=7, every=3)

    by_hand = walk(process, start, 0)
    thetas = [next(by_hand) for _ in range(7)]
    np.testing.assert_array_equal(records.step, [3, 6])
    np.testing.assert_allclose(records.loss, [problem.value(thetas[i]) for i in (2, 5)], rtol=1e-12)
    expected = [mean(thetas[i]) for i in (2, 5)]
    np.testing.assert_allclose(records.theta, [e.value for e in expected], rtol=1e-12)
    np.testing.assert_allclose(records.theta_stderr, [e.stderr for e in expected], rtol=1e-12)


def test_watching_nothing_is_refused():
    with pytest.raises(ValueError, match="every 5 of 3 steps"):
        track(iter([]), {}, steps=3, every=5)


def test_what_was_seen_of_layers_has_their_axis_and_what_was_not_seen_is_nan():
    records = {
        8: {"size": {"a": 1.0, "b": np.float32(2)}, "loss": Estimate(3.0, 0.5)},
        2: {"size": {"b": Estimate(4.0, 0.25)}, "trace": 7},
    }
    dataset = as_dataset(records)
    np.testing.assert_array_equal(dataset.step, [2, 8])
    np.testing.assert_array_equal(dataset.layer, ["b", "a"])
    expected = {
        "size": [[4, np.nan], [2, 1]],
        "size_stderr": [[0.25, np.nan], [np.nan, np.nan]],
        "loss": [np.nan, 3],
        "loss_stderr": [np.nan, 0.5],
        "trace": [7, np.nan],
    }
    assert set(dataset) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(dataset[name], values)
    assert as_numbers(records[2]) == {
        ("size", "b"): 4,
        ("size_stderr", "b"): 0.25,
        ("trace", None): 7,
    }


def test_nothing_seen_is_an_empty_dataset():
    assert as_dataset({}).sizes == {"step": 0}
