"""What is claimed of the stationary covariance, and the numbers beside it."""

import math

import numpy as np
import xarray as xr

from sgdnoise.lab import Table, Verdict, mean_of, prediction_if, rivals_of_effect
from simulations.stationary._cases import CASES, COMMON_FORMULA, P, setup

TITLE = "The stationary covariance of noisy descent, predicted and measured"
LEAD = (
    "Measured: the mean over many chains of theta^T P^-1 theta / p, P the predicted covariance "
    "of theta: 1 if P is right, and nothing is fitted.",
    "Each formula that is often used in its place stands beside it, outside of its regime.",
)
TOLERANCE = 0.02
# Above this fraction of noise that comes from theta's own variance, the fourth moments of theta are
# too large for the standard error of a variance.
FEEDBACK = 0.5


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The measured over the predicted variance of each case, and over one often used."""
    judged = []
    for name in results.case.values.tolist():
        at = results.sel(case=name)
        kind = prediction_if(not float(at.get("feedback", math.nan)) >= FEEDBACK)
        measured = mean_of(at.square)
        formula = COMMON_FORMULA[CASES[name].algorithm]
        theory = setup(CASES[name])
        common = np.trace(np.linalg.solve(theory.covariance, theory.common)) / P
        rivals = rivals_of_effect(1.0, "noise", (formula, float(common)))
        judged.append(Verdict(f"{name}: spread", 1.0, measured, kind, TOLERANCE, rivals))
        text = f"{name}: spread, {COMMON_FORMULA[CASES[name].algorithm]}"
        judged.append(Verdict(text, 1.0, mean_of(at.often), "contrast", TOLERANCE))
    return judged


def tables(results: xr.Dataset) -> list[Table]:
    """Traces, and the entry of the whitened covariance that is farthest from its value."""
    rows = []
    for name in results.case.values.tolist():
        at, case = results.sel(case=name), CASES[name]
        rows.append(
            (
                name,
                f"{case.rate:g}",
                f"{case.momentum:g}",
                f"{np.trace(setup(case).covariance):.4g}",
                f"{float(at.measured_trace):.4g}",
                f"{float(at.worst):.1f}",
                f"{float(at.steps):.0f}",
            )
        )
    headings = ("case", "rate", "momentum", "Tr S predicted", "measured", "worst entry, s.e.")
    caption = f"{int(results.chains[0]):,} chains; one of {P * (P + 1) // 2} entries is the worst"
    return [Table(caption, (*headings, "steps"), rows)]
