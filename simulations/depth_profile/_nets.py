"""The networks whose layers are looked at, and the images that they learn."""

import numpy as np
from torch import nn

from sgdnoise.data import FACTORS, digits, rendered, stripes
from sgdnoise.nets.models import mlp, resnet, vgg

__all__ = ["DATA", "NETS", "VARIED", "images", "network", "shown", "through"]

CLASSES = 10
NETS, DATA = ("mlp7", "mlp3", "vgg11", "resnet20"), ("digits", "rendered")
VARIED = ("hue", "x", "y", "log_size", "light")  # the class depends on the first two
WIDE = 500  # units of mlp3


def images(data: str, n: int, pixels: int, *, seed: int):
    """Images (n, channels, h, w) and classes (n,), for numpy, and their dimension where known."""
    if data == "rendered":
        return rendered(n, factors=VARIED, kinds=("disc",), label=classes, size=pixels, rng=seed)
    found = digits()
    some = np.random.default_rng([seed, 2]).permutation(len(found.inputs))[:n]
    inputs = found.inputs[some].reshape(-1, 1, 8, 8).astype(np.float32)
    return found._replace(inputs=inputs, targets=found.targets[some].argmax(1))


def classes(latents):
    """Stripes across hue and place to the right, whatever the others."""
    return stripes(latents[:, [list(FACTORS).index(name) for name in VARIED[:2]]], CLASSES)


def network(net: str, shape, units: int, channels: tuple[int, int], *, seed: int):
    """The network for images of a shape (channels, h, w), units of mlp7, channels of the others."""
    width = int(np.prod(shape))
    match net:
        case "mlp7":
            return mlp((width, *[units] * 6, CLASSES), seed=seed)
        case "mlp3":
            return mlp((width, *[WIDE] * 3, CLASSES), "tanh", seed=seed)
        case "vgg11":
            return vgg(channels[0], size=shape[1], inputs=shape[0], seed=seed)
    return resnet((3, 3, 3), channels[1], CLASSES, shape[0], seed=seed)


def shown(net: nn.Sequential) -> list[int]:
    """Places in `through` of the layers: input, each activation and block, readout and before."""
    parts, last = list(net), len(net)
    places = [
        at
        for at, part in enumerate(parts, 1)
        if isinstance(part, nn.ReLU | nn.Tanh)
        or list(part.children())
        or at == last
        or (isinstance(part, nn.Flatten) and at > 1)
    ]
    return [0, *places]


def through(net: nn.Sequential, inputs) -> list:
    """What comes in, and what each part of the network makes of it, (n, d) each."""
    every = [inputs]
    for part in net:
        every.append(part(every[-1]))
    return [rows.flatten(1) for rows in every]
