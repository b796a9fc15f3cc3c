"""What the studies of coverage share."""

import numpy as np
import pytest
from scipy.stats import t
from witnesses import SURE

from simulations._intervals import LEVEL, fraction_held, relative_width, slope


@pytest.mark.parametrize("dof", [4.0, 10.9, np.inf])
def test_intervals_of_some_width_are_found_to_have_it(dof):
    for width in (0.5, 1.0, 1.25):
        found = relative_width(fraction_held(width, dof), 10**6, dof)
        np.testing.assert_allclose(found.value, width, rtol=1e-9)
        step = (fraction_held(width + 1e-5, dof) - fraction_held(width - 1e-5, dof)) / 2e-5
        np.testing.assert_allclose(slope(width, dof), step, rtol=1e-6)
    assert fraction_held(1.0, dof) == pytest.approx(LEVEL)


@pytest.mark.parametrize("width", [0.8, 1.3])
def test_the_error_of_the_width_is_that_of_repeats(width, rng):
    """2000 times 400 intervals of normal errors: the mean and the spread of what they imply."""
    hits = abs(rng.normal(size=(2000, 400))) <= width * t.ppf(0.975, np.inf)
    widths = [relative_width(fraction, 400) for fraction in hits.mean(1)]
    values, errors = (np.asarray([getattr(w, a) for w in widths]) for a in ("value", "stderr"))
    assert abs(values.mean() / width - 1) < 0.02  # the curvature of the quantile
    assert abs(values.std() / np.mean(errors) - 1) < 0.08 + SURE / 4000**0.5


def test_intervals_that_all_hold_have_a_finite_width_and_error():
    found = relative_width(1.0, 50)
    assert np.isfinite([found.value, found.stderr]).all()
    assert found.value > 1
    assert np.isfinite(relative_width(0.0, 50).value)
