"""Dimension against test error on all of MNIST, over rate, batch size and shuffled labels.

Each combination of these three factors is one training of a perceptron or a convolutional network.
The participation ratio (PR) and TwoNN of the last hidden layer are compared with the test error
over all settings, with the shuffled labels given, and with one factor varied alone.
"""

import numpy as np
import torch
import xarray as xr

from sgdnoise.data import Data, mislabelled
from sgdnoise.lab import Study, option
from sgdnoise.nets import watch
from simulations._vision import CLASSES, check_data
from simulations.mnist._measures import estimators
from simulations.mnist._training import (
    NETS,
    Images,
    block,
    descend,
    images,
    layers_of,
    loss_and_error,
    network,
    optimizer_of,
)
from simulations.mnist.against_error import claims, figure

FACTORS = {
    "rate": (0.02, 0.04, 0.08, 0.16),
    "batch": (32, 128),
    "shuffled": (0.0, 0.25, 0.5, 1.0),
}
SUBSETS = ("test", "training")
MEASURES = ("pr", "twonn", "theory")


def run(
    net: str,
    rate: float,
    batch: int,
    shuffled: float,
    *,
    data,
    real: bool,
    epochs: float,
    width: int,
    channels,
    looked: int,
    centres: int,
    device: str,
) -> xr.Dataset:
    """One setting: its dimensions at the start and at the end, its losses and its errors.

    shuffled: the fraction of training labels that are drawn anew from all classes.  epochs: images
    seen in training, over all there are.  Initial weights, labels and batches are its own.
    """
    train, test = images(data, real, device)
    seeds = setting_seed(net, rate, batch, shuffled).spawn(3)
    initial, labels, batches = (np.random.default_rng(seed) for seed in seeds)
    noisy = with_shuffled_labels(train, shuffled, labels)
    seed = int(initial.integers(2**31))
    module = network(net, train.inputs.shape[1], width, channels, seed=seed).to(device)
    hidden = layers_of(module)[-2]
    samples = {
        where: block(some, 0, looked) for where, some in zip(SUBSETS, (test, train), strict=True)
    }
    watches = [
        watch(
            module,
            sample.inputs,
            layers=[hidden],
            every=[],
            estimators=_only(estimators(sample.labels.cpu(), centres)),
        )
        for sample in samples.values()
    ]
    steps = round(epochs * len(train.inputs) / batch)

    def after(_):
        for each in watches:
            each.step()

    optimizer = optimizer_of(net, module, rate)
    descend(module, noisy, optimizer, batch, steps, batches, after)
    records = [each.results().sel(layer=hidden, drop=True) for each in watches]
    result = xr.concat(records, xr.IndexVariable("images", list(SUBSETS)))
    result = result[list(MEASURES)].rename(step="moment").assign_coords(moment=["start", "end"])
    loss, fitted = loss_and_error(module, noisy)
    return result.assign(
        error=loss_and_error(module, test)[1],
        loss=loss,
        training_error=fitted,
        tested=len(test.inputs),
        steps=steps,
    )


def _only(functions):
    return {name: function for name, function in functions.items() if name in MEASURES}


def setting_seed(net: str, rate: float, batch: int, shuffled: float) -> np.random.SeedSequence:
    """The seed of a setting, of which no two have the same."""
    numbers = (NETS.index(net), round(1e6 * rate), batch, round(1e6 * shuffled))
    return np.random.SeedSequence([19, *numbers])


def with_shuffled_labels(train: Images, fraction: float, rng) -> Images:
    """A fraction of the labels drawn anew; a new label may be the true one."""
    data = Data(np.empty((len(train.labels), 0)), train.labels.cpu().numpy())
    labels = mislabelled(data, fraction * (1 - 1 / CLASSES), CLASSES, rng=rng).targets
    return Images(train.inputs, torch.asarray(labels, device=train.labels.device))


def check(parameters: dict) -> None:
    """Raises ValueError for data that are not read."""
    check_data(parameters["data"], parameters["real"])


study = Study(
    run,
    grid={"net": [*NETS], **{name: [*levels] for name, levels in FACTORS.items()}},
    sizes={
        "full": {
            "data": None,
            "real": True,
            "epochs": 4.0,
            "width": 200,
            "channels": (8, 16, 64),
            "looked": 2000,
            "centres": 64,
        },
        "small": {
            "rate": [0.04, 0.16],
            "shuffled": [0.0, 1.0],
            "batch": [16, 32],
            "real": False,
            "epochs": 8.0,
            "width": 40,
            "channels": (4, 8, 16),
            "looked": 100,
            "centres": 16,
        },
    },
    options={
        "net": option(list, "only this network; may be repeated", choices=NETS),
        "data": option(str, "folder with the four files of MNIST; else they are fetched"),
        "epochs": option(float, "images seen in training over all there are", least=0.1),
    },
    check=check,
    claims=claims,
    figure=figure,
    device="torch",
)

if __name__ == "__main__":
    study.main()
