"""Means and groups: the values, and whether the errors they claim are true."""

import numpy as np
import pytest
from witnesses import SURE, torus

from sgdnoise.dimension import levina_bickel, twonn
from sgdnoise.estimate import Estimate, grouped, mean


def test_the_mean_and_its_error_are_numpys(xp, rng):
    samples = rng.normal(size=(50, 3))
    found = mean(xp.asarray(samples))
    np.testing.assert_allclose(np.asarray(found.value), samples.mean(0), rtol=1e-12)
    expected = np.sqrt(np.cov(samples.T).diagonal() / 50)
    np.testing.assert_allclose(np.asarray(found.stderr), expected, rtol=1e-12)


def test_the_mean_lies_within_its_error_of_the_truth_as_often_as_a_normal_one(rng):
    """z^2 of 5000 means of 100 numbers: its mean is 99 / 97, that of the square of Student's t."""
    found = mean(rng.exponential(size=(100, 5000)) * rng.choice([-1, 1], size=(100, 5000)))
    assert mean(found.distance(0) ** 2).distance(99 / 97) < SURE


def test_distance_counts_standard_errors(xp):
    found = Estimate(xp.asarray([1.0, 5.0]), xp.asarray([0.5, 2.0])).distance(2.0)
    np.testing.assert_allclose(np.asarray(found), [2.0, 1.5], rtol=1e-15)


def test_the_groups_of_a_mean_give_the_error_of_group_means(xp, rng):
    samples = rng.normal(size=60)
    found = grouped(xp.mean, xp.asarray(samples), groups=6)
    parts = samples.reshape(10, 6).mean(0)
    np.testing.assert_allclose(float(found.value), samples.mean(), rtol=1e-12)
    np.testing.assert_allclose(float(found.stderr), parts.std(ddof=1) / 6**0.5, rtol=1e-12)


def test_every_sample_falls_into_one_group():
    seen = []
    grouped(lambda part: seen.append(part) or 0.0, np.arange(23.0), groups=5)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen[:5])), np.arange(23.0))
    np.testing.assert_array_equal(seen[5], np.arange(23.0))


@pytest.mark.parametrize("estimator", [twonn, levina_bickel])
def test_the_claimed_error_is_the_spread_of_repeats(estimator, rng):
    """60 claims from 20 groups each know the error to 2%, 60 repeats know the spread to 9%.

    A cloud of 50 points spends more of them on its neighbourhoods than one of 1000: 200 repeats
    put the claim of levina_bickel, with its 10 neighbours, at 1.16 of the spread, twonn's at 1.04.
    """
    repeats = [grouped(estimator, torus(2, 1000, rng)) for _ in range(60)]
    claimed = np.mean([r.stderr for r in repeats])
    assert abs(claimed / np.std([r.value for r in repeats], ddof=1) - 1) < SURE * 0.09
