"""Claims on the sign of a correlation of dimension with test error, and their controls."""

import numpy as np
from scipy.special import stdtr

from sgdnoise.core import Estimate
from sgdnoise.lab import Verdict, mean_of, rivals_of_effect

SIGN = 1.0, 36 / 37  # predicted, and the tolerance: see `sign`
CHANCE = 0.9  # test error of ten equally likely classes
ERROR, CORRELATION = 0.02, 0.03  # tolerances of the controls


def sign(estimate: Estimate) -> Estimate:
    """The sign of an estimate, +1 or -1, on average, and the standard deviation of the sign.

    With p the probability of +1 by Student's law (one-sided, without prior knowledge): 2 p - 1, and
    (1 - (2 p - 1)^2)^1/2.  A verdict that predicts +1 with a tolerance of 36/37 holds for
    p > 40/41 and fails for p < 1/37: one-sided tests at 2.4% and 2.7%.  Since the tolerance is
    below 1, that nothing changes (0) is excluded where the sign is sure.
    """
    if not estimate.stderr > 0:
        error = 0.0 if np.isfinite(estimate.value) else np.nan
        return Estimate(float(np.sign(estimate.value)), error)
    value = 2 * float(stdtr(estimate.dof, estimate.value / estimate.stderr)) - 1
    return Estimate(value, (1 - value**2) ** 0.5, estimate.dof)


def sign_claim(text: str, estimate: Estimate, kind: str, opposite: str = "the opposite") -> Verdict:
    """That an estimate is positive; opposite: the name of what would make it negative."""
    rivals = ("nothing changes", 0.0), (opposite, -1.0)
    return Verdict(text, SIGN[0], sign(estimate), kind, SIGN[1], rivals)


def chance_error(errors, tested: float) -> Estimate:
    """Mean test error of networks that learned random labels.

    errors: (n,), that of each network on `tested` images.  The standard error is at least that of
    as many random guesses.
    """
    mean = mean_of(errors, skip_missing=True)
    floor = (CHANCE * (1 - CHANCE) / tested / len(errors)) ** 0.5
    return Estimate(mean.value, max(mean.stderr, floor), mean.dof)


def chance_claim(text: str, errors, tested: float, true: float) -> Verdict:
    """That such networks guess.  true: the test error of networks that learned the true labels."""

    def effect(factor):
        error = true + factor * (CHANCE - true)
        return error if error <= 1 else np.nan

    rivals = rivals_of_effect(effect, "shuffling")
    return Verdict(text, CHANCE, chance_error(errors, tested), "prediction", ERROR, rivals)


def dealt_claim(text: str, measured: Estimate, paired: float) -> Verdict:
    """That test errors dealt at random leave no correlation.  paired: what was there before."""
    rivals = rivals_of_effect(lambda factor: (1 - factor) * paired, "dealing")
    return Verdict(text, 0.0, measured, "prediction", CORRELATION, rivals)
