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
from simulations import _vision as vision

CLASSES = vision.CLASSES
CHECK_EVERY = 10  # steps between checks of the loss in training
CHUNK = 500  # images in one forward pass


class Task(NamedTuple):
    """Images and labels of m networks: (m, n, channels, h, w) and (m, n), then the test images."""

    inputs: torch.Tensor
    labels: torch.Tensor
    others: torch.Tensor
    truth: torch.Tensor


class Trained(NamedTuple):
    """Parameters of m networks, (m, ...) each, at the end and when their loss was first reached.

    step: when the loss was reached; missing if never, and then `equal` has no meaning.
    """

    end: dict[str, torch.Tensor]
    equal: dict[str, torch.Tensor]
    step: np.ndarray


def network(net: str, shape, width: int, seed: int) -> nn.Sequential:
    """The network for images of a shape (channels, h, w), with `width` units before its readout.

    "convnet" has two 3 x 3 convolutions of 8 and 16 channels, which halve the image.
    """
    if net == "mlp":
        return mlp((int(np.prod(shape)), width, width, CLASSES), seed=seed)
    size = 16 * ((shape[1] + 3) // 4) ** 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules: list[nn.Conv2d | nn.Linear] = [
            nn.Conv2d(shape[0], 8, 3, stride=2, padding=1),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.Linear(size, width),
            nn.Linear(width, CLASSES),
        ]
        for i, module in enumerate(modules):
            gain = 1 if i == 0 else 2  # of the variance, after a ReLU
            nn.init.normal_(module.weight, std=(gain / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    first, second, dense, readout = modules
    relu = nn.ReLU
    return nn.Sequential(first, relu(), second, relu(), nn.Flatten(), dense, relu(), readout)


def images(data: str, size: int, trained: int, pixels: int, seed: int) -> tuple[Data, Data]:
    """Images to train on and to test on, both standardised by the first."""
    every = vision.images(data, size, pixels, seed=seed)
    first = every.inputs[:trained]
    inputs = (every.inputs - first.mean(0)) / (first - first.mean(0)).std()
    labels = np.asarray(every.targets)
    halves = slice(trained), slice(trained, None)
    train, test = (Data(inputs[half], labels[half], every.dimension) for half in halves)
    return train, test


def corrupted(train: Data, test: Data, shuffled: float, noise: float, seed: int):
    """The same with noise in all pixels, and a fraction of the training labels drawn at random.

    A random label may be the true one: with all shuffled, labels tell nothing of the images.  The
    noise is one fixed draw for each image; noises and fractions of one seed differ in size alone.
    """
    rng = np.random.default_rng([seed, 5])
    inputs = [d.inputs + noise * rng.standard_normal(d.inputs.shape) for d in (train, test)]
    wrong = shuffled * (1 - 1 / CLASSES)
    labels = mislabelled(train, wrong, CLASSES, rng=np.random.default_rng([seed, 6])).targets
    return inputs[0], labels, inputs[1], test.targets


def stacked_task(tasks, device: str) -> Task:
    """The images and labels of several networks as one Task on a device."""
    columns = [np.stack(column) for column in zip(*tasks, strict=True)]
    kinds = (torch.float32, torch.int64) * 2
    pairs = zip(columns, kinds, strict=True)
    return Task(*(torch.asarray(c, dtype=k, device=device) for c, k in pairs))


def stacked_networks(nets, device: str):
    """Parameters (m, ...) of networks of one shape, and the first of them as their module."""
    parameters, _ = stack_module_state(nets)
    moved = {name: p.detach().to(device).requires_grad_() for name, p in parameters.items()}
    return moved, nets[0].to(device)


def train(parameters, net, task: Task, *, rates, batch: int, steps: int, loss, rng) -> Trained:
    """SGD of all networks at once, each with its own rate and its own batches.

    loss: the loss in training at which the parameters of a network are also stored; it is checked
    every CHECK_EVERY steps.
    """
    m, n = task.labels.shape
    device = task.labels.device
    rates = torch.asarray(rates, dtype=torch.float32, device=device)
    row = torch.arange(m, device=device)[:, None]
    forward = vmap(partial(functional_call, net))
    equal = {name: p.detach().clone() for name, p in parameters.items()}
    reached = np.full(m, np.nan)
    for step in range(steps + 1):
        pending = np.nonzero(np.isnan(reached))[0]
        if len(pending) and (step % CHECK_EVERY == 0 or step == steps):
            index = torch.asarray(pending, device=device)
            current = {name: p.detach()[index] for name, p in parameters.items()}
            reached[pending[losses(current, net, task, index) <= loss]] = step
            for name, p in current.items():
                equal[name][index] = p
        if step == steps:
            break
        examples = torch.asarray(rng.integers(0, n, (m, batch)), device=device)
        outputs = forward(parameters, task.inputs[row, examples])
        cost = F.cross_entropy(outputs.flatten(0, 1), task.labels[row, examples].flatten()) * m
        gradients = torch.autograd.grad(cost, list(parameters.values()))
        with torch.no_grad():
            for p, gradient in zip(parameters.values(), gradients, strict=True):
                p -= rates.reshape(-1, *[1] * (p.ndim - 1)) * gradient
    return Trained({name: p.detach() for name, p in parameters.items()}, equal, reached)


@torch.no_grad()
def predict(parameters, net, inputs) -> torch.Tensor:
    """Outputs of the networks for their images.  (m, n, ...) -> (m, n, units)"""
    forward = vmap(partial(functional_call, net))
    return torch.cat([forward(parameters, chunk) for chunk in inputs.split(CHUNK, dim=1)], dim=1)


def hidden(parameters, net, inputs) -> torch.Tensor:
    """The last hidden layers of the networks.  (m, n, ...) -> (m, n, width)"""
    readout = f"{len(net) - 1}."
    below = {name: p for name, p in parameters.items() if not name.startswith(readout)}
    return predict(below, net[:-1], inputs)


def losses(parameters, net, task: Task, index=slice(None)) -> np.ndarray:
    """Cross-entropy of the networks over all images they are trained on.  -> (m,)"""
    outputs = predict(parameters, net, task.inputs[index])
    rows = F.cross_entropy(outputs.transpose(1, 2), task.labels[index], reduction="none")
    return rows.mean(1).double().cpu().numpy()
