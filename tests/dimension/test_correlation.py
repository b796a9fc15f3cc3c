"""Pairs of points by their distance: counts, the law of uniform directions, known clouds."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import pdist
from scipy.special import gamma, hyp2f1
from witnesses import SURE, torus, tree_distances

from sgdnoise.core import mean
from sgdnoise.dimension import _correlation as rooms
from sgdnoise.dimension import correlation, full_correlation_integral
from sgdnoise.dimension._correlation import _count, _misfit


def sphere(n, d, rng):
    points = rng.normal(size=(n, d + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def rho(r, d):
    """The full correlation integral of directions of R^d, as Erba et al. (2019) write it."""
    x, p = r**2 - 2, d - 1  # of a p-sphere
    ratio = gamma((1 + p) / 2) / gamma(p / 2) / np.sqrt(np.pi)
    return (1 + ratio * x * hyp2f1(0.5, 1 - p / 2, 1.5, x**2 / 4)) / 2


def test_correlation_dimension_is_the_slope_between_its_two_counts(rng):
    """An odd number of points: a median is a distance, and the pair that has it counts."""
    points = rng.normal(size=(41, 3))
    radii = np.median(tree_distances(points, 9)[:, [3, 8]], axis=0)
    inner, outer = (
        sum(np.linalg.norm(x - y) < r + 1e-12 for x, y in combinations(points, 2)) for r in radii
    )
    expected = np.log(outer / inner) / np.log(radii[1] / radii[0])
    np.testing.assert_allclose(
        correlation(points, inner_rank=4, outer_rank=9), expected, rtol=1e-12
    )


@pytest.mark.parametrize("apart", [0.0, 1e3, 1e6, 1e9])
def test_pairs_are_counted_exactly_however_far_apart_the_clusters(apart, rng, monkeypatch):
    """Their spread is 1: float32 products are lost beyond 1e3, and float64 ones beyond 1e7."""
    monkeypatch.setattr(rooms, "SIDE", 16)
    monkeypatch.setattr(rooms, "TILE", 64)
    points = rng.normal(size=(50, 3))
    points[::2] += apart
    squares = [0.5, 2.0]
    expected = [2 * np.count_nonzero(pdist(points) ** 2 <= square) for square in squares]
    assert list(_count(points, squares)) == expected


@pytest.mark.parametrize("d", [1, 2])
def test_a_torus_has_its_correlation_dimension(d, rng):
    """Chords of circles are shorter than arcs, by some (k / n)^(2/d) of them: 1% is allowed."""
    repeats = mean(np.asarray([correlation(torus(d, 600, rng), 5, 10) for _ in range(20)]))
    assert abs(repeats.value - d) < SURE * repeats.stderr + 0.01 * d


@pytest.mark.filterwarnings("ignore::sgdnoise.dimension._points.Ties")
def test_radii_that_make_no_slope_are_refused(rng):
    with pytest.raises(ValueError, match=r"not \(5, 5\)"):
        correlation(rng.normal(size=(30, 3)), inner_rank=5, outer_rank=5)
    with pytest.raises(ValueError, match="at the same distance"):
        correlation(np.eye(30), inner_rank=5, outer_rank=10)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_the_beta_law_is_the_full_correlation_integral(d):
    """The misfit with the law in the authors' own form, at the true d and at another."""
    edges = np.linspace(1, -1, 1001)
    below = rho(np.sqrt(2 - 2 * edges), d)
    assert _misfit(np.log(d - 1), edges, below) < 1e-20
    assert _misfit(np.log(d - 0.9), edges, below) > 1e-6


@pytest.mark.parametrize("d", [2, 3, 8])
def test_uniform_directions_have_the_full_correlation_integral(d, rng):
    x, y = (sphere(20000, d - 1, rng) for _ in range(2))
    distance = np.linalg.norm(x - y, axis=1)
    for r in (0.5, 1.0, 1.6):
        assert abs(mean(1.0 * (distance <= r)).z(rho(r, d))) < SURE


def test_the_full_correlation_integral_is_fitted_over_all_distances(rng):
    """By hand on a fine grid of r, with every pair; bins of 1 / 2048 in the cosine move it."""
    points = rng.normal(size=(40, 4)) * [2.0, 1.0, 1.0, 0.5]
    centred = points - points.mean(0)
    distances = np.sort(pdist(centred / np.linalg.norm(centred, axis=1, keepdims=True)))
    r = np.linspace(0, 2, 20001)[1:-1]
    block = np.searchsorted(distances, r) / distances.size
    expected = minimize_scalar(lambda d: np.sum((block - rho(r, d)) ** 2), bounds=(2, 6)).x
    np.testing.assert_allclose(full_correlation_integral(points), expected, rtol=1e-3)


@pytest.mark.parametrize("d", [2, 5, 20])
def test_a_gaussian_and_a_whole_sphere_have_the_dimension_of_their_space(d, rng):
    """Directions from a mean of n points are uniform but for 1 / n of the pairs' law."""
    for law in (lambda: rng.normal(size=(200, d)), lambda: sphere(200, d - 1, rng)):
        result = mean(np.asarray([full_correlation_integral(law()) for _ in range(8)]))
        assert abs(result.value - d) < SURE * result.stderr + d / 200


def test_tiles_change_no_count(rng, monkeypatch):
    points = rng.normal(size=(70, 3))
    total = correlation(points), full_correlation_integral(points)
    monkeypatch.setattr(rooms, "SIDE", 16)
    np.testing.assert_allclose(
        (correlation(points), full_correlation_integral(points)), total, rtol=1e-12
    )


def test_a_point_at_the_mean_has_no_direction(rng):
    points = rng.normal(size=(50, 3))
    both = np.concatenate([points, -points])
    with_middle = np.concatenate([both, np.zeros((1, 3))])
    expected = full_correlation_integral(both)
    np.testing.assert_allclose(full_correlation_integral(with_middle), expected, rtol=1e-9)


@pytest.mark.parametrize("d", [2, 6])
def test_correlation_dimension_is_that_of_scikit_dimension(d, rng):
    """For even n: there no distance is the median, unless two points share it."""
    peer = pytest.importorskip("skdim").id.CorrInt()
    points = rng.normal(size=(200, d))
    np.testing.assert_allclose(correlation(points), peer.fit(points).dimension_, rtol=1e-9)
