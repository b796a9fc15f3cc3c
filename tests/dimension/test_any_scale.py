"""Every estimator gives the same number for points of any scale, as lists, and for float k."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sgdnoise.dimension import ESTIMATORS, estimate, levina_bickel, twonn
from sgdnoise.dimension._any_scale import comfortable

SCALES = {np.float64: (1e-150, 1e-60, 1e60, 1e150), np.float32: (1e-15, 1e-8, 1e8, 1e15)}


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 3)) @ rng.normal(size=(3, 6))


def value_of(estimator, points):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = estimator(points)
    return float(getattr(result, "value", result))


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_an_estimator_does_not_depend_on_the_unit(cloud, name, kind):
    expected = value_of(ESTIMATORS[name], cloud.astype(kind))
    for scale in SCALES[kind]:
        scaled = (cloud * scale).astype(kind)
        tolerance = 1e-9 if kind is np.float64 else 2e-3
        assert_allclose(value_of(ESTIMATORS[name], scaled), expected, rtol=tolerance)


def test_the_recommended_estimate_does_not_depend_on_the_unit(cloud):
    assert_allclose(float(estimate(1e120 * cloud).value), float(estimate(cloud).value), rtol=1e-9)


def test_ordinary_points_are_not_touched(cloud):
    assert comfortable(cloud) is cloud
    assert comfortable(1e30 * cloud).max() > 1e29


def test_tensors_are_scaled_in_their_own_library(cloud):
    scaled = comfortable(torch.as_tensor(cloud * 1e-12, dtype=torch.float32))
    assert isinstance(scaled, torch.Tensor)
    assert 0.5 < float(scaled.max() - scaled.min()) < 8


def test_lists_and_whole_numbers_as_floats_are_taken(cloud):
    assert twonn(cloud.tolist()) == twonn(cloud)
    assert levina_bickel(cloud, k=5.0) == levina_bickel(cloud, 5.0) == levina_bickel(cloud, 5)


@pytest.mark.parametrize("k", [5.5, float("nan"), "5", True])
def test_other_numbers_of_neighbours_are_refused(cloud, k):
    with pytest.raises(ValueError, match="k must be a"):
        levina_bickel(cloud, k=k)
