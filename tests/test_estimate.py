"""Means and groups: the values, and whether the errors they claim are true."""

import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from witnesses import SURE, torus

from sgdnoise.dimension import levina_bickel, participation_ratio, twonn
from sgdnoise.estimate import Estimate, finite_mean, grouped, mean

SEEDS = st.integers(0, 2**32 - 1)


def test_the_mean_and_its_error_are_numpys(xp, rng):
    samples = rng.normal(size=(50, 3))
    found = mean(xp.asarray(samples))
    np.testing.assert_allclose(np.asarray(found.value), samples.mean(0), rtol=1e-12)
    expected = np.sqrt(np.cov(samples.T).diagonal() / 50)
    np.testing.assert_allclose(np.asarray(found.stderr), expected, rtol=1e-12)
    assert found.freedom == 49


def test_the_mean_lies_within_its_error_of_the_truth_as_often_as_a_normal_one(rng):
    """z^2 of 5000 means of 100 numbers: its mean is 99 / 97, that of the square of Student's t."""
    found = mean(rng.exponential(size=(100, 5000)) * rng.choice([-1, 1], size=(100, 5000)))
    assert mean(found.distance(0) ** 2).distance(99 / 97) < SURE


def test_distance_counts_standard_errors(xp):
    found = Estimate(xp.asarray([1.0, 5.0]), xp.asarray([0.5, 2.0])).distance(2.0)
    np.testing.assert_allclose(np.asarray(found), [2.0, 1.5], rtol=1e-15)


def test_finite_means_leave_out_what_is_not_finite_throughout(rng):
    samples = rng.normal(size=(6, 2))
    samples[1, 0], samples[4, 1] = np.nan, np.inf
    found, expected = finite_mean(samples), mean(samples[[0, 2, 3, 5]])
    np.testing.assert_array_equal(found.value, expected.value)
    np.testing.assert_array_equal(found.stderr, expected.stderr)
    assert found.freedom == 3
    assert np.all(np.isnan(finite_mean(np.full((4, 2), np.nan)).value))


# Intervals


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("freedom", [1, 4, 40, math.inf])
def test_an_interval_is_students(level, freedom, xp):
    value, error = (xp.asarray(np.asarray(numbers)) for numbers in ([1.0, -2.0], [0.5, 3.0]))
    low, high = Estimate(value, error, freedom).interval(level)
    reach = student.ppf((1 + level) / 2, freedom) * np.asarray([0.5, 3.0])
    np.testing.assert_allclose(np.asarray(low), np.asarray([1, -2]) - reach, rtol=1e-10)
    np.testing.assert_allclose(np.asarray(high), np.asarray([1, -2]) + reach, rtol=1e-10)


def test_plain_numbers_have_an_interval():
    np.testing.assert_allclose(
        Estimate(2.0, 0.5).interval(), 2 + 0.5 * student.ppf([0.025, 0.975], math.inf)
    )


def test_errors_known_to_different_degrees_reach_differently_far():
    low, high = Estimate(np.zeros(2), np.ones(2), np.asarray([1.0, 30.0])).interval()
    np.testing.assert_allclose(high, student.ppf(0.975, [1, 30]), rtol=1e-10)
    np.testing.assert_allclose(low, -high)


def covered(found, truth, level):
    """The part of intervals that hold the truth, and how far a right one would be from `level`."""
    low, high = found.interval(level)
    return np.mean((low < truth) & (truth < high)), (level * (1 - level) / low.size) ** 0.5


@pytest.mark.parametrize("level", [0.68, 0.95])
@pytest.mark.parametrize("n", [3, 10, 50])
def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says(n, level, rng):
    share, error = covered(mean(rng.normal(2.0, 3.0, size=(n, 5000))), 2.0, level)
    assert abs(share - level) < SURE * error


@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_the_interval_of_a_grouped_mean_holds_the_truth_as_often_as_it_says(shift, rng):
    """Ten partitions of 60 numbers tell less than 40 degrees of freedom: 27 would lose 0.003.
    Once with means of either sign, once with positive ones and so by logarithms.
    """
    samples = shift + rng.normal(size=(60, 5000))
    share, error = covered(grouped(lambda part: np.mean(part, axis=0), samples), shift, 0.95)
    assert abs(share - 0.95) < SURE * error + 0.003


# Groups


def partitions(groups, n, **options):
    """Which of n samples each group is made of, (split, group, size)."""
    seen = []
    grouped(lambda part: seen.append(part) or 0.0, np.arange(float(n)), groups, **options)
    return np.asarray(seen[1:]).reshape(-1, groups, n // groups)


@given(groups=st.integers(2, 9), size=st.integers(1, 9), over=st.integers(0, 8))
def test_each_partition_takes_every_sample_once_but_for_a_remainder(groups, size, over):
    n = groups * size + over % groups
    for parts in partitions(groups, n, splits=3):
        assert np.unique(parts).size == groups * size
        assert np.all((parts >= 0) & (parts < n))


def test_partitions_differ_from_each_other_and_never_from_run_to_run():
    first, second = partitions(5, 40), partitions(5, 40)
    np.testing.assert_array_equal(first, second)
    assert len({tuple(parts.ravel()) for parts in first}) == 10


@pytest.mark.parametrize(("groups", "splits"), [(2, 1), (5, 10), (7, 3)])
def test_freedom_is_that_of_all_differences_between_groups(groups, splits, rng):
    found = grouped(np.mean, rng.normal(size=80), groups, splits=splits)
    assert found.freedom == splits * (groups - 1)


@pytest.mark.parametrize("shift", [0.0, 3.0])
@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray, array_api_strict.asarray])
def test_the_error_is_the_spread_of_groups_shrunk_to_all_samples(asarray, shift, rng):
    """Of values, or of their logarithms where all are positive: 63 samples in 6 groups of 10."""
    samples = shift + rng.normal(size=63) / 2
    found = grouped(lambda part: part.mean() if hasattr(part, "mean") else strict_mean(part),
                    asarray(samples), 6, splits=4)  # fmt: skip
    values = samples[partitions(6, 63, splits=4).astype(int)].mean(axis=2)
    spread = np.log(values) if shift else values
    unit = samples.mean() if shift else 1
    expected = unit * np.sqrt(spread.var(axis=1, ddof=1).mean() * 10 / 63)
    np.testing.assert_allclose(float(found.value), samples.mean(), rtol=1e-12)
    np.testing.assert_allclose(float(found.stderr), expected, rtol=1e-10)


def strict_mean(part):
    return array_api_strict.mean(part)


@given(seed=SEEDS, scale=st.floats(1e-6, 1e6), shift=st.sampled_from([0.0, 4.0]))
def test_the_error_scales_with_the_statistic(seed, scale, shift):
    samples = shift + np.random.default_rng(seed).normal(size=50)
    one, other = grouped(np.mean, samples), grouped(lambda part: scale * np.mean(part), samples)
    np.testing.assert_allclose(other.value, scale * one.value, rtol=1e-10)
    np.testing.assert_allclose(other.stderr, scale * one.stderr, rtol=1e-6)


def test_each_number_of_a_statistic_has_its_own_error(rng):
    samples = 5 + rng.normal(size=(60, 3)) * [1, 2, 0.1]
    found = grouped(lambda part: np.mean(part, axis=0), samples)
    alone = [grouped(np.mean, column).stderr for column in samples.T]
    np.testing.assert_allclose(found.stderr, alone, rtol=1e-10)


@pytest.mark.parametrize("estimator", [twonn, levina_bickel])
def test_the_claimed_error_is_the_spread_of_repeats(estimator, rng):
    """The spread of m repeats is known to 1 / sqrt(2 (m - 1)), the mean claim to its own error.

    A group of 120 points spends more of them on its neighbourhoods than a cloud of 600, so that
    claims of levina_bickel, with its 10 neighbours, are some 5% too large, which is allowed for.
    """
    runs = [grouped(estimator, torus(2, 600, rng), splits=4) for _ in range(100)]
    claimed = mean(np.asarray([run.stderr for run in runs]))
    ratio = claimed.value / np.std([run.value for run in runs], ddof=1)
    error = ratio * math.hypot(claimed.stderr / claimed.value, (2 * 99) ** -0.5)
    assert abs(ratio - 1) < SURE * error + 0.05


def test_at_a_maximum_the_claim_is_too_large_and_never_too_small(rng):
    """A participation ratio is greatest for an isotropic Gaussian: there it is quadratic in the
    covariance, its variance falls faster than 1 / n, and the claim exceeds the spread, known to
    1 / sqrt(2 (m - 1)), by up to sqrt(5).
    """
    runs = [grouped(participation_ratio, rng.normal(size=(300, 4)), splits=4) for _ in range(80)]
    ratio = np.mean([run.stderr for run in runs]) / np.std([run.value for run in runs], ddof=1)
    error = ratio * (2 * 79) ** -0.5
    assert 1 - SURE * error < ratio < 5**0.5 + SURE * error


@pytest.mark.parametrize("groups", [-1, 0, 1, 10])
def test_groups_that_cannot_be_made_are_refused(groups):
    with pytest.raises(ValueError, match=rf"^9 samples cannot make {groups} groups; take 2 to 9$"):
        grouped(np.mean, np.ones(9), groups)
