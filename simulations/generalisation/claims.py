"""What papers say of dimension and test error, compared with random settings; and controls.

Ansuini et al. (2019) found that the dimension (TwoNN) of the last hidden layer of large
convolutional networks on ImageNet increases with their test error, and that that of a small network
on MNIST does not collapse with shuffled labels.  Only the second was about networks like ours: it
is claimed of the small convolutional network on digits, where shuffled labels are fitted.  All else
is a contrast.  Tolerances were written before the full run, after trials (trials.md).
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from sgdnoise.lab import Table, Verdict, mean_of
from simulations._signs import chance_claim, dealt_claim, sign_claim
from simulations.generalisation import _ranks as ranks
from simulations.generalisation import _settings as settings

TITLE = "Dimension of the last hidden layer against test error"
CLAIMED = "convnet digits"
FITTED = 0.95  # accuracy in training from which shuffled labels count as fitted


def LEAD(attributes) -> tuple[str, ...]:
    """What the report says first."""
    size, device = json.loads(attributes["arguments"]), attributes["device"]
    return (
        f"Computed on {device}: {size['places']} places drawn at random, 12 settings each, "
        f"{size['seeds']} seeds, {size['trained']} images to train on; networks are small and "
        "images few.",
        "Correlations are of ranks of means over seeds; their errors come from resampled places, "
        "each with all its settings.  A correlation is not a cause: shuffled labels increase the "
        "test error whatever the dimension does.",
        f"Networks are compared at the same loss in training, {size['loss']:g} when first reached, "
        "and after equally many steps.  A sign is tested one-sided, at 2.4%.",
        "Claimed are exact controls, and of the literature only what was said of small "
        "convolutional networks on handwritten digits.",
    )


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Controls, shuffled labels, then signs over all settings, of each factor, between networks."""
    tasks = results.task.values.tolist()
    rows = []
    for task in tasks:
        rows += _controls(results, task) + _shuffled_labels(results, task)
    for task in tasks:
        rows += _all_settings(results, task)
    return rows + _factors(results, tasks)


def _controls(results, task):
    """What must be at chance, the same, or zero."""
    rows = settings.flat(results, [task], estimator="twonn")
    pairs = settings.differing_in(results, rows, "shuffled")
    statistics: dict[str, tuple[Callable, Any]] = {
        "rank correlation": (ranks.spearman, None),
        "rank correlation given loss": (lambda x, y: ranks.partial_spearman(x, y, rows.loss), None),
        "rank correlation given shuffled labels": (
            lambda x, y: ranks.spearman_within(x, y, rows.shuffled),
            rows.shuffled,
        ),
        "agreement where labels alone vary": (partial(ranks.concordance, among=pairs), None),
    }
    at = results.sel(task=task, moment="equal steps")
    errors = at.error.where(at.shuffled == 1).mean("setting").values.ravel()
    true = float(at.error.where(at.shuffled == 0).mean())
    text, tested = f"{task}: test error, all labels shuffled", float(at.tested.mean())
    verdicts = [chance_claim(text, errors, tested, true)]
    for label, (statistic, within) in statistics.items():
        measured = ranks.permuted(statistic, rows.dimension, rows.error, within)
        paired = float(statistic(rows.dimension, rows.error))
        text = f"{task}: {label}, errors dealt at random"
        verdicts.append(dealt_claim(text, measured, paired))
    return verdicts


def change_before_training(results, task) -> float:
    """Largest relative difference before training of settings that differ in the training alone."""
    names = ["participation_ratio", "twonn"]
    data = results.sel(task=task, moment="start", estimator=names).dimension
    data = data.isel(setting=np.isin(results.varied.values, ("none", "rate", "batch", "shuffled")))
    return float(abs(data / data.isel(setting=0) - 1).max())


def _shuffled_labels(results, task):
    """Ansuini et al. (2019): shuffled labels do not let the dimension collapse: it is larger."""
    claimed = task == CLAIMED and settings.fitted_accuracy(results, task) >= FITTED
    rows = []
    for name, label in settings.ESTIMATORS.items():
        text = f"{task}: sign of the change of {label} by shuffling all labels"
        rise = mean_of(settings.log_rise(results, task, name), skip_missing=True)
        kind = "prediction" if claimed and name == "twonn" else "observation"
        rows.append(sign_claim(text, rise, kind, "the dimension collapses"))
    return rows


def _all_settings(results, task):
    rows = []
    for moment in settings.COMPARED:
        for name, label in settings.ESTIMATORS.items():
            text = f"{task}, {moment}: sign of correlation with {label}"
            of = settings.flat(results, [task], estimator=name, moment=moment)
            rows.append(_sign(text, settings.correlation(of)))
    of = settings.flat(results, [task], estimator="twonn")
    rows.append(
        _sign(f"{task}: the same with TwoNN, given the loss", settings.correlation(of, of.loss))
    )
    against = ranks.discordant(of.dimension, of.error, of.place)
    text = f"{task}: % of pairs with less TwoNN and more error"
    return [*rows, Verdict(text, 0.0, against, "observation", 0.0)]


def _factors(results, tasks):
    rows = []
    for moment in settings.COMPARED:
        for factor in _all_factors(tasks):
            measured = settings.agreement(results, tasks, factor, moment=moment, estimator="twonn")
            text = f"{moment}: sign of agreement with TwoNN, {factor} alone"
            rows.append(_sign(text, measured))
    return rows


def _all_factors(tasks):
    return (*settings.FACTORS, *(["network"] if len(tasks) > 1 else []))


def _sign(name, estimate):
    return sign_claim(name, estimate, "observation")


def tables(results: xr.Dataset) -> list[Table]:
    """Correlations, agreement by factor, and shuffled labels: the numbers behind the signs."""
    tasks = results.task.values.tolist()
    correlations, rises = [], []
    for task in tasks:
        for name, label in settings.ESTIMATORS.items():
            for moment in settings.COMPARED:
                of = settings.flat(results, [task], estimator=name, moment=moment)
                cells = [settings.correlation(of, column) for column in (None, of.loss)]
                cells.append(settings.given_labels(of))
                if moment == "equal steps":
                    others = ("surrogate", "input")
                    rows = (
                        settings.flat(results, [task], estimator=name, of=alternative)
                        for alternative in others
                    )
                    cells += map(settings.correlation, rows)
                texts = [*map(_text, cells), "-", "-"][:5]
                correlations.append((task, moment, label, *texts))
            rise = mean_of(settings.log_rise(results, task, name, "held"), skip_missing=True)
            percent = f"{100 * np.expm1(rise.value):+.0f} ± {100 * rise.stderr:.0f}"
            rises.append((task, label, percent))
    factors = [
        (
            f,
            m,
            *(
                _text(settings.agreement(results, tasks, f, moment=m, estimator=e))
                for e in settings.ESTIMATORS
            ),
        )
        for f in _all_factors(tasks)
        for m in settings.COMPARED
    ]
    headings = ("networks", "compared at", "dimension", "Spearman's", "given the loss")
    more = ("given shuffled labels", "of Gaussian points", "of the images")
    pairs = "Pairs that differ in one factor: more dimension and more error, less the opposite"
    return [
        Table("Rank correlation of test error with dimension", (*headings, *more), correlations),
        Table(pairs, ("factor", "compared at", *settings.ESTIMATORS.values()), factors),
        Table(
            "Dimension with all labels shuffled over none, %",
            ("networks", "dimension", "rise"),
            rises,
        ),
    ]


def _text(estimate) -> str:
    finite = np.isfinite(estimate.value)
    return f"{estimate.value:+.2f} ± {estimate.stderr:.2f}" if finite else "-"
