"""A small convolutional network on digits, trained in batches on a loss with a dimension in it."""

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import nn

from sgdnoise.data import digits, split
from sgdnoise.nets.models import convnet
from simulations.learned_dimension._nets import ADVERSARIAL, DTYPE, MEASURES, NOISY

__all__ = ["KINDS", "images"]

BATCH, RATE, CLASSES = 32, 0.05, 10
UNIT = 2.0  # by which pixels are multiplied once their mean is taken off
LABEL_NOISE, NOISY_BATCH = 0.5, 8  # of one-hot targets, under a squared loss as above
KINDS = {  # c of each measure, and the noise beside
    "none": ("", 0.0),
    "participation_ratio, less": ("participation_ratio", 0.01),
    "participation_ratio, more": ("participation_ratio", -0.01),
    "effective_rank, less": ("effective_rank", 0.01),
    "effective_rank, more": ("effective_rank", -0.01),
    "twonn, less": ("twonn", 0.01),
    "label noise": ("", 0.0),
}


def images(net: int, *, size, device: str) -> xr.Dataset:
    """All kinds of training from the same weights, on the same batches where these are as large."""
    train, test = split(digits(CLASSES), size.pictures, rng=net)
    parts = [part for data in (train, test) for part in (data.inputs, data.targets)]
    x, y, others, labels = (torch.asarray(p, dtype=torch.float32, device=device) for p in parts)
    x, others = x.view(-1, 1, 8, 8), others.view(-1, 1, 8, 8)
    middle = x.mean()
    found = []
    for kind in KINDS:
        made = convnet(size.channels, CLASSES, 8, 1, "tanh", seed=net).to(device)
        made = nn.Sequential(Scaled(middle), *made)
        trained(made, x, y, kind, size.epochs, net)
        found.append(judged(made, others, labels, net))
    axes = {"net_noisy": ("kind", "noise"), "net_adversarial": ("kind", "push")}
    names = {name: axes.get(name, ("kind",)) for name in found[0]}
    rows = {name: (names[name], np.stack([each[name] for each in found])) for name in names}
    return xr.Dataset(rows).assign_coords(kind=list(KINDS))


class Scaled(nn.Module):
    """Pixels about their mean, of about unit size: part of the network."""

    def __init__(self, middle):
        super().__init__()
        self.middle = middle

    def forward(self, pixels):
        return UNIT * (pixels - self.middle)


def trained(net: nn.Sequential, x, y, kind: str, epochs: int, seed: int) -> None:
    """A plain loop over shuffled batches: to the loss is added c times the measure of the batch.

    Label noise makes as many passes in batches of NOISY_BATCH.
    """
    name, c = KINDS[kind]
    noisy = kind == "label noise"
    size, rate = (NOISY_BATCH, RATE / 2) if noisy else (BATCH, RATE)
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), rate)
    for _ in range(epochs):
        for some in torch.randperm(len(x), generator=draw).split(size):
            if len(some) < size:
                continue
            some = some.to(x.device)
            white = torch.randn(size, CLASSES, generator=draw).to(x.device) if noisy else 0.0
            hidden = net[:-1](x[some])
            loss = 0.5 * F.mse_loss(net[-1](hidden), y[some] + LABEL_NOISE * white) * CLASSES
            if c:
                loss = loss + c * MEASURES[name](hidden)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def judged(net, others, labels, seed: int) -> dict:
    """Measures of the last hidden layer for other digits, and accuracy, also disturbed."""
    draw = torch.Generator().manual_seed(seed)
    white = torch.randn(others.shape, generator=draw).to(others.device)
    asked = others.clone().requires_grad_()
    slopes = torch.autograd.grad(((net(asked) - labels) ** 2).sum(), asked)[0].sign()
    with torch.no_grad():
        rows = net[:-1](others).to(DTYPE)
        noisy = [right(net, others + size * white, labels) for size in NOISY]
        pushed = [right(net, (others + s * slopes).clamp(0, 1), labels) for s in ADVERSARIAL]
        return {f"net_{name}": float(measure(rows)) for name, measure in MEASURES.items()} | {
            "net_accuracy": right(net, others, labels),
            "net_noisy": noisy,
            "net_adversarial": pushed,
            "net_norm": float(sum((p**2).sum() for p in net.parameters())),
        }


def right(net, inputs, labels) -> float:
    """Share of inputs that go to their class."""
    return float((net(inputs).argmax(1) == labels.argmax(1)).double().mean())
