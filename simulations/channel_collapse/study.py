"""Whether gradient noise makes channels of a public ResNet collapse when the rate is raised.

A channel whose outgoing weights v, scale w and shift b are zero is gone: an invariant set of SGD.
The growth of (v, w, b) close to this set follows from statistics of photographs, channel by
channel.  It is compared with SGD of channels that are put there, and with the channels that die in
SGD at raised rates.
"""

import copy
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from sgdnoise.lab import Study, option
from sgdnoise.theory import lyapunov_exponent
from simulations._vision import check_data, public_resnet, stand_in
from simulations._vision import photographs as cifar_photographs
from simulations.channel_collapse import claims, figure
from simulations.channel_collapse._channels import (
    SMALLEST,
    channels_of,
    contributions,
    groups_of,
    norms,
    scaled,
    statistics,
    weights_of,
)
from simulations.channel_collapse._growth import curvature, exponent, growth
from simulations.channel_collapse._runs import sgd

DEPTH, OTHERS = 20, (32, 44, 56)
CHANNELS = 336  # of the blocks of ResNet-20
CLOSE = 1e-3  # factor by which channels are put close to the set
RUNS = 5  # of the linear steps, averaged


class Setting(NamedTuple):
    """Rate and batch of SGD, and its steps as a multiple of those of the size.

    near: whether channels are put close to the set.  random: whether labels are random.
    """

    rate: float
    batch: int
    steps: float = 1.0
    near: bool = False
    random: bool = False


SETTINGS = {
    "low": Setting(0.003, 16, steps=0.25, near=True),
    "raised": Setting(0.01, 16, near=True),
    "one example": Setting(0.004, 1, steps=12.0, near=True),
    "random labels": Setting(0.004, 1, steps=8.0, random=True),
    "unstable": Setting(0.02, 16),
}


def run(
    seed: int,
    *,
    data,
    trained: bool,
    photographs: int,
    training: int,
    pixels: int,
    groups: int,
    steps: int,
    near_steps: int,
    linear_steps: int,
    device: str,
) -> xr.Dataset:
    """Everything for one sample of photographs and one seed of SGD.

    photographs: that give the statistics, and that SGD close to the set uses.  training: those of
    the other SGD.  groups: of channels that are put close to the set, one of each block in a group.
    steps, near_steps: of SGD.  linear_steps: for the exponents of all channels.
    """
    net, inputs, labels = _network(data, trained, training, pixels, device)
    rng = np.random.default_rng(seed)
    at = torch.as_tensor(rng.permutation(len(inputs))[:photographs], device=device)
    sample = inputs[at], labels[at]
    every = channels_of(net)
    classes = int(labels.max()) + 1
    random = torch.as_tensor(rng.integers(0, classes, len(inputs)), device=device)
    pairs, pairs_random = (
        _pairs(net, sample[0], at_labels) for at_labels in (sample[1], random[at])
    )
    active, size = contributions(net, sample[0])
    values = {"active": active, "size": size, "norm": norms(net, every)}
    variables = {name: ("channel", _padded(number)) for name, number in values.items()}
    variables |= _exponents(net, every, pairs, pairs_random, linear_steps, rng)
    variables |= _free(net, every, inputs, (labels, random), sample[0], steps, rng)
    variables |= _near(net, pairs, sample, groups, near_steps, rng)
    blocks = {name: k for k, name in enumerate(dict.fromkeys(c.block for c in every))}
    variables["block"] = ("channel", _padded(np.asarray([blocks[c.block] for c in every])))
    variables["dead_in"] = ("other", _dead_elsewhere(data, trained and seed == 0, sample[0]))
    coordinates = {"setting": [*SETTINGS], "other": [*OTHERS], "way": [*claims.WAYS]}
    return xr.Dataset(variables | {"trained": trained}, coordinates)


def _pairs(net, inputs, labels) -> dict:
    """Channel -> its statistics, with some labels of the photographs."""
    pairs: dict = {}
    for group in groups_of(net):
        pairs |= dict(zip(group, statistics(net, inputs, labels, group), strict=True))
    return pairs


def _network(data, trained, training, pixels, device):
    if trained:
        net, (inputs, labels) = public_resnet(DEPTH, data), cifar_photographs(training, data)
    else:
        net, inputs, labels = stand_in(training, pixels)
    return net.to(device), inputs.to(device), labels.to(device)


def _padded(values):
    """Numbers of channels, for as many channels as ResNet-20 has."""
    return np.pad(np.asarray(values, float), (0, CHANNELS - len(values)), constant_values=np.nan)


def _exponents(net, every, of_labels, of_random, steps, rng) -> dict:
    """Growth per step close to the set, of each channel at each setting."""
    values = np.full((2, len(SETTINGS), CHANNELS), np.nan)
    for row, setting in enumerate(SETTINGS.values()):
        pairs = of_random if setting.random else of_labels
        for column, channel in enumerate(every):
            v, s = weights_of(net, channel)
            rate, batch = setting.rate, setting.batch
            order = rng.integers(0, len(pairs[channel]), (RUNS, steps, batch))
            values[0, row, column] = exponent(pairs[channel], rate, order)
            own = rng.permutation(curvature(pairs[channel], v, s))
            values[1, row, column] = lyapunov_exponent(own, rate, batch).value
    return {
        "exponent": (("setting", "channel"), values[0]),
        "own_exponent": (("setting", "channel"), values[1]),
    }


def _free(net, every, inputs, labels, seen, steps, rng) -> dict:
    """SGD of all weights: which channels are dead after it, and what is left of the others.

    labels: those of the photographs, and random ones.
    """
    shape = len(SETTINGS), CHANNELS
    values = {name: np.full(shape, np.nan) for name in ("dead", "size_after", "norm_after")}
    losses = np.full(len(SETTINGS), np.nan)
    for row, setting in enumerate(SETTINGS.values()):
        moving, count = copy.deepcopy(net), round(steps * setting.steps)
        order = rng.integers(0, len(inputs), (count, setting.batch))
        loss = sgd(moving, inputs, labels[setting.random], setting.rate, order)
        losses[row] = loss
        if not np.isfinite(loss):
            continue
        active, size = contributions(moving, seen)
        after = {"dead": active < SMALLEST, "size_after": size, "norm_after": norms(moving, every)}
        for name, numbers in after.items():
            values[name][row] = _padded(numbers)
    variables: dict = {name: (("setting", "channel"), rows) for name, rows in values.items()}
    return variables | {"loss": ("setting", losses)}


def _near(net, pairs, sample, groups, steps, rng) -> dict:
    """Growth of channels that start close to the set: predicted, by rivals, and in SGD.

    Groups are random ones of those with a channel of every block.  Dead channels have no growth.
    """
    full = [g for g in groups_of(net) if len(g) == len(groups_of(net)[0])]
    chosen = [full[k] for k in rng.permutation(len(full))[:groups]]
    size = groups * len(full[0])
    values = np.full((len(claims.WAYS), len(SETTINGS), size), np.nan)
    for row, setting in enumerate(SETTINGS.values()):
        if not setting.near:
            continue
        columns = []
        for group in chosen:
            columns.append(_of_group(net, pairs, sample, group, setting, steps, rng))
        values[:, row] = np.concatenate(columns, 1)
    return {"near": (("way", "setting", "placed"), values)}


def _of_group(net, pairs, sample, group, setting, steps, rng):
    """Growth per step of the channels of a group in each way, (way, channel).

    Of SGD with other weights fixed, what its batches differ from the mean of theory is subtracted.
    """
    rate, (inputs, labels) = setting.rate, sample
    n = len(inputs)
    order = rng.integers(0, n, (4 * RUNS, steps, setting.batch))
    values = np.empty((len(claims.WAYS), len(group)))
    for column, channel in enumerate(group):
        k, (v, s) = pairs[channel], weights_of(net, channel)
        of_runs = growth(k, v, s, rate, order)
        every = np.arange(n)[None, None].repeat(steps, 1)
        values[0, column], values[1, column] = of_runs.mean(), growth(k, v, s, rate, every)[0]
        own = rng.permutation(curvature(k, v, s))
        values[2, column] = lyapunov_exponent(own, rate, setting.batch).value
        values[3, column] = of_runs.mean() - of_runs[0]
    for row, only in ((3, group), (4, None)):
        moving = copy.deepcopy(net)
        scaled(moving, group, CLOSE)
        before = norms(moving, group)
        sgd(moving, inputs, labels, rate, order[0], only)
        change = np.log(norms(moving, group) / before) / steps
        values[row] = change + values[row] if only else change
    after = statistics(moving, inputs, labels, group)
    for column, (channel, k) in enumerate(zip(group, after, strict=True)):
        values[5, column] = growth(k, *weights_of(net, channel), rate, order).mean()
    return values


def _dead_elsewhere(data, wanted, inputs):
    """The fraction of dead channels in deeper public networks."""
    if not wanted:
        return np.full(len(OTHERS), np.nan)
    nets = [public_resnet(depth, data).to(inputs.device) for depth in OTHERS]
    return [float((contributions(net, inputs)[0] < SMALLEST).mean()) for net in nets]


def check(parameters: dict) -> None:
    """Raise ValueError for a folder of data that does not exist, and too few photographs."""
    check_data(parameters["data"], parameters["trained"])
    if parameters["photographs"] > parameters["training"]:
        raise ValueError(
            f"{parameters['photographs']} photographs are more than the {parameters['training']} "
            "of training"
        )


study = Study(
    run,
    grid={"seed": lambda parameters: range(parameters["seeds"])},
    sizes={
        "full": {
            "seeds": 4,
            "data": None,
            "trained": True,
            "photographs": 64,
            "training": 2048,
            "pixels": 32,
            "groups": 1,
            "steps": 120,
            "near_steps": 60,
            "linear_steps": 40,
        },
        "small": {
            "seeds": 2,
            "trained": False,
            "photographs": 40,
            "training": 80,
            "pixels": 8,
            "steps": 20,
            "near_steps": 20,
            "linear_steps": 20,
        },
        "cuda": {"seeds": 16, "photographs": 512, "steps": 1000},
    },
    options={
        "seeds": option(int, "samples of photographs, each with its own SGD", least=2),
        "data": option(str, "folder with CIFAR-10 and the checkpoints; else they are fetched"),
        "photographs": option(int, "photographs that give the statistics", least=32),
        "steps": option(int, "steps of SGD at a batch of 16", least=4),
    },
    check=check,
    claims=claims,
    figure=figure,
    device="torch",
)

if __name__ == "__main__":
    study.main()
