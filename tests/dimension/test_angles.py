"""Angles of neighbourhoods: sums over pairs, laws of random directions, known clouds."""

from itertools import combinations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial import KDTree
from witnesses import SURE, torus

from sgdnoise.core import mean
from sgdnoise.dimension import _angles as angles
from sgdnoise.dimension import abid, ess, find_neighbours
from sgdnoise.dimension._angles import _dimension_of, _mean_sine, _squared_cosine, gram_matrices


def neighbourhoods(points, k):
    return points[KDTree(points).query(points, k=k + 1)[1][:, 1:]]


def mean_sine(d):
    """E|sin| between random directions of R^d: the angle has density sin^(d-2)."""
    return (
        quad(lambda t: np.sin(t) ** (d - 1), 0, np.pi)[0]
        / quad(lambda t: np.sin(t) ** (d - 2), 0, np.pi)[0]
    )


def area(x, y):
    return np.sqrt(np.linalg.det(np.asarray([[x @ x, x @ y], [x @ y, y @ y]])))


def test_simplex_skewness_is_its_sum_over_pairs(rng):
    points, skewness = rng.normal(size=(40, 3)), []
    for near in neighbourhoods(points, 6):
        pairs = list(combinations(near - near.mean(0), 2))
        lengths = sum(np.linalg.norm(x) * np.linalg.norm(y) for x, y in pairs)
        skewness.append(sum(area(x, y) for x, y in pairs) / lengths)
    np.testing.assert_allclose(mean_sine(ess(points, 6)), np.mean(skewness), rtol=1e-9)


def test_abid_is_its_mean_over_pairs(rng):
    points, squares = rng.normal(size=(40, 3)), []
    for point, near in zip(points, neighbourhoods(points, 6), strict=True):
        for x, y in combinations(near - point, 2):
            squares.append((x @ y) ** 2 / (x @ x) / (y @ y))
    np.testing.assert_allclose(abid(points, 6), 1 / np.mean(squares), rtol=1e-12)


@pytest.mark.parametrize("d", [2, 3, 7, 30])
def test_random_directions_have_the_mean_sine_and_cosine_assumed(d, rng):
    x, y = rng.normal(size=(2, 20000, d))
    cosine = np.sum(x * y, 1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert abs(mean(np.sqrt(1 - cosine**2)).z(_mean_sine(d))) < SURE
    assert abs(mean(cosine**2).z(1 / d)) < SURE


@pytest.mark.parametrize(("d", "sine"), [(2, 2 / np.pi), (3, np.pi / 4), (4, 8 / np.pi / 3)])
def test_the_mean_sine_is_known_in_few_dimensions(d, sine):
    np.testing.assert_allclose(_mean_sine(d), sine, rtol=1e-14)
    np.testing.assert_allclose(_dimension_of(sine), d, rtol=1e-12)


@pytest.mark.parametrize("estimator", [ess, abid])
def test_points_on_a_line_have_one_dimension(estimator, rng):
    """A sine is known to the square root of the rounding, where it vanishes."""
    points = rng.normal(size=(50, 1)) * np.asarray([[1.0, 2.0, -1.0]])
    np.testing.assert_allclose(estimator(points), 1, rtol=1e-6)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("estimator", [ess, abid])
def test_a_torus_has_its_dimension(estimator, d, rng):
    """With 8 of 800 neighbours on circles of unit radius, angles bend by some k / n at d = 1 and
    sqrt(k / n) at d = 2: they raise the dimension by their square, up to factors; 4% is allowed.
    """
    repeats = mean(np.asarray([estimator(torus(d, 800, rng), 8) for _ in range(20)]))
    assert abs(repeats.value - d) < SURE * repeats.stderr + 0.04 * d


@pytest.mark.parametrize("d", [2, 10])
def test_the_inverse_of_abid_has_no_bias_where_directions_are_uniform(d, rng):
    """One neighbourhood, k as large as d or smaller: others than the first are not used."""
    inverse = []
    for _ in range(400):
        points = np.concatenate([np.zeros((1, d)), rng.normal(size=(6, d))])
        gram = next(gram_matrices(find_neighbours(points, 6)))
        inverse.append(_squared_cosine(gram)[0])
    assert abs(mean(np.asarray(inverse)).z(1 / d)) < SURE


@pytest.mark.parametrize("estimator", [ess, abid])
def test_blocks_of_neighbourhoods_change_nothing(estimator, rng, monkeypatch):
    """Five neighbourhoods are handed out at a time, found two by two, and three are left over."""
    points = rng.normal(size=(48, 12))
    total = estimator(points, 5)
    monkeypatch.setattr(angles, "BLOCK", 140)
    np.testing.assert_allclose(estimator(points, 5), total, rtol=1e-13)


@pytest.mark.parametrize(("estimator", "k"), [(ess, 2), (abid, 1)])
def test_too_few_neighbours_for_angles_are_refused(estimator, k, rng):
    with pytest.raises(ValueError, match=f"or more neighbours, not {k}"):
        estimator(rng.normal(size=(10, 3)), k)


def test_simplex_skewness_is_that_of_scikit_dimension(rng):
    """Which takes d between integers from a straight line: 3% off at most, between 2 and 3."""
    peer = pytest.importorskip("skdim").id.ESS()
    points = rng.normal(size=(120, 5)) @ rng.normal(size=(5, 7))
    peer.fit(points, n_neighbors=20)
    grams = gram_matrices(find_neighbours(points, 20), about_mean=True)
    skewness = np.concatenate([angles.skewness(gram) for gram in grams])
    np.testing.assert_allclose(skewness, peer.essval_, rtol=1e-12)
    result = [_dimension_of(s) for s in skewness]
    np.testing.assert_allclose(result, peer.dimension_pw_, rtol=0.03)
