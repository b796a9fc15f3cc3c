"""Networks, losses and examples on which gradient-noise covariances are measured."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sgdnoise.nets import models

__all__ = ["STREAM", "TASKS", "Task"]


class Task(NamedTuple):
    """A network, its losses and its examples."""

    net: nn.Module
    losses: Callable
    inputs: Any
    targets: Any

    @property
    def p(self):
        return sum(piece.numel() for piece in self.net.parameters())


def mlp(n=2048, width=512):
    """784-512-512-10."""
    net = models.mlp([784, width, width, 10], seed=0)
    return Task(net, _classes, torch.randn(n, 784), torch.randint(10, (n,)))


def convnet(n=512, width=32):
    """3 convolutions on 32 x 32 x 3, each with a pool, and 2048-256-10."""
    layers: list[nn.Module] = []
    for into, out in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    head = nn.Flatten(), nn.Linear(64 * width, 8 * width), nn.ReLU(), nn.Linear(8 * width, 10)
    return Task(nn.Sequential(*layers, *head), _classes, *_images(n))


def vgg(n=512, width=32):
    """6 convolutions on 32 x 32 x 3, a pool after each second, and 2048-128-10."""
    channels = [times * width for times in (1, 1, 2, 2, 4, 4)]
    return Task(models.convnet(channels, seed=0), _classes, *_images(n))


def transformer(n=512, width=64):
    """Language model of 2 layers on 32 of 64 words."""
    net = models.transformer(64, 32, width, 4, 2, seed=0)
    return Task(net, _words, torch.randint(64, (n, 32)), torch.randint(64, (n, 32)))


def stream(n=32768, width=2048):
    """784-2048-2048-2048-10, with nothing kept."""
    net = models.mlp([784, width, width, width, 10], seed=0)
    return Task(net, _classes, torch.randn(n, 784), torch.randint(10, (n,)))


STREAM = "stream"
TASKS = {"mlp": mlp, "convnet": convnet, "vgg": vgg, "transformer": transformer, STREAM: stream}


def _classes(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def _words(outputs, targets):
    return F.cross_entropy(outputs.mT, targets, reduction="none").mean(1)


def _images(n):
    return torch.randn(n, 3, 32, 32), torch.randint(10, (n,))
