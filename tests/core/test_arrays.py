"""Nearest neighbours against a tree, wherever rounding could hide one."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from witnesses import tree_distances

from sgdnoise.core._arrays import as_numpy
from sgdnoise.dimension import _neighbours as arrays
from sgdnoise.dimension._neighbours import _search, nearest_distances, nearest_neighbours

PRECISION = pytest.mark.parametrize("dtype", ["float32", "float64"])
IN_LIBRARIES = pytest.mark.parametrize(
    ("asarray", "dtype"),
    [
        (np.asarray, "float32"),
        (np.asarray, "float64"),
        (torch.asarray, "float32"),
        (torch.asarray, "float64"),
        (jnp.asarray, "float64"),
    ],
)


def assert_index_agrees(points, distances, index):
    """Each distance is that to the point named, none named twice, none itself."""
    apart = np.linalg.norm(points[index] - points[:, None, :], axis=2)
    np.testing.assert_allclose(apart, distances, rtol=100 * np.finfo(points.dtype).eps)
    ordered = np.sort(np.concatenate([index, np.arange(len(points))[:, None]], axis=1), axis=1)
    assert np.all(np.diff(ordered, axis=1) > 0)


@pytest.mark.parametrize(("n", "width", "k"), [(700, 3, 4), (533, 3, 6), (513, 20, 1), (5, 2, 4)])
def test_nearest_distances_are_those_of_a_tree(rng, n, width, k):
    points = rng.normal(size=(n, width))
    for asarray in (np.asarray, torch.asarray):
        result = np.asarray(nearest_distances(asarray(points), k))
        np.testing.assert_allclose(result, tree_distances(points, k), rtol=1e-12)


@pytest.mark.usefixtures("quick_to_compile")
def test_they_are_in_every_library(xp, rng):
    points = rng.normal(size=(60, 4))
    distances, index = map(np.asarray, nearest_neighbours(xp.asarray(points), 4))
    np.testing.assert_allclose(distances, tree_distances(points, 4), rtol=1e-12)
    assert_index_agrees(points, distances, index)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 200), width=st.integers(1, 8))
def test_whose_the_distances_are_is_said_and_none_is_missed(seed, n, width):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, width))
    k = int(rng.integers(1, n))
    distances, index = nearest_neighbours(points, k)
    assert np.all(np.diff(distances, axis=1) >= 0)
    assert_index_agrees(points, distances, index)
    np.testing.assert_allclose(distances, tree_distances(points, k).reshape(n, k), rtol=1e-12)


@pytest.mark.parametrize("wide", [64, 100, 1 << 15])
@pytest.mark.parametrize("tile", [1, 7, 1000, 30_000])
def test_tiles_and_blocks_change_nothing(tile, wide, rng, monkeypatch):
    """From one row at a time to many, with columns in one to five blocks, the last one small."""
    points = rng.normal(size=(320, 3))
    distances, index = nearest_neighbours(points, 6)
    monkeypatch.setattr(arrays, "TILE", tile)
    monkeypatch.setattr(arrays, "WIDE", wide)
    monkeypatch.setattr(arrays, "BLOCK", tile // 20)
    again = nearest_neighbours(points, 6)
    np.testing.assert_allclose(again[0], distances, rtol=1e-14)
    np.testing.assert_array_equal(again[1], index)


def test_the_last_block_may_have_fewer_columns_than_candidates(rng, monkeypatch):
    points = rng.normal(size=(67, 3))
    monkeypatch.setattr(arrays, "WIDE", 64)
    result = nearest_distances(points, 40)
    np.testing.assert_allclose(result, tree_distances(points, 40), rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), far=st.floats(0, 1e6))
def test_far_from_the_origin_distances_are_the_same(seed, far):
    """A point at 1e6 is stored to 1e-10, hence the tolerance."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(60, 3))
    moved = nearest_distances(points + far * rng.normal(size=3), 4)
    np.testing.assert_allclose(moved, tree_distances(points, 4), rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("quick_to_compile")
@IN_LIBRARIES
def test_one_far_outlier_spoils_no_other_distance(asarray, rng, dtype):
    cloud = rng.normal(size=(59, 4)).astype(dtype)
    far = np.concatenate([cloud, np.full((1, 4), 1e8, dtype)])
    result = nearest_distances(asarray(far), 4)[:-1, :]
    expected = tree_distances(cloud, 4)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e3 * np.finfo(dtype).eps)


@PRECISION
@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray])
@pytest.mark.parametrize("apart", [1e3, 1e5, 1e8, 1e12])
def test_two_clusters_however_far_apart_have_the_neighbours_of_a_tree(apart, asarray, dtype, rng):
    """Seen from between them every product of single precision is noise: candidates are in doubt,
    and are sought again in double precision, and at 1e12 by all differences.
    """
    near = 0.1 * rng.normal(size=(400, 3))
    near[::2] += np.asarray([apart, 0, 0])
    points = near.astype(dtype)
    points = points[np.unique(points, axis=0, return_index=True)[1]]
    result = np.asarray(nearest_distances(asarray(points), 5))
    expected = tree_distances(points.astype(float), 5)
    np.testing.assert_allclose(result, expected, rtol=1e2 * np.finfo(dtype).eps)


def searches(points, k, monkeypatch):
    """In which precisions neighbours of how many points were sought."""
    asked, search = [], _search

    def watched(xp, points, centred, everyone, k, dtype, **options):
        asked.append((dtype, everyone.shape[0]))
        return search(xp, points, centred, everyone, k, dtype, **options)

    monkeypatch.setattr(arrays, "_search", watched)
    nearest_distances(points, k)
    return asked


def test_a_plain_cloud_is_searched_once_and_in_doubt_only_what_is_in_doubt_again(rng, monkeypatch):
    points = rng.normal(size=(500, 5))
    assert [n for _, n in searches(points, 5, monkeypatch)] == [500]
    points[:40] += 1e6
    (_, every), (kind, again) = searches(points, 5, monkeypatch)
    assert (every, again) == (500, 40)
    assert kind == np.float64


def test_what_double_precision_cannot_tell_is_told_by_differences(rng, monkeypatch):
    points = 1e-3 * rng.normal(size=(200, 3))
    points[:90, 0] += 1e10
    assert searches(points, 5, monkeypatch)[-1][0] is None


@IN_LIBRARIES
def test_points_that_coincide_are_at_distance_zero_exactly(asarray, rng, dtype):
    points = (1e3 + rng.normal(size=(30, 4))).astype(dtype)
    result = np.asarray(nearest_distances(asarray(np.concatenate([points, points])), 2))
    np.testing.assert_array_equal(result[:, 0], 0)
    assert np.all(result[:, 1] > 0)


def test_all_points_alike_are_at_distance_zero(rng):
    distances, index = nearest_neighbours(np.full((50, 3), rng.normal()), 4)
    assert np.all(distances == 0)
    assert np.all(index != np.arange(50)[:, None])


@pytest.mark.parametrize("size", [1e-140, 1e-30, 1e18, 1e20, 1e140])
def test_no_square_overflows_or_vanishes(size, rng):
    points = rng.normal(size=(200, 3))
    result = nearest_distances(size * points, 4) / size
    np.testing.assert_allclose(result, tree_distances(points, 4), rtol=1e-12)


def test_distances_on_a_lattice_are_equal_exactly_at_any_size():
    """The unit of length is a power of two, which rounds nothing."""
    axis = np.arange(6.0)
    lattice = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    for size in (1.0, 3.0 * 2**40, 3.0 * 2**-40):
        np.testing.assert_array_equal(nearest_distances(size * lattice, 2), size)


def test_a_nan_anywhere_makes_every_distance_nan(xp, rng):
    points = rng.normal(size=(60, 4))
    points[4, 1] = np.nan
    assert np.all(np.isnan(np.asarray(nearest_distances(xp.asarray(points), 4))))


@pytest.mark.parametrize(("k", "said"), [(0, "0"), (-2, "-2"), (3, "4.*not 3"), (7, "8.*not 3")])
def test_what_cannot_be_asked_raises_with_its_number(xp, k, said):
    with pytest.raises(ValueError, match=rf"{said}"):
        nearest_distances(xp.zeros((3, 2)), k)


def test_jax_compiles_it_to_the_same(rng):
    points = rng.normal(size=(60, 4))
    distances, index = jax.jit(nearest_neighbours, static_argnums=1)(points, 4)
    np.testing.assert_allclose(distances, tree_distances(points, 4), rtol=1e-12)
    assert_index_agrees(points, np.asarray(distances), np.asarray(index))


def peak(points, k):
    """Bytes held at most while neighbours are sought."""
    tracemalloc.start()
    nearest_neighbours(points, k)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held


def test_memory_is_a_few_tiles_however_many_points(rng, monkeypatch):
    """With tiles of 2^18: eight of them in double precision, and a dozen copies of the points or of
    the neighbours; all distances between 6000 points would take 16 times as much, and all
    coordinates of the candidates of a tile twice as much where there are 400.
    """
    monkeypatch.setattr(arrays, "TILE", 1 << 18)
    tiles, points = 8 * 8 * (1 << 18), rng.normal(size=(6000, 50))
    for n in (3000, 6000):
        assert peak(points[:n], 10) < tiles + 12 * 8 * n * 50
    assert tiles + 12 * 8 * 6000 * 50 < 8 * 6000**2 / 6
    assert peak(rng.normal(size=(1000, 400)), 50) < tiles + 12 * 8 * 1000 * 400


def test_gradients_are_left_behind_on_the_way_to_numpy():
    values = torch.arange(3.0, requires_grad=True)
    np.testing.assert_array_equal(as_numpy(values), [0, 1, 2])
