"""The recommended dimension: its portrait, its two regressions, and clouds it has not seen."""

import numpy as np
import pytest
import sklearn
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from witnesses import SURE, torus, tree_distances

from sgdnoise.core import mean, with_group_error
from sgdnoise.data import ball, noisy, sphere
from sgdnoise.dimension import Duplicates, estimate, find_neighbours, learned
from sgdnoise.dimension._trained import _model as model
from sgdnoise.dimension._trained._features import (
    DEVIATIONS,
    PATCHES,
    RANKS,
    Balls,
    coordinates,
    features,
    inverse,
)
from sgdnoise.dimension._trained._model import N_TREES, TrainedModel, fit, grow, load, matern
from sgdnoise.dimension._trained._predict import predict
from tools.train_dimension_model import LATENTS, MAPS, latent, mapped, of_manifold


def test_a_portrait_is_its_formulas_one_point_at_a_time(rng):
    points = rng.normal(size=(60, 3))
    r = np.log(tree_distances(points, 40))
    ratios = [np.log(np.mean([row[k - 1] - row[: k - 1].mean() for row in r])) for k in RANKS]
    index = find_neighbours(points, 40).index
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
    spreads = [np.log(np.std(r[:, k - 1])) for k in DEVIATIONS]
    np.testing.assert_allclose(features(points), [*ratios, *patches, *spreads], rtol=1e-9)


def test_a_ball_has_its_own_dimension_at_every_scale():
    balls, _ = load()
    for size in (0, 4):
        for d in (1, 9, 18):
            place = coordinates(balls, balls.features[size, d], int(balls.sizes[size]))
            np.testing.assert_allclose(place[0], np.log(balls.dimensions[d]), atol=1e-5)
            np.testing.assert_allclose(place[1:], 0, atol=1e-5)


@pytest.mark.parametrize(("log_size", "shift"), [(3.5, 0.5), (5, 3), (2, -1), (7, 7)])
def test_between_sizes_and_beyond_portraits_are_lines_in_the_logarithm(log_size, shift):
    """f = log d + 0, 1, 5 at sizes 4^3, 4^4, 4^6: a ball of n points looks `shift` larger."""
    sizes, dimensions = 4.0 ** np.asarray([3, 4, 6]), np.exp(np.arange(4.0))
    rows = np.log(dimensions)[None, :, None] + np.asarray([0, 1, 5])[:, None, None] + np.zeros(12)
    place = coordinates(Balls(sizes, dimensions, rows), np.full(12, 2.0 + shift), int(4**log_size))
    np.testing.assert_allclose(place[0], 2, rtol=1e-12)


def straight(slopes, offsets):
    """Balls whose portraits are straight lines of log d, whatever their size; log d is 0 to 4."""
    logs = np.arange(5.0)
    return Balls(
        np.asarray([100, 1000]), np.exp(logs), np.stack([slopes * logs[:, None] + offsets] * 2)
    )


def test_coordinates_are_differences_of_dimensions_of_scales(rng):
    """Each number of a portrait has its own log-dimension; the last two are off by 0.3, -0.2."""
    slopes, offsets = rng.choice([-1, 1], 12) * rng.uniform(0.5, 2, 12), rng.normal(size=12)
    logs = 2 + rng.uniform(-0.3, 0.3, 12)
    logs[10:] = logs[2]
    observed = slopes * logs + offsets + [*np.zeros(10), 0.3, -0.2]
    r2, r3, r5, r10, r20, r40, s10, p10, s20, p20 = logs[:10]  # in the order of a portrait
    ratios = [r2, r2 - r5, r3 - r5, r10 - r5, r20 - r10, r40 - r20]
    patches = [s10 - r5, s20 - s10, p20 - p10]
    place = coordinates(straight(slopes, offsets), observed, 300)
    np.testing.assert_allclose(place, [*ratios, *patches, 0.3, -0.5], rtol=1e-9)


def test_coordinates_are_kept_within_what_was_learned_from():
    """Log-dimensions from -1.2 to 6, differences from -0.8 to 0.8."""
    far = coordinates(straight(np.ones(12), np.zeros(12)), np.asarray([9.0, -9] * 6), 300)
    np.testing.assert_allclose(far, [6, 0, -0.8, -0.8, 0.8, -0.8, 0, 0, 0, 0.8, -0.8])
    near = coordinates(straight(np.ones(12), np.zeros(12)), 5 + 0.1 * np.arange(12), 300)
    np.testing.assert_allclose(near, [5, -0.2, -0.1, 0.1, 0.1, 0.1, 0.4, 0.2, 0.2, 0.8, 0.1])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("curve", "value", "expected"),
    [
        ([0, 1, 4, 9], 4, 2),
        ([0, 1, 4, 9], -1, -1),  # goes on as between the first two
        ([0, 1, 4, 9], 19, 5),  # and the last two
        ([0, 2, 2, 3], 2, 1),
        ([0, 3, 1, 2, 6], 3, 1),  # what falls back is left out, until it is above again
        ([0, 3, 1, 2, 6], 9, 7),
    ],
)
def test_where_a_curve_takes_a_value(curve, value, expected, sign):
    result = inverse(np.arange(float(len(curve))), sign * np.asarray(curve, float), sign * value)
    assert result == pytest.approx(expected, rel=1e-12)


def test_a_tree_is_walked_down_to_a_leaf_with_bounds_below_in_single_precision():
    """0.1 in single precision lies above 0.1; the other regression says nothing."""
    leaf = [0.0, 0, 0]
    tree = {
        "roots": [0],
        "feature": [1, 0, 0, 0, 0],
        "threshold": np.asarray([0.5, np.nextafter(np.float32(0.1), np.float32(0)), *leaf], "f"),
        "left": [1, 3, 2, 3, 4],
        "right": [2, 4, 2, 3, 4],
        "value": [0, 0, 8.0, 16, 32],
    }
    forest = {name: np.asarray(row) for name, row in tree.items()}
    known = TrainedModel(np.zeros((1, 2)), np.ones(2), np.zeros(1), **forest)
    asked = ([0, 0.6], [0, 0.5], [0.1, 0.5])
    assert [predict(known, np.asarray(place)) for place in asked] == [4, 8, 16]


def test_matern_is_scikit_learns(rng):
    a, b, lengths = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), np.asarray([0.5, 1, 3])
    expected = Matern(lengths, nu=1.5)(a, b)
    np.testing.assert_allclose(matern(a, b, lengths), expected, rtol=1e-12)


def test_what_is_told_is_the_mean_of_two_regressions_of_scikit_learn(rng):
    places, lengths = rng.normal(size=(80, 4)).astype("f").astype(float), np.asarray([1.0, 2, 3, 4])
    stationary = np.sin(places).sum(1)
    known = fit(places, stationary, lengths, 0.1)
    forest = ExtraTreesRegressor(N_TREES, min_samples_leaf=2, max_features=0.7, random_state=0)
    process = GaussianProcessRegressor(Matern(lengths, nu=1.5), optimizer=None, alpha=0.1)
    asked = rng.normal(size=(20, 4))
    both = [method.fit(places, stationary).predict(asked) for method in (forest, process)]
    result = [predict(known, place) for place in asked]
    np.testing.assert_allclose(result, np.mean(both, axis=0), rtol=1e-9)


@pytest.mark.parametrize("kind", ["clean", "noisy"])
def test_the_shipped_forest_is_the_one_that_grows_on_the_shipped_manifolds(kind):
    with np.load(model.FOREST) as arrays:
        shipped = [arrays[f"{kind}_{name}"] for name in ("leaf", "feature", "threshold")]
        version = str(arrays["scikit_learn"])
    if version != sklearn.__version__:
        pytest.skip(f"the forest was grown by scikit-learn {version}")
    _, trained = load(noisy=kind == "noisy")
    with np.load(model.REFERENCE) as arrays:
        residuals = arrays[f"{kind}_residuals"].astype(float)
    for array, regrown in zip(shipped, grow(trained.coordinates, residuals), strict=True):
        np.testing.assert_array_equal(array, regrown)


def test_an_unpacked_forest_has_the_nodes_of_its_trees(rng):
    """Depth first: a leaf that follows a leaf is the right child of the last open parent."""
    leaf = np.asarray([False, True, False, True, True, True, False, True, True])
    roots, _, threshold, left, right = model.unpack(leaf, np.arange(3), rng.uniform(size=3))
    assert roots.tolist() == [0, 5, 6]
    assert left.tolist() == [1, 1, 3, 3, 4, 5, 7, 7, 8]
    assert right.tolist() == [2, 1, 4, 3, 4, 5, 8, 7, 8]
    assert np.all((threshold == 0) == leaf)


@pytest.mark.parametrize("d", [1, 3, 10, 30])
def test_balls_have_their_dimension(d, rng):
    """The regressions may add what they are off by on balls: 4% of d is allowed."""
    result = mean(np.asarray([learned(ball(400, d, rng=rng).inputs) for _ in range(10)]))
    assert abs(result.value - d) < SURE * result.stderr + 0.04 * d


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


@pytest.mark.parametrize("noisy", [False, True])
def test_the_estimate_is_the_value_with_the_error_of_its_groups(noisy, rng):
    points = rng.normal(size=(210, 4))
    result = estimate(points, noisy=noisy)
    expected = with_group_error(lambda part: learned(part, noisy=noisy), points, 5, splits=6)
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-9)
    np.testing.assert_allclose(result.stderr, expected.stderr, rtol=1e-9)


def test_fewer_points_than_its_groups_need_are_refused(rng):
    with pytest.raises(ValueError, match="at least 205 points"):
        estimate(rng.normal(size=(204, 4)))
    repeated = rng.normal(size=(204, 4))[[*range(204), 0]]
    with pytest.warns(Duplicates), pytest.raises(ValueError, match="at least 205 points"):
        estimate(repeated)


@pytest.mark.parametrize("law", LATENTS)
def test_latents_have_unit_scale(law, rng):
    """But for oblong ones, which are to have other lengths, and mixtures, exp(0.16) of it."""
    x = latent(law, 4000, 3, rng)
    assert x.shape == (4000, 3)
    square = mean(np.mean(x**2, axis=1))
    expected = {"oblong": square.value, "mixture": np.exp(0.32)}.get(law, 1.0)
    assert abs(square.z(expected)) < SURE


@pytest.mark.parametrize("form", sorted(set(MAPS)))
def test_maps_have_as_many_dimensions_as_their_latents(form):
    """The rank of differences along small steps; a sphere and a torus draw their points."""
    d, step = 3, 1e-5
    x = np.random.default_rng(0).normal(size=(1, d))
    ends = np.concatenate([x, x + step * np.eye(d)])
    image = mapped(ends, form, np.random.default_rng(1))
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
    n, d, observed = of_manifold(3, False, 0)
    again = of_manifold(3, False, 0)
    assert (n, d) == again[:2]
    np.testing.assert_array_equal(observed, again[2])
