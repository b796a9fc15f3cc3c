"""The derived oscillation at the edge of stability is that of the code."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from witnesses import number

from derivations import edge as derived
from sgdnoise.theory import edge_covariance, edge_period, edge_sharpness


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 1.0), (2.0, 0.1)])
def test_the_variance_at_the_edge_is_the_derived_one(alpha, beta):
    """In a time t the slack loses alpha t, and the oscillation returns beta x^2 / 2 t of it."""
    time, response = 0.01, np.full((1,) * 4, beta / 2)
    x, _ = edge_covariance([[-alpha * time]], time * response, 0.5)
    assert_allclose(x[0, 0], number(derived.edge_variance(), alpha=alpha, beta=beta), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_the_period_of_a_cycle_is_the_derived_one(rate):
    expected = number(derived.edge_period(), eta=rate, alpha=0.7)
    assert_allclose(edge_period(rate, 0.7), expected, rtol=1e-12)


@pytest.mark.parametrize(("batch", "spread"), [(4, 0.0), (16, 2.0)])
def test_the_sharpness_under_noise_is_the_derived_one(batch, spread):
    letters = {"eta": 0.2, "c": 0.3, "v": spread, "s": 0.4, "B": batch}
    expected = number(derived.edge_sharpness(), **letters)
    assert_allclose(edge_sharpness(0.2, 0.4, 0.3 / batch, spread / batch), expected, rtol=1e-12)


def test_an_entry_of_the_covariance_is_the_derived_one(rng):
    """Without a response, and with the curvatures of any point."""
    slack, curvatures = np.asarray([0.2, 0.9]), np.asarray([3.0, 2.5])
    kicks = np.cov(rng.normal(size=(2, 7)))
    x, _ = edge_covariance(
        np.diag(slack), np.zeros((2,) * 4), 0.5, kicks, None, np.diag(curvatures)
    )
    letters = {"d_i": slack[:, None], "d_j": slack, "h_i": curvatures[:, None], "h_j": curvatures}
    assert_allclose(x, number(derived.edge_entry(), **letters, C_ij=kicks), rtol=1e-7)
