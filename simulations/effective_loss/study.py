"""The dimension of every layer of nonlinear networks under noise, against an effective loss.

Perceptrons, VGG-11 and a residual network learn digits by gradient descent and go on from the very
same weights under label noise, under noise of equal trace and other shapes, and without noise on
L + kappa Tr H, which theory puts in the place of label noise; and a perceptron learns from
minibatches, against L + rate Tr C / (4 batch).  Nothing is fitted.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
import xarray as xr
from typer import Option

from sgdnoise.data import digits, principal, split
from sgdnoise.lab._terminal import (
    Cluster,
    Jobs,
    Out,
    Small,
    command,
    exit_on_error,
    run_study,
    sweep_one,
)
from sgdnoise.nets.models import mlp, resnet, vgg
from sgdnoise.theory import residual_amplification
from simulations.depth_profile._nets import images
from simulations.depth_profile.study import on_device
from simulations.effective_loss import claims
from simulations.effective_loss import figure as picture
from simulations.effective_loss._nets import convolutional, participation, perceptrons
from simulations.effective_loss._steps import Course, descended, moves, steepest, walked

OUT = Path("out/effective_loss")
SHAPES = ("label", "isotropic", "diagonal")  # the first alone where labels have no noise
MODES = (*SHAPES, "prediction", "none")
WATCHES, LAYERS = 8, 10  # moments; hidden layers that are told of, at most
PROBES = 4  # random signs for the trace as it is told, the same ones for all modes
GENTLY = 0.1, 0.28  # amplification and rate lambda_max that a rate is chosen for


class Task(NamedTuple):
    """A network, what it learns, and the noise."""

    net: str = "tanh"  # or relu, deep, vgg, resnet
    classes: int = 3
    whiten: bool = True
    rate: float | None = 0.05  # or the largest that is gentle at the start
    steps: int = 56_000
    batch: int = 8
    label_noise: float = 1.0  # 0: of minibatches alone, from the first weights on
    examples: int = 128
    learning: tuple[float, int] = (0.1, 20_000)  # rate and steps of plain gradient descent
    hurry: int = 4  # times the rate, without noise and in the quench
    quench: int = 100


LEARNED = Task("resnet", 10, False, None, 1400, examples=64, learning=(0.05, 800), quench=12)
TASKS = {
    "resnet": LEARNED,
    "vgg": LEARNED._replace(net="vgg", learning=(0.03, 1300)),
    "tanh": Task(),
    "deep": Task("deep", rate=None, steps=24_000),
    "relu": Task("relu", steps=32_000),
    "ten": Task(classes=10, whiten=False, rate=0.03, steps=24_000),
    "minibatch": Task(
        *("tanh", 10, False, 0.1, 6000, 4, 0.0), learning=(0.1, 0), hurry=1, quench=0
    ),
}


class Size(NamedTuple):
    """How much is run."""

    tasks: tuple[str, ...]
    seeds: int
    share: float  # of the steps
    channels: int = 8  # first of vgg and resnet
    images: int = 64  # that these learn
    data: str = "digits"
    pixels: int = 8
    seed: int = 0


FULL = Size(tuple(TASKS), 8, 1.0)
CUDA = FULL._replace(channels=16, images=256, data="rendered", pixels=16)
SMALL = Size(("tanh", "minibatch"), 2, 0.002)


def check(size: Size) -> None:
    """Raises ValueError for tasks that are not there, and seeds that give no error."""
    if unknown := set(size.tasks) - set(TASKS):
        raise ValueError(f"no task is called {unknown.pop()!r}; there are {', '.join(TASKS)}")
    if size.seeds < 2:
        raise ValueError(f"an error needs at least 2 seeds, not {size.seeds}")
    if not size.share > 0:
        raise ValueError(f"a share of the steps is above 0, not {size.share}")
    if size.seed < 0:
        raise ValueError(f"a seed is a whole number from 0, not {size.seed}")


def made(task: Task, size: Size, seeds):
    """Networks, inputs (k, n, ...) and targets (k, n, o), of each seed its own."""
    wide = [20, 40, task.classes]
    match task.net:
        case "vgg" | "resnet":
            sets = [images(size.data, size.images, size.pixels, seed=seed) for seed in seeds]
            shape = sets[0].inputs.shape[1:]
            make = partial(vgg, size.channels, size=size.pixels, inputs=shape[0])
            if task.net == "resnet":
                make = partial(resnet, (1, 1, 1), size.channels, task.classes, shape[0])
            nets = convolutional([make(seed=seed) for seed in seeds])
            targets = np.eye(task.classes)[np.stack([data.targets for data in sets])]
            return nets, np.stack([data.inputs for data in sets]), targets
        case "deep":
            wide = [20, 40, 40, 40, task.classes]
    kind = "relu" if task.net == "relu" else "tanh"
    nets = perceptrons([mlp(wide, kind, seed=seed) for seed in seeds])
    sets = [split(digits(task.classes), task.examples, rng=seed) for seed in seeds]
    found = [principal(own, rest, 20, whiten=task.whiten)[0] for own, rest in sets]
    return nets, np.stack([d.inputs for d in found]), np.stack([d.targets for d in found])


def course(task: Task, size: Size, device: str) -> Course:
    """A task with its networks, at their first weights."""
    nets, *data = made(task, size, range(size.seed, size.seed + size.seeds))
    x, y = (torch.asarray(part, dtype=torch.float32, device=device) for part in data)
    nets = nets._replace(start=tuple(part.to(device) for part in nets.start))
    generator = torch.Generator(device).manual_seed(size.seed)
    return Course(nets, x, y, task.batch, task.label_noise, generator)


def gentle(task: Task, trace: float, steep: float, outputs: int) -> float:
    """The rate of a task, or one at which theory claims to hold at the start."""
    u, sharp = GENTLY
    return task.rate or min(
        u / residual_amplification(1.0, trace, task.batch, outputs), sharp / steep
    )


def shortened(task: Task, share: float) -> Task:
    """The same for a share of all its steps."""
    learning, learned = task.learning
    return task._replace(
        steps=round(share * task.steps),
        learning=(learning, round(share * learned)),
        quench=round(share * task.quench),
    )


def run(task: str, *, size: Size, device: str = "cpu") -> xr.Dataset:
    """All networks of a task, of every mode, watched at the same moments."""
    chosen = shortened(TASKS[task], size.share)
    own, learning = course(chosen, size, device), chosen.learning
    theta = descended(own.loss, own.nets.start, *learning)
    steep, signs = steepest(own, theta), [own.signs() for _ in range(PROBES)]
    look = partial(seen, own, signs)
    first = look(theta, learning[0], chosen.quench)
    rate = gentle(chosen, float(first["trace"].max()), float(steep.max()), own.y.shape[2])
    every = max(1, round(chosen.steps / WATCHES / chosen.hurry)) * chosen.hurry
    shapes = SHAPES if chosen.label_noise else SHAPES[:1]
    look = partial(look, rate=chosen.hurry * rate, quench=chosen.quench)
    found = walked(moves(own, shapes, rate, every, chosen.hurry), theta, look, WATCHES)
    u = residual_amplification(rate, first["trace"], own.batch, own.y.shape[2])
    return laid_out(found, first, every).assign(
        rate=rate,
        amplification=("seed", u),
        sharpness=("seed", (rate * steep).numpy(force=True)),
        layers=int(np.isfinite(first["ratio"][0]).sum()),
        noisy=int(chosen.label_noise > 0),
    )


def seen(own: Course, signs, theta, rate: float, quench: int) -> dict:
    """PR of the layers as they are and after a quench on the plain loss; Tr H and loss after it."""
    still = descended(own.loss, theta, rate, quench)
    found = {"ratio": ratios(own, still), "ratio_moving": ratios(own, theta)}
    leaves = tuple(part.detach().requires_grad_() for part in still)
    exact = own.nets.spread is not None  # signs would all say the same
    traces = [own.nets.trace(leaves, own.x, z).detach() for z in signs[: 1 if exact else None]]
    found["trace"] = torch.stack(traces).mean(0).numpy(force=True)
    return found | {"loss": own.loss(still).numpy(force=True)}


def ratios(own: Course, theta):
    """PR of each hidden layer, nan where there is none.  (k, layer)"""
    with torch.no_grad():
        hidden = own.nets.through(theta, own.x)[:-1]
        found = torch.stack([participation(rows) for rows in hidden], 1).numpy(force=True)
    blank = np.full((len(found), LAYERS - found.shape[1]), np.nan)
    return np.concatenate([found, blank], axis=1)


def laid_out(found, first, every) -> xr.Dataset:
    """Looks as arrays (mode, seed, watch, layer), nan for modes that a task has not."""
    nothing = {name: np.full_like(start, np.nan) for name, start in first.items()}
    every_mode = [[first, *found.get(mode, [nothing] * WATCHES)] for mode in MODES]
    results = {
        name: (
            ("mode", "seed", "watch", "layer")[: start.ndim + 2],
            np.stack([np.stack([look[name] for look in looks], 1) for looks in every_mode]),
        )
        for name, start in first.items()
    }
    steps = every * np.arange(WATCHES + 1.0)
    return xr.Dataset(results | {"step": ("watch", steps)}, {"mode": list(MODES)})


def study(size: Size, *, jobs: int, folder, device="cpu", cluster: str | None = None):
    """All tasks, on `jobs` processes; what is finished is kept in `folder`."""
    grid = {"task": list(size.tasks)}
    return sweep_one(
        partial(run, size=size, device=device), grid, folder, jobs=jobs, cluster=cluster
    )


def main(
    small: Small = False,
    task: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    seeds: Annotated[
        int | None, Option(help="networks of each task", show_default="8, small 2")
    ] = None,
    share: Annotated[
        float | None, Option(help="of the steps", show_default="1, small 0.002")
    ] = None,
    seed: Annotated[int, Option(help="the first, the others follow it")] = 0,
    device: Annotated[str, Option(help="cpu, or cuda for wider networks")] = "cpu",
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Hold the dimension of every layer under noise against descent on an effective loss."""
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        name = on_device(device)
        size = SMALL if small else CUDA if device == "cuda" else FULL
        size = size._replace(
            tasks=tuple(task or size.tasks),
            seeds=size.seeds if seeds is None else seeds,
            share=size.share if share is None else share,
            seed=seed,
        )
        check(size)
        whole = partial(study, size, jobs=jobs, device=device, cluster=cluster)
        arguments, lead = size._asdict() | {"device": device}, claims.lead(name, size)
        run_study(whole, arguments, claims, picture, out, device=name, lead=lead)


if __name__ == "__main__":
    command(main)
