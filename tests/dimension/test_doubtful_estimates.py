"""An estimate that depends on scale, is beyond its training, or has neighbours of other points."""

import re
import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from witnesses import SURE

from sgdnoise.core import with_group_error
from sgdnoise.core._groups import partition
from sgdnoise.dimension import (
    BeyondReference,
    Neighbours,
    NoSingleDimension,
    Passages,
    ScalesDisagree,
    SerialDependence,
    correlation,
    estimate,
    find_neighbours,
    gride,
    learned,
    levina_bickel,
    twonn,
)
from sgdnoise.dimension._serial import lag


def sphere_in_noise(n, width, size, rng):
    points = rng.normal(size=(n, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return np.pad(points, [(0, 0), (0, width - 3)]) + size * rng.normal(size=(n, width))


def test_where_scales_disagree_there_is_no_single_dimension(rng):
    angle = rng.uniform(0, 2 * np.pi, 2000)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.pad(ring, [(0, 0), (0, 18)]) + 0.003 * rng.normal(size=(2000, 20))
    with pytest.raises(
        NoSingleDimension, match=r"no single dimension: .* at scale .*\(noise\?\), .* at"
    ) as refusal:
        estimate(points)
    scales, dimensions = zip(*refusal.value.profile, strict=True)
    assert dimensions[0] > 2 * dimensions[-1]
    assert scales[-1] > scales[0]
    assert estimate(points, noisy=False).value > 5


def test_the_dimension_beneath_noise_is_taken_where_thinned_points_agree(rng):
    points = sphere_in_noise(4000, 20, 0.01, rng)
    with pytest.warns(ScalesDisagree, match="the value is that beneath the noise"):
        result = estimate(points)
    assert result.value == estimate(points, noisy=True).value
    assert abs(result.value - 2) < 0.4
    assert learned(points) > 4


@pytest.mark.parametrize(("d", "low"), [(120, 95), (200, 130)])
def test_above_the_training_the_dimension_is_at_least_80(d, low, rng):
    points = rng.normal(size=(600, d))
    with pytest.warns(BeyondReference, match=r"^the dimension is at least 80"):
        assert low < learned(points) <= d
    learned(points[:, :50])


def brute_force(points, k, window, rows=None):
    times = np.arange(len(points)) if rows is None else rows
    distances = cdist(points, points)
    distances[np.abs(times[:, None] - times[None, :]) <= window] = np.inf
    index = np.argsort(distances, axis=1)[:, :k]
    return np.take_along_axis(distances, index, axis=1), index


@pytest.mark.parametrize("window", [0, 1, 7, 60])
def test_rows_within_a_window_are_no_neighbours(window, xp, rng):
    points = np.cumsum(rng.normal(size=(300, 3)), axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SerialDependence)
        result = find_neighbours(xp.asarray(points), 12, exclude=window)
    distances, index = brute_force(points, 12, window)
    np.testing.assert_array_equal(np.asarray(result.index), index)
    np.testing.assert_allclose(np.asarray(result.distances), distances, rtol=1e-12)


def test_a_window_counts_rows_of_the_data_and_not_of_distinct_points(rng):
    points = rng.normal(size=(200, 2))
    repeated = np.concatenate([points[:50], points[:30], points[50:]])
    rows = np.concatenate([np.arange(50), np.arange(80, 230)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = find_neighbours(repeated, 5, exclude=40)
    np.testing.assert_array_equal(result.index, brute_force(points, 5, 40, rows)[1])


def test_a_window_that_leaves_too_few_rows_is_refused(rng):
    with pytest.raises(ValueError, match=r"beyond a window of 20 rows .* at least 46 points"):
        find_neighbours(rng.normal(size=(42, 2)), 5, exclude=20)


@pytest.mark.parametrize("bad", [-1, "lag", True])
def test_other_windows_are_refused(bad, rng):
    with pytest.raises(ValueError, match=r"exclude is a number of rows, 0 or more, or 'auto'"):
        twonn(rng.normal(size=(50, 2)), exclude=bad)


def test_pairs_within_the_window_do_not_count_for_the_correlation_dimension(rng):
    points = autoregressive(0.6, 400, 3, rng)
    distances, _ = brute_force(points, 20, 5)
    radii = np.median(distances[:, [9, 19]], axis=0) * (1 + 1e-6)
    apart = cdist(points, points)[np.triu_indices(400, 6)]
    inner, outer = (np.count_nonzero(apart <= radius) for radius in radii)
    expected = np.log(outer / inner) / np.log(radii[1] / radii[0])
    np.testing.assert_allclose(correlation(points, exclude=5), expected, rtol=1e-5)


def autoregressive(coefficient, n, d, rng):
    points = rng.normal(size=(n, d))
    for row in range(1, n):
        points[row] += coefficient * points[row - 1]
    return points


@pytest.mark.parametrize("coefficient", [0.8, 0.9, 0.95])
def test_the_lag_is_twice_the_time_of_decay(coefficient, rng):
    """coefficient^l = 1/e; the sampling error of an autocorrelation is below a tenth here."""
    expected = -2 / np.log(coefficient)
    found = lag(autoregressive(coefficient, 5000, 10, rng))
    assert abs(found / expected - 1) < 0.15 + 2 / expected
    assert lag(rng.normal(size=(1000, 3))) == 0


def test_a_walk_that_does_not_return_has_no_lag(rng):
    with pytest.raises(ValueError, match="finds no lag"):
        twonn(np.cumsum(rng.normal(size=(1000, 2)), axis=0), exclude="auto")


@pytest.mark.parametrize("coefficient", [0.8, 0.9])
def test_an_autoregression_of_ten_dimensions_has_ten_of_them(coefficient, rng):
    points = autoregressive(coefficient, 3000, 10, rng)
    result = estimate(points, exclude="auto")
    assert abs(result.value - 10) < 0.8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SerialDependence)
        warnings.simplefilter("ignore", Passages)
        assert estimate(points).value < 9
        assert abs(levina_bickel(points, exclude="auto") - 10) < 1
        bare, excluded = estimate(points), estimate(points, exclude="auto")
    assert excluded.stderr > 0.05
    assert bare.stderr > 0


@pytest.mark.filterwarnings("ignore::sgdnoise.dimension.AboveCoordinates")
@pytest.mark.parametrize("estimator", [twonn, gride])
@pytest.mark.parametrize("coefficient", [0.9, 0.95, 0.98])
def test_a_path_that_passes_by_is_told_to_be_thinned_and_how_much(coefficient, estimator, rng):
    points = autoregressive(coefficient, 6000, 10, rng)
    with pytest.warns(Passages, match=r"counts twice; take every \d+th row") as said:
        bare = estimator(points, exclude="auto")
    text = next(str(w.message) for w in said if w.category is Passages)
    step, window = map(int, re.search(r"::(\d+)\], with exclude=(\d+)", text).groups())
    assert step == lag(points) // 2
    thinned = points[::step]
    independent = np.mean([estimator(rng.normal(size=thinned.shape)) for _ in range(10)])
    assert abs(estimator(thinned, exclude=window) / independent - 1) < SURE / len(thinned) ** 0.5
    assert bare > 1.1 * independent


@pytest.mark.parametrize("coefficient", [0.3, 0.5, 0.7])
def test_a_path_that_moves_on_is_not_thinned(coefficient, rng):
    points = autoregressive(coefficient, 3000, 10, rng)
    assert abs(twonn(points, exclude="auto") - 10) < 1


@pytest.mark.parametrize("window", [1, 7, 20, 36, 60])
def test_a_recording_has_an_estimate_as_soon_as_its_groups_have_enough_rows(window, rng):
    """At the number of rows that the refusal names, and in between those of longer blocks."""
    with pytest.raises(ValueError, match=r"an estimate with an error needs \d+ rows") as refusal:
        estimate(rng.normal(size=(220, 3)), exclude=window + 40)
    assert str(window + 40) in str(refusal.value)
    for n in (600, 777, 1000, 1390, 2500):
        try:
            result = estimate(rng.normal(size=(n, 3)), exclude=window)
        except ValueError as error:
            least = int(re.search(r"needs (\d+) rows", str(error))[1])
            assert least > n
            result = estimate(rng.normal(size=(least, 3)), exclude=window)
        assert abs(result.value - 3) < 0.6
        assert result.stderr > 0


def test_blocks_of_rows_stay_together():
    rows = partition(103, 5, 2, block=4)
    assert rows.shape == (5, 20)
    assert len(np.unique(rows)) == 100
    np.testing.assert_array_equal(np.diff(rows.reshape(5, 5, 4), axis=2), 1)


def test_the_error_of_a_mean_of_dependent_rows_needs_blocks(rng):
    """The variance of the mean is (1 + phi) / (1 - phi) = 9 times that of independent rows."""
    ratios = []
    for _ in range(30):
        x = autoregressive(0.8, 4000, 1, rng)[:, 0]
        truth = 1 / 0.2 / 4000**0.5
        errors = [with_group_error(np.mean, x, block=block).stderr / truth for block in (1, 100)]
        ratios.append(errors)
    single, blocks = np.sqrt(np.mean(np.square(ratios), axis=0))
    assert single < 0.5
    assert 0.75 < blocks < 1.25


@pytest.mark.parametrize("n", [150, 700])
@pytest.mark.parametrize("k", [2, 10])
def test_one_search_gives_the_error_of_a_search_in_each_group(n, k, rng):
    points = rng.normal(size=(n, 3)) ** 3

    def alone(part):
        distances = np.sort(cdist(part, part), axis=1)[:, 1 : k + 1]
        return 1 / np.mean(np.log(distances[:, -1:] / distances[:, :-1]))

    result = with_group_error(lambda part: levina_bickel(part, k), points, splits=4)
    expected = with_group_error(alone, points, splits=4)
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-10)
    np.testing.assert_allclose(result.stderr, expected.stderr, rtol=1e-8)


@pytest.fixture
def cloud(rng):
    return rng.normal(size=(300, 4))


def of_sklearn(points, k):
    return NearestNeighbors(n_neighbors=k).fit(points).kneighbors(points)


def test_tables_and_lists_are_points(cloud):
    xarray = pytest.importorskip("xarray")
    dask = pytest.importorskip("dask.array")
    for table in (xarray.DataArray(cloud), dask.from_array(cloud, chunks=100), cloud.tolist()):
        assert twonn(table) == twonn(cloud)


def test_tables_of_pandas_have_numbers_of_any_type_and_no_words(cloud):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(cloud, columns=["a", "b", "c", "d"])
    for numbers in (table, table.astype("Float64"), table.astype({"a": "Float64"})):
        assert twonn(numbers) == twonn(cloud)
    with pytest.raises(ValueError, match=r"columns that are not of numbers, drop them: name$"):
        twonn(table.assign(name="x"))
    with pytest.raises(ValueError, match=r"1 of 300 points are not finite, the first in row 7"):
        twonn(table.astype("Float64").mask(table.index.to_series() == 7))


def test_the_point_itself_among_its_neighbours_is_refused(cloud):
    near = Neighbours(cloud, *of_sklearn(cloud, 5))
    with pytest.raises(ValueError, match=r"column 0 of neighbours holds each row itself"):
        twonn(cloud, neighbours=near)
    near = Neighbours(cloud, near.distances[:, 1:], near.index[:, 1:])
    np.testing.assert_allclose(twonn(cloud, neighbours=near), twonn(cloud), rtol=1e-12)


def test_neighbours_of_another_cloud_are_refused(cloud, rng):
    for other in (rng.normal(size=(300, 4)), rng.normal(size=(200, 4)), rng.normal(size=(300, 3))):
        with pytest.raises(ValueError, match="belong to"):
            twonn(cloud, neighbours=find_neighbours(other, 5))


def test_squared_or_unsorted_distances_or_wrong_indices_are_refused(cloud):
    near = find_neighbours(cloud, 5)
    wrong = {
        "squared": Neighbours(cloud, near.distances**2, near.index),
        "ascend": Neighbours(cloud, near.distances[:, ::-1], near.index[:, ::-1]),
        "whole numbers from 0 to 299": Neighbours(cloud, near.distances, near.index + 300),
        "one row for each of 300": Neighbours(cloud, near.distances[:200], near.index[:200]),
    }
    for match, neighbours in wrong.items():
        with pytest.raises(ValueError, match=match):
            levina_bickel(cloud, 4, neighbours=neighbours)
    with pytest.raises(ValueError, match="give exclude to find_neighbours"):
        twonn(cloud, neighbours=near, exclude=3)


def test_neighbours_of_points_that_repeat_are_those_of_distinct_ones(cloud):
    repeated = np.concatenate([cloud, cloud[:40]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        near = find_neighbours(repeated, 5)
    np.testing.assert_allclose(twonn(repeated, neighbours=near), twonn(cloud), rtol=1e-12)


def test_errors_of_dependent_rows_are_of_blocks(rng):
    """Those of single rows would be too small."""
    points = autoregressive(0.95, 2000, 4, rng)
    with pytest.warns(SerialDependence):
        blocks = with_group_error(twonn, points)
    with pytest.warns(SerialDependence):
        single = with_group_error(twonn, points, block=1)
    assert blocks.value == single.value
    assert blocks.stderr != single.stderr
    assert 0 < blocks.stderr < SURE
