"""What is claimed of the flow of two-layer networks, its regime, and its tolerance."""

import math

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, mean
from sgdnoise.lab import Table, Verdict, prediction_if
from sgdnoise.theory import FlowLimits
from simulations._linear_networks import (
    PARAMETERS,
    allowed_or_own,
    parameter_cells,
    small_parameters,
)
from simulations.linear_networks._claims import (
    at_fraction,
    depends_on_speed,
    excess,
    of_other_speeds,
    ratio_unchanged,
    relative,
    sensitive_fraction,
    speed,
    without_identities,
)

TITLE = "The slow flow: how label noise compresses a two-layer linear network"
LEAD = (
    "Means over runs of the same start; every prediction is the solution of an ordinary "
    "differential equation on the manifold of minima, without a fitted number.",
    "base: descent on κ Tr H; equation: with the noise of sampled residuals that the jitter makes; "
    "refined: with the jitter of discrete steps besides.",
    "In regime: amplification u ≤ 0.12, rate λ_max ≤ 0.3, slow rate over the least curvature (time "
    "scales) ≤ 0.1 and share of the jitter ≤ 0.05, where the refined flow is claimed to 1%; up to "
    "u ≤ 0.3 and rate λ_max ≤ 1.2 it is claimed to 3%; or each to theory's own error, the next "
    "order, where that is larger. The speed is claimed to theory's own error.",
    "The excess loss (E L - L) / (κ Tr H) is that of the jitter on the flow, and claimed to "
    "theory's own error: E L is the mean loss after a quarter of the time.",
)
CONTROLS = ("frozen readout", "no label noise", "full batch")
REGIME, OUTER_REGIME = FlowLimits(), FlowLimits(amplification=0.3, sharpness=1.2)
TOLERANCE, OUTER_TOLERANCE = 0.01, 0.03  # relative, of the refined flow
SMALL = 0.1  # eigenvalues below this fraction of the largest consist of jitter in part


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Dimension, modes, imbalance and decay of every setting; controls must not change."""
    judged: list[Verdict] = []
    for name in results.setting.values.tolist():
        setting = results.sel(setting=name)
        if name in CONTROLS:
            judged.append(ratio_unchanged(setting, name, 0.01, _mean))
        else:
            judged += _claims(setting, name)
    return without_identities(judged)


def regime(setting: xr.Dataset) -> tuple[bool, float]:
    """Whether theory claims to hold, and its relative tolerance."""
    parameters = small_parameters(setting)
    if parameters.claimed(REGIME):
        return True, TOLERANCE
    return parameters.claimed(OUTER_REGIME), OUTER_TOLERANCE


def _claims(setting, name):
    claimed, tolerance = regime(setting)
    flow = "equation" if name == "equation" else "refined"
    quarter, end = at_fraction(setting, 0.25), at_fraction(setting, 1)

    allowed = allowed_or_own(setting, tolerance)

    def ratio(time, at, flow, claimed, tolerance):
        text, path = f"{name}: PR at {time}, {flow} flow", setting.ratio_flow.sel(flow=flow)
        fraction = 0.25 if at is quarter else 1
        rivals = of_other_speeds(path, float(setting.ratio_start), fraction)
        predicted = float(at.ratio_flow.sel(flow=flow))
        row = relative(text, _mean(at.ratio), predicted, claimed, tolerance, rivals)
        return depends_on_speed(row)

    return [
        ratio("a quarter", quarter, flow, claimed, allowed),
        ratio("the end", end, flow, claimed, allowed),
        ratio("a quarter", quarter, "base", claimed and tolerance == TOLERANCE, 0.05),
        *_modes(setting, name, flow, claimed, 3 * tolerance),
        _imbalance(setting, quarter, name, flow, claimed, 2 * tolerance),
        _decay(setting, quarter, name, flow, claimed),
        *speed(setting, name, flow, claimed),
        excess(setting, name, claimed),
    ]


def _modes(setting, name, flow, claimed, tolerance):
    """The eigenvalues of the hidden moment, each where its prediction depends most on kappa."""
    paths = setting.modes_flow.sel(flow=flow)
    largest = float(paths.isel(watch=-1, mode=0))
    judged = []
    for m in range(paths.sizes["mode"]):
        path, start = paths.isel(mode=m), float(setting.modes_start[m])
        if float(path[-1]) <= SMALL * largest:
            continue
        fraction = sensitive_fraction(path, start)
        measured = _mean(at_fraction(setting, fraction).modes.isel(mode=m))
        predicted, rivals = (
            float(at_fraction(path, fraction)),
            of_other_speeds(path, start, fraction),
        )
        text = f"{name}: eigenvalue {m + 1} on the way"
        row = relative(text, measured, predicted, claimed, tolerance, rivals)
        judged.append(depends_on_speed(row))
    return judged


def _imbalance(setting, at, name, flow, claimed, tolerance):
    """The change of Tr D over the predicted one."""
    start = float(setting.imbalance_start)
    change = (at.imbalance - start) / (float(at.imbalance_flow.sel(flow=flow)) - start)
    text = f"{name}: change of Tr D at a quarter, over predicted"
    path = setting.imbalance_flow.sel(flow=flow) - start
    rivals = of_other_speeds(path / float(at_fraction(path, 0.25)), 0.0, 0.25)
    kind = prediction_if(claimed)
    return Verdict(text, 1.0, _mean(change), kind, tolerance, tuple(rivals))


def _decay(setting, at, name, flow, claimed):
    """The decay rate of irrelevant weights, from the logarithm of their mean, over predicted."""
    start, after = float(at.useless_start), _mean(at.useless)
    predicted = math.log(float(at.useless_flow.sel(flow=flow)) / start)
    value = math.log(abs(float(after.value)) / start) / predicted
    error = abs(float(after.stderr) / float(after.value) / predicted)
    text = f"{name}: decay rate of useless weights"
    path = np.log(setting.useless_flow.sel(flow=flow) / start) / predicted
    rivals = of_other_speeds(path, 0.0, 0.25)
    measured, kind = Estimate(value, error), prediction_if(claimed)
    return Verdict(text, 1.0, measured, kind, 0.02, tuple(rivals))


def _mean(values):
    """The mean over runs, in the single precision of the records."""
    return mean(values.values)


def tables(results: xr.Dataset) -> list[Table]:
    """The regime of every setting, and the largest deviation of each flow."""
    rows = []
    for name in results.setting.values.tolist():
        setting = results.sel(setting=name)
        off = abs(setting.ratio.mean("run") / setting.ratio_flow - 1).max("watch")
        deviation = float((setting.ratio.std("run", ddof=1) / setting.ratio.mean("run")).max())
        rows.append(
            (
                name,
                *parameter_cells(setting),
                f"{float(setting.ratio_start):.2f}",
                f"{float(setting.ratio.isel(watch=-1).mean()):.3f}",
                f"{float(setting.ratio_rest):.3f}",
                *(f"{100 * float(off.sel(flow=f)):.2f}" for f in results.flow.values),
                f"{100 * deviation / setting.sizes['run'] ** 0.5:.2f}",
            )
        )
    headings = ("setting", *PARAMETERS, "PR at the start", "at the end", "stationary")
    flows = tuple(f"{f} off by %" for f in results.flow.values)
    caption = "PR of the hidden layer: largest deviation of each flow at any of the times"
    return [Table(caption, (*headings, *flows, "s.e. %"), rows)]
