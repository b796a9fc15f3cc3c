"""Estimators corrected on balls: right there, and simulated no oftener than needed."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from witnesses import SURE

from sgdnoise.core import mean
from sgdnoise.data import _manifolds as manifolds
from sgdnoise.dimension import _calibration as module
from sgdnoise.dimension import calibrated, find_neighbours, levina_bickel
from sgdnoise.dimension._calibration import POINTS, _curve, inverted, json

N = 150


def ball(n, d, rng):
    """Points of a uniform ball."""
    return manifolds.ball(n, d, rng=rng).inputs


CALLS = []


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Few dimensions, few balls, a cache of its own, and nothing remembered."""
    monkeypatch.setattr(module, "DIMENSIONS", (1, 2, 3, 5, 9, 14, 24, 40))
    monkeypatch.setattr(module, "POINTS", 4 * N)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    yield tmp_path
    forget()


def forget():
    """As a new process would."""
    _curve.cache_clear()
    CALLS.clear()


def counted(points, k=10, *, neighbours=None):
    """An estimator that knows how often it was asked."""
    CALLS.append(points.shape)
    return levina_bickel(points, k, neighbours=neighbours)


def optional(points, *, of):
    """An estimator with an option that is of no use."""
    return levina_bickel(points) if callable(of) else 1.1 * levina_bickel(points)


def constant(points):
    return 2.0 + 0 * points[0, 0]


def falling(points):
    return 1 / levina_bickel(points)


def curves(folder):
    return sorted((folder / "sgdnoise").iterdir())


@pytest.mark.parametrize("d", [2, 7, 20])
def test_a_ball_has_its_dimension(d, rng):
    """The curve is known to the error of a few balls, each as uncertain as one of these; on a grid
    this coarse it bends by 2% between its places.
    """
    result = calibrated(levina_bickel)
    values = mean(np.asarray([result(ball(N, d, rng)) for _ in range(20)]))
    of_curve = values.stderr * (20 / (POINTS // N)) ** 0.5
    assert abs(values.value - d) < SURE * np.hypot(values.stderr, of_curve) + 0.02 * d


def test_without_it_a_ball_of_dimension_20_has_far_less(rng):
    """Else the test above would say nothing."""
    assert levina_bickel(ball(N, 20, rng)) < 14


def test_beyond_the_last_dimension_it_goes_on(rng):
    """As a power, from the slope at the end, so within a quarter."""
    values = mean(np.asarray([calibrated(levina_bickel)(ball(N, 60, rng)) for _ in range(10)]))
    assert abs(values.value - 60) < SURE * values.stderr + 15


def test_the_curve_is_simulated_once_and_kept_on_disk(small, rng):
    points = rng.normal(size=(N, 3))
    result = calibrated(counted)(points)
    assert len(CALLS) == 1 + 4 * len(module.DIMENSIONS)
    assert len(curves(small)) == 1
    again = calibrated(counted)(points)
    assert len(CALLS) == 2 + 4 * len(module.DIMENSIONS)
    forget()
    assert calibrated(counted)(points) == result == again
    assert len(CALLS) == 1
    assert [path.suffix for path in curves(small)] == [".json"]


def test_what_is_on_disk_is_what_is_used(small, rng):
    points = rng.normal(size=(N, 3))
    before = calibrated(counted)(points)
    (file,) = curves(small)
    known = np.asarray(json.loads(file.read_text()))
    file.write_text(json.dumps((known * 2).tolist()))
    forget()
    assert calibrated(counted)(points) < 0.7 * before


def test_other_options_and_other_sizes_have_other_curves(small, rng):
    points = rng.normal(size=(N, 3))
    for k, of, generated in [(10, N, 1), (4, N, 2), (10, N - 1, 3), (4, N, 3)]:
        calibrated(counted)(points[:of], k=k)
        assert len(curves(small)) == generated


def test_other_dimensions_have_another_curve(small, rng, monkeypatch):
    points = rng.normal(size=(N, 3))
    calibrated(counted)(points)
    monkeypatch.setattr(module, "DIMENSIONS", (1, 2, 3, 5, 9, 14, 20))
    forget()
    calibrated(counted)(points)
    assert len(curves(small)) == 2


def test_options_are_those_of_the_balls_too(rng):
    """Unlike k, which biases them differently, would spoil it."""
    values = [calibrated(counted)(ball(N, 14, rng), k=40) for _ in range(20)]
    assert abs(np.mean(values) - 14) < SURE * np.std(values) * (1 / 20 + 1 / 4) ** 0.5 + 0.3
    assert {shape[0] for shape in CALLS} == {N}


@pytest.mark.parametrize(
    "make", [lambda k: partial(counted, k=k), lambda k: lambda p: counted(p, k)]
)
def test_two_estimators_of_one_name_are_not_taken_for_each_other(make, small, rng):
    """Neither a partial function nor a lambda can be told by its name: kept in memory alone."""
    points = ball(N, 9, rng)
    few, many = (calibrated(make(k))(points) for k in (4, 60))
    assert few == calibrated(counted)(points, k=4)
    assert many == calibrated(counted)(points, k=60)
    assert len(curves(small)) == 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, rng):
    occupied = tmp_path / "file"
    occupied.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(occupied))
    points = rng.normal(size=(N, 3))
    assert calibrated(counted)(points) > 0
    assert occupied.read_text() == ""


def test_neighbours_may_be_handed_in(rng):
    points = rng.normal(size=(N, 3))
    expected = calibrated(counted)(points, k=4)
    result = calibrated(counted)(None, k=4, neighbours=find_neighbours(points, 8))
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_value_is_of_the_library_and_type_of_the_points(dtype, rng):
    points = torch.asarray(rng.normal(size=(N, 3)).astype(dtype))
    result = calibrated(levina_bickel)(points)
    assert isinstance(result, torch.Tensor)
    assert result.dtype == points.dtype
    expected = calibrated(levina_bickel)(points.numpy())
    np.testing.assert_allclose(float(result), expected, rtol=1e-5 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("estimator", [constant, falling])
def test_what_does_not_grow_with_the_dimension_is_refused_in_one_sentence(estimator, rng):
    with pytest.raises(ValueError, match=r"^the estimator .* grow with the dimension of a ball$"):
        calibrated(estimator)(rng.normal(size=(N, 3)))


def test_bad_points_are_refused_before_anything_is_simulated():
    with pytest.raises(ValueError, match="not finite"):
        calibrated(counted)(np.diag([1.0, np.nan, 2.0]))
    assert not CALLS


def test_an_option_without_a_hash_is_refused_in_one_sentence(rng):
    with pytest.raises(
        ValueError, match=r"^a curve is stored .* and k is a list, which has no hash"
    ):
        calibrated(counted)(rng.normal(size=(N, 3)), k=[10])
    assert not CALLS


def test_an_option_that_is_no_number_or_word_is_kept_in_memory_alone(small, rng):
    """What it prints may be an address, which another object may have tomorrow."""
    points = rng.normal(size=(N, 3))
    result = [calibrated(optional)(points, of=option) for option in (np.mean, np.mean, "mean")]
    assert result[0] == result[1]
    assert len(curves(small)) == 1


def test_it_keeps_its_name():
    assert calibrated(levina_bickel).__name__ == "levina_bickel"


@given(power=st.floats(0.3, 2), front=st.floats(0.1, 10), d=st.floats(0.5, 500))
def test_a_power_law_is_inverted_exactly_and_beyond_its_ends(power, front, d):
    grid = np.asarray([1, 2, 3, 5, 8, 13, 21, 34, 55])
    result = inverted(grid, front * grid**power, front * d**power)
    np.testing.assert_allclose(result, d, rtol=1e-6)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_larger_value_never_has_a_smaller_dimension(seed):
    rng = np.random.default_rng(seed)
    grid = np.asarray([1, 2, 3, 5, 8, 13, 21, 34, 55])
    values = grid**0.8 * np.exp(0.1 * rng.normal(size=grid.size))
    asked = np.sort(rng.uniform(0.5, 60, size=6))
    assert np.all(np.diff([inverted(grid, values, value) for value in asked]) >= 0)


def test_a_ball_is_filled_evenly(rng):
    """|x|^d is uniform, and directions have no mean and equal variances 1 / (d + 2)."""
    d, points = 5, ball(20_000, 5, rng)
    filled = np.linalg.norm(points, axis=1) ** d
    assert abs(mean(filled).z(1 / 2)) < SURE
    assert abs(mean(filled**2).z(1 / 3)) < SURE
    assert np.all(abs(mean(points).z(0)) < SURE)
    assert np.all(abs(mean(points**2).z(1 / (d + 2))) < SURE)
    assert abs(mean(points[:, 0] * points[:, 1]).z(0)) < SURE
