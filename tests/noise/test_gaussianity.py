"""Whether noise is Gaussian: p-values uniform if it is, power, and every number by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import kstest, kurtosis, norm
from witnesses import SURE

from sgdnoise.core import GradientMatrix, Gram, mean
from sgdnoise.noise import gaussianity
from sgdnoise.noise._measure._gaussianity import _null

UNLIKELY = 5.7e-7  # what a right test falls below one run in 1.7 million, as SURE
DRAWS = 99


def coloured(p, rng):
    """A covariance over eight decades, and a mean."""
    basis = np.linalg.qr(rng.normal(size=(p, p)))[0]
    return np.exp(rng.normal(size=p) * 2)[:, None] * basis, 10 * rng.normal(size=p)


def p_values(results):
    """All p-values of repeats, each spread over the step of 1 / (draws + 1) that it stands for."""
    rows = [
        (g.p, g.energy_p, g.worst_p, g.mardia_p, g.projection_p[0], g.projection_p[-1])
        for g in results
    ]
    return np.asarray(rows)


@pytest.mark.parametrize(("m", "p"), [(24, 60), (12, 5), (60, 2), (9, 200)])
def test_p_values_are_uniform_for_gaussian_noise_of_any_covariance(m, p, rng):
    root, center = coloured(p, rng)
    results = [
        gaussianity(rng.normal(size=(m, p)) @ root + center, draws=DRAWS, rng=rng)
        for _ in range(250)
    ]
    result = p_values(results)
    deviation = result - rng.uniform(size=result.shape) / (DRAWS + 1)
    for column in deviation.T:
        assert kstest(column, "uniform").pvalue > UNLIKELY
    assert abs(np.mean(result <= 0.1) - 0.1) < SURE * (0.09 / 250) ** 0.5


@pytest.mark.parametrize(("m", "k"), [(24, 6), (9, 2), (40, 1)])
def test_the_null_has_the_mean_and_variance_that_mardia_derived(m, k):
    """k (k + 2) (m - 1) / (m + 1): frames are orthonormal, not only of unit columns."""
    fourth = _null(m, k, 4000, 0)[1][:, 2]
    result = mean(fourth)
    assert abs(result.z(k * (k + 2) * (m - 1) / (m + 1))) < SURE
    variance = 8 * k * (k + 2) * (m - 3) * (m - k - 1) * (m - k + 1)
    variance = variance / ((m + 1) ** 2 * (m + 3) * (m + 5))
    error = ((kurtosis(fourth) + 2) / 4000) ** 0.5
    assert abs(fourth.var(ddof=1) / variance - 1) < SURE * error


def test_heavy_tails_and_skewness_are_found_and_each_projection_sees_them(rng):
    for sample in (rng.standard_t(3, size=(300, 2)), rng.exponential(size=(300, 2))):
        result = gaussianity(sample)
        assert max(result.p, result.energy_p, result.worst_p, result.mardia_p) < 0.01
        assert np.all(result.projection_p < 0.05)
        assert np.all(result.kurtosis.value > 2 * result.kurtosis.stderr)


def test_a_scale_that_a_row_shares_shows_in_any_projection(rng):
    """Two scales, 1 and 3 half of the time each: Var(s^2) / (E s^2)^2 = 16 / 25."""
    repeats = []
    for _ in range(60):
        scales = rng.choice([1.0, 3.0], size=(400, 1))
        result = gaussianity(rng.normal(size=(400, 100)) * scales, draws=19, projections=4)
        assert result.mardia_p == 1 / 20
        repeats.append(result.mardia.value)
    value = mean(np.asarray(repeats))
    assert abs(value.value - 16 / 25) < SURE * value.stderr + 0.01  # whitening costs O(1 / m)


def test_sums_over_a_batch_become_gaussian_as_one_over_the_batch(rng):
    scales = rng.choice([1.0, 3.0], size=(60, 400, 8, 1))
    examples = rng.normal(size=(60, 400, 8, 2)) * scales
    result = {}
    for batch in (1, 8):
        sums = examples[:, :, :batch].sum(2)
        result[batch] = mean(np.asarray([gaussianity(x, draws=1).mardia.value for x in sums]))
    ratio = result[8].value * 8 / result[1].value
    assert abs(ratio - 1) < SURE * math.hypot(*(f.stderr / f.value for f in result.values()))


def test_independent_coordinates_hide_from_projections(rng):
    """The central limit theorem, here of 4000 exponential numbers: no proof of Gaussian noise."""
    wide = [gaussianity(rng.exponential(size=(200, 4000)), draws=DRAWS).p for _ in range(10)]
    assert min(wide) > 0.01
    assert gaussianity(rng.exponential(size=(200, 4)), draws=DRAWS).p == 1 / (DRAWS + 1)


def test_power_grows_with_the_samples(rng):
    shares = []
    for m in (50, 800):
        p = [gaussianity(rng.laplace(size=(m, 1)), draws=DRAWS).p for _ in range(25)]
        shares.append(np.mean(np.asarray(p) <= 0.05))
    assert shares[0] < 0.95
    assert shares[1] == 1


def test_the_energy_distance_is_that_of_its_definition(rng):
    x = rng.gamma(3, size=(20, 1))
    y = (x[:, 0] - x.mean()) / x.std()
    to_normal = [quad(lambda z, a=a: abs(a - z) * norm.pdf(z), -12, 12, points=[a])[0] for a in y]
    among = np.mean([abs(a - b) for a in y for b in y])
    expected = 2 * np.mean(to_normal) - 2 / np.sqrt(np.pi) - among
    assert_allclose(gaussianity(x, draws=1).energy, expected, rtol=1e-6)  # as quad has it


def test_kurtosis_and_mardia_are_those_of_their_definitions(rng):
    x = rng.gamma(3, size=(50, 3))
    centred = x - x.mean(0)
    inverse = np.linalg.inv(centred.T @ centred / 50)
    fourth = np.mean([(row @ inverse @ row) ** 2 for row in centred])
    result = gaussianity(x, draws=1)
    assert_allclose(result.mardia.value, fourth / (3 * 5) * 51 / 49 - 1, rtol=1e-9)
    alone = gaussianity(x[:, :1], draws=1)
    assert_allclose(alone.kurtosis.value, kurtosis(x[:, 0], bias=False), rtol=1e-9)


@pytest.mark.parametrize("law", ["normal", "uniform", "laplace"])
def test_errors_of_kurtosis_and_mardia_are_the_spread_of_repeats(law, rng):
    """Laplace's law has heavier moments, whose estimates lag: 15% is granted."""
    result = [gaussianity(getattr(rng, law)(size=(1000, 2)), draws=1) for _ in range(200)]
    for name in ("kurtosis", "mardia"):
        row = [getattr(g, name) for g in result]
        value = np.asarray([np.ravel(e.value)[0] for e in row])
        claimed = np.mean([np.ravel(e.stderr)[0] ** 2 for e in row]) ** 0.5
        if name == "mardia" or law == "normal":  # else each direction has its own kurtosis
            tails = kurtosis(value) / 200
            allowed = SURE * (1 / 400 + max(0, tails) / 4) ** 0.5 + 0.15 * (law == "laplace")
            if law != "uniform":  # whose spread is below that of normal noise, which is claimed
                assert abs(claimed / value.std(ddof=1) - 1) < allowed
            else:
                assert claimed > value.std(ddof=1) * (1 - allowed)


def test_for_gaussian_noise_kurtosis_and_mardia_have_no_bias(rng):
    result = [gaussianity(rng.normal(size=(16, 2)), draws=1) for _ in range(1500)]
    for name in ("kurtosis", "mardia"):
        value = mean(np.asarray([np.ravel(getattr(g, name).value)[0] for g in result]))
        assert abs(value.z(0)) < SURE
        claimed = np.ravel(getattr(result[0], name).stderr)[0]
        deviation = value.stderr * 1500**0.5
        assert claimed > deviation * 0.9


@given(seed=integers(0, 2**32 - 1), shift=floats(-1e3, 1e3), decades=floats(0, 4))
def test_affine_maps_change_nothing_where_all_directions_are_seen(seed, shift, decades):
    """Up to rounding: a condition number of 1e4 costs four digits."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(4, size=(40, 3))
    map_ = np.linalg.qr(rng.normal(size=(3, 3)))[0] * 10 ** np.asarray([0, decades, decades / 2])
    before, after = gaussianity(x, draws=19), gaussianity(x @ map_ + shift, draws=19)
    assert_allclose(after.mardia.value, before.mardia.value, rtol=1e-6, atol=1e-8)
    assert after.mardia_p == before.mardia_p


def test_every_library_sees_the_same(xp, rng):
    x = rng.standard_t(3, size=(60, 30))
    here, there = gaussianity(x, draws=19), gaussianity(xp.asarray(x), draws=19)
    assert there.p == here.p
    assert_allclose(there.kurtosis.value, here.kurtosis.value, rtol=1e-7, atol=1e-9)


def test_the_same_seed_says_the_same_and_no_p_value_is_zero(rng):
    x = rng.standard_t(2, size=(100, 12))
    first, two = gaussianity(x, rng=3), gaussianity(x, rng=3)
    assert first.p == two.p == 1 / 500
    assert_allclose(first.projection_p, two.projection_p)
    assert len(first.projection_p) == 8
    assert first.projection_p.min() == 1 / 500


def test_directions_in_which_nothing_varies_are_left_out(rng):
    x = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 30))
    assert len(gaussianity(x, draws=1).projection_p) == 2
    assert len(gaussianity(x.astype(np.float32), draws=1).projection_p) == 2


def test_what_has_no_shape_is_refused(rng):
    x = rng.normal(size=(20, 3))
    with pytest.raises(ValueError, match="needs 8 samples, not 7"):
        gaussianity(x[:7])
    with pytest.raises(ValueError, match="not finite"):
        gaussianity(np.where(x > 1, np.nan, x))
    with pytest.raises(ValueError, match="20 samples do not differ"):
        gaussianity(np.ones((20, 3)))
    with pytest.raises(ValueError, match="not 0 and 499"):
        gaussianity(x, projections=0)
    with pytest.raises(ValueError, match="not 8 and 0"):
        gaussianity(x, draws=0)


def test_of_a_covariance_the_gradients_of_its_examples_are_looked_at():
    rows = np.random.default_rng(5).normal(size=(60, 5))
    result = gaussianity(Gram(GradientMatrix(rows), 1 / 60), projections=3, rng=1)
    drawn = np.random.default_rng(1).normal(size=(5, 3))
    expected = gaussianity(rows @ drawn, projections=3, rng=2)
    np.testing.assert_allclose(result.energy, expected.energy, rtol=1e-12)
    assert gaussianity(Gram(GradientMatrix(rows**9), 1 / 60)).p < 0.01 < result.p
