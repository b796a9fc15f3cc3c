"""Dimension through the depth of residual networks that others trained on GPUs.

Public ResNet-20, 32, 44 and 56 see photographs.  The participation ratio (PR) and TwoNN of the
input, of every block and of the logits are measured, also of means over positions, and compared
with untrained networks and with Gaussian points of equal covariance.
"""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

from sgdnoise.data import cifar10, normalized, patches
from sgdnoise.dimension import gaussian_twonn
from sgdnoise.lab import Study, option
from sgdnoise.nets.models import pretrained_resnet, resnet
from simulations._vision import check_data
from simulations.public_depth import claims, figure
from simulations.public_depth._layers import (
    classes,
    gram,
    outputs,
    places,
    pooled,
    relative_depths,
    surrogate_twonn,
    twonn_of,
    unbiased_ratio,
    variances_of,
)

DEPTHS = (20, 32, 44, 56)
COUNTS = {"test": 4, "training": 2, "untrained": 16}  # samples of photographs, or initialisations
SAMPLES = tuple(f"{what} {number}" for what, count in COUNTS.items() for number in range(count))
TEST_PHOTOGRAPHS = 10_000
CENTRES = 1000  # points from which theory averages
MAX_LAYERS = 3 + (max(DEPTHS) - 2) // 2  # input, stem, blocks, logits
MEASURES = (
    *("relative_depth", "pr", "pr_pooled", "twonn", "twonn_pooled", "surrogate", "theory"),
    *("surrogate_stderr", "theory_stderr"),
)


def runs(depth: int, sample: str) -> bool:
    """Whether a network is measured on a sample: of untrained ones the first alone."""
    return not sample.startswith("untrained") or depth == DEPTHS[0]


def run(
    depth: int, sample: str, *, data, trained: bool, photographs: int, pixels: int, draws: int
) -> xr.Dataset:
    """All measures of one network on one sample of photographs; nan where it is not measured.

    data: the folder with photographs and checkpoints.  trained: whether they are used; else an
    untrained network sees patches of photographs.  draws: Gaussian surrogates of each layer.
    """
    what, number = sample.partition(" ")[0], int(sample.partition(" ")[2])
    values = {name: np.full(MAX_LAYERS, np.nan) for name in MEASURES}
    numbers = dict.fromkeys(("accuracy", "within", "pr_means"), np.nan)
    if runs(depth, sample):
        inputs, labels = _photographs(what, number, data, trained, photographs, pixels)
        net = _network(depth, what, number, data, trained, inputs)
        rows = outputs(net, inputs)
        numbers["accuracy"] = float((rows[-1].argmax(1).numpy() == labels).mean())
        features = pooled(rows[-2]).double().numpy()
        numbers["within"], numbers["pr_means"] = classes(features, labels)
        values["relative_depth"][: len(rows)] = relative_depths(len(rows) - 3)
        rng = np.random.default_rng([depth, SAMPLES.index(sample)])
        drawn = places(len(rows)).values() if sample == "test 0" else ()
        for layer, output in enumerate(rows):
            measures = _measures(output, draws if layer in drawn else 0, rng)
            for name, value in measures.items():
                values[name][layer] = value
    variables = {name: ("layer", value) for name, value in values.items()}
    return xr.Dataset(variables | numbers | {"trained": trained})


def _photographs(what: str, number: int, data, trained: bool, photographs: int, pixels: int):
    """Inputs (n, 3, h, w) and classes (n,) of a sample; samples of a kind are disjoint."""
    if not trained:
        seed = number + 100 * (what == "training")
        images = patches(photographs, pixels, rng=seed).inputs
        brightness = images.mean((1, 2, 3)).argsort().argsort()
        return torch.as_tensor(normalized(images)), 10 * brightness // photographs
    subset = "train" if what == "training" else "test"
    images, labels, _ = cifar10(None if data is None else Path(data), subset)
    start = (number % COUNTS["test"]) * photographs
    chosen = np.random.default_rng(0).permutation(len(images))[start : start + photographs]
    return torch.as_tensor(normalized(images[chosen])), labels[chosen]


def _network(depth: int, what: str, number: int, data, trained: bool, inputs):
    """A public network, or an untrained one whose norms have the statistics of the inputs."""
    if trained and what != "untrained":
        return pretrained_resnet(depth, None if data is None else Path(data))
    net = resnet(depth, seed=number)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net(inputs)
    return net.eval()


def _measures(output, draws: int, rng) -> dict[str, float]:
    """The measures of one layer; those of surrogates if some are drawn."""
    means, products = pooled(output), gram(output)
    measures = {
        "pr": unbiased_ratio(output),
        "pr_pooled": unbiased_ratio(means),
        "twonn": twonn_of(products),
        "twonn_pooled": twonn_of(gram(means)),
    }
    if draws:
        variances = variances_of(products)
        drawn = surrogate_twonn(variances, draws, rng)
        theory = gaussian_twonn(variances, len(products), n_points=CENTRES, rng=rng)
        measures |= {
            "surrogate": drawn.mean(),
            "surrogate_stderr": drawn.std(ddof=1) / draws**0.5,
            "theory": float(theory.value),
            "theory_stderr": float(theory.stderr),
        }
    return measures


def check(parameters: dict) -> None:
    """Raises ValueError for wrong data, and more photographs than disjoint samples have."""
    check_data(parameters["data"], parameters["trained"])
    if parameters["trained"] and parameters["photographs"] * COUNTS["test"] > TEST_PHOTOGRAPHS:
        raise ValueError(
            f"{COUNTS['test']} disjoint samples of {TEST_PHOTOGRAPHS} photographs have "
            f"{TEST_PHOTOGRAPHS // COUNTS['test']} each at most, not {parameters['photographs']}"
        )


study = Study(
    run,
    grid={"depth": [*DEPTHS], "sample": [*SAMPLES]},
    sizes={
        "full": {"data": None, "trained": True, "photographs": 1000, "pixels": 32, "draws": 48},
        "small": {
            "depth": [8, 14],
            "sample": ["test 0", "test 1", "training 0", "training 1"],
            "trained": False,
            "photographs": 120,
            "pixels": 16,
            "draws": 20,
        },
    },
    options={
        "data": option(
            str,
            "folder with CIFAR-10's binary batches and the public checkpoints",
            default="fetched from their public addresses",
        ),
        "photographs": option(int, "photographs in a sample", least=30),
    },
    check=check,
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
