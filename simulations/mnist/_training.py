"""MNIST or the digits of scikit-learn, the networks that learn them, and plain SGD."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sgdnoise.data import Data, digits, mnist, split
from sgdnoise.nets.models import mlp
from simulations._vision import CLASSES

NETS = ("mlp", "convnet")
DECAYED = "mlp with weight decay"
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # of that one, as Papyan et al. (2020) train theirs
DROP, DROPPED = 2 / 3, 0.1  # fraction of its steps after which its rate is a tenth
HIDDEN = 3  # layers of relus of either network
LAYERS = ("input", "first hidden", "second hidden", "last hidden", "logits")
TESTED = 397  # of the 1,797 digits of scikit-learn
CHUNK = 2000  # images in a forward pass


class Images(NamedTuple):
    """Pixels (n, d) and classes (n,), on the device of the networks."""

    inputs: torch.Tensor
    labels: torch.Tensor


def images(data, real: bool, device: str) -> tuple[Images, Images]:
    """The images for training and for testing, standardised by all pixels of the first.

    data: the folder of MNIST, or None to fetch it.  real: else they are the digits of scikit-learn.
    """
    if real:
        folder = None if data is None else Path(data)
        sets = [mnist(folder, subset) for subset in ("train", "test")]
    else:
        every = digits()
        every = Data(every.inputs, every.targets.argmax(1))
        sets = list(split(every, len(every.inputs) - TESTED, rng=0))
    pixels = [np.asarray(d.inputs, np.float32).reshape(len(d.inputs), -1) for d in sets]
    mean, deviation = pixels[0].mean(), pixels[0].std()
    first, second = (
        Images(
            torch.asarray((rows - mean) / deviation, device=device),
            torch.asarray(np.asarray(d.targets, np.int64), device=device),
        )
        for rows, d in zip(pixels, sets, strict=True)
    )
    return first, second


def network(name: str, pixels: int, width: int, channels: tuple, *, seed: int) -> nn.Sequential:
    """ "mlp": three hidden layers of `width` units; "convnet": two of channels, one of units."""
    if name != "convnet":
        return mlp((pixels, *[width] * HIDDEN, CLASSES), seed=seed)
    return convnet(round(pixels**0.5), *channels, seed=seed)


def convnet(size: int, first: int, second: int, units: int, *, seed: int) -> nn.Sequential:
    """Two 3 x 3 convolutions that halve the image, and two dense layers.  (n, size^2) -> (n, 10)

    Weights are normal with the variances of He et al. (2015), and biases are zero.
    """
    positions = ((size + 3) // 4) ** 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights: list[nn.Conv2d | nn.Linear] = [
            nn.Conv2d(1, first, 3, stride=2, padding=1),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.Linear(second * positions, units),
            nn.Linear(units, CLASSES),
        ]
        for i, layer in enumerate(weights):
            gain = 2 if i else 1  # of the variance, after a relu
            nn.init.normal_(layer.weight, std=(gain / layer.weight[0].numel()) ** 0.5)
            nn.init.constant_(layer.bias, 0.0)  # type: ignore[arg-type]
    begin, next_, dense, readout = weights
    relus = [nn.ReLU() for _ in range(HIDDEN)]
    image = nn.Unflatten(1, (1, size, size))
    dense_part = nn.Flatten(), dense, relus[2], readout
    return nn.Sequential(image, begin, relus[0], next_, relus[1], *dense_part)


def layers_of(net: nn.Sequential) -> list[str]:
    """The names of the modules whose outputs are LAYERS."""
    relus = [str(i) for i, module in enumerate(net) if isinstance(module, nn.ReLU)]
    return ["0", *relus, str(len(net) - 1)]


def optimizer_of(name: str, net, rate: float) -> torch.optim.Optimizer:
    """Plain SGD; with momentum and weight decay for DECAYED, at half the rate."""
    if name == DECAYED:
        more: dict[str, Any] = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
        return torch.optim.SGD(net.parameters(), rate / 2, **more)
    return torch.optim.SGD(net.parameters(), rate)


def schedule_of(name: str, optimizer, steps: int):
    """The scheduler of the rate, constant but for DECAYED; its step() follows each step."""
    factor = DROPPED if name == DECAYED else 1.0
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(DROP * steps)], factor)


def descend(net, train: Images, optimizer, batch: int, steps: int, rng, after: Callable) -> None:
    """Steps on the cross-entropy of images drawn with replacement; after(step) follows each."""
    for step in range(1, steps + 1):
        index = torch.asarray(rng.integers(0, len(train.inputs), batch), device=train.labels.device)
        optimizer.zero_grad()
        F.cross_entropy(net(train.inputs[index]), train.labels[index]).backward()
        optimizer.step()
        after(step)


@torch.no_grad()
def loss_and_error(net, images: Images) -> tuple[float, float]:
    """The mean cross-entropy of images, and the fraction of them that is not recognised."""
    outputs = torch.cat([net(chunk) for chunk in images.inputs.split(CHUNK)])
    wrong = outputs.argmax(1) != images.labels
    return float(F.cross_entropy(outputs, images.labels)), float(wrong.double().mean())


def block(images: Images, number: int, size: int) -> Images:
    """The images of a number of disjoint blocks of a size."""
    chosen = slice(number * size, (number + 1) * size)
    return Images(images.inputs[chosen], images.labels[chosen])
