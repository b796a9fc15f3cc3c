"""The settings in one row, which pairs of them count, and their correlations."""

from functools import partial
from typing import NamedTuple

import numpy as np

from sgdnoise.core import Estimate
from simulations.generalisation._ranks import (
    bootstrap,
    kendall,
    partial_spearman,
    spearman,
    spearman_within,
)

FACTORS = ("rate", "batch", "width", "shuffled", "noise")
ESTIMATORS = {"participation_ratio": "PR", "twonn": "TwoNN", "learned": "learned"}
COMPARED = ("equal loss", "equal steps")  # moments at which networks are compared


class Settings(NamedTuple):
    """All settings of some tasks, (n,) each; means over seeds, missing if one seed failed."""

    dimension: np.ndarray
    error: np.ndarray
    loss: np.ndarray
    shuffled: np.ndarray
    place: np.ndarray
    setting: np.ndarray
    task: np.ndarray


def flat(results, tasks, *, estimator, moment="equal steps", of="dimension") -> Settings:
    """A dimension of held-out images and the test error at a moment.

    of: "dimension" of the last hidden layer, its "surrogate", of the "input", or at the "start".
    """
    data = results.sel(task=list(tasks))
    selection = {"estimator": estimator}
    if of in ("dimension", "start"):
        selection |= {"moment": "start" if of == "start" else moment, "where": "held"}
    at = data.sel(moment=moment)
    columns = [data["dimension" if of == "start" else of].sel(selection), at.error, at.loss]
    axes = ("task", "place", "setting")
    means = [column.mean("seed", skipna=False).transpose(*axes) for column in columns]
    dimension, error, loss = (mean.values.ravel() for mean in means)
    shape = means[0].shape
    indices = np.meshgrid(*map(np.arange, shape), indexing="ij")
    task, place, setting = (index.ravel() for index in indices)
    shuffled = data.shuffled
    if "task" in shuffled.dims:
        shuffled = shuffled.transpose(*axes)
    shuffled = np.broadcast_to(shuffled.values, shape).ravel()
    return Settings(dimension, error, loss, shuffled, place, setting, task)


def differing_in(results, rows: Settings, factor: str) -> np.ndarray:
    """Pairs (n, n) of settings of one place and task which differ in that factor alone."""
    varied = results.varied.values[rows.setting]
    allowed = (varied == "none") | (varied == factor)
    return allowed[:, None] & allowed & _same(rows.place) & _same(rows.task)


def between_networks(rows: Settings) -> np.ndarray:
    """Pairs (n, n) of different tasks in the same setting of one place."""
    return _same(rows.place) & _same(rows.setting) & ~_same(rows.task)


def _same(labels):
    return labels[:, None] == labels[None, :]


def correlation(rows: Settings, given=None) -> Estimate:
    """Spearman's correlation of dimension and test error; partial if `given` is a column."""
    if given is None:
        return bootstrap(partial(spearman, rows.dimension, rows.error), rows.place)
    return bootstrap(partial(partial_spearman, rows.dimension, rows.error, given), rows.place)


def given_labels(rows: Settings) -> Estimate:
    """Spearman's correlation of dimension and error within a task and fraction of shuffled labels.

    Ranks are those within such groups.
    """
    groups = np.unique([rows.task, rows.shuffled], axis=1, return_inverse=True)[1]
    statistic = partial(spearman_within, rows.dimension, rows.error, groups.ravel())
    return bootstrap(statistic, rows.place)


def agreement(results, tasks, factor, *, moment, estimator) -> Estimate:
    """Kendall's correlation of dimension and test error, of pairs that differ in one factor alone.

    factor "network": pairs of networks on the same images.
    """
    rows = flat(results, tasks, estimator=estimator, moment=moment)
    if factor == "network":
        images = np.asarray([task.split()[1] for task in tasks])[rows.task]
        pairs = between_networks(rows) & _same(images)
    else:
        pairs = differing_in(results, rows, factor)
    return kendall(rows.dimension, rows.error, rows.place, among=pairs)


def log_rise(results, task, estimator, where="trained"):
    """Logarithm of the dimension with all labels shuffled over that with none, of each place."""
    at = results.sel(task=task, moment="equal steps", where=where, estimator=estimator)
    at = at.isel(setting=np.isin(results.varied.values, ("none", "shuffled")))
    values = at.dimension.mean("seed", skipna=False)
    every, none = (values.where(at.shuffled == s).mean("setting") for s in (1, 0))
    return np.log(every / none)


def fitted_accuracy(results, task) -> float:
    """Mean accuracy in training where all labels are shuffled."""
    at = results.sel(task=task, moment="equal steps")
    return float(at.accuracy.where(at.shuffled == 1).mean())
