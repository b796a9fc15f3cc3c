"""Verdicts: which claims hold or fail, and which these data cannot decide."""

import math

import pytest
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Verdict, exit_status, verdicts_in
from sgdnoise.lab._verdict import HEADINGS, row, with_verdicts


def verdict(measured, stderr, *, tolerance=0.5, claimed=True, predicted=10.0):
    return Verdict("a claim", predicted, Estimate(measured, stderr), claimed, tolerance)


@pytest.mark.parametrize(
    ("measured", "stderr", "outcome"),
    [
        (10.4, 0.1, "holds"),  # inside what theory allows itself
        (10.7, 0.1, "holds"),  # outside it, but not by 3 standard errors
        (10.9, 0.1, "fails"),  # 0.4 beyond, 4 standard errors
        (9.1, 0.1, "fails"),  # the sign does not matter
        (10.0, 0.2, "undecided"),  # 3 standard errors could hide more than is allowed
        (math.nan, 0.1, "undecided"),
        (10.0, math.nan, "undecided"),
    ],
)
def test_an_outcome_weighs_deviation_error_and_tolerance(measured, stderr, outcome):
    judged = verdict(measured, stderr)
    assert judged.outcome == outcome
    assert judged.holds == (outcome == "holds")


def test_deviation_is_given_in_its_unit_in_errors_and_in_per_cent():
    judged = verdict(10.5, 0.25)
    assert (judged.deviation, judged.z, judged.percent) == pytest.approx((0.5, 2.0, 5.0), rel=1e-12)
    assert verdict(-9.0, 0.5, predicted=-10.0).percent == pytest.approx(10)


def test_only_a_claim_inside_its_regime_can_fail_a_study():
    wrong = verdict(20.0, 0.1)
    assert exit_status([verdict(10.0, 0.1), wrong._replace(claimed=False)]) == 0
    assert exit_status([verdict(10.0, 0.1), wrong]) == 1
    assert exit_status([verdict(10.0, 9.0)]) == 0


def test_a_row_fills_the_headings_and_shows_the_digits_the_error_warrants():
    cells = row(verdict(10.4321, 0.012))
    assert len(cells) == len(HEADINGS)
    assert cells[2] == "10.432 ± 0.012"
    assert row(verdict(10.4321, 0.0))[5] == "-"  # exact: no error to count in


def test_verdicts_survive_a_dataset():
    verdicts = [verdict(10.0, 0.1), verdict(12.0, 0.2, claimed=False)._replace(name="another")]
    assert verdicts_in(with_verdicts(xr.Dataset(), verdicts)) == verdicts
    assert verdicts_in(xr.Dataset()) == []


@pytest.mark.parametrize("predicted", [0.0, 1e-16, -1e-16])
def test_a_negligible_prediction_has_no_per_cent(predicted):
    negligible = Verdict("none", predicted, Estimate(0.03, 0.01), True, 0.1)
    assert math.isnan(negligible.percent)
    assert row(negligible)[6] == "-"
    assert row(negligible._replace(predicted=0.02))[6] == "+50.0"


def test_a_variable_with_the_name_of_a_column_is_refused():
    dataset = xr.Dataset({"predicted": 1.0})
    with pytest.raises(ValueError, match="no variable 'predicted'"):
        with_verdicts(dataset, [verdict(10.0, 0.1)])
