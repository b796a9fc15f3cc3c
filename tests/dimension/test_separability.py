"""Fisher separability: its count, its law, clouds of known dimension."""

import numpy as np
import pytest
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.dimension import fisher_separability
from sgdnoise.dimension._separability import ALPHAS


def white(points, condition):
    """Principal components by singular values, on the sphere."""
    centred = points - points.mean(0)
    left, s, _ = np.linalg.svd(centred, full_matrices=False)
    left = left[:, s**2 > s[0] ** 2 / condition]
    return left / np.linalg.norm(left, axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(40, 3), (20, 30)])
def test_separability_is_counted_over_all_ordered_pairs(shape, rng):
    points = rng.normal(size=shape) * np.geomspace(1, 0.1, shape[1])
    x = white(points, 10)
    n, blocks = len(x), []
    for alpha in ALPHAS:
        nearby = sum(x[i] @ x[j] >= alpha for i in range(n) for j in range(n) if i != j)
        blocks.append(nearby / n / (n - 1))
    top = max(alpha for alpha, block in zip(ALPHAS, blocks, strict=True) if block > 0)
    alpha, block = min(
        ((a, p) for a, p in zip(ALPHAS, blocks, strict=True) if p > 0),
        key=lambda pair: abs(pair[0] - 0.9 * top),
    )
    d = fisher_separability(points)
    law = (1 - alpha**2) ** ((d - 1) / 2) / (alpha * np.sqrt(2 * np.pi * d))
    np.testing.assert_allclose(law, block, rtol=1e-9)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_a_gaussian_of_unequal_variances_has_its_dimension(d, rng):
    """The law is asymptotic: at d = 2 it is 2% off."""
    points = [rng.normal(size=(500, d)) * np.linspace(1, 2, d) for _ in range(15)]
    result = mean(np.asarray([fisher_separability(values) for values in points]))
    assert abs(result.value - d) < SURE * result.stderr + 0.02 * d


def test_components_of_little_variance_are_left_out(rng):
    points = rng.normal(size=(300, 3))
    small = np.concatenate([points, 0.05 * rng.normal(size=(300, 2))], axis=1)
    assert abs(fisher_separability(small) - fisher_separability(points)) < 0.2
    assert fisher_separability(small, condition=1e4) > 4.5


def test_what_cannot_be_separated_is_refused(rng):
    with pytest.raises(ValueError, match="condition must be above 1"):
        fisher_separability(rng.normal(size=(30, 3)), condition=1.0)
    with pytest.raises(ValueError, match="no two of 12 directions"):
        fisher_separability(rng.normal(size=(12, 60)))


@pytest.mark.parametrize("d", [2, 8])
def test_separability_is_that_of_scikit_dimension(d, rng):
    peer = pytest.importorskip("skdim").id.FisherS()
    points = rng.normal(size=(300, d)) * np.linspace(1, 4, d)
    np.testing.assert_allclose(fisher_separability(points), peer.fit(points).dimension_, rtol=1e-9)
