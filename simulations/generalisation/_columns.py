"""Settings one after another, which pairs of them count, and what is told of them."""

from functools import partial
from typing import NamedTuple

import numpy as np

from sgdnoise.core import Estimate, nanmean
from simulations.generalisation._ranks import drawn_again, kendall, partial_spearman, spearman

__all__ = ["AFTER", "CLASSES", "FACTORS", "SHOWN", "Flat", "agreement", "alone", "average"]
__all__ += ["between", "correlation", "fitted", "flat", "rise"]

CLASSES = 10
FACTORS = ("rate", "batch", "width", "shuffled", "noise")
SHOWN = {"participation_ratio": "PR", "twonn": "TwoNN", "learned": "learned"}
AFTER = ("equal loss", "equal steps")


class Flat(NamedTuple):
    """Settings of some tasks one after another, (n,) each; means over seeds, nan if one failed."""

    dimension: np.ndarray
    error: np.ndarray
    loss: np.ndarray
    shuffled: np.ndarray
    place: np.ndarray
    setting: np.ndarray
    task: np.ndarray


def flat(results, tasks, *, estimator, moment="equal steps", where="held", of="dimension") -> Flat:
    """A dimension and the test error of all settings of some tasks.

    of: "dimension" at that moment of that kind of images, "surrogate" or "input"; "start" for the
    dimension before training, beside errors of that moment.
    """
    part = results.sel(task=list(tasks))
    known = {"estimator": estimator}
    if of in ("dimension", "start"):
        known |= {"moment": "start" if of == "start" else moment, "where": where}
    name = "dimension" if of == "start" else of
    at = part.sel(moment=moment)
    columns = [part[name].sel(known), at.error, at.loss]
    axes = ("task", "place", "setting")
    means = [each.mean("seed", skipna=False).transpose(*axes) for each in columns]
    shape = means[0].shape
    labels = np.meshgrid(*(np.arange(k) for k in shape), indexing="ij")
    share = part.shuffled.transpose(*axes) if "task" in part.shuffled.dims else None
    share = np.broadcast_to(part.shuffled.values if share is None else share.values, shape)
    task, place, setting = (each.ravel() for each in labels)
    dimension, error, loss = (each.values.ravel() for each in means)
    return Flat(dimension, error, loss, share.ravel(), place, setting, task)


def alone(results, of: Flat, factor: str) -> np.ndarray:
    """Pairs (n, n) of settings of one place and task which differ in that factor and no other."""
    varied = results.varied.values[of.setting]
    own = (varied == "none") | (varied == factor)
    return own[:, None] & own & _same(of.place) & _same(of.task)


def between(of: Flat) -> np.ndarray:
    """Pairs of tasks, other networks on the same images, in the same setting of one place."""
    return _same(of.place) & _same(of.setting) & ~_same(of.task)


def _same(labels):
    return labels[:, None] == labels[None, :]


def correlation(of: Flat, given=None) -> Estimate:
    """Spearman's, of dimension and test error; partial where something is given."""
    if given is None:
        statistic = partial(spearman, of.dimension, of.error)
    else:
        statistic = partial(partial_spearman, of.dimension, of.error, given)
    return drawn_again(statistic, of.place)


def agreement(results, tasks, factor, *, moment, estimator, where="held") -> Estimate:
    """Pairs that differ in one factor alone: larger dimension, larger error, less the opposite.

    Kendall's, over all tasks; "network": pairs of networks on the same images.
    """
    if factor != "network":
        of = flat(results, tasks, estimator=estimator, moment=moment, where=where)
        return kendall(of.dimension, of.error, of.place, among=alone(results, of, factor))
    of = flat(results, tasks, estimator=estimator, moment=moment, where=where)
    kinds = np.asarray([task.split()[1] for task in tasks])[of.task]
    return kendall(of.dimension, of.error, of.place, among=between(of) & _same(kinds))


def rise(results, task, estimator, where="trained", moment="equal steps"):
    """Logarithm of the dimension with all labels shuffled over that with none, of each place."""
    at = results.sel(task=task, moment=moment, where=where, estimator=estimator)
    own = np.isin(results.varied.values, ("none", "shuffled"))
    values = at.dimension.mean("seed", skipna=False).isel(setting=own)
    share = at.shuffled.isel(setting=own)
    ends = (values.where(share == s).mean("setting") for s in (1, 0))
    return np.log(next(ends) / next(ends))


def fitted(results, task) -> float:
    """Mean accuracy in training where all labels are shuffled."""
    at = results.sel(task=task, moment="equal steps")
    return float(at.accuracy.where(at.shuffled == 1).mean())


def average(values) -> Estimate:
    """Mean and error of those that are finite."""
    found = nanmean(np.asarray(values, float))
    return Estimate(float(found.value), float(found.stderr), found.freedom)
