"""Distances along a graph: its paths, the law of great circles, clouds of known dimension."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import betaincinv
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.dimension import _geodesic as rooms
from sgdnoise.dimension import find_neighbours, geodesic
from sgdnoise.dimension._geodesic import _graph, _path_lengths, sine_exponent


def sphere(n, d, rng):
    points = rng.normal(size=(n, d + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def arcs(d, n):
    """Quantiles of the angle between points of the d-sphere: (1 - cos) / 2 is Beta(d/2, d/2)."""
    return np.arccos(1 - 2 * betaincinv(d / 2, d / 2, (np.arange(n) + 0.5) / n))


@pytest.mark.parametrize("d", [2, 3, 5, 10, 20])
def test_great_circles_have_the_dimension_of_their_sphere(d):
    """A parabola is not a sine: 3% is allowed."""
    np.testing.assert_allclose(sine_exponent(arcs(d, 10**5), 0.0), d, rtol=0.03)


def test_the_scale_of_the_paths_changes_nothing():
    paths = arcs(4, 5000)
    np.testing.assert_allclose(
        sine_exponent(7.3 * paths, 0.0), sine_exponent(paths, 0.0), rtol=1e-9
    )


def test_paths_are_the_shortest_through_neighbours(rng):
    """Floyd and Warshall's, by its three loops."""
    points, k = rng.normal(size=(25, 2)), 4
    between = cdist(points, points)
    joined = between <= np.sort(between, axis=1)[:, k : k + 1]
    length = np.where(joined | joined.T, between, np.inf)
    for j in range(25):
        length = np.minimum(length, length[:, j : j + 1] + length[j : j + 1, :])
    near = find_neighbours(points, k)
    paths = _path_lengths(_graph(near.distances, near.index))
    np.testing.assert_allclose(np.sort(paths), np.sort(length[length > 0]), rtol=1e-12)


@pytest.mark.parametrize(("d", "bias"), [(2, 0.05), (5, 0.3)])
def test_a_sphere_has_its_dimension(d, bias, rng):
    """A path zigzags, the less the more points there are: at 600, d is up to `bias` too large."""
    result = mean(np.asarray([geodesic(sphere(600, d, rng)) for _ in range(5)]))
    assert -SURE * result.stderr < result.value - d < SURE * result.stderr + bias * d


def test_a_roll_is_a_surface(rng):
    """It has edges: 15% too small is allowed."""
    turn, across = 1.5 * np.pi * (1 + 2 * rng.uniform(size=1000)), 21 * rng.uniform(size=1000)
    points = np.stack([turn * np.cos(turn), across, turn * np.sin(turn)], axis=1)
    assert 1.7 < geodesic(points, 8) < 2.1


def test_paths_from_some_points_are_as_good(rng, monkeypatch):
    points = sphere(600, 2, rng)
    total = geodesic(points)
    monkeypatch.setattr(rooms, "MAX_PATHS", 600 * 100)
    assert abs(geodesic(points) - total) < 0.1


def test_points_left_behind_are_named(rng):
    points = np.concatenate([sphere(300, 2, rng), 100 + sphere(15, 2, rng)])
    with pytest.warns(UserWarning, match="15 points are not connected"):
        result = geodesic(points, 8)
    np.testing.assert_allclose(result, geodesic(points[:300], 8), rtol=1e-12)


def test_a_graph_in_equal_parts_has_no_dimension(rng):
    points = np.concatenate([sphere(30, 2, rng), 100 + sphere(30, 2, rng)])
    with pytest.raises(
        ValueError, match="8 neighbours has 2 components, none with half of the points; take more"
    ):
        geodesic(points, 8)


def test_paths_without_a_peak_have_no_dimension(rng):
    with pytest.raises(ValueError, match="most frequent"):
        sine_exponent(np.exp(3 * rng.uniform(size=1000)), 0.0)
    with pytest.raises(ValueError, match=r"between a step and the longest, .* another estimator"):
        sine_exponent(arcs(5, 1000), 2.0)
    with pytest.raises(ValueError, match=r"bins lie below .*; take more bins, more points"):
        sine_exponent(arcs(2, 1000), 1.45)
    with pytest.raises(ValueError, match=r"only 2 bins lie about .*; take more bins"):
        sine_exponent(arcs(5, 1000), 0.0, bins=8)
