"""Local intrinsic dimension by formulas of distances, and neighbours in other metrics."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from witnesses import LIBRARIES, SURE, torus, tree_distances

from sgdnoise.core import mean
from sgdnoise.dimension import (
    ESTIMATORS,
    MANIFOLD,
    Duplicates,
    find_neighbours,
    levina_bickel,
    local_levina_bickel,
    local_mada,
    local_mom,
    local_tle,
    metric_neighbours,
    mom,
    pointwise,
    twonn,
)
from sgdnoise.dimension._metric import OF_DISTANCES

FORMULAS = {
    "levina_bickel": (local_levina_bickel, lambda r: 1 / np.mean(np.log(r[-1] / r[:-1]))),
    "mom": (local_mom, lambda r: np.mean(r[:-1] / r[-1]) / (1 - np.mean(r[:-1] / r[-1]))),
    "mada": (local_mada, lambda r: math.log(2) / math.log(r[-1] / r[(len(r) - 1) // 2])),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_local_dimension_is_the_formula_of_its_distances(name, rng):
    function, formula = FORMULAS[name]
    points = torus(2, 200, rng)
    expected = [formula(row) for row in tree_distances(points, 15)]
    near = find_neighbours(points, 20)
    assert_allclose(function(points, 15), expected, rtol=1e-9)
    assert_allclose(function(near, 15), expected, rtol=1e-9)
    assert_allclose(function(near.distances[:, :15]), expected, rtol=1e-9)


@pytest.mark.parametrize("library", LIBRARIES)
def test_all_libraries_give_the_same_local_dimensions(library, rng):
    points = torus(2, 100, rng)
    for function in (local_levina_bickel, local_mom, local_mada, local_tle):
        result = function(LIBRARIES[library](points.astype(np.float32)), 10)
        assert type(result).__module__.split(".")[0] in (library, "jaxlib")
        assert_allclose(np.asarray(result), function(points, 10), rtol=2e-3)


def test_inverse_local_dimensions_average_to_the_global_one(rng):
    points = torus(3, 300, rng)
    assert_allclose(1 / np.mean(1 / local_levina_bickel(points, 10)), levina_bickel(points, 10))
    gaps = 1 / (local_mom(points, 20) + 1)
    assert_allclose(1 / np.mean(gaps) - 1, mom(points, 20))


@pytest.mark.parametrize("d", [1.0, 4.0])
@pytest.mark.parametrize("k", [3, 10])
def test_the_unbiased_likelihood_has_the_mean_d(d, k, rng):
    """Radii of k uniform points in a d-ball, whose farthest defines it."""
    radii = np.sort(rng.uniform(size=(100_000, k)) ** (1 / d), axis=1)
    if k > 3:  # with 3 the variance is infinite
        assert abs(mean(local_levina_bickel(radii, unbiased=True)).z(d)) < SURE
        assert mean(local_levina_bickel(radii)).z(d * (k - 1) / (k - 2)) < SURE
    assert abs(mean(1 / local_levina_bickel(radii)).z(1 / d)) < SURE


def test_pointwise_is_another_number_and_says_so(rng):
    """A neighbourhood has an edge, and its points have their own neighbours within it."""
    points = torus(2, 400, rng)
    neighbourhoods = pointwise(levina_bickel, points, 50)
    assert np.mean(neighbourhoods) < np.mean(local_levina_bickel(points, 50))
    assert "local_levina_bickel" in (pointwise.__doc__ or "")


WRONG_DATA = {
    "points without k": (lambda p: local_mom(p), "for points give k"),
    "one neighbour": (lambda p: local_mada(p, 1), "needs 2 or more neighbours, not 1"),
    "two of three": (lambda p: local_levina_bickel(p, 2, unbiased=True), "needs 3 or more"),
    "falling distances": (lambda p: local_mom(np.asarray([[2.0, 1.0]])), "ascend"),
    "a line": (lambda p: local_mom(p[:, 0]), r"shape \(n, k\)"),
    "tle of distances": (lambda p: local_tle(np.asarray([[1.0, 2.0]])), "or points with"),
    "too many": (lambda p: local_mom(p, 40), "41"),
}


@pytest.mark.parametrize("name", WRONG_DATA)
def test_wrong_data_are_refused(name, rng):
    call, sentence = WRONG_DATA[name]
    with pytest.raises(ValueError, match=sentence):
        call(rng.normal(size=(40, 3)))


@pytest.mark.parametrize("name", ["manhattan", "chebyshev", "canberra"])
def test_neighbours_of_a_metric_are_those_of_all_pairs(name, rng):
    points = rng.normal(size=(60, 4))
    scipys = {"manhattan": "cityblock"}.get(name, name)
    expected = np.sort(cdist(points, points, scipys), axis=1)[:, 1:8]
    near = metric_neighbours(points, 7, name)
    assert_allclose(near.distances, expected, rtol=1e-12)
    given = metric_neighbours(cdist(points, points, scipys), 7, "precomputed")
    assert_allclose(given.distances, expected, rtol=1e-12)
    assert (np.take(cdist(points, points, scipys), near.index[0]) == near.distances[0]).all()


def test_precomputed_euclidean_distances_change_no_value(rng):
    points = torus(2, 300, rng)
    near = metric_neighbours(cdist(points, points), 100, "precomputed")
    for name in OF_DISTANCES:
        expected = ESTIMATORS[name](points, neighbours=find_neighbours(points, 100))
        assert_allclose(ESTIMATORS[name](near.points, neighbours=near), expected, rtol=1e-9)


def test_an_estimator_from_coordinates_has_no_value_in_a_metric_it_does_not_know(rng):
    near = metric_neighbours(rng.normal(size=(100, 3)), 60, "manhattan")
    for name in MANIFOLD.keys() - {*OF_DISTANCES}:
        with pytest.raises(ValueError, match=r"needs coordinates.*take one of twonn"):
            MANIFOLD[name](near.points, neighbours=near)
    with pytest.raises(ValueError, match="needs coordinates"):
        local_tle(near)


def test_cosine_is_a_distance_that_grows_as_the_angle(rng):
    """1 - cos goes as its square, so that every dimension from it is half."""
    points = rng.normal(size=(2000, 5)) * rng.gamma(1, 1, size=(2000, 1))
    near = metric_neighbours(points, 10, "cosine")
    d = levina_bickel(near.points, neighbours=near)
    assert abs(d - 4) < 0.3
    angle = np.arccos(np.clip(1 - cdist(points, points, "cosine"), -1, 1))
    np.fill_diagonal(angle, 0)
    chord = np.sort(2 * np.sin(angle / 2), axis=1)[:, 1:11]
    assert_allclose(near.distances, chord, rtol=1e-6)
    half = metric_neighbours(cdist(points, points, "cosine"), 10, "precomputed")
    assert_allclose(levina_bickel(half.points, neighbours=half), d / 2, rtol=1e-6)


def test_correlation_is_the_cosine_of_rows_less_their_means(rng):
    points = rng.normal(size=(50, 6))
    near = metric_neighbours(points, 5, "correlation")
    expected = np.sort(np.sqrt(2 * cdist(points, points, "correlation")), axis=1)[:, 1:6]
    assert_allclose(near.distances, expected, rtol=1e-6)


def test_points_at_distance_zero_are_merged_in_any_metric(rng):
    points = rng.normal(size=(200, 3))
    expected = twonn(points)
    for copies in (points[:5], points[[0, 0, 0, 7]]):
        doubled = np.concatenate([points, copies])
        with pytest.warns(Duplicates, match=f"{len(copies)} of {len(doubled)}"):
            near = metric_neighbours(cdist(doubled, doubled), 2, "precomputed")
        assert_allclose(twonn(near.points, neighbours=near), expected, rtol=1e-9)


WRONG_METRIC = {
    "squared": (lambda p: metric_neighbours(p, 2, "sqeuclidean"), "halve every dimension"),
    "unknown": (lambda p: metric_neighbours(p, 2, "fractal"), "no metric 'fractal'"),
    "not square": (lambda p: metric_neighbours(p, 2, "precomputed"), r"not of shape \(20, 3\)"),
    "negative": (lambda p: metric_neighbours(-np.eye(5), 2, "precomputed"), "row 0"),
    "no zero": (lambda p: metric_neighbours(np.ones((5, 5)), 2, "precomputed"), "from itself"),
    "asymmetric": (lambda p: metric_neighbours(np.triu(cdist(p, p)), 2, "precomputed"), "symm"),
    "no direction": (
        lambda p: metric_neighbours(p * (np.arange(20) > 0)[:, None], 2),
        "is zero and has",
    ),
    "constant": (lambda p: metric_neighbours(0 * p + p[:, :1], 2, "correlation"), "is constant"),
    "too few": (lambda p: metric_neighbours(cdist(p, p), 20, "precomputed"), "21 distinct"),
}


@pytest.mark.parametrize("name", WRONG_METRIC)
def test_a_wrong_metric_or_matrix_is_refused(name, rng):
    call, sentence = WRONG_METRIC[name]
    with pytest.raises(ValueError, match=sentence):
        call(rng.uniform(1, 2, size=(20, 3)))
