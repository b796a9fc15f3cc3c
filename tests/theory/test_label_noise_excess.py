"""The loss at rest under label noise, and the potential of its force, at finite rates."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sgdnoise.theory import (
    excess_over_trace,
    label_noise_excess,
    label_noise_potential,
    label_noise_strength,
    stationary_covariance,
)

CURVATURES, NOISE = np.asarray([0.3, 1.0, 4.0]), (0.2, 0.7, 5)


def at_rest(curvatures):
    """The stationary variances of descent under label noise."""
    rate, sigma, batch = NOISE
    covariance = sigma**2 / batch * np.diag(curvatures)
    return np.diag(stationary_covariance(np.diag(curvatures), covariance, rate))


def test_the_excess_is_that_of_the_stationary_covariance():
    expected = CURVATURES @ at_rest(CURVATURES) / 2
    assert_allclose(label_noise_excess(CURVATURES, *NOISE), expected, rtol=1e-12)


def test_the_gradient_of_the_potential_is_the_force_of_the_jitter():
    """Half the variance: the force is -(1/2) grad Tr(H S) at fixed S."""
    for k in range(3):
        step = 1e-5 * np.eye(3)[k]
        above, below = (label_noise_potential(CURVATURES + s, *NOISE) for s in (step, -step))
        assert_allclose((above - below) / 2e-5, at_rest(CURVATURES)[k] / 2, rtol=1e-7)


def test_both_are_the_trace_for_small_rates_and_exceed_it_for_large():
    small, kappa = (1e-6, 0.7, 5), label_noise_strength(1e-6, 0.7, 5)
    for formula in (label_noise_excess, label_noise_potential):
        assert_allclose(formula(CURVATURES, *small), kappa * CURVATURES.sum(), rtol=1e-5)
    excess, potential = (f(CURVATURES, *NOISE) for f in (label_noise_excess, label_noise_potential))
    assert excess > potential > label_noise_strength(*NOISE) * CURVATURES.sum()


def test_the_excess_over_the_trace_lies_within_its_error():
    """Without amplification, from many small curvatures to a single one."""
    kappa = label_noise_strength(*NOISE)
    predicted, error = excess_over_trace(0.0, 0.2 * 4.0)
    ratios = []
    for values in ([4.0, *[0.01] * 50], [4.0, *[0.3] * 50], [4.0]):
        excess = label_noise_excess(np.asarray(values), *NOISE)
        ratios.append(excess / kappa / np.sum(values))
    assert all(predicted < ratio <= predicted + error + 1e-12 for ratio in ratios)
    assert ratios[-1] == pytest.approx(predicted + error)


def test_amplification_raises_the_excess_and_its_error():
    plain, fed = excess_over_trace(0.0, 0.1), excess_over_trace(0.1, 0.1)
    assert plain[0] == 1
    assert fed[0] == pytest.approx(1 / 0.9)
    assert fed[1] > plain[1]


def test_unstable_rates_and_strong_amplification_are_refused():
    for formula in (label_noise_excess, label_noise_potential):
        with pytest.raises(ValueError, match="is not stable at a curvature of 4"):
            formula(CURVATURES, 0.5, 0.7, 5)
    for numbers in ((0.5, 0.1), (0.1, 2.0), (-0.1, 0.1)):
        with pytest.raises(ValueError, match="the excess loss is known for"):
            excess_over_trace(*numbers)
