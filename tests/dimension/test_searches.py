"""How many neighbour searches an answer takes, and that what is shared is exact."""

import sys

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from sgdnoise.core import with_group_error
from sgdnoise.core._groups import Group, partition
from sgdnoise.dimension import _neighbours as module
from sgdnoise.dimension import estimate, find_neighbours, learned, levina_bickel, twonn
from sgdnoise.dimension._angles import gram_matrices
from sgdnoise.dimension._bounds import rank_of
from sgdnoise.dimension._neighbours import nearest_neighbours
from sgdnoise.dimension._products import products_of
from sgdnoise.dimension._shared import arrays_of_group, n_shared, share
from sgdnoise.dimension._subsets import neighbours_in_sets
from sgdnoise.lab import _dimension_command as command


@pytest.fixture
def searches(monkeypatch):
    """The numbers of points of all searches, wherever they are called from."""
    search, rows = module.nearest_neighbours, []

    def counted(points, k, **options):
        some = options.get("rows")
        rows.append(points.shape[0] if some is None else some.shape[0])
        return search(points, k, **options)

    for name, other in list(sys.modules.items()):
        if name.startswith("sgdnoise.") and getattr(other, "nearest_neighbours", None) is search:
            monkeypatch.setattr(other, "nearest_neighbours", counted)
    return rows


@pytest.mark.parametrize("estimator", [twonn, levina_bickel])
def test_an_error_takes_two_searches(estimator, searches, rng):
    """One of all points, one of the few that lack members of a group."""
    with_group_error(estimator, rng.normal(size=(2000, 4)))
    assert searches[0] == 2000
    assert len(searches) <= 2
    assert sum(searches[1:]) < 0.05 * 2000


@pytest.mark.parametrize("n", [700, 2000])
def test_an_estimate_takes_three_searches(n, searches, rng):
    """One of all points, one of those that lack members, and one of thinned points."""
    estimate(rng.normal(size=(n, 4)))
    assert len(searches) <= 3
    assert sum(searches) < 1.5 * n


def test_the_command_takes_six_searches(searches, rng, tmp_path, capsys):
    file = tmp_path / "points.npy"
    np.save(file, rng.normal(size=(1200, 4)))
    command.dimension(file, out=tmp_path / "out")
    assert "take estimate" in capsys.readouterr().out
    assert (tmp_path / "out" / "points.png").exists()
    assert len(searches) <= 6
    assert sum(searches) < 4 * 1200


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sets_are_searched_apart_in_one_search(kind, window, rng):
    points = rng.normal(size=(400, 6)) + 1e5 * (np.arange(400)[:, None] % 3 == 0)
    points = points.astype(kind)
    distances, index = nearest_neighbours(points, 5, size=100, window=window)
    for start in range(0, 400, 100):
        alone = nearest_neighbours(points[start : start + 100], 5, window=window)
        np.testing.assert_array_equal(distances[start : start + 100], alone[0])
        np.testing.assert_array_equal(index[start : start + 100] - start, alone[1])


@pytest.mark.parametrize("groups", [4, 16])
def test_neighbours_in_subsets_are_those_of_a_search_in_each(groups, rng):
    """From those of all points for 4 groups, and from another search for 16."""
    points = rng.normal(size=(800, 3))
    shared = {}
    near = find_neighbours(points, n_shared(10, 4))
    share(Group(points, points, None, 1, 4, shared), near, 0)
    sets = rng.permutation(800).reshape(groups, -1)[:3]
    for rows, found in zip(sets, neighbours_in_sets(points, sets, groups, 7, shared), strict=True):
        expected = np.sort(cdist(points[rows], points[rows]), axis=1)[:, 1:8]
        np.testing.assert_allclose(found.distances, expected, rtol=1e-12)
        to = points[rows][found.index] - points[rows][:, None]
        np.testing.assert_allclose(np.linalg.norm(to, axis=2), expected, rtol=1e-12)


def test_rows_that_lack_members_are_exact(rng):
    """With few shared neighbours, most rows need more, and some a search of their own."""
    points = rng.normal(size=(300, 3))
    for width, partitions in ((12, {5: (1, 1)}), (20, {5: (1, 1)}), (12, {})):
        shared = {}
        share(Group(points, points, None, 1, 5, shared), find_neighbours(points, width), 0)
        shared["partitions"] = partitions
        for rows in partition(300, 5, 0):
            part = points[rows]
            group = Group(part, points, rows, 5, 5, shared)
            distances, index = arrays_of_group(group, part, 3)
            expected = np.sort(cdist(part, part), axis=1)[:, 1:4]
            np.testing.assert_allclose(distances, expected, rtol=1e-12)
            to = np.linalg.norm(part[index] - part[:, None], axis=2)
            np.testing.assert_allclose(to, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_products_of_neighbourhoods_come_from_those_of_all_points(kind, rng):
    points = (rng.normal(size=(200, 5)) @ rng.normal(size=(5, 80)) + 30).astype(kind)
    near = find_neighbours(points, 12)
    expected = np.concatenate(list(gram_matrices(near, about_mean=True)))
    near.products = products_of(points)
    result = np.concatenate(list(gram_matrices(near, about_mean=True)))
    assert result.dtype == kind
    assert near.products.table
    rounding = 1e-9 if kind == np.float64 else 1e-4
    np.testing.assert_allclose(result, expected, atol=rounding * np.abs(expected).max())


def test_products_of_distant_clusters_are_of_differences(rng):
    """Rounding of |x|^2 would hide distances within a cluster."""
    points = rng.normal(size=(200, 80)) + 1e7 * (np.arange(200) % 2)[:, None]
    near = find_neighbours(points, 12)
    expected = np.concatenate(list(gram_matrices(near, about_mean=True)))
    near.products = products_of(points)
    assert near.products.of(near.index) is None
    result = np.concatenate(list(gram_matrices(near, about_mean=True)))
    np.testing.assert_array_equal(result, expected)


def test_products_are_not_kept_where_differences_are_fast_or_memory_is_short(rng):
    assert products_of(rng.normal(size=(200, 20))) is None
    assert products_of(np.zeros((6000, 64), np.float32)) is None


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_rank_is_that_of_all_points(kind, rng):
    flat = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 40)) + 7
    one_more = flat.copy()
    one_more[17] += rng.normal(size=40)
    noise = flat + 1e-2 * rng.normal(size=flat.shape)
    for points, rank in ((flat, 6), (one_more, 7), (noise, 40)):
        assert rank_of(points.astype(kind), 6.5) == rank


def test_the_error_is_that_of_the_values_of_groups_alone(rng):
    """In 80 coordinates, where groups share scalar products too."""
    points = rng.normal(size=(400, 60)) @ rng.normal(size=(60, 80))  # no value is above the rank
    result = with_group_error(learned, points, groups=2, splits=2)
    values = [[learned(points[rows]) for rows in partition(400, 2, s)] for s in range(2)]
    expected = np.mean(np.var(np.log(values), axis=1, ddof=1)) / 2
    assert result.value == pytest.approx(learned(points), rel=1e-9)
    assert result.stderr == pytest.approx(result.value * expected**0.5, rel=1e-7)
