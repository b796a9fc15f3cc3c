"""The recommended dimension: its portrait, its two regressions, and clouds it has not seen."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from witnesses import SURE, torus, tree_distances

from sgdnoise.data.manifolds import ball, noisy, sphere
from sgdnoise.dimension import estimate, learned, nearest
from sgdnoise.dimension.portrait import PATCHES, RANKS, SPREADS, Balls, coordinates, portrait
from sgdnoise.dimension.recommended import TREES, fitted, matern, reference, told
from sgdnoise.estimate import mean
from simulations import reference as making


def test_a_portrait_is_its_formulas_one_point_at_a_time(rng):
    points = rng.normal(size=(60, 3))
    r = np.log(tree_distances(points, 40))
    ratios = [np.log(np.mean([row[k - 1] - row[: k - 1].mean() for row in r])) for k in RANKS]
    index = nearest(points, 40).index
    patches = []
    for k in PATCHES:
        skew, ratio = [], []
        for near in index[:, :k]:
            x = points[near] - points[near].mean(0)
            pairs = [(i, j) for i in range(k) for j in range(k) if i != j]
            areas = [np.linalg.norm(np.cross(x[i], x[j])) for i, j in pairs]
            sides = [np.linalg.norm(x[i]) * np.linalg.norm(x[j]) for i, j in pairs]
            h = np.linalg.eigvalsh(x.T @ x)
            skew.append(np.sum(areas) / np.sum(sides))
            ratio.append(h.sum() ** 2 / (h**2).sum())
        patches += [np.mean(skew), np.log(np.mean(ratio))]
    spreads = [np.log(np.std(r[:, k - 1])) for k in SPREADS]
    np.testing.assert_allclose(portrait(points), [*ratios, *patches, *spreads], rtol=1e-9)


def test_a_ball_has_its_own_dimension_at_every_scale():
    balls, _ = reference()
    for size in (0, 4):
        for d in (1, 9, 18):
            place = coordinates(balls, balls.portraits[size, d], int(balls.sizes[size]))
            np.testing.assert_allclose(place[0], np.log(balls.dimensions[d]), atol=1e-5)
            np.testing.assert_allclose(place[1:], 0, atol=1e-5)


def test_between_two_sizes_portraits_are_interpolated_in_the_logarithm():
    """f = log d + log n for all, so that a ball of e^(1/2) n points looks like d e^(1/2)."""
    sizes, dimensions = np.exp([3.0, 4.0]), np.exp(np.arange(4.0))
    rows = np.log(dimensions)[None, :, None] + np.log(sizes)[:, None, None] + np.zeros(12)
    place = coordinates(Balls(sizes, dimensions, rows), np.full(12, 5.0), round(np.exp(3.5)))
    np.testing.assert_allclose(place[0], 5 - np.log(round(np.exp(3.5))), rtol=1e-12)


def test_matern_is_scikit_learns(rng):
    a, b, lengths = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), np.asarray([0.5, 1, 3])
    expected = Matern(lengths, nu=1.5)(a, b)
    np.testing.assert_allclose(matern(a, b, lengths), expected, rtol=1e-12)


def test_what_is_told_is_the_mean_of_two_regressions_of_scikit_learn(rng):
    places, lengths = rng.normal(size=(80, 4)).astype("f").astype(float), np.asarray([1.0, 2, 3, 4])
    rest = np.sin(places).sum(1)
    known = fitted(places, rest, lengths, 0.1)
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, max_features=0.7, random_state=0)
    process = GaussianProcessRegressor(Matern(lengths, nu=1.5), optimizer=None, alpha=0.1)
    asked = rng.normal(size=(20, 4))
    both = [method.fit(places, rest).predict(asked) for method in (forest, process)]
    found = [told(known, place) for place in asked]
    np.testing.assert_allclose(found, np.mean(both, axis=0), rtol=1e-9)


@pytest.mark.parametrize("d", [1, 3, 10, 30])
def test_balls_have_their_dimension(d, rng):
    """The regressions may add what they are off by on balls: 4% of d is allowed."""
    found = mean(np.asarray([learned(ball(400, d, rng=rng).inputs) for _ in range(10)]))
    assert abs(found.value - d) < SURE * found.stderr + 0.04 * d


@pytest.mark.parametrize("d", [2, 5])
def test_curvature_is_allowed_for(d, rng):
    """On spheres and tori of 1000 points, where a calibrated ratio is up to 15% too large."""
    for cloud in (torus(d, 1000, rng), sphere(1000, d, rng=rng).inputs):
        assert abs(learned(cloud) / d - 1) < 0.12


def test_noise_is_looked_below_where_it_is_said_to_be(rng):
    """5% of noise in 10 coordinates around a 2-sphere: distances of neighbours see the noise."""
    points = np.pad(sphere(1500, 2, rng=rng).inputs, [(0, 0), (0, 7)])
    points = noisy(sphere(1500, 2, rng=rng)._replace(inputs=points), 0.05, rng=rng).inputs
    assert learned(points) > 2.4
    assert abs(learned(points, noisy=True) / 2 - 1) < 0.25


def test_the_estimate_is_the_value_with_an_error(rng):
    points = rng.normal(size=(300, 4))
    found = estimate(points)
    np.testing.assert_allclose(float(found.value), float(learned(points)), rtol=1e-12)
    assert 0 < found.stderr < 1


def test_fewer_points_than_its_groups_need_are_refused(rng):
    with pytest.raises(ValueError, match="at least 205 points"):
        estimate(rng.normal(size=(204, 4)))


@pytest.mark.parametrize("law", making.LATENTS)
def test_latents_have_unit_scale(law, rng):
    """But for oblong ones, which are to have other lengths, and mixtures, exp(0.16) of it."""
    x = making.latent(law, 4000, 3, rng)
    assert x.shape == (4000, 3)
    square = mean(np.mean(x**2, axis=1))
    expected = {"oblong": square.value, "mixture": np.exp(0.32)}.get(law, 1.0)
    assert square.distance(expected) < SURE


@pytest.mark.parametrize("form", sorted(set(making.MAPS)))
def test_maps_have_as_many_dimensions_as_their_latents(form):
    """The rank of differences along small steps; a sphere and a torus draw their points."""
    d, step = 3, 1e-5
    x = np.random.default_rng(0).normal(size=(1, d))
    ends = np.concatenate([x, x + step * np.eye(d)])
    image = making.mapped(ends, form, np.random.default_rng(1))
    if form == "sphere":
        np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, rtol=1e-12)
        assert image.shape[1] == d + 1
    elif form == "torus":
        radii = image[:, :d] ** 2 + image[:, d:] ** 2  # and angles of its own, one a dimension
        np.testing.assert_allclose(radii, radii[:1].repeat(len(ends), axis=0), rtol=1e-12)
    else:
        steps = (image[1:] - image[0]) / step
        assert np.linalg.matrix_rank(steps, tol=1e-3) == d


def test_a_manifold_of_the_reference_is_the_same_each_time():
    n, d, seen = making.of_manifold(3, False, 0)
    again = making.of_manifold(3, False, 0)
    assert (n, d) == again[:2]
    np.testing.assert_array_equal(seen, again[2])
