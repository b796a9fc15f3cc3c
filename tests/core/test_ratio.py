"""A ratio whose denominator may vanish: what it prints, stores, and does in arithmetic."""

import math
import pickle
from functools import partial

import pytest

from sgdnoise.core import Estimate, Ratio
from sgdnoise.core._dataset import as_dataset, as_numbers


def ends(level, low, high):  # noqa: ARG001 - the same at each level
    return low, high


KNOWN = Ratio(20.0, 4.0, 30, partial(ends, low=13.0, high=40.0))
UNKNOWN = Ratio(math.inf, math.inf, 30, partial(ends, low=12.34, high=math.inf))


def test_a_resolved_ratio_prints_as_an_estimate_does():
    assert str(KNOWN) == str(Estimate(20.0, 4.0))
    assert f"{KNOWN:.1f}" == "20.0 ± 4.0"
    assert repr(KNOWN) == "Ratio(20.0 ± 4.0)"


def test_one_that_is_not_resolved_says_so_and_how_large_it_is_at_least():
    assert str(UNKNOWN) == "not resolved, above 12.3 (95%)"
    assert f"{UNKNOWN:.2f}" == "not resolved, above 12.34 (95%)"
    assert not UNKNOWN.resolved
    assert KNOWN.resolved


def test_intervals_are_those_of_its_limits_or_else_of_student():
    assert KNOWN.interval() == (13.0, 40.0)
    assert UNKNOWN.interval(0.5) == (12.34, math.inf)
    assert Ratio(20.0, 4.0, 30).interval(0.9) == Estimate(20.0, 4.0, 30).interval(0.9)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_probability(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        UNKNOWN.interval(level)


def test_arithmetic_gives_an_estimate_with_the_error_to_first_order():
    half = KNOWN / 2
    assert type(half) is Estimate
    assert (half.value, half.stderr) == (10.0, 2.0)


def test_it_survives_pickling():
    copy = pickle.loads(pickle.dumps(UNKNOWN))
    assert copy == UNKNOWN
    assert copy.interval() == UNKNOWN.interval()


def test_a_logger_gets_the_interval_and_infinity_where_nothing_is_resolved():
    numbers = as_numbers({"scale": KNOWN, "other": UNKNOWN})
    assert numbers["scale", None] == 20.0
    assert (numbers["scale_low", None], numbers["scale_high", None]) == (13.0, 40.0)
    assert (numbers["other", None], numbers["other_low", None]) == (math.inf, 12.34)


def test_a_dataset_holds_the_interval():
    data = as_dataset({0: {"scale": UNKNOWN}, 5: {"scale": KNOWN}})
    assert data.scale_low.values.tolist() == [12.34, 13.0]
    assert data.scale_high.values.tolist() == [math.inf, 40.0]
