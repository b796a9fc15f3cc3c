"""Points as estimators take them: what is refused, merged and turned into what."""

import sys
from types import SimpleNamespace

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import KDTree
from witnesses import tree_distances

from sgdnoise.dimension import (
    Duplicates,
    Neighbours,
    Ties,
    check_points,
    correlation,
    find_neighbours,
    unique_points,
)

SEEDS = st.integers(0, 2**32 - 1)
LIBRARIES = pytest.mark.parametrize(
    "asarray",
    [np.asarray, torch.asarray, jnp.asarray, array_api_strict.asarray],
    ids=["numpy", "torch", "jax", "strict"],
)


def test_good_points_are_returned_as_they_are(rng):
    points = rng.normal(size=(5, 3))
    assert check_points(points) is points
    assert unique_points(points) is points


@LIBRARIES
@pytest.mark.parametrize(
    ("kind", "held"),
    [("int64", "float64"), ("uint8", "float64"), ("float32", "float32"), ("float64", "float64")],
)
def test_numbers_keep_their_library_and_whole_ones_become_its_floats(asarray, kind, held):
    """torch's own default is single precision."""
    points = asarray(np.arange(12).reshape(6, 2).astype(kind))
    result = check_points(points)
    assert type(result) is type(points)
    default = "float32" if isinstance(points, torch.Tensor) and "int" in kind else held
    assert str(result.dtype).endswith(default)
    np.testing.assert_array_equal(np.asarray(result), np.arange(12).reshape(6, 2))


@pytest.mark.parametrize(
    ("points", "held"),
    [
        (np.eye(3, dtype=np.float16), np.float32),
        (np.eye(3, dtype=np.longdouble), np.float64),
        (torch.eye(3, dtype=torch.bfloat16), torch.float32),
        (torch.eye(3, dtype=torch.float16), torch.float32),
        (jnp.eye(3, dtype=jnp.bfloat16), jnp.float32),
    ],
)
def test_other_precisions_become_the_nearest_of_two(points, held):
    assert check_points(points).dtype == held


def test_half_precision_does_not_overflow_when_squared(rng):
    points = (3e4 * rng.uniform(size=(40, 3))).astype(np.float16)
    expected = tree_distances(np.unique(points, axis=0).astype(float), 2)
    result = find_neighbours(points, 2).distances
    np.testing.assert_allclose(np.sort(result, axis=0), np.sort(expected, axis=0), rtol=1e-6)


@pytest.mark.parametrize("far", [1e140, 1e20, 1e-140])
def test_points_of_any_size_that_has_squares_have_their_neighbours(far, rng):
    """Also where squares do not fit single precision, in which candidates are sought."""
    points = rng.normal(size=(300, 3))
    result = find_neighbours(far * points, 4).distances
    np.testing.assert_allclose(result / far, tree_distances(points, 4), rtol=1e-12)


@LIBRARIES
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_row_that_is_not_finite_is_named_and_all_are_counted(asarray, bad):
    points = np.arange(12.0).reshape(6, 2)
    points[2, 1] = points[4, 0] = points[4, 1] = bad
    with pytest.raises(ValueError, match=r"^2 of 6 points are not finite, the first in row 2$"):
        check_points(asarray(points))


@pytest.mark.parametrize("least", [2, 5])
def test_as_many_points_as_are_needed_are_enough(least):
    points = np.arange(2.0 * least).reshape(least, 2)
    assert check_points(points, least) is points
    with pytest.raises(ValueError, match=rf"at least {least} .* not {least - 1} of 2$"):
        check_points(points[:-1], least)


def test_points_need_not_be_apart_where_that_is_said():
    points = np.full((4, 2), 3.0)
    assert check_points(points, apart=False) is points
    with pytest.raises(ValueError, match="all 4 points coincide"):
        check_points(points)


@given(seed=SEEDS, n=st.integers(2, 40), repeated=st.integers(1, 40), width=st.integers(1, 4))
def test_each_point_is_kept_once_in_the_order_of_first_meeting(seed, n, repeated, width):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, width))
    points = np.concatenate([points, points[rng.integers(0, n, repeated)]])
    with pytest.warns(Duplicates, match=rf"^{repeated} of {n + repeated} points repeat"):
        np.testing.assert_array_equal(unique_points(points), points[:n])


def test_zero_of_either_sign_is_one_number():
    points = np.asarray([[0.0, 1.0], [-0.0, 1.0], [2.0, 1.0]])
    with pytest.warns(Duplicates, match="1 of 3"):
        assert unique_points(points).shape == (2, 2)


@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray, array_api_strict.asarray])
def test_merged_points_stay_in_their_library(asarray):
    points = np.arange(12.0).reshape(6, 2)[[0, 1, 2, 3, 4, 5, 0]] ** 1.5
    with pytest.warns(Duplicates):
        result = find_neighbours(asarray(points), 3)
    assert {type(block) for block in result} == {type(asarray(points))}
    np.testing.assert_array_equal(np.asarray(result.points), points[:6])
    np.testing.assert_allclose(np.asarray(result.distances), tree_distances(points[:6], 3))


def test_points_that_may_not_repeat_are_refused_if_they_do(rng):
    points = rng.normal(size=(6, 2))[[0, 1, 2, 3, 4, 5, 0]]
    for ask in (unique_points, lambda p, **o: find_neighbours(p, 2, **o)):
        with pytest.raises(ValueError, match=r"^1 of 7 points repeat others$"):
            ask(points, refuse=True)


def test_one_point_met_often_counts_among_its_neighbours_only_once(rng):
    """Merging before neighbours are sought, and not after: copies would have filled the list."""
    points = rng.normal(size=(30, 2))
    with pytest.warns(Duplicates, match="20 of 50"):
        result = find_neighbours(np.concatenate([points, np.repeat(points[:1], 20, axis=0)]), 5)
    np.testing.assert_allclose(result.distances, tree_distances(points, 5), rtol=1e-12)


@given(seed=SEEDS, k=st.integers(1, 8))
def test_neighbours_are_those_of_a_tree_and_index_says_whose(seed, k):
    points = np.random.default_rng(seed).normal(size=(40, 3))
    result = find_neighbours(points, k)
    np.testing.assert_allclose(result.distances, tree_distances(points, k), rtol=1e-12)
    apart = np.linalg.norm(points[result.index] - points[:, None, :], axis=2)
    np.testing.assert_allclose(apart, result.distances, rtol=1e-12)


def test_the_first_of_many_neighbours_are_the_few(rng):
    points = rng.normal(size=(40, 3))
    many = find_neighbours(points, 12)
    for block, few in zip(
        find_neighbours(points, 5, many), find_neighbours(points, 5), strict=True
    ):
        np.testing.assert_array_equal(block, few)


@pytest.mark.parametrize("k", [-1, 0, 7])
def test_neighbours_that_are_not_known_are_not_given(k, rng):
    known = find_neighbours(rng.normal(size=(40, 3)), 6)
    with pytest.raises(ValueError, match=rf"^6 neighbours are known, and {k} were requested$"):
        known.first(k)


@pytest.mark.parametrize("k", [-1, 0, 6, 99])
def test_neighbours_that_there_cannot_be_are_refused(k, rng):
    with pytest.raises(ValueError, match=str(k if k < 1 else k + 1)):
        find_neighbours(rng.normal(size=(6, 3)), k)


def test_as_many_neighbours_as_there_are_where_fewer_will_do(rng):
    points = rng.normal(size=(6, 3))
    assert find_neighbours(points, 99, allow_fewer=True).index.shape == (6, 5)
    assert find_neighbours(points, 3, allow_fewer=True).index.shape == (6, 3)
    assert find_neighbours(
        points, 99, find_neighbours(points, 4), allow_fewer=True
    ).index.shape == (6, 4)
    with pytest.warns(Duplicates):
        assert find_neighbours(points[[0, 0, 1, 2, 3]], 99, allow_fewer=True).index.shape == (4, 3)


def test_given_neighbours_are_believed(rng):
    """Nothing is sought or checked, so that clouds beyond any test can be handed in."""
    known = Neighbours(None, rng.uniform(size=(5, 3)), np.zeros((5, 3), int))
    assert find_neighbours(None, 2, known).distances.shape == (5, 2)


def test_points_are_left_as_they_were(rng):
    points = rng.normal(size=(50, 3))
    points[7] = points[3]
    before = points.copy()
    with pytest.warns(Duplicates):
        find_neighbours(points, 4)
    np.testing.assert_array_equal(points, before)


class Descent:
    """What pynndescent gives: for each point itself and others near it, most of them nearest."""

    def __init__(self, points, n_neighbors, random_state):
        assert random_state == 0
        index = KDTree(points).query(points, k=n_neighbors)[1]
        self.neighbor_graph = index[:, ::-1].astype(np.int32), None


def test_approximate_neighbours_are_measured_exactly(xp, rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Descent))
    points = rng.normal(size=(60, 4))
    exact, result = (
        find_neighbours(points, 5),
        find_neighbours(xp.asarray(points), 5, approximate=True),
    )
    np.testing.assert_array_equal(np.asarray(result.index), exact.index)
    np.testing.assert_allclose(np.asarray(result.distances), exact.distances, rtol=1e-12)


def test_approximate_neighbours_without_their_package_are_refused_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    with pytest.raises(ValueError, match="need pynndescent: pip install"):
        find_neighbours(np.eye(5), 2, approximate=True)


def test_a_lattice_is_told_by_its_ties(rng):
    """Of 100 points on a line, all have two at one distance but the ends, with the middle moved."""
    line = np.arange(100.0)[:, None]
    with pytest.warns(Ties, match=r"^98% of 100 points have their two nearest .* as on a lattice"):
        result = find_neighbours(line, 2)
    find_neighbours(line, 1)  # knows of no second
    find_neighbours(result.points, 2, result)  # said once
    find_neighbours(rng.normal(size=(100, 1)), 2)


def test_a_few_ties_are_but_rounding():
    """Here 4 of 50 points, 8%; a fifth would be told."""
    place = 2 * np.round(1000 * np.cumsum(1.1 ** np.arange(50.0)))
    place[3:15:3] = (place[2:14:3] + place[4:16:3]) / 2
    assert find_neighbours(place[:, None], 2).distances.shape == (50, 2)
    place[18:48:3] = (place[17:47:3] + place[19:49:3]) / 2
    with pytest.warns(Ties):
        find_neighbours(place[:, None], 2)


@pytest.mark.slow
def test_jax_without_double_precision_says_nothing_and_misses_nothing(rng):
    """Two far clusters, whose neighbours single precision cannot find by products."""
    points = (0.1 * rng.normal(size=(40, 3))).astype("f")
    points[::2, 0] += 1e5
    points = np.unique(points, axis=0)
    expected = tree_distances(points.astype(float), 3)
    with jax.enable_x64(False):
        result = find_neighbours(jnp.asarray(points), 3).distances
        slope = correlation(jnp.asarray(points), 2, 5)
    assert result.dtype == slope.dtype == np.float32
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e2 * np.finfo("f").eps)
    np.testing.assert_allclose(slope, correlation(points, 2, 5), rtol=1e-6)
