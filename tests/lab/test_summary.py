"""Means and settings of a result, estimates as variables, and tables of sizes."""

import numpy as np
import pytest
import xarray as xr

from sgdnoise.core import Estimate, mean
from sgdnoise.lab import (
    estimate_in,
    estimate_variables,
    mean_of,
    merge_sweeps,
    settings_of,
    size_table,
)


def test_a_mean_is_that_of_the_package_as_floats(rng):
    values = rng.normal(size=12).astype("f")
    expected = mean(values.astype(float))
    estimate = mean_of(values)
    assert (estimate.value, estimate.stderr, estimate.dof) == (expected.value, expected.stderr, 11)
    assert type(estimate.value) is type(estimate.stderr) is float
    gaps = np.append(values, np.nan)
    assert mean_of(gaps, skip_missing=True) == estimate
    assert np.isnan(mean_of(gaps).value)
    with pytest.raises(ValueError, match="at least 2 samples"):
        mean_of(values[:1])


def test_estimates_are_read_as_they_were_stored():
    estimates = [Estimate(1.0, 0.1), Estimate(2.0, 0.2)]
    dataset = xr.Dataset(
        estimate_variables("growth", estimates, "rate") | estimate_variables("time", estimates[0])
    )
    second = estimate_in(dataset.isel(rate=1), "growth")
    assert (second.value, second.stderr) == (2.0, 0.2)
    assert estimate_in(dataset, "time").stderr == 0.1


def test_settings_come_in_the_order_of_their_axes():
    axes = {"batch": [1, 4], "rate": [0.1, 0.2]}
    dataset = xr.Dataset({"loss": (("rate", "batch"), [[0.0, 1.0], [2.0, 3.0]])}, axes)
    pairs = [(values, float(data.loss)) for values, data in settings_of(dataset, "batch", "rate")]
    assert pairs == [((1, 0.1), 0.0), ((1, 0.2), 2.0), ((4, 0.1), 1.0), ((4, 0.2), 3.0)]
    assert [value for value, _ in settings_of(dataset, "batch")] == [1, 4]


def test_sweeps_with_different_axes_are_merged():
    parts = {
        "a": xr.Dataset({"x": ("rate", [1.0])}, {"rate": [0.1]}),
        "b": xr.Dataset({"y": ("width", [2.0, 3.0])}, {"width": [1, 2]}),
    }
    assert dict(merge_sweeps(parts).sizes) == {"rate": 1, "width": 2}


def test_a_table_of_sizes_has_one_column_for_each():
    full, small = size_table({"chains": (100, 10), "seeds": (4, 2)})
    assert full == {"chains": 100, "seeds": 4}
    assert small == {"chains": 10, "seeds": 2}
    with pytest.raises(ValueError, match="zip"):
        size_table({"chains": (100, 10), "seeds": (4,)})
