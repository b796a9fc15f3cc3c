"""scikit-learn's own checks, and that what it is given is what our functions say."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from witnesses import SURE, torus, tree_distances

from sgdnoise import dimension
from sgdnoise.core import mean, with_group_error
from sgdnoise.sklearn import IntrinsicDimension


@pytest.mark.filterwarnings(
    "ignore::sgdnoise.dimension._points.Duplicates"
)  # some checks round to 0, 1, 2
@parametrize_with_checks([IntrinsicDimension()])
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", ["twonn", "local_pca", "participation_ratio"])
def test_what_is_fitted_is_what_the_function_says_with_its_error(method, rng):
    points = torus(2, 200, rng)
    fitted = IntrinsicDimension(method, groups=4).fit(points)
    expected = with_group_error(dimension.ESTIMATORS[method], points, 4)
    assert_allclose([fitted.dimension_, fitted.stderr_], [expected.value, expected.stderr])


def test_options_reach_the_estimator(rng):
    points = torus(2, 100, rng)
    fitted = IntrinsicDimension("levina_bickel", options={"k": 5}).fit(points)
    assert_allclose(fitted.dimension_, dimension.levina_bickel(points, k=5))


def test_the_recommended_estimate_comes_with_its_own_error(rng):
    points = torus(2, 300, rng)
    fitted = IntrinsicDimension("estimate", n_neighbors=210).fit(points)
    expected = dimension.estimate(points)
    assert_allclose([fitted.dimension_, fitted.stderr_], [expected.value, expected.stderr])
    nearest = np.argsort(((points - points[7]) ** 2).sum(axis=1))[:210]
    local = dimension.estimate(points[nearest]).value
    assert_allclose(fitted.transform(points[7:8]), [[local]])


def test_a_calibrated_value_is_that_of_calibrated(rng, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = sys.modules["sgdnoise.dimension._calibration"]
    monkeypatch.setattr(module, "POINTS", 120)
    monkeypatch.setattr(module, "_curve", module._curve.__wrapped__)  # kept on disk alone
    points = torus(2, 60, rng)
    fitted = IntrinsicDimension("levina_bickel", calibrate=True, groups=2).fit(points)
    expected = dimension.calibrated(dimension.levina_bickel)(points)
    assert_allclose(fitted.dimension_, expected)
    assert fitted.dimension_ > dimension.levina_bickel(points)  # whose edges cost it something


def test_a_point_has_the_dimension_of_the_fitted_points_nearest_to_it(rng):
    """By the likelihood of TwoNN, over the 30 nearest, from a tree."""
    line = np.concatenate([rng.uniform(size=(100, 1)), np.zeros((100, 2))], axis=1)
    block = rng.uniform(size=(200, 3)) + 5
    fitted = IntrinsicDimension("twonn", n_neighbors=30).fit(np.concatenate([line, block]))
    asked = np.asarray([[0.5, 0.0, 0.0], [5.5, 5.5, 5.5]])
    for place, result in zip(asked, fitted.transform(asked)[:, 0], strict=True):
        piece = line if place[0] < 1 else block
        near = piece[np.argsort(np.linalg.norm(piece - place, axis=1))[:30]]
        first, second = tree_distances(near, 2).T
        assert_allclose(result, (len(near) - 1) / np.log(second / first).sum())


def test_pointwise_dimensions_of_a_torus_are_its_own_on_average(rng):
    """Edges of a neighbourhood of 50 cost levina_bickel about a tenth: see `pointwise`."""
    fitted = IntrinsicDimension("twonn").fit(torus(2, 400, rng))
    result = mean(fitted.transform(torus(2, 200, rng))[:, 0])
    assert abs(result.value - 2) < SURE * result.stderr + 0.1 * 2


def test_points_that_repeat_are_merged_and_said(rng):
    points = torus(2, 100, rng)
    with pytest.warns(dimension.Duplicates, match="100 of 200"):
        fitted = IntrinsicDimension().fit(np.concatenate([points, points]))
    assert fitted.dimension_ == IntrinsicDimension().fit(points).dimension_
    assert fitted.points_.shape == points.shape


def test_the_error_is_nan_where_groups_are_too_small_and_the_value_stays(rng):
    points = torus(1, 13, rng)
    fitted = IntrinsicDimension("levina_bickel").fit(points)
    assert np.isnan(fitted.stderr_)
    assert_allclose(fitted.dimension_, dimension.levina_bickel(points))


def test_a_neighbourhood_too_small_for_the_estimator_is_nan(rng):
    fitted = IntrinsicDimension("levina_bickel", n_neighbors=8).fit(torus(1, 60, rng))
    assert np.isnan(fitted.transform(torus(1, 3, rng))).all()


WRONG = {
    "method": ({"method": "fractal"}, "'fractal'"),
    "option": ({"options": {"k": 5}}, "'k' but fit"),
    "neighbours": ({"options": {"neighbours": None}}, "'neighbours'"),
    "n_neighbors": ({"n_neighbors": 1}, "not 1 and 5"),
    "groups": ({"groups": 1}, "not 50 and 1"),
    "calibrated twice": ({"method": "estimate", "calibrate": True}, "calibrate=False"),
    "too few points": ({"method": "tle"}, "21"),
}


@pytest.mark.parametrize(("settings", "named"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_one_sentence(settings, named, rng):
    with pytest.raises(ValueError, match=r"^[^\n]{20,200}$") as caught:
        IntrinsicDimension(**settings).fit(torus(1, 15, rng))
    assert named in str(caught.value)


def test_it_stands_in_a_pipeline_and_names_its_column(rng):
    points = torus(2, 60, rng)
    line = make_pipeline(StandardScaler(), IntrinsicDimension(n_neighbors=20))
    assert line.fit_transform(points).shape == (60, 1)
    assert line.get_feature_names_out().tolist() == ["intrinsicdimension0"]
    for settings in ParameterGrid({"method": ["twonn", "mom"], "n_neighbors": [10, 20]}):
        copy = clone(line[-1]).set_params(**settings)
        assert copy.get_params()["n_neighbors"] == settings["n_neighbors"]
