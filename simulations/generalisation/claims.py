"""What papers say of dimension and test error, held against settings drawn at random, and controls.

Ansuini et al. (2019) found the dimension (TwoNN) of the last hidden layer of large convolutional
networks on ImageNet to rise with their test error, and that of a small one on MNIST not to collapse
with shuffled labels (of the former `literature` has the sign for sure, numbers from memory; of the
latter the authors' own code).  Only the second was said of networks like ours: it is claimed of the
small convolutional network on digits, where shuffled labels are fitted.  All else is contrast.
Allowances were written before the full run; trials with other seeds, of four places and two
networks a setting, had shown that the dimension of this network then rises by some 20 to 60%, that
it goes with the error over all, over shuffled labels and over noise, and not over rate, batch and
width alone; and that the error of a test at chance is known to 1% and no better.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Verdict
from simulations.generalisation._columns import (
    AFTER,
    CLASSES,
    FACTORS,
    SHOWN,
    agreement,
    alone,
    average,
    correlation,
    fitted,
    flat,
    rise,
)
from simulations.generalisation._ranks import concordance as agreed
from simulations.generalisation._ranks import discordant, partial_spearman, shuffled, sign, spearman
from simulations.generalisation._tables import tables

__all__ = ["TITLE", "lead", "tables", "verdicts"]

TITLE = "Dimension of the last hidden layer against test error"
CLAIMED = "convnet digits"
SIGN = 1.0, 36 / 37  # predicted, and by how much it may be off: see `sign`
FITTED = 0.95  # accuracy in training with all labels shuffled, from which they are fitted
CHANCE, NOTHING, SAME = 0.02, 0.03, 1e-4  # of an error, of a correlation, and relative
STARTS = ("participation_ratio", "twonn")  # what is estimated before training


def lead(device: str, size) -> tuple[str, ...]:
    """What is read before all else."""
    what = (
        f"{size.places} places drawn at random, 12 settings each, {size.seeds} seeds, "
        f"{size.trained} images to train on"
    )
    smaller = "; small networks and few images: a result of this size is not the full one"
    return (
        f"Computed on {device}: {what}{smaller if device == 'cpu' else ''}.",
        "Correlations are of ranks, of means over seeds; their errors are from places drawn anew, "
        "each with all its settings. A correlation is no cause: the share of shuffled labels "
        "raises the test error whatever the dimension does.",
        f"Compared are networks of the same loss in training, {size.loss:g} when first reached, "
        "and after equally many steps. A sign is held against chance one-sided, at 2.7%.",
        "Claimed is what is exact, which is what nothing can move, and of the literature only what "
        "was said of small convolutional networks on handwritten digits.",
    )


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Controls, shuffled labels, then signs over all, of each factor alone, between networks."""
    tasks = results.task.values.tolist()
    found: list[Verdict] = []
    for task in tasks:
        found += _controls(results, task) + _memorised(results, task)
    for task in tasks:
        found += _over_all(results, task)
    return found + _each_alone(results, tasks)


def _controls(results, task):
    """What must be at chance, the same, or nothing."""
    at = results.sel(task=task, moment="equal steps")
    of = flat(results, [task], estimator="twonn")
    dealt: dict[str, Callable] = {
        "rank correlation": spearman,
        "rank correlation given loss": lambda x, y: partial_spearman(x, y, of.loss),
        "agreement where labels alone vary": partial(agreed, among=alone(results, of, "shuffled")),
    }
    return [
        Verdict(
            f"{task}: test error, all labels shuffled", 1 - 1 / CLASSES, blind(at), True, CHANCE
        ),
        Verdict(
            f"{task}: largest change by what is not there before training",
            0.0,
            Estimate(untouched(results, task), 0.0),
            True,
            SAME,
        ),
        *(
            Verdict(
                f"{task}: {what}, errors dealt at random",
                0.0,
                shuffled(statistic, of.dimension, of.error),
                True,
                NOTHING,
            )
            for what, statistic in dealt.items()
        ),
    ]


def blind(at) -> Estimate:
    """Mean test error of networks that learned labels drawn at random; places and seeds are new.

    Its error is at least that of so many images told at random, where few networks agree by chance.
    """
    each = at.error.where(at.shuffled == 1).mean("setting").values.ravel()
    found = average(each)
    least = ((1 - 1 / CLASSES) / CLASSES / float(at.tested.mean()) / len(each)) ** 0.5
    return found._replace(stderr=max(found.stderr, least))


def untouched(results, task) -> float:
    """Largest relative difference, before training, of settings that differ in its course alone."""
    part = results.sel(task=task, moment="start", estimator=list(STARTS)).dimension
    varied = results.varied.values
    course = np.isin(varied, ("none", "rate", "batch", "shuffled"))
    some = part.isel(setting=course)
    return float(abs(some / some.isel(setting=0) - 1).max())


def _memorised(results, task):
    """Ansuini et al. (2019): shuffled labels do not let the dimension collapse: it is larger."""
    claimed = task == CLAIMED and fitted(results, task) >= FITTED
    return [
        Verdict(
            f"{task}: sign of the change of {short} by shuffling all labels",
            SIGN[0],
            sign(average(rise(results, task, name))),
            claimed and name == "twonn",
            SIGN[1],
        )
        for name, short in SHOWN.items()
    ]


def _over_all(results, task):
    found = []
    for moment in AFTER:
        for name, short in SHOWN.items():
            of = flat(results, [task], estimator=name, moment=moment)
            found.append(
                _sign(f"{task}, {moment}: sign of correlation with {short}", correlation(of))
            )
    of = flat(results, [task], estimator="twonn")
    found.append(
        _sign(f"{task}: the same with TwoNN, given the loss", correlation(of, given=of.loss))
    )
    against = discordant(of.dimension, of.error, of.place)
    name = f"{task}: % of pairs with less TwoNN and more error"
    return [*found, Verdict(name, 0.0, against, False, 0.0)]


def _each_alone(results, tasks):
    """TwoNN alone, of which the literature speaks; the others stand in a table."""
    return [
        _sign(
            f"{moment}: sign of agreement with TwoNN, {factor} alone", apart(results, tasks, factor)
        )
        for moment in AFTER
        for factor in (*FACTORS, "network")
        if factor != "network" or len(tasks) > 1
        for apart in [partial(agreement, moment=moment, estimator="twonn")]
    ]


def _sign(name, found):
    return Verdict(name, SIGN[0], sign(found), False, SIGN[1])
