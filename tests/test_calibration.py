"""The study of estimates: its sums by hand, its smallest run, and what it makes of bad input."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from witnesses import SURE

from paper.figures import calibration as picture
from sgdnoise.dimension import ESTIMATORS
from simulations import calibration as study


def found(values, true):
    return xr.Dataset(
        {"found": (("by", "manifold"), np.asarray([values])), "true": ("manifold", true)},
        {"by": ["learned"]},
    )


def test_a_percentage_error_counts_failures_and_wild_values_as_one_hundred():
    results = found([11.0, 4.0, np.nan, 30.0], [10.0, 5.0, 2.0, 10.0])
    assert float(study.percentage_error(results)) == pytest.approx((10 + 20 + 100 + 100) / 4)


def bars(rng, width, claimed):
    """Values of which 95% lie within 1.96 `width`, and what they claim."""
    value = rng.normal(size=(1, 2, 5000)) * width
    axes = ("estimator", "block", "member")
    return xr.Dataset(
        {"value": (axes, value), "error": (axes, np.full_like(value, claimed))},
        {"estimator": ["one"]},
    )


def test_true_error_bars_hold_as_often_as_students_law_says(rng):
    """With 40 degrees of freedom an interval reaches 2.02 errors: 95.7% of a known normal law."""
    from scipy.stats import norm, t

    for ratio in (1.0, 0.8):
        summed = study.summarised(bars(rng, 2.0, 2.0 * ratio)).isel(estimator=0)
        expected = 2 * norm.cdf(ratio * t.ppf(0.975, 40)) - 1
        error = (expected * (1 - expected) / 10_000) ** 0.5
        assert abs(float(summed.covered) - expected) < SURE * error
        assert float(summed.repeats) == 10_000
        assert float(summed.claimed_error / summed.spread) == pytest.approx(ratio, rel=SURE * 0.007)


def test_repeats_that_were_not_run_count_for_nothing(rng):
    full = bars(rng, 1.0, 1.0)
    full.value[0, 1, :] = np.nan
    assert float(study.summarised(full).repeats[0]) == 5000


def test_sharing_neighbours_changes_no_value_and_no_error(rng):
    from sgdnoise.estimate import grouped

    points = rng.normal(size=(250, 3))
    values = dict(zip(ESTIMATORS, study._measured(points, False), strict=True))
    for name in ("twonn", "levina_bickel", "ess"):
        expected = grouped(ESTIMATORS[name], points)
        np.testing.assert_allclose(values[name], expected[:2], rtol=1e-9)
    assert np.isnan(values["danco"]).all()  # not in every repeat


@pytest.fixture(scope="module")
def small():
    """The smallest run, in this process."""
    size = study.SMALL._replace(repeats=4)
    near = study.accuracy(300, "clean", 0, calibrated=False)
    sets = xr.concat([near, near], "seed").expand_dims(points=[300], change=["clean"])
    parts = [
        xr.concat([study.coverage(c, 2, 0, size=size)], "block").expand_dims(cloud=[c], d=[2])
        for c in study.CLOUDS
    ]
    repeated = study.summarised(xr.combine_by_coords(parts))
    return xr.merge([sets, repeated])


def test_the_smallest_run_is_judged_and_drawn(small):
    verdicts = study.verdicts(small)
    assert len(verdicts) == 1 + len(ESTIMATORS)
    told = [v.measured.value for v in verdicts if "geodesic" not in v.name]  # refuses few points
    assert np.isfinite(told).all()
    for caption, figure in picture.figures(small).values():
        assert caption.endswith(".")
        assert isinstance(figure, Figure)
        assert all(ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes)
    for table in study.tables(small):
        assert all(len(row) == len(table.headings) for row in table.rows)


def test_one_seed_has_no_error():
    with pytest.raises(SystemExit) as ended:
        study.main(small=True, seeds=1)
    assert ended.value.code == 2
