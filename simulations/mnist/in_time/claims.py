"""What is claimed of the dimension of layers in the time of training, and with which error."""

import json
from itertools import pairwise

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Table,
    Verdict,
    estimate_in,
    mean_of,
    prediction_if,
    rivals_of_effect,
    settings_of,
)
from simulations.mnist._training import DECAYED

TITLE = "Dimension of layers in the time of training, on all of MNIST"
CLASSES = 10
SPECTRUM = 0.03  # of TwoNN of Gaussian points: the saddle-point formula, and its averages
LEAST = 0.03  # of PR at the start: terms of order 1 / images, and of the drawn units
MAX_WITHIN = 0.1  # fraction of the variance within classes, below which collapse is claimed
COLLAPSE = 0.1  # of the predicted PR: what is within classes adds as much
LARGEST = 0.5  # correction of finite width over 1 / PR, beyond which none is claimed
PHASES = 0.4, 0.7  # of the moments: steps 30 and 1,000 at full size
MEASURED = {"pr": "PR", "twonn": "TwoNN"}


def LEAD(attributes) -> tuple[str, ...]:
    """What the report says first."""
    size = json.loads(attributes["arguments"])
    real = size.get("real", True)
    kind = "all 60,000 images of MNIST" if real else "digits of scikit-learn (a small size)"
    return (
        f"A perceptron with three hidden layers and a small convolutional network learn {kind} by "
        "SGD; the perceptron also "
        "with momentum, weight decay and a rate that drops, as in studies of neural collapse. The "
        "participation ratio (PR) is unbiased for independent images; no two seeds see the same.",
        "Predicted are the PR of layers of random weights, from the arc-cosine kernel and the "
        "first order in the inverse width, claimed to the square of that order; TwoNN of Gaussian "
        "points of equal covariance, from the spectrum alone, to 3%; and by neural collapse "
        "(Papyan et al., 2020) a PR of 9, one less than the classes, claimed to 10% where at most "
        "a tenth of the variance is within classes.",
        "Whether the dimension expands and then compresses follows from none of these: it is "
        "observed.",
    )


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The rows of each network: at the start, Gaussian points, collapse, and phases in time."""
    rows, first = [], results.net.values[0]
    for net, data in settings_of(results, "net"):
        gaussian = _gaussian(data, net, with_input=net == first)
        rows += [*_start(data, net), *gaussian, *_collapse(data, net)]
        rows += _phases(data, net)
    return rows


def layers_of(data: xr.Dataset) -> list[str]:
    """The layers behind the input."""
    return data.layer.values.tolist()[1:]


def _start(data, net):
    """PR of random weights; only of the perceptron, whose units are independent."""
    at = data.isel(seed=0)
    if not np.isfinite(at.wide.values).any():
        return []
    rows, entry = [], float(at.pr.sel(images="test", layer="input").isel(step=0))
    for layer in layers_of(data)[:-1]:
        here = at.sel(layer=layer)
        predicted, infinite = float(here.wide), float(here.infinite)
        order = infinite / predicted - 1  # the correction, over 1 / PR of infinite width
        effect = _effect(predicted, entry)
        rivals = rivals_of_effect(effect, "PR", ("infinite width", infinite))
        allowed = max(LEAST, order**2) * predicted
        kind = prediction_if(order <= LARGEST)
        text = f"{net}, start: PR of {layer}"
        rows.append(Verdict(text, predicted, estimate_in(here, "start"), kind, allowed, rivals))
    return rows


def _effect(predicted, nothing):
    """f -> the prediction times f, and what there is without any layer for f = 0."""
    return lambda factor: factor * predicted if factor else nothing


def _gaussian(data, net, *, with_input):
    """TwoNN of Gaussian points against theory from the spectrum alone.

    The input is the same for all networks and steps, and the start with and without weight decay.
    """
    rows, at = [], data.isel(seed=0).sel(images="test")
    moments = at.step.values[np.isfinite(at.surrogate.sel(layer="logits").values)]
    for moment in moments[1:] if net == DECAYED else moments:
        for layer in data.layer.values.tolist() if with_input and not moment else layers_of(data):
            here = at.sel(step=moment, layer=layer)
            theory, ratio = float(here.theory), float(here.pr)
            error = float(np.hypot(here.surrogate_stderr, here.theory_stderr))
            rivals = rivals_of_effect(theory, "dimension", ("the participation ratio", ratio))
            measured = Estimate(float(here.surrogate), error)
            text = f"{net}, step {moment}: TwoNN of Gaussian points, {layer}"
            allowed = SPECTRUM * theory
            rows.append(Verdict(text, theory, measured, "prediction", allowed, rivals))
    return rows


def _collapse(data, net):
    """PR of the last hidden layer, of the logits and of their class means, at the end."""
    rows, expected = [], CLASSES - 1.0
    for where in data.images.values.tolist():
        for layer in ("last hidden", "logits"):
            at = data.sel(images=where, layer=layer)
            end, text = at.isel(step=-1), f"{net}, end, {where} images, {layer}:"
            within = mean_of(end.within)
            kind = prediction_if(float(within.value) <= MAX_WITHIN)
            allowed = COLLAPSE * expected
            for measure, name in (("pr", "PR"), ("pr_means", "PR of the class means")):
                effect = _effect(expected, float(at[measure].isel(step=0).mean()))
                rivals = rivals_of_effect(effect, "PR", ("one for each class", float(CLASSES)))
                value = mean_of(end[measure])
                rows.append(Verdict(f"{text} {name}", expected, value, kind, allowed, rivals))
            rows.append(Verdict(f"{text} variance within classes", 0.0, within, "observation"))
    return rows


def _phases(data, net):
    """Ratios between four moments, the same for all layers, on held-out images."""
    last = data.sizes["step"] - 1
    moments = [0, *(round(part * last) for part in PHASES), last]
    rows = []
    for layer in layers_of(data):
        for measure, name in MEASURED.items():
            at = data[measure].sel(images="test", layer=layer)
            for before, after in pairwise(moments):
                begin, end = (int(data.step[moment]) for moment in (before, after))
                ratio = mean_of(at.isel(step=after) / at.isel(step=before))
                text = f"{net}, {layer}: {name}, step {end} / step {begin}"
                rows.append(Verdict(text, 1.0, ratio, "observation"))
    return rows


def tables(results: xr.Dataset) -> list[Table]:
    """How far the training is at each moment, and the dimension of the last hidden layer."""
    rows = []
    for net, data in settings_of(results, "net"):
        for step in data.step.values:
            at, test = data.sel(step=step), data.sel(step=step, images="test", layer="last hidden")
            training = data.sel(step=step, images="training", layer="last hidden")
            fits = (at.error.sel(images=where) for where in ("training", "test"))
            cells = [f"{100 * float(fit.mean()):.2f}" for fit in fits]
            cells += [f"{mean_of(test[name])}" for name in ("pr", "twonn", "theory")]
            cells += [f"{mean_of(training[name])}" for name in ("pr", "twonn", "within")]
            rows.append((net, str(step), *cells))
    headings = (
        *("network", "step", "training error, %", "test error, %", "PR", "TwoNN"),
        *("TwoNN, Gaussian", "PR, training", "TwoNN, training", "within classes, training"),
    )
    return [Table("The last hidden layer in time, mean and standard error", headings, rows)]
