"""The speed of made-up paths is recovered, and its error covers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from witnesses import SURE

from sgdnoise.lab import mean_of, speed_rows, time_scaling

TIMES = np.linspace(0, 3, 31)
PATHS = {
    "falls": lambda t: 2 + 3 * np.exp(-t),
    "rises and rests": lambda t: 1 - np.exp(-2 * t),
    "turns": lambda t: t * np.exp(-t),
}


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_factor_of_an_exact_path_is_found(path, factor):
    found = time_scaling(TIMES, path(factor * TIMES)[None], path(TIMES))
    np.testing.assert_allclose(found, factor, rtol=5e-3)


@given(factor=st.floats(0.3, 3), start=st.floats(-5, 5), scale=st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_units_of_path_and_time_do_not_matter(factor, start, scale):
    predicted, measured = np.exp(-TIMES), np.exp(-factor * TIMES)[None]
    found = time_scaling(TIMES, measured, predicted)
    np.testing.assert_allclose(found, factor, rtol=0.02)
    other = time_scaling(7 + scale * TIMES, start + scale * measured, start + scale * predicted)
    np.testing.assert_allclose(other, found, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3])
def test_the_error_over_seeds_covers(factor, rng):
    """Each seed has a speed and a start of its own, and noise on its records."""
    deviations = []
    for _ in range(100):
        starts, speeds = rng.uniform(2, 4, (10, 1)), factor * rng.normal(1, 0.05, (10, 1))
        predicted = starts * np.exp(-TIMES)
        measured = starts * np.exp(-speeds * TIMES) + 0.03 * rng.normal(size=predicted.shape)
        estimate = mean_of(time_scaling(TIMES, measured, predicted))
        deviations.append((estimate.value - factor) / estimate.stderr)
    outside = np.mean(np.abs(deviations) > 2.26)  # 5% of the law of Student with 9 degrees
    assert outside <= 0.05 + SURE * (0.05 * 0.95 / 100) ** 0.5
    assert 0.7 < np.std(deviations) < 1.6  # an error that is neither far too large nor too small
    assert abs(np.mean(deviations)) < SURE / 100**0.5 * np.std(deviations)


def test_paths_without_a_factor_have_none():
    falls = np.exp(-TIMES)
    broken = np.where(TIMES > 2, np.nan, falls)
    paths = np.stack([falls, broken, 2 - falls, np.exp(-20 * TIMES)])
    found = time_scaling(TIMES, paths, falls)
    assert found[0] == pytest.approx(1)
    assert np.all(np.isnan(found[1:]))
    assert np.isnan(time_scaling(TIMES, falls[None], np.ones(31))).all()


def test_shapes_and_times_are_checked():
    path = np.exp(-TIMES)
    with pytest.raises(ValueError, match="are not of 30 times"):
        time_scaling(TIMES[1:], path[None], path)
    with pytest.raises(ValueError, match="are not those of paths"):
        time_scaling(TIMES, path[None], path[1:])
    with pytest.raises(ValueError, match="ascending order"):
        time_scaling(TIMES[::-1], path[None], path)
    with pytest.raises(ValueError, match="4 or more times"):
        time_scaling(TIMES[:3], path[None, :3], path[:3])


def paths_at(rng, factor):
    speeds = factor * rng.normal(1, 0.01, (16, 1))
    return np.exp(-speeds * TIMES)


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, "holds"), (1.05, "undecided"), (1.3, "fails"), (0.5, "fails")]
)
def test_a_speed_within_the_error_of_theory_holds_and_others_fail(rng, factor, outcome):
    [row] = speed_rows("net", TIMES, paths_at(rng, factor), np.exp(-TIMES), tolerance=0.05)
    assert (row.kind, row.outcome) == ("prediction", outcome)
    if factor == 1:
        assert all(row.excluded.values())


def test_a_speed_without_an_error_of_theory_or_outside_the_regime_is_not_judged(rng):
    paths, predicted = paths_at(rng, 1), np.exp(-TIMES)
    [seen] = speed_rows("net", TIMES, paths, predicted)
    [beyond] = speed_rows("net", TIMES, paths, predicted, tolerance=0.1, in_regime=False)
    assert (seen.kind, beyond.kind) == ("observation", "outside")


def test_paths_that_hardly_move_have_no_row(rng):
    paths = paths_at(rng, 1)
    paths[:3] = np.nan
    assert speed_rows("net", TIMES, paths, np.exp(-TIMES))
    paths[3] = np.nan
    assert not speed_rows("net", TIMES, paths, np.exp(-TIMES))
