"""Verdicts: which claims hold or fail, and which these data cannot decide."""

import math
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Verdict,
    exit_status,
    power,
    rivals_of_effect,
    rivals_of_path,
    verdicts_in,
)
from sgdnoise.lab._power import overview_row, overview_table, power_text, shares
from sgdnoise.lab._verdict import (
    HEADINGS,
    row,
    summary,
    with_verdicts,
    without_powerless,
    without_verdicts,
)


def verdict(measured, stderr, *, tolerance=0.5, kind="prediction", predicted=10.0):
    return Verdict("a claim", predicted, Estimate(measured, stderr), kind, tolerance)


@pytest.mark.parametrize(
    ("measured", "stderr", "outcome", "contrast"),
    [
        (10.1, 0.1, "holds", "agrees"),  # 0.1 + 3 x 0.1 is within the tolerance of 0.5
        (9.9, 0.1, "holds", "agrees"),  # the sign does not matter
        (10.3, 0.1, "undecided", "undecided"),  # within it, but not by 3 standard errors
        (10.7, 0.1, "undecided", "undecided"),  # beyond it, but not by 3 standard errors
        (10.9, 0.1, "fails", "differs"),  # 0.9 - 3 x 0.1 is beyond
        (9.1, 0.1, "fails", "differs"),
        (10.0, 0.2, "undecided", "undecided"),  # errors that could hide more than is allowed
        (math.nan, 0.1, "undecided", "undecided"),
        (10.0, math.nan, "undecided", "undecided"),
    ],
)
def test_an_outcome_is_a_test_of_equivalence(measured, stderr, outcome, contrast):
    judged = verdict(measured, stderr)
    assert judged.outcome == outcome
    assert judged.holds == (outcome == "holds")
    rival = verdict(measured, stderr, kind="contrast")
    assert (rival.outcome, rival.holds) == (contrast, False)


def test_rows_without_a_claim_are_not_judged():
    far = verdict(20.0, 0.1, kind="outside")
    observed = replace(far, kind="observation")
    assert [(v.kind, v.outcome) for v in (far, observed)] == [
        ("outside", "-"),
        ("observation", "-"),
    ]
    assert [row(v)[5] for v in (far, observed)] == ["-", "-"]
    near = verdict(10.0, 0.1)
    rival = replace(far, kind="contrast")
    text = summary([near, far, observed, rival])
    assert text == (
        "predictions: 1 holds, 0 fails, 0 undecided; contrasts: 1 differ, 0 agree, 0 undecided; "
        "1 outside the regime; 1 observations"
    )


def test_a_prediction_that_excludes_no_rival_is_an_observation():
    rivals = (("nothing changes", 12.0), ("kappa x 0.5", 10.6))
    judged = replace(verdict(10.1, 0.05), rivals=rivals)
    assert judged.excluded == {"nothing changes": True, "kappa x 0.5": False}
    assert (judged.kind, judged.outcome) == ("prediction", "holds")
    weak = replace(judged, rivals=rivals[1:])
    outside, nameless = replace(weak, kind="outside"), verdict(10.0, 0.1)
    verdicts = [judged, weak, outside, nameless]
    result = without_powerless(verdicts)
    assert result == [judged, replace(weak, kind="observation"), outside, nameless]
    assert power(result) == {"nothing changes": (1, 1), "kappa x 0.5": (0, 1)}
    assert power_text(result) == (
        "predictions that rivals would fail: nothing changes 1 of 1, kappa x 0.5 0 of 1"
    )
    assert power_text([verdict(10.0, 0.1)]) == ""


def test_shares_count_predictions_that_exclude_all_rivals_of_a_kind():
    rivals = rivals_of_effect(lambda f: 10 * f, "noise", ("Gaussian", 10.4), ("other", 12.0))
    assert [name for name, _ in rivals] == [
        *("nothing changes", "noise x 0.5", "noise x 0.8", "noise x 1.25", "noise x 2"),
        *("Gaussian", "other"),
    ]
    strong = replace(verdict(10.0, 0.1), rivals=rivals)
    weak = replace(verdict(10.0, 2.0), rivals=rivals)  # 10 - 3 x 2 is beyond 0.5 but not 5
    assert shares([strong, weak, verdict(1.0, 0.1)]) == (1, 0.5, 1, 0.5, 0)
    without = replace(strong, rivals=rivals[:-2])
    assert shares([strong, without]).others == 0
    assert all(math.isnan(share) for share in shares([verdict(1.0, 0.1)]))
    assert overview_row("a study", [strong, weak, replace(strong, kind="outside")]) == (
        *("a study", "2", "1", "-", "1"),
        *("100", "50", "100", "50", "0"),
    )


def test_the_table_of_studies_is_markdown():
    lines = overview_table({"a study": [verdict(10.0, 0.1)]}).splitlines()
    assert lines[0] == "| study | all | hold | fail | open | none | x 0.5 | x 2 | both | other |"
    assert lines[2] == "| a study | 1 | 1 | - | - | - | - | - | - | - |"


def test_an_effect_without_a_value_names_no_rival():
    assert rivals_of_effect(lambda f: 1 / f if f else math.nan)[0] == ("effect x 0.5", 2.0)


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of prediction"):
        verdict(1.0, 0.1, kind="claim")


def test_a_path_at_another_speed_is_at_another_of_its_times():
    """An exponential, of which half the speed is the square root."""
    times = np.linspace(0, 4, 401)
    rivals = dict(rivals_of_path(times, np.exp(-times), 200))
    assert rivals["nothing changes"] == 1
    assert rivals["kappa x 0.5"] == pytest.approx(np.exp(-1))
    assert rivals["kappa x 2"] == pytest.approx(np.exp(-4))
    assert [*dict(rivals_of_path(times, times, 400))] == [
        "nothing changes",
        "kappa x 0.5",
        "kappa x 0.8",
    ]


def test_deviation_is_given_in_its_unit_in_errors_and_in_per_cent():
    judged = verdict(10.5, 0.25)
    assert (judged.deviation, judged.z, judged.percent) == pytest.approx((0.5, 2.0, 5.0), rel=1e-12)
    assert verdict(-9.0, 0.5, predicted=-10.0).percent == pytest.approx(10)


def test_only_a_claim_inside_its_regime_can_fail_a_study():
    wrong = verdict(20.0, 0.1)
    assert exit_status([verdict(10.0, 0.1), replace(wrong, kind="outside")]) == 0
    assert exit_status([verdict(10.0, 0.1), wrong]) == 1
    assert exit_status([verdict(10.0, 9.0)]) == 0


def test_a_row_fills_the_headings_and_shows_the_digits_the_error_warrants():
    cells = row(verdict(10.4321, 0.012))
    assert len(cells) == len(HEADINGS)
    assert cells[3] == "10.432 ± 0.012"
    assert row(verdict(10.4321, 0.0))[6] == "-"  # exact: no error to count in


def test_verdicts_survive_a_dataset():
    kinds = ("prediction", "outside", "contrast", "observation")
    verdicts = [replace(verdict(10.0, 0.1, kind=kind), name=kind) for kind in kinds]
    verdicts[0] = replace(verdicts[0], rivals=(("nothing changes", 2.0), ("x 2", 20.0)))
    verdicts[1] = replace(verdicts[1], rivals=(("x 2", 4.0),))
    stored = with_verdicts(xr.Dataset({"a": 1}), verdicts)
    assert verdicts_in(stored) == verdicts
    assert without_verdicts(stored).identical(xr.Dataset({"a": 1}))
    assert verdicts_in(stored.drop_dims("rival_name")) == [replace(v, rivals=()) for v in verdicts]
    assert verdicts_in(xr.Dataset()) == []


@pytest.mark.parametrize("predicted", [0.0, 1e-16, -1e-16])
def test_a_negligible_prediction_has_no_per_cent(predicted):
    negligible = Verdict("none", predicted, Estimate(0.03, 0.01), "prediction", 0.1)
    assert math.isnan(negligible.percent)
    assert row(negligible)[7] == "-"
    assert row(replace(negligible, predicted=0.02))[7] == "+50.0"


def test_a_variable_with_the_name_of_a_column_is_refused():
    dataset = xr.Dataset({"predicted": 1.0})
    with pytest.raises(ValueError, match="no variable 'predicted'"):
        with_verdicts(dataset, [verdict(10.0, 0.1)])
