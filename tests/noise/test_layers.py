"""Measures of gradient and noise, layer by layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from witnesses import SURE

from sgdnoise.core import GradientMatrix
from sgdnoise.noise import by_layer, gradient_noise_scale, gradient_norm, signal_to_noise


@dataclass
class Named:
    """Gradients whose columns have names."""

    rows: Any
    names: dict

    def by_parameter(self):
        return {name: GradientMatrix(self.rows[:, columns]) for name, columns in self.names.items()}


LAYERS = {"second": slice(4, 9), "first": slice(0, 4)}


@pytest.mark.parametrize("measure", [signal_to_noise, gradient_norm, gradient_noise_scale])
def test_each_layer_is_measured_by_itself_and_in_its_order(measure, rng):
    gradients = rng.normal(size=(12, 9)) + 1
    result = by_layer(Named(gradients, LAYERS), measure)
    assert list(result) == ["second", "first"]
    for name, columns in LAYERS.items():
        assert result[name] == measure(GradientMatrix(gradients[:, columns]))


def test_signal_to_noise_is_measured_unless_told(rng):
    rows = Named(rng.normal(size=(12, 9)), LAYERS)
    assert by_layer(rows) == by_layer(rows, signal_to_noise)


def test_the_norm_is_the_mean_of_norms_not_the_norm_of_the_mean(xp, rng):
    gradients = rng.normal(size=(12, 5))
    result = gradient_norm(GradientMatrix(xp.asarray(gradients)))
    norms = np.linalg.norm(gradients, axis=1)
    assert_allclose(result.value, norms.mean(), rtol=1e-12)
    assert_allclose(result.stderr, norms.std(ddof=1) / 12**0.5, rtol=1e-12)


def test_a_layer_of_pure_noise_is_told_from_one_with_signal(rng):
    """Over repeats, the one has a ratio of zero, the other that of its law, 4 / 5."""
    result = []
    for _ in range(300):
        gradients = rng.normal(size=(60, 9))
        gradients[:, 4:] += 0.8**0.5
        result.append([estimate.value for estimate in by_layer(Named(gradients, LAYERS)).values()])
    recorded, deviation = np.mean(result, axis=0), np.std(result, axis=0) / 300**0.5
    assert np.all(abs(recorded - [0.8, 0.0]) < SURE * deviation)


def test_too_few_examples_are_refused(rng):
    with pytest.raises(ValueError, match="at least 3 examples, not 2"):
        by_layer(Named(rng.normal(size=(2, 9)), LAYERS))
    with pytest.raises(ValueError, match="at least 2 samples, not 1"):
        by_layer(Named(rng.normal(size=(1, 9)), LAYERS), gradient_norm)
