"""What the live noise scale and a budget cost in trainings of four networks.

Each training runs bare, with `live_noise_scale` measuring each step, with its default budget of 2%,
and with a watch of a budget of 3%: ten steps of each in turn, CPU time, one thread, on a clock that
stands still while the others run.  Overheads are ratios of medians of steps, or of means of a
twentieth of the steps where only some are measured.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from time import process_time

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sgdnoise.nets import UnmeasuredWarning, live_noise_scale, models, watch
from sgdnoise.nets._watch import _budget

RATE, HELD_OUT, BLOCK = 0.01, 64, 10
LOSSES = nn.CrossEntropyLoss(reduction="none")


class Block(nn.Module):
    """A block of GPT-2's size: width 768, 12 heads, 64 positions."""

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


class Clock:
    """CPU time of each training alone, which stands still while the others run."""

    def __init__(self):
        self.totals, self.current, self.began = [0.0] * 4, 0, process_time()

    def begin(self, k: int) -> None:
        """The step of training k begins."""
        self.current, self.began = k, process_time()

    def end(self) -> float:
        """The time of the step that ends."""
        taken = process_time() - self.began
        self.totals[self.current] += taken
        return taken

    def __call__(self) -> float:
        return self.totals[self.current] + process_time() - self.began


def tasks() -> dict[str, tuple[nn.Module, tuple, int, int]]:
    """Name -> network, shape of an example, batch, steps."""
    mlp = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    mlp.append(nn.Linear(128, 10))
    convolutions = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1)
    head = nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.ReLU()
    return {
        "MLP 64-128-128-10": (mlp, (64,), 64, 8000),
        "convnet, 8 and 16 channels": (
            nn.Sequential(*convolutions, *head, nn.Linear(64, 10)),
            (1, 8, 8),
            64,
            3000,
        ),
        "ResNet-20": (models.resnet(20, seed=0), (3, 32, 32), 32, 60),
        "block of GPT-2's size": (Block(), (64, 768), 8, 60),
    }


def training(net, x, y, batch: int, after: Callable) -> Iterator[None]:
    """A plain loop without end; after() is called between backward and step."""
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    generator = torch.Generator().manual_seed(0)
    while True:
        index = torch.randint(len(y), (batch,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(net(x[index]), y[index]).backward()
        after()
        optimizer.step()
        yield


@contextmanager
def own_clock():
    """A context in which budgets read a Clock, and batch norm is not warned of."""
    clock, before = Clock(), _budget.perf_counter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnmeasuredWarning)
        _budget.perf_counter = clock
        try:
            yield clock
        finally:
            _budget.perf_counter = before


def overheads(name: str, steps: int | None = None) -> list[str]:
    """The cells of a row: the time of a bare step, and what each way adds."""
    with own_clock() as clock:
        return _overheads(name, steps, clock)


def _overheads(name, steps, clock):
    net, shape, batch, enough = tasks()[name]
    steps = steps or enough
    x, y = torch.randn(256, *shape), torch.randint(10, (256,))
    nets = [deepcopy(net) for _ in range(4)]
    held_out = x[:HELD_OUT].clone(), y[:HELD_OUT].clone()
    callbacks = [
        lambda: None,
        live_noise_scale(nets[1]).step,
        watch(nets[2].eval(), *held_out, LOSSES, budget=0.03).step,
        live_noise_scale(nets[3], every=1).step,
    ]
    nets[2].train()
    loops = [training(n, x, y, batch, after) for n, after in zip(nets, callbacks, strict=True)]
    times = np.empty((steps, len(loops)))
    for start in range(-BLOCK, steps, BLOCK):
        for k, loop in enumerate(loops):
            for step in range(start, min(start + BLOCK, steps)):
                clock.begin(k)
                next(loop)
                taken = clock.end()
                if step >= 0:
                    times[step, k] = taken
    bare, median = np.median(times[:, 0]), np.median(times, axis=0)
    blocks = min(steps, 20)  # whose median leaves out the interruptions of a busy machine
    parts = [part.mean(axis=0) for part in np.array_split(times, blocks)]
    typical = np.median(parts, axis=0)
    more = [median[3] / bare - 1, typical[1] / typical[0] - 1, typical[2] / typical[0] - 1]
    return [name, f"{1e3 * bare:.2f} ms", *(f"{100 * share:+.1f}%" for share in more)]


def table(names=None, steps: int | None = None) -> list[str]:
    """Lines of markdown, a row for each network."""
    lines = ["## The live noise scale, and a watch with a budget", ""]
    lines += ["| network | a step | live, each step | live, 2% | watch, 3% |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for name in names or tasks():
        lines.append(f"| {' | '.join(overheads(name, steps))} |")
    return [*lines, ""]
