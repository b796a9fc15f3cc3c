"""Options of estimators: discarded ratios, rules for components, ratios about the origin."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from witnesses import LIBRARIES, SURE

from sgdnoise.core import mean
from sgdnoise.dimension import Neighbours, participation_ratio, pca, twonn


def neighbours_of(ratios):
    distances = np.stack([np.ones_like(ratios), ratios], axis=1)
    return Neighbours(None, distances, np.zeros(distances.shape, int))


def pareto(d, shape, rng):
    return rng.uniform(size=shape) ** (-1 / d)


@pytest.mark.parametrize("discard", [0.0, 0.1, 0.5])
def test_discarded_ratios_leave_twonn_without_bias(discard, rng):
    values = [
        twonn(None, discard=discard, neighbours=neighbours_of(row))
        for row in pareto(3, (4000, 20), rng)
    ]
    assert abs(mean(np.asarray(values)).z(3)) < SURE


def test_discarded_ratios_have_the_likelihood_of_a_censored_sample(rng):
    ratios = pareto(2, 50, rng)
    x = np.sort(np.log(ratios))
    expected = 39 / (x[:40].sum() + 10 * x[39])
    assert_allclose(twonn(None, discard=0.2, neighbours=neighbours_of(ratios)), expected)


def test_ratios_of_copies_are_discarded(rng):
    """A twentieth of all ratios takes the place of half of those that are discarded."""
    ratios = pareto(5, 20_000, rng)
    ratios[:1000] = 1e9
    quantile = 0.9 / 0.95  # of the others, up to which they are kept
    edge = -np.log(1 - quantile)
    total = 0.95 * (1 - (1 - quantile) * (1 + edge)) + 0.1 * edge
    robust = twonn(None, discard=0.1, neighbours=neighbours_of(ratios))
    assert abs(robust / (5 * 0.9 / total) - 1) < SURE / 18_000**0.5
    assert twonn(None, neighbours=neighbours_of(ratios)) < 1


def test_the_regression_discards_a_tenth_unless_told_otherwise(rng):
    near = neighbours_of(pareto(2, 200, rng))
    default = twonn(None, fit="regression", neighbours=near)
    assert default == twonn(None, fit="regression", discard=0.1, neighbours=near)
    assert default != twonn(None, fit="regression", discard=0.3, neighbours=near)


@pytest.mark.parametrize("discard", [-0.1, 1.0])
def test_a_fraction_to_discard_is_below_one(discard, rng):
    with pytest.raises(ValueError, match=rf"in \[0, 1\), not {discard}"):
        twonn(rng.normal(size=(20, 2)), discard=discard)


def with_variances(variances, n=4000):
    """Points whose sample covariance is diagonal, with exactly these variances."""
    points = np.random.default_rng(0).normal(size=(n, len(variances)))
    centred = points - points.mean(axis=0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T)).T)
    return white * np.sqrt(variances)


def test_kaiser_counts_components_above_the_mean_variance():
    assert pca(with_variances([4, 1.2, 0.9, 0.5, 0.4]), level="kaiser") == 1
    assert pca(with_variances([2, 1.5, 0.9, 0.4, 0.2]), level="kaiser") == 2
    few = np.concatenate([np.eye(3), np.zeros((3, 9))], axis=1)  # two components in 12 coordinates
    assert pca(few, level="kaiser") == 2


def test_a_broken_stick_has_pieces_whose_means_are_sums_of_fractions():
    """Of 4: 25/48, 13/48, 7/48 and 3/48."""
    assert pca(with_variances([25.5, 13.5, 6, 3]), level="broken stick") == 2
    assert pca(with_variances([24.5, 14.5, 6, 3]), level="broken stick") == 0
    assert pca(with_variances([30, 10, 7.5, 0.5]), level="broken stick") == 1


def test_the_pieces_are_those_of_sticks_broken_at_random(rng):
    cuts = np.sort(rng.uniform(size=(200_000, 3)), axis=1)
    pieces = np.sort(np.diff(cuts, axis=1, prepend=0, append=1), axis=1)[:, ::-1]
    for piece, expected in zip(pieces.T, (25 / 48, 13 / 48, 7 / 48, 3 / 48), strict=True):
        assert abs(mean(piece).z(expected)) < SURE


def test_another_level_is_refused_with_all_names():
    with pytest.raises(ValueError, match="kaiser or broken stick, not 'elbow'"):
        pca(np.eye(4), level="elbow")


def test_a_ratio_about_the_origin_is_that_of_second_moments(rng):
    points = rng.normal(size=(300, 6)) * [3, 2, 1, 1, 1, 1] + 2
    second = np.linalg.eigvalsh(points.T @ points)
    expected = second.sum() ** 2 / (second**2).sum()
    assert_allclose(participation_ratio(points, centred=False), expected)
    assert expected < participation_ratio(points) - 0.5
    for asarray in LIBRARIES.values():
        result = participation_ratio(asarray(points.astype(np.float32)), centred=False)
        assert_allclose(np.asarray(result), expected, rtol=1e-4)


def test_a_ratio_about_the_origin_subtracts_noise(rng):
    """By hand: the mean of x x^T less the noise."""
    points = rng.normal(size=(300, 4)) + 2
    moment = points.T @ points / 300 - 0.5 * np.eye(4)
    expected = np.trace(moment) ** 2 / (moment**2).sum()
    assert_allclose(participation_ratio(points, centred=False, noise=0.5), expected)


def test_a_repeat_about_the_origin_has_one_factor_of_each(rng):
    points, again = rng.normal(size=(2, 100, 3)) + 1
    between = points.T @ again
    expected = np.trace(between) ** 2 / (between**2).sum()
    assert_allclose(participation_ratio(points, again, centred=False), expected)


def test_points_that_coincide_off_the_origin_have_one_direction():
    assert_allclose(participation_ratio(np.ones((5, 3)), centred=False), 1)


@pytest.mark.parametrize("method", ["gaussian", "unbiased"])
def test_unbiased_ratios_are_about_the_mean(method):
    with pytest.raises(ValueError, match="leave centred=True"):
        participation_ratio(np.eye(5), method=method, centred=False)
