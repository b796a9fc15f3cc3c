"""scikit-learn's own checks, and that what it is given is what our functions say."""

import sys
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from witnesses import SURE, torus, tree_distances

import sgdnoise
from sgdnoise import dimension
from sgdnoise.core import mean, with_group_error
from sgdnoise.sklearn import LOCAL, IntrinsicDimension, NoDimension

QUICK = ("estimate", "twonn", "levina_bickel", "tle", "participation_ratio")


def every_method(names):
    checks = parametrize_with_checks([IntrinsicDimension(name) for name in names])
    # some checks round to 0, 1, 2, and have 20 points
    return lambda test: pytest.mark.filterwarnings("ignore::UserWarning")(checks(test))


@every_method(QUICK)
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


@pytest.mark.slow
@every_method(dimension.ESTIMATORS.keys() - {*QUICK})
def test_scikit_learn_finds_nothing_wrong_with_any_method(estimator, check):
    check(estimator)


def test_the_default_is_the_recommended_estimate(rng):
    points = torus(2, 300, rng)
    fitted, expected = IntrinsicDimension().fit(points), sgdnoise.estimate_dimension(points)
    assert_allclose([fitted.dimension_, fitted.stderr_], [expected.value, expected.stderr])


@pytest.mark.parametrize("method", ["estimate", "twonn", "mom"])
def test_without_an_error_the_value_is_the_same_and_takes_one_evaluation(method, rng, monkeypatch):
    points = torus(2, 300, rng)
    expected = IntrinsicDimension(method).fit(points).dimension_
    for module in ("sgdnoise.sklearn", "sgdnoise.dimension._trained._predict"):
        monkeypatch.setattr(f"{module}.with_group_error", lambda *_: pytest.fail("an error"))
    fitted = IntrinsicDimension(method, stderr=False).fit(points)
    assert fitted.dimension_ == expected
    assert np.isnan(fitted.stderr_)


@pytest.mark.parametrize("method", ["twonn", "local_pca", "participation_ratio"])
def test_what_is_fitted_is_what_the_function_says_with_its_error(method, rng):
    points = torus(2, 200, rng)
    fitted = IntrinsicDimension(method, groups=4).fit(points)
    expected = with_group_error(dimension.ESTIMATORS[method], points, 4)
    assert_allclose([fitted.dimension_, fitted.stderr_], [expected.value, expected.stderr])


@pytest.mark.parametrize(
    "settings",
    [{"options": {"k": 5}}, {"options": {"n_neighbors": 5}}, {"n_neighbors": 5}],
)
def test_options_reach_the_estimator(settings, rng):
    points = torus(2, 100, rng)
    fitted = IntrinsicDimension("levina_bickel", **settings).fit(points)
    assert_allclose(fitted.dimension_, dimension.levina_bickel(points, k=5))


@pytest.mark.parametrize("method", LOCAL)
def test_the_local_dimension_of_fitted_points_is_the_formula_of_the_literature(method, rng):
    for width in (2, 20):  # trees, and products
        points = torus(2, 200, rng) @ rng.normal(size=(4, width))
        result = IntrinsicDimension(method, n_neighbors=15, stderr=False).fit_transform(points)
        assert_allclose(result[:, 0], LOCAL[method](points, 15), rtol=1e-6)


@pytest.mark.parametrize("method", LOCAL)
def test_the_local_dimension_of_a_new_point_is_that_of_its_distances_to_fitted_ones(method, rng):
    points, new = torus(2, 100, rng), torus(2, 3, rng)
    fitted = IntrinsicDimension(method, n_neighbors=10, stderr=False).fit(points)
    for row, result in zip(new, fitted.transform(new)[:, 0], strict=True):
        joined = dimension.find_neighbours(np.concatenate([row[None], points]), 10)
        assert_allclose(result, LOCAL[method](joined)[0], rtol=1e-9)


def test_processes_give_the_same_local_dimensions(rng):
    points = torus(2, 80, rng)
    one, two = (
        IntrinsicDimension("twonn", n_neighbors=20, n_jobs=jobs, stderr=False).fit_transform(points)
        for jobs in (None, 2)
    )
    assert_allclose(one, two, rtol=0)


def test_a_metric_that_is_precomputed_gives_what_the_points_give(rng):
    points, new = torus(2, 120, rng), torus(2, 5, rng)
    for method in ("twonn", "levina_bickel", "gride"):
        plain = IntrinsicDimension(method, n_neighbors=20).fit(points)
        given = IntrinsicDimension(method, n_neighbors=20, metric="precomputed")
        given.fit(cdist(points, points))
        assert_allclose([given.dimension_, given.stderr_], [plain.dimension_, plain.stderr_])
        assert_allclose(given.transform(cdist(new, points)), plain.transform(new), rtol=1e-9)


def test_cosine_is_the_metric_of_directions(rng):
    points = rng.normal(size=(400, 4)) * rng.gamma(1, 1, size=(400, 1))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    for method in ("twonn", "ess", "participation_ratio"):
        result = IntrinsicDimension(method, metric="cosine").fit(points)
        expected = IntrinsicDimension(method).fit(unit)
        assert_allclose(result.dimension_, expected.dimension_, rtol=1e-6)
        assert_allclose(result.transform(points[:4]), expected.transform(unit[:4]), rtol=1e-6)


def test_other_metrics_are_those_of_scikit_learn(rng):
    points = rng.uniform(size=(100, 3))
    fitted = IntrinsicDimension("levina_bickel", metric="manhattan", stderr=False).fit(points)
    distances = np.sort(cdist(points, points, "cityblock"), axis=1)[:, 1:11]
    assert_allclose(fitted.dimension_, 1 / np.mean(np.log(distances[:, -1:] / distances[:, :-1])))
    expected = dimension.local_levina_bickel(distances)
    assert_allclose(fitted.transform(points)[:, 0], expected)


def test_rows_in_time_are_excluded_in_fit_only(rng):
    path = np.cumsum(rng.normal(size=(600, 3)), axis=0) % 5
    for value in (path[::3], path[1::3]):
        fitted = IntrinsicDimension("twonn", options={"exclude": 5}, n_neighbors=20).fit(value)
        expected = with_group_error(partial(dimension.twonn, exclude=5), value, 5)
        assert_allclose([fitted.dimension_, fitted.stderr_], [expected.value, expected.stderr])
        assert np.isfinite(fitted.transform(value[:3])).all()


def test_fewer_points_than_neighbours_are_all_used_and_told(rng):
    points = torus(1, 9, rng)
    with pytest.warns(NoDimension, match="compares 20 neighbours, and 9 points have 8"):
        fitted = IntrinsicDimension("mom", stderr=False).fit(points)
    assert fitted.dimension_ == dimension.mom(points, 8)


def test_where_there_is_no_answer_it_is_nan_and_told(rng):
    points = torus(1, 100, rng)
    with pytest.warns(NoDimension, match="estimate needs 205 points for an error"):
        fitted = IntrinsicDimension().fit(points)
    assert fitted.dimension_ == dimension.learned(points)
    with pytest.warns(NoDimension, match="estimate has no answer: .*41"):
        fitted = IntrinsicDimension().fit(points[:40])
    assert np.isnan(fitted.dimension_)


def test_a_dimension_that_depends_on_scale_is_nan_and_told(rng):
    ring = np.pad(torus(1, 2000, rng), [(0, 0), (0, 18)])
    noisy = ring + 0.003 * rng.normal(size=ring.shape)
    with pytest.warns(NoDimension, match="no single dimension: "):
        fitted = IntrinsicDimension(stderr=False).fit(noisy)
    assert np.isnan(fitted.dimension_)
    below = IntrinsicDimension(options={"noisy": True}, stderr=False).fit(noisy)
    assert below.dimension_ == dimension.estimate(noisy, noisy=True).value


def test_data_frames_come_out_of_transform(rng):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(torus(2, 60, rng), columns=list("abcd"), index=range(100, 160))
    fitted = IntrinsicDimension("mom").set_output(transform="pandas").fit(frame)
    result = fitted.transform(frame)
    assert result.columns.tolist() == ["intrinsicdimension0"]
    assert result.index.tolist() == frame.index.tolist()


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
    fitted = IntrinsicDimension("twonn", n_neighbors=30, stderr=False)
    fitted.fit(np.concatenate([line, block]))
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
        fitted = IntrinsicDimension("twonn").fit(np.concatenate([points, points]))
    assert fitted.dimension_ == IntrinsicDimension("twonn").fit(points).dimension_
    assert fitted.points_.shape == points.shape


def test_the_error_is_nan_where_groups_are_too_small_and_the_value_stays(rng):
    points = torus(1, 13, rng)
    fitted = IntrinsicDimension("levina_bickel").fit(points)
    assert np.isnan(fitted.stderr_)
    assert_allclose(fitted.dimension_, dimension.levina_bickel(points))


def test_a_neighbourhood_too_small_for_the_estimator_is_nan(rng):
    fitted = IntrinsicDimension("ess", n_neighbors=8).fit(torus(1, 60, rng))
    assert np.isnan(fitted.transform(torus(1, 3, rng))).all()


WRONG = {
    "method": ({"method": "fractal"}, "'fractal'"),
    "option": ({"method": "twonn", "options": {"k": 5}}, "'k' but discard, exclude, fit"),
    "neighbours": ({"method": "mom", "options": {"neighbours": None}}, "'neighbours'"),
    "n_neighbors": ({"n_neighbors": 1}, "not 1 and 5"),
    "groups": ({"groups": 1}, "not None and 1"),
    "calibrated twice": ({"method": "estimate", "calibrate": True}, "calibrate=False"),
    "metric of coordinates": ({"metric": "manhattan"}, "for methods from distances"),
    "metric": ({"method": "mom", "metric": "squared euclidean"}, "halve every dimension"),
    "matrix": ({"method": "mom", "metric": "precomputed"}, "a matrix (n, n)"),
    "one point": ({"method": "mom"}, "minimum of 2"),
}


@pytest.mark.parametrize(("settings", "named"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_one_sentence(settings, named, rng):
    with pytest.raises(ValueError, match=r"^[^\n]{20,200}$") as caught:
        IntrinsicDimension(**settings).fit(torus(1, 1 if named == "minimum of 2" else 15, rng))
    assert named in str(caught.value)


def test_it_stands_in_a_pipeline_and_names_its_column(rng):
    points = torus(2, 60, rng)
    line = make_pipeline(StandardScaler(), IntrinsicDimension("twonn", n_neighbors=20))
    assert line.fit_transform(points).shape == (60, 1)
    assert line.get_feature_names_out().tolist() == ["intrinsicdimension0"]
    for settings in ParameterGrid({"method": ["twonn", "mom"], "n_neighbors": [10, 20]}):
        copy = clone(line[-1]).set_params(**settings)
        assert copy.get_params()["n_neighbors"] == settings["n_neighbors"]
