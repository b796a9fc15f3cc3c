"""Signs and their controls: at which levels they are told."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sgdnoise.core import Estimate
from simulations._signs import chance_claim, dealt_claim, sign, sign_claim


@pytest.mark.parametrize(
    ("z", "outcome"), [(1.99, "holds"), (1.95, "undecided"), (-1.91, "undecided"), (-1.94, "fails")]
)
def test_a_sign_has_its_borders(z, outcome):
    """Of a normal law: one-sided 1/41 lies at 1.972 standard errors, and 1/37 at 1.927."""
    assert sign_claim("", Estimate(0.1 * z, 0.1), "prediction").outcome == outcome
    assert sign_claim("", Estimate(0.1 * z, 0.1, 3), "prediction").outcome == "undecided"
    assert sign(Estimate(-2.0, 0.0)).value == -1


def test_a_sign_of_nothing_is_not_told():
    assert sign_claim("", Estimate(np.nan, np.nan), "prediction").outcome == "undecided"


def test_a_sure_sign_excludes_that_nothing_changes():
    sure, unsure = (sign_claim("", Estimate(z, 1.0), "prediction") for z in (6.0, 2.0))
    assert sure.excluded == {"nothing changes": True, "the opposite": True}
    assert unsure.excluded == {"nothing changes": False, "the opposite": True}


def test_controls_fail_where_something_is_left():
    errors = np.asarray([0.9, 0.91, 0.89, 0.9])
    assert chance_claim("", errors, 1e6, 0.05).outcome == "holds"
    assert chance_claim("", errors - 0.1, 1e6, 0.05).outcome == "fails"
    assert_allclose(chance_claim("", errors + np.nan, 100, 0.05).measured.value, np.nan)
    floor = (0.9 * 0.1 / 4 / 4) ** 0.5
    assert_allclose(chance_claim("", errors, 4, 0.05).measured.stderr, floor)
    row = dealt_claim("", Estimate(0.001, 0.002), 0.4)
    assert row.outcome == "holds"
    assert row.excluded["dealing x 0.5"]
    assert dealt_claim("", Estimate(0.05, 0.002), 0.4).outcome == "fails"
