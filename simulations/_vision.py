"""Images that several studies learn from, and the layers of their networks."""

import numpy as np
from torch import nn

from sgdnoise.data import FACTORS, digits, rendered, stripes

CLASSES = 10
VARIED = ("hue", "x", "y", "log_size", "light")  # the class depends on the first two


def images(data: str, n: int, pixels: int, *, seed: int):
    """Images (n, channels, h, w) and classes (n,), for numpy, with their dimension if known."""
    if data == "rendered":
        return rendered(n, factors=VARIED, kinds=("disc",), label=_classes, size=pixels, rng=seed)
    every = digits()
    index = np.random.default_rng([seed, 2]).permutation(len(every.inputs))[:n]
    inputs = every.inputs[index].reshape(-1, 1, 8, 8).astype(np.float32)
    return every._replace(inputs=inputs, targets=every.targets[index].argmax(1))


def _classes(latents):
    """Stripes across hue and horizontal position, whatever the other factors."""
    return stripes(latents[:, [list(FACTORS).index(name) for name in VARIED[:2]]], CLASSES)


def layer_indices(net: nn.Sequential) -> list[int]:
    """Indices in `layers` of the input, each activation and block, the readout and its input."""
    modules, last = list(net), len(net)
    indices = [
        index
        for index, module in enumerate(modules, 1)
        if isinstance(module, nn.ReLU | nn.Tanh)
        or list(module.children())
        or index == last
        or (isinstance(module, nn.Flatten) and index > 1)
    ]
    return [0, *indices]


def layers(net: nn.Sequential, inputs) -> list:
    """The inputs, and the output of each module of the network, (n, d) each."""
    outputs = [inputs]
    for module in net:
        outputs.append(module(outputs[-1]))
    return [rows.flatten(1) for rows in outputs]
