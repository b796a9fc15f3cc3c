"""What is claimed of the slow flow, where, and how far it may be off."""

import math

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, mean
from sgdnoise.lab import Table, Verdict

TITLE = "The slow flow: how label noise compresses a two-layer linear network"
LEAD = (
    "Means over runs of the same start; every prediction is the solution of an ordinary "
    "differential equation on the manifold of minima, without a fitted number.",
    "base: descent on κ Tr H; equation: fed by the residuals that the jitter makes; refined: the "
    "jitter of discrete steps besides.",
    "In regime: amplification u ≤ 0.12 and rate λ_max ≤ 0.3, where the refined flow is claimed to "
    "1%; up to rate λ_max ≤ 1.2 it is claimed to 3%.",
)
CONTROLS = ("frozen readout", "no label noise", "full batch")
GENTLE, ROUGH = (0.12, 0.3), 1.2  # amplification and sharpness; sharpness
GENTLY, ROUGHLY = 0.01, 0.03  # shares to which the refined flow is claimed
SMALL = 0.1  # eigenvalues below this share of the largest are jitter in part


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Dimension, modes, imbalance and decay of every setting; controls must stay as they are."""
    found: list[Verdict] = []
    for name in results.setting.values.tolist():
        part = results.sel(setting=name)
        found += [_control(part, name)] if name in CONTROLS else _claims(part, name)
    return found


def regime(part: xr.Dataset) -> tuple[bool, float]:
    """Whether theory claims to hold, and to which share."""
    u, sharp = float(part.amplification), float(part.sharpness)
    if u <= GENTLE[0] and sharp <= GENTLE[1]:
        return True, GENTLY
    return sharp <= ROUGH, ROUGHLY


def _control(part, name):
    ratio = part.ratio.isel(watch=-1) / float(part.ratio_start)
    return Verdict(f"{name}: PR at the end over its start", 1.0, _mean(ratio), True, 0.01)


def _claims(part, name):
    claimed, share = regime(part)
    flow = "equation" if name == "equation" else "refined"
    quarter, end = (part.isel(watch=math.ceil(s * part.sizes["watch"]) - 1) for s in (0.25, 1))

    def ratio(when, at, flow, claimed, share):
        predicted = float(at.ratio_flow.sel(flow=flow))
        return _relative(f"{name}: PR at {when}, {flow} flow", at.ratio, predicted, claimed, share)

    return [
        ratio("a quarter", quarter, flow, claimed, share),
        ratio("the end", end, flow, claimed, share),
        ratio("a quarter", quarter, "base", claimed and share == GENTLY, 0.05),
        *_modes(end, name, flow, claimed, 3 * share),
        _imbalance(part, end, name, flow, claimed, 2 * share),
        _decay(quarter, name, flow, claimed),
    ]


def _modes(at, name, flow, claimed, share):
    predicted = at.modes_flow.sel(flow=flow).values
    return [
        _relative(
            f"{name}: eigenvalue {m + 1} at the end", at.modes.isel(mode=m), p, claimed, share
        )
        for m, p in enumerate(predicted.tolist())
        if p > SMALL * predicted[0]
    ]


def _imbalance(part, at, name, flow, claimed, share):
    """The change of Tr D over the predicted one."""
    start = float(part.imbalance_start)
    change = (at.imbalance - start) / (float(at.imbalance_flow.sel(flow=flow)) - start)
    return Verdict(f"{name}: change of Tr D, over predicted", 1.0, _mean(change), claimed, share)


def _decay(at, name, flow, claimed):
    """How fast useless weights decay: the logarithm of their mean, over the predicted one."""
    start, after = float(at.useless_start), _mean(at.useless)
    predicted = math.log(float(at.useless_flow.sel(flow=flow)) / start)
    value = math.log(abs(float(after.value)) / start) / predicted
    error = abs(float(after.stderr) / float(after.value) / predicted)
    return Verdict(
        f"{name}: decay rate of useless weights", 1.0, Estimate(value, error), claimed, 0.02
    )


def _relative(text, values, predicted, claimed, share):
    return Verdict(text, predicted, _mean(values), claimed, share * abs(predicted))


def _mean(values):
    found = mean(np.asarray(values))
    return Estimate(float(found.value), float(found.stderr), found.freedom)


def tables(results: xr.Dataset) -> list[Table]:
    """The regime of every setting, and how far each flow is off at worst."""
    rows = []
    for name in results.setting.values.tolist():
        part = results.sel(setting=name)
        off = abs(part.ratio.mean("run") / part.ratio_flow - 1).max("watch")
        spread = float((part.ratio.std("run", ddof=1) / part.ratio.mean("run")).max())
        rows.append(
            (
                name,
                f"{float(part.amplification):.3f}",
                f"{float(part.sharpness):.2f}",
                f"{float(part.ratio_start):.2f}",
                f"{float(part.ratio.isel(watch=-1).mean()):.3f}",
                f"{float(part.ratio_rest):.3f}",
                *(f"{100 * float(off.sel(flow=f)):.2f}" for f in results.flow.values),
                f"{100 * spread / part.sizes['run'] ** 0.5:.2f}",
            )
        )
    headings = ("setting", "u", "rate λ_max", "PR at the start", "at the end", "at rest")
    flows = tuple(f"{f} off by %" for f in results.flow.values)
    caption = "PR of the hidden layer: largest deviation of each flow at any of the moments"
    return [Table(caption, (*headings, *flows, "s.e. %"), rows)]
