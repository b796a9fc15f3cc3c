"""The residual network for CIFAR-10 of He et al. (2016), as public checkpoints have it."""

from itertools import pairwise

import torch.nn.functional as F
from torch import nn

from sgdnoise.nets._initialisation import positive, seeded

WIDTHS = (16, 32, 64)  # channels of the three stages


def resnet(depth: int = 20, classes: int = 10, inputs: int = 3, *, seed) -> nn.Module:
    """The residual network for CIFAR-10 of He et al. (2016), (n, inputs, h, w) -> (n, classes).

    depth: 6 n + 2 for n blocks in each of three stages with 16, 32 and 64 channels; 20, 32, 44, 56
    and 110 are published.  A block is a 3 x 3 convolution and a batch norm, twice, with a relu
    after the first and after the sum with the shortcut.  Shortcuts have no parameters (type A): the
    first block of the second and of the third stage takes every second pixel and adds channels of
    zeros.  Weights are those of He et al. (2015), and biases those of torch.
    The names of parameters are those of the public checkpoints, which `load` reads.  `watch` can
    measure the outputs of blocks, such as layer1.0, of relus, such as layer1.0.relu1, and of pool,
    the mean over positions before the linear readout.
    The network is returned in training.  Call net.eval() or `nets.freeze_batch_norm` before its
    examples are treated one by one.
    Raises ValueError for another depth, and for fewer than 1 classes or inputs.

    Example:
        >>> import torch
        >>> net = resnet(8, seed=0).eval()
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    blocks, remainder = divmod(depth - 2, 6)
    if remainder or blocks < 1:
        raise ValueError(f"the depths of this network are 6 n + 2, such as 20 or 56, not {depth}")
    positive(classes=[classes], inputs=[inputs])
    with seeded(seed):
        return _ResNet(blocks, classes, inputs)


class _ResNet(nn.Module):
    """A stem, three stages of blocks, and a linear readout of the means over positions."""

    def __init__(self, blocks, classes, inputs):
        super().__init__()
        self.conv1 = _convolution(inputs, WIDTHS[0])
        self.bn1, self.relu = nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks)
        self.layer2, self.layer3 = (_stage(*widths, blocks) for widths in pairwise(WIDTHS))
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.linear = nn.Linear(WIDTHS[-1], classes)
        nn.init.kaiming_normal_(self.linear.weight)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))


class _Block(nn.Module):
    """Two convolutions, each with a batch norm, and a relu of their sum with the shortcut."""

    def __init__(self, begin, out):
        super().__init__()
        halve = begin != out
        self.conv1 = _convolution(begin, out, stride=2 if halve else 1)
        self.bn1, self.relu1 = nn.BatchNorm2d(out), nn.ReLU()
        self.conv2 = _convolution(out, out)
        self.bn2, self.relu2 = nn.BatchNorm2d(out), nn.ReLU()
        self.shortcut = _Subsample(out - begin) if halve else nn.Identity()

    def forward(self, x):
        change = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(change + self.shortcut(x))


class _Subsample(nn.Module):
    """Every second pixel, with channels of zeros before and after."""

    def __init__(self, channels):
        super().__init__()
        self.before = channels // 2
        self.after = channels - self.before

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


def _stage(begin, out, blocks):
    return nn.Sequential(_Block(begin, out), *(_Block(out, out) for _ in range(blocks - 1)))


def _convolution(begin, out, stride=1):
    layer = nn.Conv2d(begin, out, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight)
    return layer
