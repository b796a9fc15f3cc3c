"""What is claimed of modified losses: orders of distances, and stationary means."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, prediction_if, rivals_of_effect

TITLE = "Modified losses: what a finite learning rate adds to the loss"
LEAD = (
    "Orders: how fast the mean of a step or an epoch leaves a flow as the rate is halved, three "
    "times; their slopes are extrapolated to rate zero, the error is what the last halving still "
    "changed, and the tolerance is 0.02.  A loss that is right to second order shows 3, another 2.",
    "Stationary: the mean of linear regression at the ends of epochs, along the predicted shift; "
    "exact to 2%, to first order to a quarter of steps x rate x curvature of an epoch, claimed up "
    "to 1.",
    "Independent batches must stay where least squares is, to 5% of the shift of the others.",
)
ROUNDING = 2e-15  # of a distance, from the digits of theta
SLOPE, EXACT, EPOCH, UNCHANGED = 0.02, 0.02, 0.25, 0.05  # tolerances


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Orders, and stationary means."""
    judged = []
    for case in results.case.values.tolist():
        at = results.sel(case=case)
        order = float(at.order)
        others = [("no convergence", 0.0), ("order 1", 1.0), ("order 2", 2.0), ("order 3", 3.0)]
        rivals = tuple((name, power) for name, power in others if power != order)
        measured = slope(at.gap.values)
        judged.append(Verdict(f"order: {case}", order, measured, "prediction", SLOPE, rivals))
    for name, at in _points(results):
        judged += _shifts(at, name)
    return judged


def slope(gaps) -> Estimate:
    """The power of the rate with which distances vanish, extrapolated to rate zero.

    A slope differs by a multiple of the rate, twice the second less the first by one of its square:
    the error is what that leaves, and what rounding does to the smallest distance.
    """
    slopes = -np.diff(np.log2(gaps))
    before, after = 2 * slopes[1:] - slopes[:-1]
    return Estimate(float(after), float(abs(after - before)) / 3 + ROUNDING / gaps[-1])


def _points(results):
    for batch in results.batch.values.tolist():
        for rate in results.rate.values.tolist():
            yield f"batch {batch}, rate {rate:g}", results.sel(rate=rate, batch=batch)


def _shifts(at, name):
    exact, first, epoch = float(at.exact), float(at.first), float(at.epoch)
    reshuffled, independent = (
        Estimate(float(at.rest.sel(law=law)), float(at.rest_stderr.sel(law=law)))
        for law in ("reshuffled", "independent")
    )
    shift = f"{name}: shift by reshuffling"
    tolerance = EPOCH * epoch * first
    text = f"{name}: shift by independent batches"
    kind = prediction_if(epoch <= 1)
    of_exact, of_first = (rivals_of_effect(size, "shift") for size in (exact, first))
    none = (("as by reshuffling", exact),)
    return [
        Verdict(f"{shift}, exact", exact, reshuffled, "prediction", EXACT * exact, of_exact),
        Verdict(f"{shift}, first order", first, reshuffled, kind, tolerance, of_first),
        Verdict(text, 0.0, independent, "prediction", UNCHANGED * exact, none),
    ]


def tables(results: xr.Dataset) -> list[Table]:
    """The range of rates in which the first order suffices."""
    rows = []
    for _, at in _points(results):
        shift, error = at.rest.sel(law="reshuffled"), at.rest_stderr.sel(law="reshuffled")
        rows.append(
            (
                f"{float(at.rate):g}",
                str(int(at.batch)),
                f"{float(at.epoch):.2f}",
                f"{float(at.exact / at.first):.3f}",
                f"{float(shift / at.first):.4f} ± {float(error / at.first):.4f}",
            )
        )
    headings = ("rate", "batch", "rate x curvature of an epoch", "exact / first order", "measured")
    return [Table("Shift of the mean by reshuffling, over its first order", headings, rows)]
