"""What is claimed of the dimension of public networks through depth, and with which error."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Table,
    Verdict,
    mean_of,
    prediction_if,
    rivals_of_effect,
    settings_of,
)
from simulations.public_depth._layers import places

TITLE = "Dimension through the depth of networks that others trained on GPUs"
LEAD = (
    "Residual networks of 20 to 56 layers, trained on CIFAR-10 by Idelbayev (2018), see its "
    "photographs, for testing and for training. The participation ratio (PR) is unbiased for "
    "independent photographs; pooled values are of means over positions.",
    "Predicted are the TwoNN of Gaussian points with the covariance of a layer, from its spectrum "
    "alone, and the depth at which TwoNN is largest. The first errs by 3%: 2% of the saddle-point "
    "formula and 1% of its averages. The second is 0.3 of the layers, within the 0.1 that Ansuini "
    "et al. (2019) found in other networks.",
    "Neural collapse (Papyan et al., 2020) predicts a pooled PR of 9 in the last block, one less "
    "than the classes. It is claimed to 10% where at most a tenth of the variance is within "
    "classes, and shown beside the measurement elsewhere.",
)
CLASSES = 10
SPECTRUM = 0.03  # of TwoNN of Gaussian points: the saddle-point formula, and its averages
PEAK, PEAK_RANGE = 0.3, 0.1  # Ansuini et al. (2019): between 0.2 and 0.4 of the layers
MAX_WITHIN = 0.1  # fraction of the variance within classes, below which collapse is claimed
COLLAPSE = 0.1  # of the predicted participation ratio: what is within classes adds as much


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The rows of each network, in the order of the questions."""
    rows = []
    for depth, data in settings_of(results, "depth"):
        name = f"ResNet-{depth}"
        rows += _gaussian(data, name)
        rows += _peaks(data, name)
        rows += _collapse(data, name)
        rows += _training(data, name)
    return rows


def samples_of(data: xr.Dataset, what: str) -> xr.Dataset:
    """The samples of a kind on which this network is measured."""
    chosen = data.sel(sample=[name for name in data.sample.values if name.startswith(what)])
    return chosen.isel(sample=np.isfinite(chosen.accuracy.values).nonzero()[0])


def layers_of(data: xr.Dataset) -> int:
    """The number of measured layers of a network: input, stem, blocks and logits."""
    return int(np.isfinite(data.relative_depth.values).any(0).sum())


def places_of(data: xr.Dataset) -> dict[str, int]:
    """Name -> index of the layers that are tabulated."""
    return places(layers_of(data))


def _gaussian(data, name):
    """TwoNN of Gaussian points against theory from the spectrum alone."""
    rows, at = [], samples_of(data, "test").isel(sample=0)
    for place, layer in places_of(data).items():
        here = at.isel(layer=layer)
        theory = float(here.theory)
        error = float(np.hypot(here.surrogate_stderr, here.theory_stderr))
        measured = Estimate(float(here.surrogate), error)
        allowed = SPECTRUM * theory
        rivals = rivals_of_effect(theory, "dimension", ("the participation ratio", float(here.pr)))
        text = f"{name}, {place}: TwoNN of Gaussian points of this spectrum"
        rows.append(Verdict(text, theory, measured, "prediction", allowed, rivals))
        text = f"{name}, {place}: TwoNN of the layer / of Gaussian points"
        own = mean_of(samples_of(data, "test").twonn.isel(layer=layer)) / theory
        rows.append(Verdict(text, 1.0, own, "observation"))
    return rows


def peak(data: xr.Dataset, measure: str) -> Estimate:
    """The relative depth at which a measure of stem, blocks and logits is largest."""
    depths, values = data.relative_depth.values[:, 1:], data[measure].values[:, 1:]
    return mean_of(np.take_along_axis(depths, np.nanargmax(values, 1)[:, None], 1)[:, 0])


def _peaks(data, name):
    inside = bool(data.trained.values.all())
    rivals = (("the input", 0.0), ("the middle", 0.5), ("the logits", 1.0))
    rows = []
    for what in ("test", "training"):
        at = samples_of(data, what)
        text = f"{name}, {what} photographs: relative depth of the largest"
        measured, kind = peak(at, "twonn"), prediction_if(inside)
        rows.append(Verdict(f"{text} TwoNN", PEAK, measured, kind, PEAK_RANGE, rivals))
        rows.append(Verdict(f"{text} PR", PEAK, peak(at, "pr"), "observation"))
    return rows


def _collapse(data, name):
    rows, last, expected = [], layers_of(data) - 2, CLASSES - 1
    for what in ("test", "training"):
        at = samples_of(data, what)
        text, within = f"{name}, {what} photographs:", mean_of(at.within)
        inside = bool(data.trained.values.all()) and float(within.value) <= MAX_WITHIN
        ratio, rivals = mean_of(at.pr_pooled.isel(layer=last)), _rivals(data, last)
        kind, allowed = prediction_if(inside), COLLAPSE * expected
        claim = f"{text} pooled PR of the last block"
        rows.append(Verdict(claim, expected, ratio, kind, allowed, rivals))
        claim = f"{text} PR of the class means"
        rows.append(Verdict(claim, expected, mean_of(at.pr_means), "contrast", allowed))
        rows.append(Verdict(f"{text} variance within classes", 0.0, within, "observation"))
        rows.append(Verdict(f"{text} accuracy", 1.0, mean_of(at.accuracy), "observation"))
    return rows


def _rivals(data, last):
    """An untrained network, and one dimension for each class."""
    rivals: tuple[tuple[str, float], ...] = (("one for each class", float(CLASSES)),)
    untrained = samples_of(data, "untrained")
    if untrained.sizes["sample"]:
        rivals += (("nothing changes", float(untrained.pr_pooled.isel(layer=last).mean())),)
    return rivals


def _training(data, name):
    """Trained over untrained networks, at the layers of the table."""
    before, after = samples_of(data, "untrained"), samples_of(data, "test")
    if before.sizes["sample"] < 2:
        return []
    rows = []
    for place in ("stem", "middle", "last block", "logits"):
        layer = places_of(data)[place]
        for measure, label in MEASURED.items():
            first, second = (mean_of(d[measure].isel(layer=layer)) for d in (before, after))
            text = f"{name}, {place}: {label}, trained / untrained"
            rows.append(Verdict(text, 1.0, second / first, "observation"))
    return rows


MEASURED = {
    "pr": "PR",
    "pr_pooled": "pooled PR",
    "twonn": "TwoNN",
    "twonn_pooled": "pooled TwoNN",
}


def tables(results: xr.Dataset) -> list[Table]:
    """Every measure of each network at the tabulated layers, trained and untrained."""
    rows = []
    for depth, data in settings_of(results, "depth"):
        for what in ("test", "training", "untrained"):
            at = samples_of(data, what)
            if at.sizes["sample"] < 2:
                continue
            for place, layer in places_of(data).items():
                cells = [_cell(at[measure].isel(layer=layer)) for measure in MEASURED]
                rows.append((f"ResNet-{depth}", what, place, *cells))
    headings = ("network", "photographs", "layer", *MEASURED.values())
    return [Table("Dimension through depth, mean and standard error", headings, rows)]


def _cell(values) -> str:
    return f"{mean_of(values)}"
