"""What is claimed when rate and batch are scaled together, its regime and its tolerance."""

import math

import xarray as xr

from sgdnoise.core import Estimate, mean
from sgdnoise.lab import Table, Verdict, prediction_if, rivals_of_effect, rivals_of_path
from sgdnoise.theory import FlowLimits
from simulations._linear_networks import (
    PARAMETERS,
    allowed_or_own,
    parameter_cells,
    small_parameters,
)

TITLE = "Linear scaling of rate and batch: the slow flow, and the spread at rest"
LEAD = (
    "rate / batch is the same everywhere. Compression: the participation ratio of a linear network "
    "under label noise, at a quarter of the time; stationary: the excess loss of online linear "
    "regression.",
    "Each is compared with its own theory, and with the smallest rate, whose values all others "
    "should have by linear scaling.",
)
RATE_PER_EXAMPLE, REGRESSION_RATE = 0.01, 0.1  # rate / batch of networks and of regressions
REGIME, OUTER_REGIME = FlowLimits(), FlowLimits(amplification=0.3, sharpness=1.2)
TOLERANCE, OUTER_TOLERANCE = 0.01, 0.03  # relative, of the refined flow
# Above this fraction of noise that comes from theta's own variance, the fourth moments of theta are
# too large for the standard error of a variance.
FEEDBACK = 0.5


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Every rate against its own theory, and against the smallest rate."""
    return [*_of_networks(results), *_of_regressions(results)]


def regime(network: xr.Dataset) -> tuple[bool, float]:
    """Whether theory claims to hold, and its relative tolerance."""
    parameters = small_parameters(network)
    if parameters.claimed(REGIME):
        return True, allowed_or_own(network, TOLERANCE)
    return parameters.claimed(OUTER_REGIME), allowed_or_own(network, OUTER_TOLERANCE)


def _of_networks(results):
    networks = results.dropna("batch", subset=["sharpness"])
    quarter = networks.isel(watch=quarter_place(networks))
    flow, judged = quarter.ratio_flow.sel(flow="refined"), []
    smallest = quarter.isel(batch=0)
    for batch in networks.batch.values.tolist():
        at, name = quarter.sel(batch=batch), f"rate {RATE_PER_EXAMPLE * batch:.2g}"
        claimed, tolerance = regime(at)
        kind = prediction_if(claimed)
        predicted = float(flow.sel(batch=batch))
        text = f"{name}: PR at a quarter, refined flow"
        measured = _mean(at.ratio)
        path = networks.ratio_flow.sel(flow="refined", batch=batch).values.tolist()
        # A record before the first one is the common start of the networks, nearly.
        rivals = rivals_of_path(range(len(path)), path, quarter_place(networks))
        allowed = tolerance * predicted
        judged.append(Verdict(text, predicted, measured, kind, allowed, tuple(rivals)))
        if batch == networks.batch.values[0]:
            continue
        change = ratio_of(measured, _mean(smallest.ratio))
        expected = predicted / float(flow.isel(batch=0))
        text = f"{name}: PR over that at the smallest rate"
        others = [(rival, value / predicted * expected) for rival, value in rivals]
        judged.append(Verdict(text, expected, change, kind, 2 * tolerance, tuple(others)))
        text = f"{name}: the same, by linear scaling"
        inner = prediction_if(small_parameters(at).claimed(REGIME))
        linear = tuple((rival, value / predicted) for rival, value in rivals)
        judged.append(Verdict(text, 1.0, change, inner, 0.05, linear))
    return judged


def quarter_place(networks) -> int:
    """The index of the record at a quarter of the time."""
    return math.ceil(networks.sizes["watch"] / 4) - 1


def _of_regressions(results):
    regressions = results.dropna("batch", subset=["feedback"])
    smallest, judged = regressions.isel(batch=0), []
    for batch in regressions.batch.values.tolist():
        at, name = regressions.sel(batch=batch), f"regression, rate {REGRESSION_RATE * batch:.2g}"
        predicted, excess = float(at.excess_predicted), _mean(at.excess)
        claimed = float(at.feedback) < FEEDBACK
        text = f"{name}: excess loss at rest"
        # The variance of theta's own noise makes the fraction `feedback` of the excess.
        bare = ("no feedback", predicted * (1 - float(at.feedback)))
        rivals, kind = rivals_of_effect(predicted, "noise", bare), prediction_if(claimed)
        judged.append(Verdict(text, predicted, excess, kind, 0.03 * predicted, rivals))
        if batch != regressions.batch.values[0]:
            change = ratio_of(excess, _mean(smallest.excess))
            text = f"{name}: over that at the smallest rate, by linear scaling"
            judged.append(Verdict(text, 1.0, change, "contrast", 0.05))
    return judged


def _mean(values):
    """The mean over runs in the precision of the records; its value and error are floats."""
    estimate = mean(values.values)
    return Estimate(float(estimate.value), float(estimate.stderr), estimate.dof)


def ratio_of(estimate: Estimate, reference: Estimate) -> Estimate:
    """The ratio of independent means, its error to first order."""
    ratio = estimate.value / reference.value
    errors = estimate.stderr / estimate.value, reference.stderr / reference.value
    return Estimate(ratio, abs(ratio) * math.hypot(*errors))


def tables(results: xr.Dataset) -> list[Table]:
    """The range of linear scaling, beside rate x curvature in the sharpest direction."""
    networks = results.dropna("batch", subset=["sharpness"])
    smallest, rows = networks.isel(batch=0).ratio.mean("run"), []
    for batch in networks.batch.values.tolist():
        at = networks.sel(batch=batch)
        difference = abs(at.ratio.mean("run") / smallest - 1)
        off = abs(at.ratio.mean("run") / at.ratio_flow.sel(flow="refined") - 1)
        rows.append(
            (
                f"{RATE_PER_EXAMPLE * batch:.2g}",
                str(batch),
                *parameter_cells(at),
                f"{100 * float(difference.max()):.1f}",
                f"{100 * float(off.max()):.1f}",
            )
        )
    headings = ("rate", "batch", *PARAMETERS, "from the smallest rate, %", "refined, %")
    return [Table("PR of the network: largest deviation at any time", headings, rows)]
