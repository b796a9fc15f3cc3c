"""What is claimed of the flow of minibatch noise, where, and with which tolerance."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, mean_of, prediction_if, rivals_of_effect, settings_of

TITLE = "The noise of minibatches alone in nonlinear networks"
LEAD = (
    "Means over runs of SGD without label noise are compared with the mean path and the "
    "covariance of theta under the noise of the network's own residuals (theory.minibatch_flow), "
    "with nothing fitted.  The gap is the difference to gradient descent from the same weights.",
    "The value of the flow is the mean over normal theta of its mean and covariance.  Its rival is "
    "gradient descent on L + rate Tr C / (4 batch), the drift of reshuffled epochs.",
    "The regime: the feedback, the fraction by which the jitter increases the noise, is at most "
    "0.3, and rate lambda_max times the steps of a reshuffled epoch at most 1.  Separable data "
    "under cross-entropy, whose loss has no minimum, are outside.  What is neglected is of the "
    "order of the squares: values are claimed to 10% of the gap, with four layers to 30%.  Where "
    "the predicted gap changes its sign, a share of it means nothing, and rows are observations.",
)
MAX_FEEDBACK, MAX_EPOCH = 0.3, 1.0
FRACTION, DEEP_FRACTION = 0.1, 0.3  # of the gap
MOMENTS = {"half way": 2, "the end": 4}  # indices of recorded moments
SEPARABLE = "separable"  # the case outside of the regime
DRIFT = "L + rate Tr C / (4 batch)"


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Participation ratios and Tr H of every case, half way and at the end."""
    rows = []
    for name, data in settings_of(results, "case"):
        for moment, watch in MOMENTS.items():
            rows += [
                _claim(f"{name}: {label}, {moment}", data, numbers, watch, name != SEPARABLE)
                for label, numbers in observed(data).items()
            ]
    return rows


def observed(data: xr.Dataset) -> dict:
    """Label -> predictions (how, watch) and means of groups of runs (run, watch)."""
    depth = layers(data)
    numbers = {}
    for k in range(depth):
        label = "PR" if depth == 1 else f"PR of layer {k + 1}"
        numbers[label] = data.ratio.isel(layer=k), data.ratio_runs.isel(layer=k)
    return numbers | {"Tr H": (data.trace, data.trace_runs)}


def layers(data: xr.Dataset) -> int:
    """The number of hidden layers."""
    return int(np.isfinite(data.ratio.sel(how="descent").isel(watch=0)).sum())


def in_regime(data: xr.Dataset, watch: int) -> bool:
    """Whether feedback and reshuffled epochs are within their limits until a moment."""
    feedback = float(abs(data.feedback.isel(watch=slice(watch + 1))).max())
    return feedback <= MAX_FEEDBACK and float(data.epoch * data.sharpness) <= MAX_EPOCH


def crosses(predicted) -> bool:
    """Whether the predicted gap changes its sign after the start."""
    gap = predicted.sel(how="flow") - predicted.sel(how="descent")
    later = gap.values[1:]
    return bool(later.min() < 0 < later.max())


def share(predicted, runs, watch: int, how: str) -> Estimate:
    """The part of the gap that a prediction explains: its own gap over that of the runs."""
    descent = float(predicted.sel(how="descent")[watch])
    gap = mean_of(runs[:, watch]) + -descent
    own = float(predicted.sel(how=how)[watch]) - descent
    return Estimate(own / gap.value, abs(own / gap.value**2) * gap.stderr, gap.dof)


def _claim(text, data, numbers, watch, claimed):
    predicted, runs = numbers
    descent, flow, drift = (
        float(predicted.sel(how=how)[watch]) for how in ("descent", "flow", "Tr C in the loss")
    )
    fraction = FRACTION if layers(data) == 1 else DEEP_FRACTION
    rivals = rivals_of_effect(
        lambda factor: descent + factor * (flow - descent), "noise", (DRIFT, drift)
    )
    kind = (
        "observation" if crosses(predicted) else prediction_if(claimed and in_regime(data, watch))
    )
    return Verdict(
        text, flow, mean_of(runs[:, watch]), kind, fraction * abs(flow - descent), rivals
    )


def tables(results: xr.Dataset) -> list[Table]:
    """The share of each gap that is explained, and the small parameters, at the end."""
    rows = []
    for name, data in settings_of(results, "case"):
        watch = MOMENTS["the end"]
        for label, (predicted, runs) in observed(data).items():
            gap = mean_of(runs[:, watch]) + -float(predicted.sel(how="descent")[watch])
            shares = [
                share(predicted, runs, watch, how)
                for how in ("flow", "mean of the flow", "Tr C in the loss")
            ]
            rows.append((name, label, f"{gap}", *(f"{s}" for s in shares), *_limits(data, watch)))
    headings = ("case", "number", "gap", "flow", "flow, at its mean", "Tr C in the loss")
    return [
        Table(
            "The gap to gradient descent at the end, and the share of it that is explained",
            (*headings, "feedback", "rate lambda_max", "Tr S / that of runs"),
            rows,
        )
    ]


def _limits(data, watch):
    trace = float(data.spread[watch] / data.spread_runs[watch])
    return f"{float(data.feedback[watch]):.3f}", f"{float(data.sharpness):.2f}", f"{trace:.2f}"
