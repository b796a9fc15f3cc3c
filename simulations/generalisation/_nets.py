"""Many networks of one shape trained at once, each on images and labels of its own."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from sgdnoise.data import Data, mislabelled
from sgdnoise.nets.models import mlp
from simulations.depth_profile import _nets as layers_nets

__all__ = ["DATA", "NETS", "Task", "Trained", "convnet", "hidden", "images", "outputs", "stacked"]
__all__ += ["train"]

CLASSES = layers_nets.CLASSES
NETS, DATA = ("mlp", "convnet", "resnet20", "vgg11"), ("digits", "rendered")
LOOK = 10  # steps between looks at the loss of all that is trained on
CHUNK = 500  # images that are seen at once
DEEP = {"resnet20": 4, "vgg11": 8}  # units before the readout over channels at first


class Task(NamedTuple):
    """Images and labels of m networks: (m, n, channels, h, w) and (m, n), the others to test on."""

    inputs: torch.Tensor
    labels: torch.Tensor
    others: torch.Tensor
    truth: torch.Tensor


class Trained(NamedTuple):
    """Parameters of m networks, (m, ...) each, at the end and when their loss was first reached.

    step: when that was, nan where it never was; the parameters are then those of the end.
    """

    end: dict[str, torch.Tensor]
    equal: dict[str, torch.Tensor]
    step: np.ndarray


def network(net: str, shape, width: int, seed: int) -> nn.Sequential:
    """The network for images of a shape (channels, h, w), `width` units before its readout."""
    if net == "mlp":
        return mlp((int(np.prod(shape)), width, width, CLASSES), seed=seed)
    if net == "convnet":
        return convnet(shape, width, seed)
    channels = width // DEEP[net]
    return layers_nets.network(net, shape, width, (channels, channels), seed=seed)


def convnet(shape, width: int, seed: int) -> nn.Sequential:
    """Two 3 x 3 convolutions of 8 and 16 channels, which halve the image, and a hidden layer."""
    inputs, pixels = shape[0], shape[1]
    last = 16 * ((pixels + 3) // 4) ** 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[nn.Conv2d | nn.Linear] = [
            nn.Conv2d(inputs, 8, 3, stride=2, padding=1),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.Linear(last, width),
            nn.Linear(width, CLASSES),
        ]
        for i, part in enumerate(parts):
            gain = 1 if i == 0 else 2  # of variance: a ReLU comes before
            nn.init.normal_(part.weight, std=(gain / part.weight[0].numel()) ** 0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    first, second, dense, readout = parts
    relu = nn.ReLU
    return nn.Sequential(first, relu(), second, relu(), nn.Flatten(), dense, relu(), readout)


def images(data: str, size: int, trained: int, pixels: int, seed: int) -> tuple[Data, Data]:
    """Images to train on and others, less the mean of the first, in units of their spread."""
    found = layers_nets.images(data, size, pixels, seed=seed)
    first = found.inputs[:trained]
    inputs = (found.inputs - first.mean(0)) / (first - first.mean(0)).std()
    labels = np.asarray(found.targets)
    one, two = ((inputs[p], labels[p]) for p in (slice(trained), slice(trained, None)))
    return Data(*one, found.dimension), Data(*two, found.dimension)


def spoilt(first: Data, rest: Data, shuffled: float, noise: float, seed: int):
    """The same with noise in all pixels, and a share of the first ones' labels drawn at random.

    Such a label is any class, the true one too: with all shuffled they tell nothing of the images.
    Noise is fixed, one draw for each image; noises and shares differ but in size.
    """
    rng = np.random.default_rng([seed, 5])
    inputs = [
        part.inputs + noise * rng.standard_normal(part.inputs.shape) for part in (first, rest)
    ]
    wrong = shuffled * (1 - 1 / CLASSES)
    labels = mislabelled(first, wrong, CLASSES, rng=[seed, 6]).targets
    return inputs[0], labels, inputs[1], rest.targets


def stacked(each, device: str) -> Task:
    """Those of several networks, on a device."""
    columns = [np.stack(part) for part in zip(*each, strict=True)]
    kinds = (torch.float32, torch.int64) * 2
    return Task(
        *(torch.asarray(c, dtype=k, device=device) for c, k in zip(columns, kinds, strict=True))
    )


def together(nets, device: str):
    """Parameters (m, ...) of networks of one shape, and the first of them as what they are."""
    parameters, _ = stack_module_state(nets)
    moved = {name: p.detach().to(device).requires_grad_() for name, p in parameters.items()}
    return moved, nets[0].to(device)


def train(parameters, net, task: Task, *, rates, batch: int, steps: int, loss, rng) -> Trained:
    """Descent of all at once, each with its own rate and its own batches, drawn anew each step.

    loss: that of all images trained on, at which a network is also kept, looked at every `LOOK`.
    """
    m, n = task.labels.shape
    device = task.labels.device
    rates = torch.asarray(rates, dtype=torch.float32, device=device)
    own = torch.arange(m, device=device)[:, None]
    forward = vmap(partial(functional_call, net))
    equal = {name: p.detach().clone() for name, p in parameters.items()}
    reached = np.full(m, np.nan)
    for step in range(steps + 1):
        left = np.nonzero(np.isnan(reached))[0]
        if len(left) and (step % LOOK == 0 or step == steps):
            still = torch.asarray(left, device=device)
            some_of = {name: p.detach()[still] for name, p in parameters.items()}
            reached[left[losses(some_of, net, task, still) <= loss]] = step
            for name, p in some_of.items():
                equal[name][still] = p
        if step == steps:
            break
        some = torch.asarray(rng.integers(0, n, (m, batch)), device=device)
        out = forward(parameters, task.inputs[own, some])
        cost = F.cross_entropy(out.flatten(0, 1), task.labels[own, some].flatten()) * m
        slopes = torch.autograd.grad(cost, list(parameters.values()))
        with torch.no_grad():
            for p, slope in zip(parameters.values(), slopes, strict=True):
                p -= rates.reshape(-1, *[1] * (p.ndim - 1)) * slope
    end = {name: p.detach() for name, p in parameters.items()}
    return Trained(end, equal, reached)


@torch.no_grad()
def outputs(parameters, net, inputs) -> torch.Tensor:
    """What networks make of their images.  (m, n, ...) -> (m, n, units)"""
    forward = vmap(partial(functional_call, net))
    return torch.cat([forward(parameters, part) for part in inputs.split(CHUNK, dim=1)], dim=1)


def hidden(parameters, net, inputs) -> torch.Tensor:
    """Their last hidden layers, which the readout sees.  (m, n, ...) -> (m, n, width)"""
    below = net[:-1]
    kept = {name: p for name, p in parameters.items() if not name.startswith(f"{len(net) - 1}.")}
    return outputs(kept, below, inputs)


def losses(parameters, net, task: Task, some=slice(None)) -> np.ndarray:
    """Cross-entropy of each, or of some, over all that it is trained on.  -> (m,)"""
    found = outputs(parameters, net, task.inputs[some])
    each = F.cross_entropy(found.transpose(1, 2), task.labels[some], reduction="none")
    return each.mean(1).double().cpu().numpy()
