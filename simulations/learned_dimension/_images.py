"""A small convolutional network on digits, trained in batches on a loss with a dimension in it."""

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import nn

from sgdnoise.data import digits, split
from sgdnoise.nets.models import convnet
from simulations.learned_dimension._nets import ADVERSARIAL, DTYPE, MEASURES, NOISE

BATCH, RATE, CLASSES = 32, 0.05, 10
PIXEL_SCALE = 2.0  # of the centred pixels
LABEL_NOISE, NOISY_BATCH = 0.5, 8  # of one-hot targets, under a squared loss
KINDS = {  # the measure and its c
    "none": ("", 0.0),
    "participation_ratio, less": ("participation_ratio", 0.01),
    "participation_ratio, more": ("participation_ratio", -0.01),
    "effective_rank, less": ("effective_rank", 0.01),
    "effective_rank, more": ("effective_rank", -0.01),
    "twonn, less": ("twonn", 0.01),
    "label noise": ("", 0.0),
}


def images(net: int, *, size: dict, device: str) -> xr.Dataset:
    """All kinds of training from the same weights, on the same batches where the size is equal."""
    halves = split(digits(CLASSES), size["pictures"], rng=net)
    arrays = [array for half in halves for array in (half.inputs, half.targets)]
    x, y, others, labels = (torch.asarray(a, dtype=torch.float32, device=device) for a in arrays)
    x, others = x.view(-1, 1, 8, 8), others.view(-1, 1, 8, 8)
    rows = []
    for kind in KINDS:
        layers = convnet(size["channels"], CLASSES, 8, 1, "tanh", seed=net).to(device)
        network = nn.Sequential(Scaled(x.mean()), *layers)
        train(network, x, y, kind, size["epochs"], net)
        rows.append(measures(network, others, labels, net))
    axes = {"net_noisy": ("kind", "noise"), "net_adversarial": ("kind", "push")}
    columns = {
        name: (axes.get(name, ("kind",)), np.stack([row[name] for row in rows])) for name in rows[0]
    }
    return xr.Dataset(columns, {"kind": list(KINDS)})


class Scaled(nn.Module):
    """Centred pixels of about unit size, as the first module of the network."""

    def __init__(self, mean):
        super().__init__()
        self.mean = mean

    def forward(self, pixels):
        return PIXEL_SCALE * (pixels - self.mean)


def train(net: nn.Sequential, x, y, kind: str, epochs: int, seed: int) -> None:
    """A plain loop over shuffled batches; c times the measure of the batch is added to the loss.

    Label noise makes as many epochs in batches of NOISY_BATCH.
    """
    name, c = KINDS[kind]
    noisy = kind == "label noise"
    size, rate = (NOISY_BATCH, RATE / 2) if noisy else (BATCH, RATE)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), rate)
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=generator).split(size):
            if len(index) < size:
                continue
            index = index.to(x.device)
            normal = torch.randn(size, CLASSES, generator=generator).to(x.device) if noisy else 0.0
            hidden = net[:-1](x[index])
            loss = 0.5 * F.mse_loss(net[-1](hidden), y[index] + LABEL_NOISE * normal) * CLASSES
            if c:
                loss = loss + c * MEASURES[name](hidden)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def measures(net, others, labels, seed: int) -> dict:
    """PR of the last hidden layer for test images, and accuracy, also with disturbed pixels."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(others.shape, generator=generator).to(others.device)
    pixels = others.clone().requires_grad_()
    signs = torch.autograd.grad(((net(pixels) - labels) ** 2).sum(), pixels)[0].sign()
    with torch.no_grad():
        rows = net[:-1](others).to(DTYPE)
        attacked = [(others + size * signs).clamp(0, 1) for size in ADVERSARIAL]
        return {
            "net_participation_ratio": float(MEASURES["participation_ratio"](rows)),
            "net_accuracy": accuracy(net, others, labels),
            "net_noisy": [accuracy(net, others + size * normal, labels) for size in NOISE],
            "net_adversarial": [accuracy(net, inputs, labels) for inputs in attacked],
        }


def accuracy(net, inputs, labels) -> float:
    """Fraction of inputs that are assigned to their class."""
    return float((net(inputs).argmax(1) == labels.argmax(1)).double().mean())
