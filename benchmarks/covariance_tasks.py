"""Networks, losses and examples on which gradient-noise covariances are measured."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sgdnoise.nets import models

__all__ = ["NETWORKS", "Block", "Examples"]


class Examples(NamedTuple):
    """A network, its losses, and the examples."""

    net: nn.Module
    losses: Callable
    inputs: Any
    targets: Any

    @property
    def p(self):
        return sum(piece.numel() for piece in self.net.parameters())


class Block(nn.Module):
    """A block of GPT-2's size: width 768, 12 heads."""

    def __init__(self, width=768, heads=12):
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        a = self.before(x)
        x = x + self.attention(a, a, a, need_weights=False)[0]
        x = x + self.down(nn.functional.gelu(self.up(self.after(x))))
        return self.head(x.mean(1))


def mlp(n=2048, width=512):
    """784-512-512-10."""
    net = models.mlp([784, width, width, 10], seed=0)
    return Examples(net, _classes, torch.randn(n, 784), torch.randint(10, (n,)))


def convnet(n=512, width=32):
    """3 convolutions on 32 x 32 x 3, each with a pool, and 2048-256-10."""
    layers: list[nn.Module] = []
    for into, out in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    head = nn.Flatten(), nn.Linear(64 * width, 8 * width), nn.ReLU(), nn.Linear(8 * width, 10)
    return Examples(nn.Sequential(*layers, *head), _classes, *_images(n))


def transformer(n=512, width=64):
    """Language model of 2 layers on 32 of 64 words."""
    net = models.transformer(64, 32, width, 4, 2, seed=0)
    return Examples(net, _words, torch.randint(64, (n, 32)), torch.randint(64, (n, 32)))


def resnet(n=64, width=16):
    """A residual network of 20 layers with norms over groups of 8 channels."""
    net = models.preactivation_resnet((3, 3, 3), width=width, seed=0)
    return Examples(net, _classes, *_images(n))


def frozen(n=64, width=16):  # noqa: ARG001 - its width is that of the public network
    """ResNet-20, whose batch norm uses the means that it has."""
    return Examples(models.resnet(20, seed=0).eval(), _classes, *_images(n))


def gpt2(n=16, width=768):
    """A block of GPT-2's size on 64 positions."""
    inputs = torch.randn(n, 64, width)
    return Examples(Block(width, width // 64), _classes, inputs, torch.randint(10, (n,)))


NETWORKS: dict[str, Callable[..., Examples]] = {
    "mlp": mlp,
    "convnet": convnet,
    "transformer": transformer,
    "resnet": resnet,
    "frozen": frozen,
    "gpt2": gpt2,
}


def _classes(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def _words(outputs, targets):
    return F.cross_entropy(outputs.mT, targets, reduction="none").mean(1)


def _images(n):
    return torch.randn(n, 3, 32, 32), torch.randint(10, (n,))
