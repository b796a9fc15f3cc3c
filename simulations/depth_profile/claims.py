"""What is claimed of dimension through depth, and the contrasts."""

import json

import numpy as np
import xarray as xr

from sgdnoise.lab import Table, Verdict, mean_of, prediction_if, rivals_of_effect, settings_of

TITLE = "Estimated dimension through depth, before, during and after training"
CLASSES = 10
SURROGATE = 0.02  # terms of order 1 / n, for n = 330 and more
LEARNED, MAX_LATENTS = 0.05, 3  # errors of 0 to 3% on such images, see trials.md
ESTIMATORS = {"participation_ratio": "PR", "twonn": "TwoNN"}


def LEAD(attributes) -> tuple[str, ...]:
    """What the report says first."""
    size, device = json.loads(attributes["arguments"]), attributes["device"]
    smaller = "; small networks and few images: a result of this size is not the full one"
    return (
        f"Computed on {device}: {size['images']} rendered images, {min(size['images'], 1797)} "
        f"digits, {size['seeds']} trainings each{smaller if device == 'cpu' else ''}.",
        "Every dimension here is estimated.  A Lipschitz map cannot increase the true one, which "
        "is known for rendered images, so that an increase with depth is one of curvature, density "
        "and noise as they affect estimators.",
        "Claimed are the covariance of Gaussian surrogates and the dimension of images of few "
        "latents; tests compare ranks of nearby images and invariance under rotation.  Widths "
        "and training are our own, and profiles over depth are contrasts; the largest of several "
        "estimates is biased upwards.",
    )


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """What is exact for each task, inputs of known dimension, and the contrasts."""
    rows = []
    for task, data in settings_of(results, "task"):
        rows += _exact(data, task) + _profile(data, task)
    for d, data in settings_of(results, "latents"):
        name = f"images of {d} latents: dimension learned from manifolds"
        claimed, tolerance = d <= MAX_LATENTS, LEARNED * d
        one_more = ("one dimension more", d + 1.0)
        rivals = rivals_of_effect(float(d), "dimension", one_more)
        kind = prediction_if(claimed)
        rows.append(Verdict(name, float(d), _mean(data.learned), kind, tolerance, rivals))
    return rows


def _exact(data, task):
    """The largest estimate above the truth, and surrogates."""
    rows = []
    if np.isfinite(data.true).all():
        d = float(data.true[0])
        largest = data.estimate.isel(moment=-1).sel(estimator="twonn").max("layer")
        rows = [
            _contrast(f"{task}: largest TwoNN after training, less d", largest - d, 0.0),
        ]
    ratios, rivals = _mean(data.matched.values.ravel()), rivals_of_effect(1.0, "PR")
    text = f"{task}: PR of surrogate / layer"
    return [*rows, Verdict(text, 1.0, ratios, "prediction", SURROGATE, rivals)]


def _profile(data, task):
    """Contrasts over depth and training; the largest of several estimates is biased upwards."""
    last, rows = int(data.layers.values.flat[0]) - 2, []
    for name, label in ESTIMATORS.items():
        values = data.estimate.sel(estimator=name)
        for moment, when in ((0, "before"), (-1, "after")):
            at, prefix = values.isel(moment=moment), f"{task}, {when}: {label}"
            largest = at.isel(layer=slice(1, last + 1)).max("layer")
            first, end = at.isel(layer=0), at.isel(layer=last)
            rows.append(_contrast(f"{prefix}, largest hidden / input", largest / first))
            rows.append(_contrast(f"{prefix}, last hidden / largest", end / largest))
        after, before = (values.isel(moment=m, layer=last) for m in (-1, 0))
        rows.append(_contrast(f"{task}: {label} of last hidden, after / before", after / before))
    final = data.isel(moment=-1, layer=last)
    ratio = final.estimate.sel(estimator="participation_ratio")
    twonn = final.sel(estimator="twonn")
    text = f"{task}, after: TwoNN, last hidden / its surrogate"
    rows += [
        _contrast(f"{task}: PR of last hidden against classes - 1", ratio, CLASSES - 1.0),
        _contrast(text, twonn.estimate / twonn.surrogate),
    ]
    factors = data.relu.sel(close="twonn").mean("layer_relu", skipna=True)
    if np.isfinite(factors).any():
        rows.append(_contrast(f"{task}, before: ReLU's factor on TwoNN", factors))
    return rows


def _contrast(name, values, expected=1.0):
    """The mean over seeds, beside the value that would mean no effect."""
    return Verdict(name, expected, _mean(values), "observation", 0.0)


def _mean(values):
    return mean_of(values, skip_missing=True)


def tables(results: xr.Dataset) -> list[Table]:
    """Sharpness beside dimension, estimates above the truth, the factors of each ReLU."""
    return [_sharpness(results), _excess(results), _factors(results)]


def _sharpness(results):
    """The last hidden layer, before and after training."""
    rows = []
    for task, data in settings_of(results, "task"):
        for moment in (0, -1):
            at = data.isel(moment=moment, layer=int(data.layers.values.flat[0]) - 2)
            twonn, names = at.sel(estimator="twonn"), ("step", "accuracy", "accuracy_elsewhere")
            columns = [*(at[name] for name in names), at.hessian_trace, at.local_dimension]
            columns += [np.exp(at.log_sensitivity), at.log_volume, twonn.estimate, twonn.surrogate]
            columns += [at.estimate.sel(estimator="participation_ratio")]
            rows.append((task, *(f"{float(column.mean()):.3g}" for column in columns)))
    headings = (
        *("task", "step", "accuracy", "test accuracy", "Tr H", "Jacobian dimension"),
        *("sensitivity", "log volume", "TwoNN", "of surrogate", "PR"),
    )
    caption = "The last hidden layer before and after training, means over seeds"
    return Table(caption, headings, rows)


def _excess(results):
    """TwoNN less the true dimension, from the input to the output."""
    rows = []
    for task, data in settings_of(results.isel(moment=-1), "task"):
        if np.isfinite(data.true).all():
            excess = data.estimate.sel(estimator="twonn") - data.true
            means = [_mean(excess.isel(layer=i)) for i in range(excess.sizes["layer"])]
            finite = [e for e in means if np.isfinite(e.value)]
            cells = [f"{e.value:+.2f} ± {e.stderr:.2f}" for e in finite]
            rows.append((task, *cells, *["-"] * (len(means) - len(cells))))
    caption = "TwoNN less the true dimension at each layer, input first, after training"
    return Table(caption, ("task", *map(str, range(results.sizes["layer"]))), rows)


def _factors(results):
    """TwoNN and levina_bickel after each ReLU over before, before training."""
    rows = []
    for task, data in settings_of(results, "task"):
        for i in range(data.sizes["layer_relu"]):
            values = data.relu.isel(layer_relu=i)
            if np.isfinite(values).any():
                means = [_mean(values.sel(close=name)) for name in ("twonn", "levina_bickel")]
                cells = (f"{e.value:.3f} ± {e.stderr:.3f}" for e in means)
                rows.append((task, str(i + 1), *cells))
    headings = ("task", "ReLU", "TwoNN", "levina_bickel")
    return Table("Estimates after a ReLU over those before it, before training", headings, rows)
