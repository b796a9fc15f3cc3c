"""Nearest neighbours against a tree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from witnesses import tree_distances

from sgdnoise.arrays import nearest_distances


@pytest.mark.parametrize(("n", "width", "k"), [(700, 3, 4), (513, 20, 1), (5, 2, 4)])
def test_nearest_distances_are_those_of_a_tree(xp, rng, n, width, k):
    points = rng.normal(size=(n, width))
    found = np.asarray(nearest_distances(xp.asarray(points), k))
    np.testing.assert_allclose(found, tree_distances(points, k), rtol=1e-12)


@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_the_block_changes_no_distance(rng, block):
    points = rng.normal(size=(100, 3))
    found = nearest_distances(points, 3)
    np.testing.assert_allclose(found, nearest_distances(points, 3), rtol=1e-14)


@given(seed=st.integers(0, 2**32 - 1), far=st.floats(0, 1e6))
def test_far_from_the_origin_distances_are_the_same(seed, far):
    """A point at 1e6 is stored to 1e-10, hence the tolerance."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(60, 3))
    moved = nearest_distances(points + far * rng.normal(size=3), 4)
    np.testing.assert_allclose(moved, tree_distances(points, 4), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_far_outlier_spoils_no_other_distance(xp, rng, dtype):
    cloud = rng.normal(size=(200, 3)).astype(dtype)
    far = np.concatenate([cloud, np.full((1, 3), 1e8, dtype)])
    found = nearest_distances(xp.asarray(far), 4)[:-1]
    expected = tree_distances(cloud, 4)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e3 * np.finfo(dtype).eps)


def test_points_that_coincide_are_at_distance_zero_exactly(xp, rng):
    points = 1e3 + rng.normal(size=(40, 3))
    found = np.asarray(nearest_distances(xp.asarray(np.concatenate([points, points])), 2))
    np.testing.assert_array_equal(found[:, 0], 0)
    assert np.all(found[:, 1] > 0)


def test_a_nan_anywhere_makes_every_distance_nan(xp, rng):
    points = rng.normal(size=(20, 3))
    points[4, 1] = np.nan
    assert np.all(np.isnan(np.asarray(nearest_distances(xp.asarray(points), 2))))


@pytest.mark.parametrize("k", [0, 3, 7])
def test_too_few_points_raise_with_their_number(xp, k):
    with pytest.raises(ValueError, match=rf"{k} nearest neighbours need .* not 3"):
        nearest_distances(xp.zeros((3, 2)), k)
