"""Dimension in time: a perceptron and a convolutional network learn all of MNIST.

The participation ratio (PR) and TwoNN of every layer are measured at 0, 1, 3, 10, ... steps, on
held-out images and on images of the training, and compared with wide networks at the start, with
Gaussian points of equal covariance, and with neural collapse at the end.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import xarray as xr

from sgdnoise.core import mean
from sgdnoise.lab import Study, option
from sgdnoise.nets import watch
from simulations._vision import check_data
from simulations.mnist._measures import estimators, surrogate, unbiased_ratio
from simulations.mnist._training import (
    DECAYED,
    HIDDEN,
    LAYERS,
    NETS,
    block,
    descend,
    images,
    layers_of,
    loss_and_error,
    network,
    optimizer_of,
    schedule_of,
)
from simulations.mnist._wide import ratios
from simulations.mnist.in_time import claims, figure

FEWER_CENTRES = 8  # times, of seeds other than 0, whose Gaussian points are not drawn
SUBSETS = ("test", "training")
MEASURES = ("pr", "twonn", "theory", "theory_stderr", "within", "pr_means")


def run(
    net: str,
    seed: int,
    *,
    data,
    real: bool,
    moments,
    rate: float,
    batch: int,
    width: int,
    channels,
    looked: int,
    checked: int,
    centres: int,
    draws: int,
    starts: int,
    device: str,
) -> xr.Dataset:
    """One training, watched on `looked` images of either kind that no other seed sees.

    data: the folder of MNIST.  real: whether it is used; else digits of scikit-learn.
    moments: steps at which the layers are measured.  checked: images for the loss.  draws: Gaussian
    surrogates of each layer, and starts: initial networks for the PR at the start, of seed 0.
    """
    train, test = images(data, real, device)
    pixels = train.inputs.shape[1]
    module = network(net, pixels, width, channels, seed=seed).to(device)
    names = layers_of(module)
    centres = centres if seed == 0 else centres // FEWER_CENTRES
    samples = dict(
        zip(SUBSETS, (block(test, seed, looked), block(train, seed, looked)), strict=True)
    )
    watches = {
        where: watch(
            module,
            sample.inputs,
            layers=names,
            every=moments,
            estimators=estimators(sample.labels.cpu(), centres),
        )
        for where, sample in samples.items()
    }
    drawn = _watch_surrogates(module, names, samples["test"], moments, draws) if seed == 0 else None
    checks = [block(test, 0, checked), block(train, 0, checked)]
    fits = [[loss_and_error(module, some) for some in checks]]

    rng, optimizer = np.random.default_rng([seed, 1]), optimizer_of(net, module, rate)
    schedule = schedule_of(net, optimizer, moments[-1])

    def after(step):
        schedule.step()
        for each in (*watches.values(), *([drawn] if drawn else [])):
            each.step()
        if step in moments:
            fits.append([loss_and_error(module, some) for some in checks])

    descend(module, train, optimizer, batch, moments[-1], rng, after)
    records = [_named(each.results(), names)[list(MEASURES)] for each in watches.values()]
    result = xr.concat(records, xr.IndexVariable("images", list(SUBSETS)))
    return result.assign(
        _surrogates(drawn, names, result.step)
        | _at_start(net, samples["test"], pixels, width, starts if seed == 0 else 0)
        | {"loss": (("step", "images"), np.asarray(fits)[..., 0])}
        | {"error": (("step", "images"), np.asarray(fits)[..., 1])}
    )


def _named(record, names):
    """The record of a watch, with LAYERS in the place of the names of modules."""
    return record.sel(layer=names).assign_coords(layer=list(LAYERS))


def _watch_surrogates(module, names, sample, moments, draws):
    """Surrogates at the start, in the middle and at the end."""
    rows: dict[str, Callable] = {"surrogate": partial(surrogate, draws=draws, seed=0)}
    middle = moments[len(moments) // 2]
    return watch(module, sample.inputs, layers=names, every=[middle], estimators=rows)


def _surrogates(drawn, names, steps):
    """surrogate and its error at all steps; nan where none were drawn."""
    columns = ("surrogate", "surrogate_stderr")
    if drawn is None:
        blank = np.full((len(steps), len(LAYERS)), np.nan)
        return {name: (("step", "layer"), blank) for name in columns}
    return {name: _named(drawn.results(), names)[name].reindex(step=steps) for name in columns}


def _at_start(net, sample, pixels, width, starts):
    """PR of the hidden layers of a wide perceptron, by theory and over `starts` networks."""
    columns = ("wide", "infinite", "start", "start_stderr")
    values = dict(zip(columns, np.full((len(columns), len(LAYERS)), np.nan), strict=True))
    if net == "mlp" and starts:
        hidden, inputs = slice(1, 1 + HIDDEN), sample.inputs.cpu().numpy()
        theory = ratios(inputs, HIDDEN, width, np.random.default_rng(0))
        values["wide"][hidden], values["infinite"][hidden] = theory
        measured = mean(np.asarray([_initial(sample, pixels, width, i) for i in range(starts)]))
        values["start"][hidden], values["start_stderr"][hidden] = measured.value, measured.stderr
    return {name: ("layer", value) for name, value in values.items()}


def _initial(sample, pixels, width, seed):
    """PR of the hidden layers of an untrained perceptron."""
    module = network("mlp", pixels, width, (), seed=1000 + seed).to(sample.inputs.device)
    hidden = layers_of(module)[1:-1]
    record = watch(module, sample.inputs, layers=hidden, estimators={"pr": unbiased_ratio})
    return record.results().pr.sel(layer=hidden).values[0]


def check(parameters: dict) -> None:
    """Raises ValueError for moments that do not rise from 0, and data that are not read."""
    check_data(parameters["data"], parameters["real"])
    moments = parameters["moments"]
    if moments[0] != 0 or any(a >= b for a, b in pairwise(moments)):
        raise ValueError(f"moments rise from 0, not {', '.join(map(str, moments))}")


study = Study(
    run,
    grid={"net": [*NETS, DECAYED], "seed": [0, 1, 2]},
    sizes={
        "full": {
            "data": None,
            "real": True,
            "moments": (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 6000, 10_000),
            "rate": 0.1,
            "batch": 128,
            "width": 500,
            "channels": (8, 16, 64),
            "looked": 2000,
            "checked": 10_000,
            "centres": 256,
            "draws": 24,
            "starts": 48,
        },
        "small": {
            "net": [*NETS],
            "seed": [0, 1],
            "real": False,
            "moments": (0, 1, 10, 100),
            "batch": 32,
            "width": 100,
            "channels": (4, 8, 32),
            "looked": 150,
            "checked": 300,
            "centres": 64,
            "draws": 24,
            "starts": 20,
        },
    },
    options={
        "net": option(list, "only this network; may be repeated", choices=(*NETS, DECAYED)),
        "data": option(str, "folder with the four files of MNIST; else they are fetched"),
    },
    check=check,
    claims=claims,
    figure=figure,
    device="torch",
)

if __name__ == "__main__":
    study.main()
