"""Networks for studies: small ones without batch norm, a public residual network, its loader."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from sgdnoise.nets._attention import transformer, vision_transformer
from sgdnoise.nets._checkpoint import load
from sgdnoise.nets._initialisation import Add, activated, gain, positive, seeded, weighted
from sgdnoise.nets._pretrained import pretrained_resnet
from sgdnoise.nets._resnet import resnet

__all__ = [
    "convnet",
    "load",
    "mlp",
    "preactivation_resnet",
    "pretrained_resnet",
    "resnet",
    "transformer",
    "vgg",
    "vision_transformer",
]

# All networks are made on the CPU in torch's default type.  `seed`, an int or a torch.Generator on
# the CPU, decides all parameters; torch's own generator is left unchanged.

VGG = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}  # convolutions before each pool


def mlp(widths: Sequence[int], activation: str = "relu", *, seed) -> nn.Sequential:
    """A fully connected network: (n, ...) with widths[0] numbers an example -> (n, widths[-1]).

    activation: "relu", "tanh", "gelu", or "linear" for a deep linear network; the output has none.
    Raises ValueError for another activation, fewer than two widths, or a width below 1.

    Example:
        >>> import torch
        >>> mlp([4, 8, 2], "tanh", seed=0)(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """
    f = activated(activation)
    positive(widths=widths)
    if len(widths) < 2:
        raise ValueError(f"a network has a width of inputs and one of outputs, not {list(widths)}")
    with seeded(seed):
        layers = [nn.Flatten(), weighted(nn.Linear(widths[0], widths[1]))]
        for ends in pairwise(widths[1:]):
            layers += [f(), weighted(nn.Linear(*ends), gain(f))]
    return nn.Sequential(*layers)


def convnet(
    channels: Sequence[int] = (32, 32, 64, 64, 128, 128),
    classes: int = 10,
    size: int = 32,
    inputs: int = 3,
    activation: str = "relu",
    *,
    seed,
) -> nn.Sequential:
    """A plain convolutional network, (n, inputs, size, size) -> (n, classes).

    Convolutions are 3 x 3, with an average pool after every second one, and a head with one hidden
    layer as wide as the last channels: the shape of Simonyan & Zisserman (2015) at a quarter of
    its width, without dropout.  The default has 0.55 M parameters.
    Raises ValueError if the pools do not divide the size, and for an unknown activation.

    Example:
        >>> import torch
        >>> net = convnet((4, 4), classes=3, size=8, seed=0)
        >>> net(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3])
    """
    f = activated(activation)
    positive(channels=channels, classes=[classes], size=[size], inputs=[inputs])
    small, left = divmod(size, 2 ** (len(channels) // 2))
    if left or not small:
        raise ValueError(f"a size of {size} is not divisible by 2 {len(channels) // 2} times")
    last = channels[-1]
    with seeded(seed):
        layers: list[nn.Module] = []
        for i, ends in enumerate(pairwise([inputs, *channels])):
            layers += [weighted(nn.Conv2d(*ends, 3, padding=1), gain(f) if i else 1.0), f()]
            layers += [nn.AvgPool2d(2)] if i % 2 else []
        head = [nn.Linear(last * small**2, last), nn.Linear(last, classes)]
        before, two = (weighted(module, gain(f)) for module in head)
    return nn.Sequential(*layers, nn.Flatten(), before, f(), two)


def vgg(
    width: int = 64,
    depth: int = 11,
    classes: int = 10,
    size: int = 32,
    inputs: int = 3,
    *,
    seed,
) -> nn.Sequential:
    """VGG-11 or VGG-16 of Simonyan & Zisserman (2015) for small images, (n, inputs, size, size).

    Convolutions are 3 x 3, each followed by a norm over groups of 8 channels (Wu & He, 2018) and
    relu.  Of the five pools those remain that can halve the image.  A linear readout of the means
    over positions replaces the three dense layers.  The default has the original width and 9.2 M
    parameters.
    Raises ValueError for another depth, and for a width that the groups do not divide.

    Example:
        >>> import torch
        >>> vgg(width=8, classes=3, size=16, seed=0)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 3])
    """
    if depth not in VGG:
        raise ValueError(f"the depths of a VGG are {', '.join(map(str, VGG))}, not {depth}")
    positive(width=[width], classes=[classes], size=[size], inputs=[inputs])
    if width % 8:
        raise ValueError(f"groups of 8 channels do not divide a width of {width}")
    layers: list[nn.Module] = []
    with seeded(seed):
        for times, count in zip((1, 2, 4, 8, 8), VGG[depth], strict=True):
            for _ in range(count):
                convolution = nn.Conv2d(inputs, inputs := times * width, 3, padding=1, bias=False)
                layers.append(weighted(convolution, gain(nn.ReLU)))
                layers += [nn.GroupNorm(inputs // 8, inputs), nn.ReLU()]
            if size > 1:
                layers.append(nn.MaxPool2d(2))
                size //= 2
        head = weighted(nn.Linear(inputs, classes))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def preactivation_resnet(
    blocks: Sequence[int] = (2, 2, 2),
    width: int = 16,
    classes: int = 10,
    inputs: int = 3,
    norm: str = "group",
    *,
    seed,
) -> nn.Sequential:
    """A residual network without batch norm (He et al., 2016), (n, inputs, h, w) -> (n, classes).

    A block is norm, relu and a 3 x 3 convolution, twice: the pre-activation order.  blocks: the
    number of blocks of each stage; from the second stage on, the first block halves the image and
    doubles the channels.  norm: over "group"s of 8 channels (Wu & He, 2018), or over the "layer";
    neither mixes examples.  The default has 0.18 M parameters.
    Raises ValueError for another norm, a width that the groups do not divide, or an empty stage.

    Example:
        >>> import torch
        >>> net = preactivation_resnet((1, 1), width=8, classes=3, seed=0)
        >>> net(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3])
    """
    if norm not in ("group", "layer"):
        raise ValueError(f"the norms of a residual network are 'group' and 'layer', not {norm!r}")
    positive(blocks=blocks, width=[width], classes=[classes], inputs=[inputs])
    if norm == "group" and width % 8:
        raise ValueError(f"groups of 8 channels do not divide a width of {width}")

    def normed(channels):
        return nn.GroupNorm(channels // 8 if norm == "group" else 1, channels)

    with seeded(seed):
        layers: list[nn.Module] = [weighted(nn.Conv2d(inputs, width, 3, padding=1, bias=False))]
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            for i in range(count):
                halve = stage > 0 and i == 0
                layers.append(_block(out // 2 if halve else out, out, normed))
        head = weighted(nn.Linear(out, classes), 1.0)
    ending = [normed(out), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head]
    return nn.Sequential(*layers, *ending)


def _block(begin, out, normed):
    """A residual block; where it halves the image, so does an average pool beside it."""

    def convolution(begin, out, stride):
        return weighted(nn.Conv2d(begin, out, 3, stride, 1, bias=False), gain(nn.ReLU))

    halve = begin != out
    change = [
        *(normed(begin), nn.ReLU(), convolution(begin, out, stride=2 if halve else 1)),
        *(normed(out), nn.ReLU(), convolution(out, out, stride=1)),
    ]
    beside = nn.AvgPool2d(2, ceil_mode=True), weighted(nn.Conv2d(begin, out, 1, bias=False))
    return Add(nn.Sequential(*change), nn.Sequential(*beside) if halve else None)


for _public in (load, pretrained_resnet, resnet, transformer, vision_transformer):
    _public.__module__ = __name__


def __dir__():
    return __all__
