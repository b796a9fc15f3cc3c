"""The study of estimates: its sums by hand, its smallest run, and what it makes of bad input."""

from collections import Counter

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import norm
from scipy.stats import t as student
from witnesses import SURE

from sgdnoise.core import mean, with_group_error
from sgdnoise.dimension import ERROR_GROUPS, ESTIMATORS
from sgdnoise.lab import Session
from simulations.calibration import claims, study
from simulations.calibration import figure as drawing


def result(values, true):
    return xr.Dataset(
        {"found": (("by", "manifold"), np.asarray([values])), "true": ("manifold", true)},
        {"by": ["learned"]},
    )


def test_a_percentage_error_counts_failures_and_wild_values_as_one_hundred():
    results = result([11.0, 4.0, np.nan, 30.0], [10.0, 5.0, 2.0, 10.0])
    assert float(claims.percentage_error(results)) == pytest.approx((10 + 20 + 100 + 100) / 4)


def bars(rng, reach):
    """Normal values of unit spread with intervals of this reach, 2 x 5 repeats of 1000 clouds."""
    axes = ("estimator", "block", "member")
    value = rng.normal(size=(1000, 2, 5))
    datasets = {
        "value": value,
        "error": np.full_like(value, 0.5),
        "reach": np.full_like(value, reach),
    }
    return xr.Dataset({name: (axes, dataset) for name, dataset in datasets.items()})


@pytest.mark.parametrize("reach", [1.0, 1.96])
def test_intervals_hold_as_often_as_they_would_about_the_true_mean(reach, rng):
    """Though the mean over 10 repeats is nearer to each than the true one by 5%."""
    summed = study.summary(bars(rng, reach))
    expected = 2 * norm.cdf(reach) - 1
    assert abs(mean(summed.covered.values).z(expected)) < SURE
    assert set(summed.repeats.values) == {10}
    assert set(summed.claimed_error.values) == {0.5}
    assert abs(mean(summed.spread.values**2).z(1)) < SURE


def test_repeats_that_were_not_run_count_for_nothing(rng):
    full = bars(rng, 1.0)
    full.value[:, 1, :] = np.nan
    full.reach[1, 0, 1:] = np.nan  # one is left, of which there is no spread
    summed = study.summary(full)
    assert summed.repeats.values[:3].tolist() == [5, 0, 5]
    assert np.isnan(summed.covered.values[1])


def shares(name, repeats, covered):
    """A result of one estimator on some clouds."""
    axes = ("estimator", "cloud")
    columns = {"repeats": (axes, [repeats]), "covered": (axes, [covered])}
    return xr.Dataset(columns, {"estimator": [name]})


def test_the_share_of_an_estimator_counts_every_interval_once():
    """90 of 100 and 8 of 20: 98 of 120, whose width is a quantile of Student's law."""
    result = claims.coverage(shares("twonn", [100, 20, 0], [0.9, 0.4, np.nan]), "twonn")
    fraction, law = 98 / 120, student(claims.degrees_of_freedom("twonn"))
    width = law.ppf((1 + fraction) / 2) / law.ppf(0.975)
    np.testing.assert_allclose(result.measured.value, width, rtol=1e-12)
    error = (fraction * (1 - fraction) / 120) ** 0.5
    expected = error / (2 * law.ppf(0.975) * law.pdf(width * law.ppf(0.975)))
    np.testing.assert_allclose(result.measured.stderr, expected, rtol=1e-9)
    held = 2 * law.cdf((1 - result.tolerance) * law.ppf(0.975)) - 1
    assert held == pytest.approx(0.95 - 0.015, abs=3e-3)  # the slope is that at a width of 1
    assert (result.predicted, result.kind) == (1.0, "prediction")


@pytest.mark.parametrize(
    ("repeats", "covered", "half", "twice"),
    [(135, 0.95, True, True), (135, 0.7, False, True), (2160, 0.9985, True, False)],
)
def test_a_hundred_intervals_tell_half_and_twice_the_width(repeats, covered, half, twice):
    """As the percentage does not: 3 standard errors below 95% of 135 intervals are 89%."""
    result = claims.coverage(shares("danco", [repeats], [covered]), "danco")
    assert (result.excluded["width x 0.5"], result.excluded["width x 2"]) == (half, twice)


def test_the_degrees_of_freedom_are_those_of_the_groups():
    default, smooth = (claims.degrees_of_freedom(name) for name in ("twonn", "stable_rank"))
    assert default == pytest.approx(10.8, abs=0.1)
    assert smooth > 2 * default


def test_sharing_neighbours_changes_no_value_and_no_error(rng):
    points = rng.normal(size=(250, 3))
    names = ("twonn", "levina_bickel", "ess", "participation_ratio", "stable_rank")
    values = dict(zip(ESTIMATORS, study._bars_of(points, names), strict=True))
    for name in names:
        expected = with_group_error(ESTIMATORS[name], points, **ERROR_GROUPS.get(name, {}))
        reach = expected.interval()[1] - expected.value
        np.testing.assert_allclose(
            values[name], [expected.value, expected.stderr, reach], rtol=1e-9
        )
    assert np.isnan(values["danco"]).all()  # was not asked for


@pytest.mark.parametrize("repeats", [2, 8, 240])
def test_every_estimator_is_measured_in_two_repeats_at_least_and_quick_ones_in_all(repeats):
    times = Counter(
        name for repeat in range(repeats) for name in study._measured_in(repeat, repeats)
    )
    assert set(times) == set(ESTIMATORS)
    assert set(study.REPEAT_INTERVAL) < set(ESTIMATORS)
    for name in ESTIMATORS:
        assert times[name] == max(2, -(-repeats // study.REPEAT_INTERVAL.get(name, 1)))


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process, one cloud standing for all."""
    near = study.accuracy(300, "clean", 0, calibrated=False)
    sets = xr.concat([near, near], "seed").expand_dims(points=[300], change=["clean"])
    dataset = xr.concat([study.coverage("torus", 2, 0, repeats=2, size=210)], "block")
    datasets = [dataset.expand_dims(cloud=[cloud], d=[2]) for cloud in study.MANIFOLDS]
    repeated = study.summary(xr.combine_by_coords(datasets))
    return xr.merge([sets, repeated])


def test_the_methods_of_an_estimator_are_those_that_use_it():
    assert list(study.methods_of(("twonn",), True)) == ["twonn", "calibrated twonn"]
    assert list(study.methods_of(("learned",), False)) == ["learned", "learned, noisy"]
    assert not study.methods_of(("stable_rank",), True)
    assert list(study.methods_of(tuple(ESTIMATORS), True)) == list(study.methods(True))


@pytest.mark.slow
def test_estimators_measured_again_are_as_in_a_whole_run_and_the_others_as_before(small):
    names = ["twonn", "stable_rank"]
    again = study.accuracy(300, "clean", 0, calibrated=False, names=("twonn",))
    assert again.by.values.tolist() == ["twonn"]
    again = xr.concat([again, again], "seed").expand_dims(points=[300], change=["clean"])
    dataset = study.coverage("torus", 2, 0, repeats=2, size=210, names=names)
    datasets = [dataset.expand_dims(cloud=[cloud], d=[2], block=[0]) for cloud in study.MANIFOLDS]
    repeated = study.summary(xr.combine_by_coords(datasets)).sel(estimator=names)
    before = small.copy(deep=True)
    before["mean"].loc[{"estimator": names}] = np.nan
    before["found"].loc[{"by": "twonn"}] = np.nan
    result = study.renewed(before.assign_attrs(commit="abc"), again, repeated)
    xr.testing.assert_allclose(result, small)
    assert result.attrs == {"before_commit": "abc"}
    unchanged = study.renewed(small, None, repeated)
    xr.testing.assert_allclose(unchanged, small)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"only": ["kaiser"]}, "there is no estimator 'kaiser'; there are"),
        ({"only": ["twonn"], "repeats": 10}, "at the full size"),
        ({"seeds": 1}, "seeds must be at least 2, not 1"),
        ({"repeats": 0}, "repeats must be at least 2, not 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.study.parameters("full", Session(tmp_path), changes)


def test_one_estimator_is_measured_again_at_the_full_size_alone(tmp_path):
    with pytest.raises(ValueError, match="at the full size"):
        study.study.parameters("small", Session(tmp_path), {"only": ["twonn"]})


def test_the_smallest_run_is_judged_and_drawn(small):
    verdicts = claims.verdicts(small)
    assert len(verdicts) == 1 + len(ESTIMATORS)
    values_of_claims = [
        v.measured.value for v in verdicts if "geodesic" not in v.name
    ]  # refuses few points
    assert np.isfinite(values_of_claims).all()
    for caption, figure in drawing.figures(small).values():
        assert caption.endswith(".")
        assert isinstance(figure, Figure)
        assert all(ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes)
    for table in claims.tables(small):
        assert all(len(row) == len(table.headings) for row in table.rows)
