"""What watching a training costs, and what `walk` costs relative to a loop written by hand.

`python -m benchmarks.watch [--rounds 3]` trains an MLP and a small convnet on synthetic images of
8 x 8 pixels, in a plain torch loop with batches of 64, bare and watched side by side: blocks of
steps in turn, CPU time, one thread.  The watch measures at steps 1, 2, 4, ..., on 256 held-out
examples and all layers with weights.  The same loop is then compared with `walk`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from time import process_time
from typing import Annotated

import torch
import typer
from torch import nn
from typer import Option

from benchmarks import live
from sgdnoise import noise
from sgdnoise.dynamics import sgd
from sgdnoise.nets import as_problem, walk, watch

BATCH, HELD_OUT, EXAMPLES, RATE = 64, 256, 1797, 0.05
ALLOWED = 0.05  # of the time of training
LOSSES = nn.CrossEntropyLoss(reduction="none")


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
WATCHES: dict[str, dict] = {
    "dimensions": {},
    "dimensions of all positions": {"pooled": False},
    "and loss and noise": {"loss": LOSSES, "n_probes": 0},
    "and Tr H, critical batch": {"loss": LOSSES},
}


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one of ten random patterns each, with noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (EXAMPLES,), generator=generator)
    patterns = torch.rand(10, 1, 8, 8, generator=generator)
    noisy = patterns[labels] + 0.5 * torch.randn(EXAMPLES, 1, 8, 8, generator=generator)
    return noisy, labels


def by_hand(net: nn.Module, inputs, labels, watched: bool = False) -> Iterator[None]:
    """The usual training loop, without end."""
    recorded = watch(net, inputs[:HELD_OUT]) if watched else None
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    generator = torch.Generator().manual_seed(0)
    while True:
        batch = torch.randint(len(labels), (BATCH,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
        optimizer.step()
        if recorded is not None:
            recorded.step()
        yield


def ours(net: nn.Module, inputs, labels) -> Iterator:
    """The same training by `walk`."""
    problem, theta = as_problem(net, LOSSES, inputs, labels)
    return walk(sgd(noise.minibatch(problem, BATCH), RATE), theta, 0)


def seconds(loops: dict[str, Iterator], steps: int, block: int = 64) -> dict[str, float]:
    """CPU seconds a step of each loop, in blocks of steps, taken in turn."""
    taken = dict.fromkeys(loops, 0.0)
    for _ in range(steps // block):
        for name, loop in loops.items():
            began = process_time()
            for _ in range(block):
                next(loop)
            taken[name] += process_time() - began
    return {name: total / (steps // block * block) for name, total in taken.items()}


def measurement_seconds(net: nn.Module, inputs, labels, times: int, **options) -> float:
    """CPU seconds of one measurement."""
    targets = labels[:HELD_OUT] if "loss" in options else None
    recorded = watch(net, inputs[:HELD_OUT], targets, **options)
    began = process_time()
    for _ in range(times):
        recorded.measure()
    return (process_time() - began) / times


def enough(measurement: float, step: float) -> int:
    """The steps from which on measurements at 0, 1, 2, 4, ... take the allowed fraction at most."""
    doublings = next(m for m in range(99) if (m + 2) * measurement <= ALLOWED * 2**m * step)
    return 2**doublings


def table(name: str, steps: int, rounds: int) -> list[str]:
    """Lines of markdown: the cost of each way of watching, and the same training twice."""
    net, data = NETWORKS[name](), examples()
    seconds(
        {"": by_hand(deepcopy(net), *data, watched=True)}, 128
    )  # everything is loaded and compiled
    trained = deepcopy(net), deepcopy(net)
    loops = {"bare": by_hand(trained[0], *data), "watched": by_hand(trained[1], *data, True)}
    cost = seconds(loops, steps)
    same = all(map(torch.equal, *(list(value.parameters()) for value in trained)))
    walks = {"by hand": by_hand(deepcopy(net), *data), "walk": ours(deepcopy(net), *data)}
    seconds(walks, 128)  # warm
    pace = seconds(walks, max(128, steps // 4))
    more = cost["watched"] / cost["bare"] - 1
    lines = [f"## {name}: {str(NETWORKS[name].__doc__).rstrip('.')}", ""]
    lines += [
        f"A step by hand takes {1e3 * cost['bare']:.2f} ms of CPU time.  {steps} steps with the",
        f"usual watch took {100 * more:.1f}% more than those without, beside them; the weights",
        f"were {'the same' if same else 'NOT THE SAME'} at the end.  A step of `walk` takes",
        f"{pace['walk'] / pace['by hand']:.2f} times one by hand.",
        "",
    ]
    lines += ["| what is measured | ms a measurement | in steps | under 5% from n steps on |"]
    lines += ["|---|---:|---:|---:|"]
    for label, options in WATCHES.items():
        smallest = min(measurement_seconds(trained[0], *data, 5, **options) for _ in range(rounds))
        worth, n = smallest / cost["bare"], enough(smallest, cost["bare"])
        lines.append(f"| {label} | {1e3 * smallest:.1f} | {worth:.0f} | {n:,} |")
    return [*lines, ""]


def main(
    steps: Annotated[int, Option(min=64, help="steps of each training")] = 8192,
    rounds: Annotated[
        int, Option(min=1, help="how often a measurement is timed; the least counts")
    ] = 3,
    out: Annotated[Path | None, Option(help="file of markdown to write")] = None,
) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = ["# What watching costs", "", f"By `python -m benchmarks.watch`: batches of {BATCH},"]
    lines += [
        f"{HELD_OUT} held-out examples, measurements at steps 0, 1, 2, 4, ...; one thread.",
        "",
    ]
    for name in NETWORKS:
        lines += table(name, steps, rounds)
    lines += live.table()
    print("\n".join(lines))
    if out is not None:
        out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
