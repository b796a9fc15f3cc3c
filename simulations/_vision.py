"""Images that several studies learn from, and the layers of their networks."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from sgdnoise.data import FACTORS, cifar10, digits, normalized, patches, rendered, stripes
from sgdnoise.nets import freeze_batch_norm
from sgdnoise.nets.models import pretrained_resnet, resnet

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


def photographs(count: int, folder, *, start: int = 0):
    """Training photographs of CIFAR-10, normalised, and their classes, in a random order.

    folder: holds the binary batches; None fetches them.  (count, 3, 32, 32), (count,)
    """
    images, labels, _ = cifar10(None if folder is None else Path(folder), "train")
    chosen = np.random.default_rng(0).permutation(len(images))[start : start + count]
    return torch.as_tensor(normalized(images[chosen])), torch.as_tensor(labels[chosen]).long()


def public_resnet(depth: int, folder) -> nn.Module:
    """A public ResNet that was trained on a GPU, with frozen batch norm."""
    return freeze_batch_norm(pretrained_resnet(depth, None if folder is None else Path(folder)))


def stand_in(count: int, pixels: int, *, depth: int = 8):
    """An untrained ResNet with frozen batch norm, small photographs, and classes by brightness."""
    images = patches(count, pixels, rng=0).inputs
    inputs = torch.as_tensor(normalized(images))
    labels = torch.as_tensor(CLASSES * images.mean((1, 2, 3)).argsort().argsort() // count)
    net = resnet(depth, seed=0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics are those of the first batch
    with torch.no_grad():
        net(inputs)
    return freeze_batch_norm(net.eval()), inputs, labels


def check_data(folder, used: bool) -> None:
    """Raises ValueError for a folder of data that does not exist, or that a size does not read."""
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder}")
    if folder is not None and not used:
        raise ValueError("the small size makes its own data and reads none: leave out --data")
