"""Means and groups: the values, and whether the errors they claim are true."""

import math
import pickle
from itertools import combinations

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from witnesses import SURE, torus, value_and_error

from sgdnoise.core import Estimate, batch_means, mean, nanmean, with_group_error
from sgdnoise.core._arrays import as_numpy
from sgdnoise.dimension import ERROR_GROUPS, levina_bickel, participation_ratio, stable_rank, twonn

SEEDS = st.integers(0, 2**32 - 1)


def test_the_mean_and_its_error_are_numpys(xp, rng):
    samples = rng.normal(size=(50, 3))
    result = mean(xp.asarray(samples))
    np.testing.assert_allclose(np.asarray(result.value), samples.mean(0), rtol=1e-12)
    expected = np.sqrt(np.cov(samples.T).diagonal() / 50)
    np.testing.assert_allclose(np.asarray(result.stderr), expected, rtol=1e-12)
    assert result.dof == 49


def test_the_mean_lies_within_its_error_of_the_truth_as_often_as_a_normal_one(rng):
    """z^2 of 5000 means of 100 numbers: its mean is 99 / 97, that of the square of Student's t."""
    result = mean(rng.exponential(size=(100, 5000)) * rng.choice([-1, 1], size=(100, 5000)))
    assert abs(mean(abs(result.z(0)) ** 2).z(99 / 97)) < SURE


def test_distance_counts_standard_errors(xp):
    result = abs(Estimate(xp.asarray([1.0, 5.0]), xp.asarray([0.5, 2.0])).z(2.0))
    np.testing.assert_allclose(np.asarray(result), [2.0, 1.5], rtol=1e-15)


def test_finite_means_leave_out_what_is_not_finite_throughout(rng):
    samples = rng.normal(size=(6, 2))
    samples[1, 0], samples[4, 1] = np.nan, np.inf
    result, expected = nanmean(samples), mean(samples[[0, 2, 3, 5]])
    np.testing.assert_array_equal(result.value, expected.value)
    np.testing.assert_array_equal(result.stderr, expected.stderr)
    assert result.dof == 3
    assert np.all(np.isnan(nanmean(np.full((4, 2), np.nan)).value))


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
    fraction, error = covered(mean(rng.normal(2.0, 3.0, size=(n, 5000))), 2.0, level)
    assert abs(fraction - level) < SURE * error


@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_the_interval_of_a_grouped_mean_holds_the_truth_as_often_as_it_says(shift, rng):
    """Once with means of either sign, once with positive ones and so by logarithms; the law of
    the variance, a difference of two, is Student's but for 0.003.
    """
    samples = shift + rng.normal(size=(60, 5000))
    fraction, error = covered(
        with_group_error(lambda part: np.mean(part, axis=0), samples), shift, 0.95
    )
    assert abs(fraction - 0.95) < SURE * error + 0.003


# Groups


def partitions(groups, n, splits=10):
    """Which of n samples are in each half and in each group, (split, group, size) both."""
    recorded = []
    with_group_error(
        lambda part: recorded.append(part) or 0.0, np.arange(float(n)), groups, splits=splits
    )
    assert len(recorded) == 1 + 4 * splits + groups * splits
    halves, pieces = recorded[1 : 1 + 4 * splits], recorded[1 + 4 * splits :]
    return np.reshape(halves, (2 * splits, 2, -1)), np.reshape(pieces, (splits, groups, -1))


@given(groups=st.integers(3, 9), size=st.integers(1, 9), over=st.integers(0, 8))
def test_each_partition_takes_every_sample_once_but_for_a_remainder(groups, size, over):
    n = groups * size + over % groups
    for pieces in (piece for kind in partitions(groups, n, 3) for piece in kind):
        assert np.unique(pieces).size == n // len(pieces) * len(pieces)
        assert np.all((pieces >= 0) & (pieces < n))


def test_partitions_differ_from_each_other_and_never_from_run_to_run():
    first, second = partitions(5, 40), partitions(5, 40)
    for left, right, splits in zip(first, second, (20, 10), strict=True):
        np.testing.assert_array_equal(left, right)
        assert len({tuple(pieces.ravel()) for pieces in left}) == splits
    assert not {tuple(p.ravel()) for p in first[0]} & {tuple(p.ravel()) for p in first[1]}


@pytest.mark.parametrize(("groups", "splits", "n"), [(2, 4, 400), (8, 5, 400), (5, 10, 40)])
def test_the_variance_of_a_mean_is_known_as_freedom_says(groups, splits, n, rng):
    """Its own variance is 2 / freedom of its square, but for 5% from the limit below, and that
    of 4000 of them is known to (2 / 4000)^1/2, or (12 / freedom / 4000)^1/2 more.
    """
    result = with_group_error(
        lambda x: np.mean(x, axis=0), rng.normal(size=(n, 4000)), groups, splits=splits
    )
    freedom = 2 / np.var(n * result.stderr**2, ddof=1)
    error = ((2 + 12 / result.dof) / 4000) ** 0.5
    assert abs(freedom / result.dof - 1) < SURE * error + 0.05


def witness(values, sizes, n):
    """The variance of all n by hand, from values (split, group) of halves and of groups."""
    claims = []
    for kind, size in zip(values, sizes, strict=True):
        gaps = [a - b for row in kind for a, b in combinations(row, 2)]
        claims.append(np.mean(np.square(gaps)) / 2 * size / n)
    (halves, pieces), g = claims, values[1].shape[1]
    linear, quadratic = (g * halves - 2 * pieces) / (g - 2), (pieces - halves) / (g - 2)
    return linear + quadratic if linear > 0 else math.sqrt(halves / 2 * pieces / g)


@pytest.mark.parametrize(("shift", "power"), [(0.0, 1), (3.0, 1), (0.0, 2), (1.0, 2)])
@pytest.mark.parametrize("asarray", [np.asarray, torch.asarray, array_api_strict.asarray])
def test_the_error_is_the_spread_of_halves_and_groups_taken_to_all_samples(
    asarray, shift, power, rng
):
    """Of values, or of their logarithms where all are positive: 63 samples in 6 groups of 10."""
    samples = shift + rng.normal(size=63) / 2

    def statistic(part):
        return (part.mean() if hasattr(part, "mean") else array_api_strict.mean(part)) ** power

    result = with_group_error(statistic, asarray(samples), 6, splits=4)
    values = [samples[pieces.astype(int)].mean(axis=2) ** power for pieces in partitions(6, 63, 4)]
    unit = 1.0
    if shift or power == 2:
        values, unit = [np.log(v) for v in values], samples.mean() ** power
    expected = unit * np.sqrt(witness(values, (31, 10), 63))
    np.testing.assert_allclose(float(result.value), samples.mean() ** power, rtol=1e-12)
    np.testing.assert_allclose(float(result.stderr), expected, rtol=1e-10)


def test_where_no_linear_part_is_left_the_claims_without_one_are_averaged(rng):
    """Of logarithms: the square of a mean next to zero, its halves alike and its fifths not."""
    samples = np.concatenate([half := rng.normal(size=30), -half]) + 0.02
    result = with_group_error(lambda part: -(np.mean(part) ** 2), samples, 5, splits=6)
    values = [-(samples[p.astype(int)].mean(axis=2) ** 2) for p in partitions(5, 60, 6)]
    halves, pieces = (v.var(axis=1, ddof=1).mean() / v.shape[1] for v in values)
    assert pieces > 2.5 * halves
    np.testing.assert_allclose(result.stderr**4, halves / 2 * pieces / 5, rtol=1e-9)


def test_of_two_groups_all_is_taken_for_linear(rng):
    samples = rng.normal(size=50)
    result = with_group_error(np.mean, samples, 2, splits=3)
    orders = [np.random.default_rng([2, split]).permutation(50) for split in range(3)]
    gaps = [samples[o[:25]].mean() - samples[o[25:]].mean() for o in orders]
    np.testing.assert_allclose(result.stderr, np.sqrt(np.mean(np.square(gaps)) / 4), rtol=1e-10)
    np.testing.assert_allclose(result.dof, 1 / (1 / 3 + 1 / 49), rtol=1e-12)


@given(seed=SEEDS, scale=st.floats(1e-6, 1e6), shift=st.sampled_from([0.0, 4.0]))
def test_the_error_scales_with_the_statistic(seed, scale, shift):
    samples = shift + np.random.default_rng(seed).normal(size=50)
    first, second = (
        with_group_error(np.mean, samples),
        with_group_error(lambda part: scale * np.mean(part), samples),
    )
    np.testing.assert_allclose(second.value, scale * first.value, rtol=1e-10)
    np.testing.assert_allclose(second.stderr, scale * first.stderr, rtol=1e-6)


def test_each_number_of_a_statistic_has_its_own_error(rng):
    samples = 5 + rng.normal(size=(60, 3)) * [1, 2, 0.1]
    result = with_group_error(lambda part: np.mean(part, axis=0), samples)
    alone = [with_group_error(np.mean, column).stderr for column in samples.T]
    np.testing.assert_allclose(result.stderr, alone, rtol=1e-10)


@pytest.mark.parametrize("estimator", [twonn, levina_bickel])
def test_the_claimed_error_is_the_spread_of_repeats(estimator, rng):
    """The variance of m repeats is known to (2 / (m - 1))^1/2, the mean claim to its own error."""
    runs = [with_group_error(estimator, torus(2, 500, rng), splits=4) for _ in range(80)]
    claimed = mean(np.asarray([run.stderr**2 for run in runs]))
    ratio = claimed.value / np.var([run.value for run in runs], ddof=1)
    error = ratio * math.hypot(claimed.stderr / claimed.value, (2 / 79) ** 0.5)
    assert abs(ratio - 1) < SURE * error


def bowl(part):
    """Minus the squared length of a mean in 100 dimensions: at its maximum, all quadratic."""
    return -np.sum(np.mean(part, axis=0) ** 2, axis=-1)


def test_at_a_maximum_the_variance_is_true(rng):
    """It is 2 * 100 / n^2 for normal numbers of unit variance; halves alone claim twice that.
    The lower bound, which acts where the rest comes out too small, adds up to a quarter.
    """
    n = 40
    result = with_group_error(bowl, rng.normal(size=(n, 150, 100)), splits=40)
    claimed = mean(result.stderr**2 * n**2 / 200)
    assert 1 - SURE * claimed.stderr < claimed.value < 1.25 + SURE * claimed.stderr
    fraction, error = covered(result, -100 / n, 0.95)
    assert abs(fraction - 0.95) < SURE * error


def test_the_error_of_an_isotropic_participation_ratio_is_the_spread_of_repeats(rng):
    """At its maximum too; the lower bound adds up to a third, groups alone would claim 5^1/2."""
    runs = [
        with_group_error(participation_ratio, rng.normal(size=(300, 4)), splits=6)
        for _ in range(120)
    ]
    claimed = np.sqrt(np.mean([run.stderr**2 for run in runs]))
    ratio = claimed / np.std([run.value for run in runs], ddof=1)
    error = ratio * (2 * 119) ** -0.5
    assert 1 - SURE * error < ratio < 4 / 3 + SURE * error


def corner(part):
    """Minus the size of a mean: at zero it has a corner."""
    return -abs(np.mean(part, axis=0))


def test_at_a_corner_halves_claim_nothing_and_groups_what_is_derived():
    """100 pairs of normal numbers and their opposites, whose mean is zero; claims over the variance
    of |x|, 1 - 2 / pi, are 1 - 1 / g times 1 - (2 sin q + (pi - 2 q) cos q) / pi over the same,
    cos q = -1 / (g - 1): 0.56926 for 4 of 10 groups (derivations/groups.py).
    """
    half = np.random.default_rng(0).normal(size=(100, 400))
    samples, truth = np.concatenate([half, -half]), (1 - 2 / np.pi) / 200
    result = with_group_error(corner, samples, 10, n_fewer=4, splits=4)
    claimed = mean(result.stderr**2 / truth)
    assert abs(claimed.z(0.56926)) < SURE
    assert np.mean(with_group_error(corner, samples).stderr ** 2) < truth / 4


@pytest.mark.parametrize("axes", [1, 2])
def test_intervals_about_a_corner_hold_the_mean_with_fewer_than_ten_groups(axes, rng):
    """The length of a mean of `axes` normal numbers, of which the least are those at the corner."""

    def length(part):
        return -np.linalg.norm(np.mean(part, axis=0), axis=0)

    samples = rng.normal(size=(60, axes, 4000))
    values = length(samples)
    fraction, error = covered(with_group_error(length, samples, 10, n_fewer=4), values.mean(), 0.95)
    assert abs(fraction - 0.95) < SURE * error + 0.015
    fraction, error = covered(with_group_error(length, samples), values.mean(), 0.95)
    assert fraction < 0.9


@pytest.mark.parametrize("fewer", [2, 3, 4])
def test_fewer_groups_combine_as_derived(fewer, rng):
    """Of means: right on average, and known as well as freedom says."""
    samples = rng.normal(size=(60, 4000))
    linear = with_group_error(lambda x: np.mean(x, axis=0), samples, 6, n_fewer=fewer)
    assert abs(mean(linear.stderr**2).z(1 / 60)) < SURE
    freedom = 2 / np.var(60 * linear.stderr**2, ddof=1)
    error = ((2 + 12 / linear.dof) / 4000) ** 0.5
    assert abs(freedom / linear.dof - 1) < SURE * error + 0.05


@pytest.mark.parametrize("fewer", [1, 6])
def test_fewer_groups_that_are_none_or_more_are_refused(fewer):
    with pytest.raises(
        ValueError, match=rf"^n_fewer must be 2 to 5, the number of groups, not {fewer}$"
    ):
        with_group_error(np.mean, np.ones(9), n_fewer=fewer)


def stable_ranks(points):
    """Of many clouds at once, points (n, cloud, D)."""
    centred = points - points.mean(0)
    values = np.linalg.eigvalsh(np.einsum("nci,ncj->cij", centred, centred))
    return values.sum(1) / values[:, -1]


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("largest", [1.0, 2.0])
def test_intervals_of_a_stable_rank_hold_its_mean_on_either_side_of_the_corner(width, largest, rng):
    """All variances equal, where its law is not normal, or one larger; 1% is for finite samples."""
    samples = rng.normal(size=(300, 400, width))
    samples[:, :, 0] *= largest**0.5
    np.testing.assert_allclose(stable_ranks(samples)[0], stable_rank(samples[:, 0]), rtol=1e-10)
    result = with_group_error(stable_ranks, samples, **ERROR_GROUPS["stable_rank"])
    fraction, error = covered(result, result.value.mean(), 0.95)
    assert abs(fraction - 0.95) < SURE * error + 0.01


@pytest.mark.parametrize("groups", [-1, 0, 1, 10])
def test_groups_that_cannot_be_made_are_refused(groups):
    with pytest.raises(ValueError, match=rf"^9 samples cannot make {groups} groups; take 2 to 9$"):
        with_group_error(np.mean, np.ones(9), groups)


@pytest.mark.parametrize("n", [3, 200, 1001])
def test_batches_keep_the_mean_and_its_error(n, rng):
    """Of independent samples; an error of 200 batches is known to 5%."""
    samples = rng.exponential(size=(n, 2))
    stored = batch_means(samples)
    assert len(stored) == min(n, 200)
    counts = [len(piece) for piece in np.array_split(samples, len(stored))]
    np.testing.assert_allclose(np.average(stored, axis=0, weights=counts), samples.mean(0))
    if n > 200:
        ratio = mean(stored).stderr / mean(samples).stderr
        assert np.all(abs(ratio - 1) < SURE / (2 * 200) ** 0.5)


def test_sums_and_differences_add_variances():
    a, b = Estimate(3.0, 0.3, 8), Estimate(1.0, 0.4, 5)
    for result, value in ((a + b, 4.0), (a - b, 2.0), (b - a, -2.0)):
        assert value_and_error(result) == pytest.approx((value, 0.5))
        assert result.dof == pytest.approx(0.25**2 / (0.09**2 / 8 + 0.16**2 / 5))  # Welch


def test_products_and_quotients_add_relative_variances():
    a, b = Estimate(-3.0, 0.3, 8), Estimate(2.0, 0.4, 5)
    for result, value in ((a * b, -6.0), (a / b, -1.5)):
        relative = math.hypot(0.1, 0.2)
        assert value_and_error(result) == pytest.approx((value, abs(value) * relative))


def test_numbers_shift_and_scale_an_estimate_and_keep_its_dof():
    e = Estimate(2.0, 0.5, 7)
    expected = {
        "add": (e + 1, 1 + e, 3.0, 0.5),
        "subtract": (e - 1, -(1 - e), 1.0, 0.5),
        "multiply": (e * -2, -2 * e, -4.0, 1.0),
        "divide": (e / 4, 0.25 * e, 0.5, 0.125),
    }
    for first, second, *numbers in expected.values():
        assert first == second
        assert (*value_and_error(first), first.dof) == (*numbers, 7)
    inverse = 6 / e
    assert (inverse.value, inverse.stderr, inverse.dof) == (3.0, 0.75, 7)


def test_the_error_of_arithmetic_is_the_scatter_of_repeats(rng):
    n = 40_000
    a, b = (rng.normal(mean, error, n) for mean, error in ((5.0, 0.1), (4.0, 0.08)))
    first, second = Estimate(5.0, 0.1), Estimate(4.0, 0.08)
    for repeats, result in (
        (a + b, first + second),
        (a - b, first - second),
        (a * b, first * second),
        (a / b, first / second),
    ):
        assert result.stderr == pytest.approx(repeats.std(), rel=SURE / (2 * n) ** 0.5 + 1e-3)


def test_arrays_of_every_library_take_part_in_arithmetic(xp):
    e = Estimate(xp.asarray([1.0, 2.0]), xp.asarray([0.1, 0.2]), 4)
    doubled, shifted, summed = 2 * e, xp.asarray([1.0, 1.0]) * 3 + e, e + e
    np.testing.assert_allclose(as_numpy(doubled.stderr), [0.2, 0.4])
    np.testing.assert_allclose(as_numpy(shifted.value), [4.0, 5.0])
    np.testing.assert_allclose(as_numpy(summed.stderr), np.asarray([0.1, 0.2]) * 2**0.5)
    np.testing.assert_allclose(as_numpy(summed.dof), 8)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda e: float(e),
        lambda e: e < 1,
        lambda e: e >= Estimate(1.0, 0.1),
        lambda e: sorted([e, e]),
        lambda e: bool(e),
        lambda e: "a" + e,
        lambda e: [*e],
        lambda e: e[0],
    ],
)
def test_an_estimate_is_neither_a_number_nor_a_tuple(wrong):
    with pytest.raises(TypeError):
        wrong(Estimate(1.0, 0.1))


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(4.5, 0.96), "4.50 ± 0.96"),
        (Estimate(-1234.4, 56.7), "-1234 ± 57"),
        (Estimate(1.0, 0.0), "1.00 ± 0.00"),
        (Estimate(math.inf, math.inf), "inf ± inf"),
        (Estimate(0.00123456, 0.000012), "0.001235 ± 0.000012"),
        (Estimate(np.arange(2.0), np.ones(2) / 8), "[0, 1] ± [0.125, 0.125]"),
        (Estimate(np.arange(50.0), np.ones(50)), "[0, 1, 2, 3, ...] ± [1, 1, 1, 1, ...]"),
    ],
)
def test_an_estimate_prints_with_the_digits_that_its_error_allows(estimate, text):
    assert f"{estimate}" == str(estimate) == text
    assert repr(estimate) == f"Estimate({text})"


def test_a_format_holds_for_both_numbers():
    assert f"{Estimate(4.5, 0.96):.1f}" == "4.5 ± 1.0"


def test_z_has_a_sign_and_equality_is_that_of_records():
    e = Estimate(4.0, 0.5, 3)
    assert (e.z(5), e.z(3)) == (-2, 2)
    assert e == Estimate(4.0, 0.5, 3) != Estimate(4.0, 0.5, 4)
    assert e != 4.0
    assert pickle.loads(pickle.dumps(e)) == e
    assert len({e, Estimate(4.0, 0.5, 3)}) == 1


@pytest.mark.parametrize("level", [95.0, 0.0, 1.0, -0.5])
def test_a_level_lies_between_zero_and_one(level):
    with pytest.raises(ValueError, match=r"between 0 and 1, as 0\.95 does"):
        Estimate(1.0, 0.1).interval(level)


def test_samples_that_are_numbers_of_rows_stay_integers():
    """As for a statistic that looks up a table of distances."""
    table = np.random.default_rng(0).normal(size=400)
    by_number = with_group_error(lambda rows: table[rows].std(), np.arange(400))
    by_value = with_group_error(np.std, table)
    assert (by_number.value, by_number.stderr) == (by_value.value, by_value.stderr)
