"""Calls of the tables of watching: steps of a training, and measurements of a watch.

Images of 8 x 8 pixels in batches of 64; a watch of all layers with 256 held-out examples.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import islice

import torch
from torch import nn

from benchmarks.rows import Row, Task
from sgdnoise import noise
from sgdnoise.dynamics import sgd
from sgdnoise.nets import as_problem, live_noise_scale, walk, watch

BATCH, HELD_OUT, EXAMPLES, RATE = 64, 256, 1797, 0.05
STEPS = {"mlp": 1000, "convnet": 300}  # in which a budget allows some measurements
LOSSES = nn.CrossEntropyLoss(reduction="none")
MEASUREMENTS: dict[str, dict] = {
    "dimensions": {},
    "dimensions of all positions": {"pooled": False},
    "dimensions, loss and noise": {"loss": LOSSES, "n_probes": 0},
    "dimensions, loss, noise, Tr H": {"loss": LOSSES},
}


def mlp() -> nn.Module:
    """64-128-128-10."""
    sizes = [(64, 128), (128, 128), (128, 10)]
    layers = [piece for size in sizes for piece in (nn.Linear(*size), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def convnet() -> nn.Module:
    """Two convolutions of 8 and 16 channels, a pool, 256-64-10."""
    layers: list[nn.Module] = []
    for begin, out in ((1, 8), (8, 16)):
        layers += [nn.Conv2d(begin, out, 3, padding=1), nn.ReLU()]
    head = nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)
    return nn.Sequential(*layers, *head)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "convnet": convnet}


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one of ten random patterns each, with noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (EXAMPLES,), generator=generator)
    patterns = torch.rand(10, 1, 8, 8, generator=generator)
    noisy = patterns[labels] + 0.5 * torch.randn(EXAMPLES, 1, 8, 8, generator=generator)
    return noisy, labels


def by_hand(net: nn.Module, inputs, labels, after: Callable = lambda: None) -> Iterator[None]:
    """The usual training loop, without end; after() is called at the end of each step."""
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    generator = torch.Generator().manual_seed(0)
    while True:
        batch = torch.randint(len(labels), (BATCH,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
        after()
        optimizer.step()
        yield


def walked(net: nn.Module, inputs, labels) -> Iterator:
    """The same training by `walk`."""
    problem, theta = as_problem(net, LOSSES, inputs, labels)
    return walk(sgd(noise.minibatch(problem, BATCH), RATE), theta, 0)


def training(name: str, steps: int | None = None) -> Task:
    """Steps and measurements of one network."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, steps = NETWORKS[name](), steps or STEPS[name]
    bare = steps // 5
    return Task(
        partial(_advance, by_hand(deepcopy(net), *examples()), bare),
        {"sgdnoise": lambda: [*_steps(net, steps), *_measurements(net)]},
        bare,
    )


def _advance(loop, steps):
    """Take the next steps of a loop."""
    for _ in islice(loop, steps):
        pass


def _steps(net, steps):
    """Steps that are walked or watched; the network of each is its own."""
    data = examples()
    nets = [deepcopy(net) for _ in range(4)]
    held_out = data[0][:HELD_OUT], data[1][:HELD_OUT]
    loops = {
        "walk, a step": walked(nets[0], *data),
        "live noise scale at each step": _after(live_noise_scale(nets[1], every=1), nets[1]),
        "live noise scale, budget 2%": _after(live_noise_scale(nets[2]), nets[2]),
        "watch, budget 3%": _after(watch(nets[3], *held_out, LOSSES, budget=0.03), nets[3]),
    }
    for what, loop in loops.items():
        yield Row(what, partial(_advance, loop, steps), steps)


def _after(watching, net):
    return by_hand(net, *examples(), watching.step)


def _measurements(net):
    """One measurement of a watch, of each kind."""
    inputs, labels = examples()
    for what, options in MEASUREMENTS.items():
        targets = labels[:HELD_OUT] if "loss" in options else None
        watching = watch(deepcopy(net), inputs[:HELD_OUT], targets, **options)
        yield Row(f"a measurement: {what}", watching.measure)
