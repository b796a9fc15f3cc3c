"""What the small networks of `generalisation` say of all of MNIST, and controls.

There the dimension of the last hidden layer was larger where the test error was larger, over all
settings and where shuffled labels alone varied, and nothing was seen where the rate alone varied.
The first two signs are claimed here.  A correlation is not a cause.
"""

import json
from typing import NamedTuple

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, settings_of
from simulations._signs import chance_claim, dealt_claim, sign_claim
from simulations.mnist.against_error import _correlations as ranks

TITLE = "Dimension of the last hidden layer against test error, on all of MNIST"
FACTORS = ("rate", "batch", "shuffled")
MEASURED = {"pr": "PR", "twonn": "TwoNN"}


def LEAD(attributes) -> tuple[str, ...]:
    """What the report says first."""
    size = json.loads(attributes["arguments"])
    real = size.get("real", True)
    kind = "all 60,000 images of MNIST" if real else "digits of scikit-learn (a small size)"
    return (
        f"Trainings of each network on {kind}: every "
        "combination of rate, batch size and fraction of shuffled labels, once. Dimensions are "
        "those of held-out images in the last hidden layer.",
        "Correlations are of ranks; their errors come from resampled settings, those of one factor "
        "alone from resampled combinations of the other two. A correlation is not a cause: "
        "shuffled labels increase the test error whatever the dimension does.",
        "The signs that the study generalisation found in small networks on few images are claimed "
        "here, one-sided at 2.4%; the controls are exact.",
    )


class Settings(NamedTuple):
    """All settings of a network, (n,) each."""

    dimension: np.ndarray
    error: np.ndarray
    loss: np.ndarray
    rate: np.ndarray
    batch: np.ndarray
    shuffled: np.ndarray

    def others(self, factor: str) -> np.ndarray:
        """The number of the combination of the other two factors."""
        columns = [getattr(self, name) for name in FACTORS if name != factor]
        return np.unique(np.stack(columns, 1), axis=0, return_inverse=True)[1]


def flat(data: xr.Dataset, measure: str, *, images="test", moment="end") -> Settings:
    """A dimension, the test error and the loss in training, one number for each setting."""
    columns = data[measure].sel(images=images, moment=moment), data.error, data.loss
    values = [column.transpose(*FACTORS).values.ravel() for column in columns]
    levels = np.meshgrid(*(data[name].values for name in FACTORS), indexing="ij")
    return Settings(*values, *(level.ravel() for level in levels))


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Controls, then the signs that are carried over, then what is observed, of each network."""
    rows = []
    for net, data in settings_of(results, "net"):
        rows += [_chance_error(data, net), *_dealt(data, net), *_signs(data, net)]
        rows += _observed(data, net)
    return rows


def _chance_error(data, net):
    """Networks that learned random labels guess: a control of the whole chain."""
    errors, tested = data.error.sel(shuffled=1).values.ravel(), float(data.tested.mean())
    true = float(data.error.sel(shuffled=0).mean())
    return chance_claim(f"{net}: test error, all labels shuffled", errors, tested, true)


def _dealt(data, net):
    """Test errors dealt at random leave no correlation."""
    rows = []
    for measure, name in MEASURED.items():
        of = flat(data, measure)
        statistics = {
            "rank correlation": (ranks.spearman, None),
            "rank correlation given shuffled labels": (_given(of.shuffled), of.shuffled),
        }
        for label, (statistic, within) in statistics.items():
            measured = ranks.no_correlation(statistic, of.dimension, of.error, within)
            paired = statistic(of.dimension, of.error)
            text = f"{net}, {name}: {label}, errors dealt at random"
            rows.append(dealt_claim(text, measured, paired))
    return rows


def _given(column):
    return lambda x, y: ranks.spearman_within(x, y, column)


def correlation(of: Settings) -> Estimate:
    """Spearman's correlation of dimension and test error."""
    return ranks.resampled(ranks.spearman, of.dimension, of.error)


def given_loss(of: Settings) -> Estimate:
    """The same given the loss in training."""
    return ranks.resampled(ranks.partial_spearman, of.dimension, of.error, of.loss)


def given_labels(of: Settings) -> Estimate:
    """The same within each fraction of shuffled labels."""
    statistic = _given(of.shuffled)
    return ranks.resampled(statistic, of.dimension, of.error, within=of.shuffled)


def agreement(of: Settings, factor: str) -> Estimate:
    """Of pairs of settings that differ in one factor alone."""
    return ranks.agreement(of.dimension, of.error, of.others(factor))


def _signs(data, net):
    """What `generalisation` found: with more error comes more dimension."""
    rows = []
    for measure, name in MEASURED.items():
        of = flat(data, measure)
        signs = {
            "over all settings": correlation(of),
            "shuffled labels alone": agreement(of, "shuffled"),
        }
        for label, estimate in signs.items():
            text = f"{net}, {name}: sign of the correlation with test error, {label}"
            rows.append(sign_claim(text, estimate, "prediction"))
    return rows


def _observed(data, net):
    """Correlations over all, given others, and of one factor alone."""
    rows = []
    for measure, name in MEASURED.items():
        of = flat(data, measure)
        estimates = {
            "rank correlation with test error": correlation(of),
            "the same given shuffled labels": given_labels(of),
            "the same given the loss in training": given_loss(of),
            **{f"agreement with test error, {f} alone": agreement(of, f) for f in FACTORS},
        }
        texts = {f"{net}, {name}: {label}": value for label, value in estimates.items()}
        rows += [Verdict(text, 0.0, value, "observation") for text, value in texts.items()]
    return rows


def tables(results: xr.Dataset) -> list[Table]:
    """Correlations with their intervals, and dimension and error of each setting."""
    correlations, settings = [], []
    for net, data in settings_of(results, "net"):
        for where in data.images.values.tolist():
            for measure, name in (*MEASURED.items(), ("theory", "TwoNN, Gaussian")):
                of = flat(data, measure, images=where)
                low, high = (estimate := correlation(of)).interval()
                p = ranks.chance(ranks.spearman, of.dimension, of.error)
                within = _given(of.shuffled)
                q = ranks.chance(within, of.dimension, of.error, of.shuffled)
                given = given_labels(of)
                cells = f"{estimate.value:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{p:.3f}"
                row = (net, where, name, *cells, f"{given.value:+.2f}", f"{q:.3f}")
                correlations.append(row)
        settings += _settings(data, net)
    headings = ("network", "images", "dimension", "rank correlation", "95% interval", "chance")
    more = ("given shuffled labels", "chance")
    names = ("network", "rate", "batch", "shuffled", "test error, %", "loss", "PR", "TwoNN")
    return [
        Table("Rank correlation with test error", (*headings, *more), correlations),
        Table("Every setting, held-out images", names, settings),
    ]


def _settings(data, net):
    pr, twonn = flat(data, "pr"), flat(data, "twonn")
    columns = pr.rate, pr.batch, pr.shuffled, 100 * pr.error, pr.loss, pr.dimension, twonn.dimension
    return [(net, *(f"{value:.4g}" for value in values)) for values in zip(*columns, strict=True)]
