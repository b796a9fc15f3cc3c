"""The dimension of every layer of nonlinear networks under noise, against an effective loss.

Perceptrons, VGG-11 and a residual network learn digits by gradient descent and continue from the
same weights under label noise, under noise of equal trace and other shapes, and without noise on
L + kappa Tr H, which replaces label noise in theory; and a perceptron learns from minibatches,
against L + rate Tr C / (4 batch).  Nothing is fitted.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from sgdnoise.data import digits, principal, split
from sgdnoise.lab import Study, option
from sgdnoise.nets.models import mlp, preactivation_resnet, vgg
from sgdnoise.theory import label_noise_strength, residual_amplification
from simulations import _vision as vision
from simulations.effective_loss import _next_order as theory
from simulations.effective_loss import _steps as training_steps
from simulations.effective_loss import claims, figure
from simulations.effective_loss._nets import convolutional, participation, perceptrons

SHAPES = ("label", "isotropic", "diagonal")  # only the first where labels have no noise
MODES = (*SHAPES, "prediction", "none")
RECORDS, LAYERS = 8, 10  # moments; hidden layers that are stored, at most
PROBES = 4  # random signs for the recorded trace, the same for all modes
REGIME = 0.1, 0.28  # amplification and rate lambda_max for which a rate is chosen


class Task(NamedTuple):
    """A network, its data, and the noise."""

    net: str = "tanh"  # or deep, relu, vgg, resnet
    classes: int = 3
    whiten: bool = True
    rate: float | None = 0.05  # None: the largest in the regime at the start
    steps: int = 56_000
    batch: int = 8
    label_noise: float = 1.0  # 0: minibatch noise alone, from the initial weights on
    examples: int = 128
    learning: tuple[float, int] = (0.1, 20_000)  # rate and steps of plain gradient descent
    speedup: int = 4  # of the rate without noise and in the quench
    quench: int = 100  # steps


CONVOLUTIONAL = Task("resnet", 10, False, None, 1400, 8, 1.0, 64, (0.05, 800), quench=12)
TASKS = {
    "resnet": CONVOLUTIONAL,
    "vgg": CONVOLUTIONAL._replace(net="vgg", learning=(0.03, 1300)),
    "tanh": Task(),
    "deep": Task("deep", rate=None, steps=24_000),
    "relu": Task("relu", steps=32_000),
    "ten": Task(classes=10, whiten=False, rate=0.03, steps=24_000),
    "minibatch": Task("tanh", 10, False, 0.1, 6000, 4, 0.0, 128, (0.1, 0), 1, 0),
}


def networks_and_data(task: Task, seeds, *, channels, images, data, pixels):
    """Networks, inputs (k, n, ...) and targets (k, n, o), one of each for each seed."""
    widths = [20, 40, task.classes]
    match task.net:
        case "vgg" | "resnet":
            sets = [vision.images(data, images, pixels, seed=seed) for seed in seeds]
            inputs = sets[0].inputs.shape[1]
            network = partial(vgg, channels, size=pixels, inputs=inputs)
            if task.net == "resnet":
                network = partial(preactivation_resnet, (1, 1, 1), channels, task.classes, inputs)
            nets = convolutional([network(seed=seed) for seed in seeds])
            targets = np.eye(task.classes)[np.stack([d.targets for d in sets])]
            return nets, np.stack([d.inputs for d in sets]), targets
        case "deep":
            widths = [20, 40, 40, 40, task.classes]
    activation = "relu" if task.net == "relu" else "tanh"
    nets = perceptrons([mlp(widths, activation, seed=seed) for seed in seeds])
    sets = [split(digits(task.classes), task.examples, rng=seed) for seed in seeds]
    sets = [principal(train, test, 20, whiten=task.whiten)[0] for train, test in sets]
    return nets, np.stack([d.inputs for d in sets]), np.stack([d.targets for d in sets])


def training_of(
    task: Task, *, seeds: int, seed: int, device: str, **size
) -> training_steps.Training:
    """A task with its networks at their initial weights."""
    nets, *data = networks_and_data(task, range(seed, seed + seeds), **size)
    x, y = (torch.asarray(array, dtype=torch.float32, device=device) for array in data)
    nets = nets._replace(start=tuple(t.to(device) for t in nets.start))
    generator = torch.Generator(device).manual_seed(seed)
    return training_steps.Training(nets, x, y, task.batch, task.label_noise, generator)


def rate_in_regime(task: Task, trace: float, curvature: float, outputs: int) -> float:
    """The rate of a task, or the largest at which theory is claimed at the start."""
    u, sharpness = REGIME
    amplification = residual_amplification(1.0, trace, task.batch, outputs)
    return task.rate or min(u / amplification, sharpness / curvature)


def shortened(task: Task, fraction: float) -> Task:
    """The task with a fraction of all its steps."""
    rate, learning = task.learning
    return task._replace(
        steps=round(fraction * task.steps),
        learning=(rate, round(fraction * learning)),
        quench=round(fraction * task.quench),
    )


def run(
    task: str, *, seeds: int, share: float, channels, images, data, pixels, seed: int, device="cpu"
) -> xr.Dataset:
    """All networks of a task in every mode, recorded at the same moments.

    running_loss: the mean loss of a noisy mode since the previous moment, before any quench, and
    else that of its weights.  excess: what theory adds to the loss of the prediction.

    The prediction is followed for twice the time, so that it is known with twice κ as well.
    share: fraction of the steps; channels, images, data, pixels: of the convolutional networks.
    """
    setting = shortened(TASKS[task], share)
    size = {"channels": channels, "images": images, "data": data, "pixels": pixels}
    training = training_of(setting, seeds=seeds, seed=seed, device=device, **size)
    theta = training_steps.descend(training.loss, training.nets.start, *setting.learning)
    curvature = training_steps.largest_curvature(training, theta)
    signs = [training.signs() for _ in range(PROBES)]
    first = measures(training, signs, theta, setting.learning[0], setting.quench)
    first["running_loss"] = training.loss(theta).numpy(force=True)
    trace, outputs = first["trace"], training.y.shape[2]
    rate = rate_in_regime(setting, float(trace.max()), float(curvature.max()), outputs)
    speedup = setting.speedup
    every = max(1, round(setting.steps / RECORDS / speedup)) * speedup
    shapes = SHAPES if setting.label_noise else SHAPES[:1]

    def observe(theta, _):
        return measures(training, signs, theta, speedup * rate, setting.quench)

    def observe_prediction(theta, moment):
        return observe(theta, moment) | {"excess": excess(training, theta, rate, every, moment)}

    modes = training_steps.updates(training, shapes, rate, every, speedup)
    predicted = {("prediction",): modes.pop(("prediction",))}
    records = training_steps.recorded(modes, theta, observe, RECORDS)
    path = training_steps.recorded(predicted, theta, observe_prediction, 2 * RECORDS)["prediction"]
    records["prediction"], later = path[:RECORDS], path[RECORDS:]
    u = residual_amplification(rate, trace, training.batch, outputs)
    kappa = label_noise_strength(rate, setting.label_noise, training.batch)
    small = small_parameters(training, theta, rate, every, [first, *path[:RECORDS]])
    return dataset(records, first, every).assign(
        ratio_later=(("seed", "later", "layer"), np.stack([at["ratio"] for at in later], 1)),
        trace_later=(("seed", "later"), np.stack([at["trace"] for at in later], 1)),
        excess=(
            ("seed", "watch"),
            np.stack([np.nan * u, *(at["excess"] for at in path[:RECORDS])], 1),
        ),
        kappa=kappa,
        rate=rate,
        amplification=("seed", u),
        sharpness=("seed", (rate * curvature).numpy(force=True)),
        layers=int(np.isfinite(first["ratio"][0]).sum()),
        noisy=int(setting.label_noise > 0),
        **small,
    )


def excess(training: training_steps.Training, theta, rate: float, every: int, moment: int):
    """The predicted excess loss of perceptrons in the second half of the run, else missing.  (k,)

    moment: the number of the record, each `every` steps.
    """
    if not RECORDS // 2 <= moment <= RECORDS or not has_exact_theory(training):
        return np.full(len(training.y), np.nan)
    return theory.excess(training, theta, rate, rate * every * moment)


def has_exact_theory(training: training_steps.Training) -> bool:
    """Whether the next order is computed: of perceptrons under label noise."""
    return training.nets.square is not None and training.label_noise > 0


def small_parameters(training, theta, rate: float, every: int, records: list) -> dict:
    """Haste and jitter of each network at the start, from its predicted path; or missing."""
    if not has_exact_theory(training):
        return {name: ("seed", np.full(len(training.y), np.nan)) for name in theory.SMALL}
    layers = np.isfinite(records[0]["ratio"][0])
    ratio, trace = (np.stack([at[key] for at in records], -1) for key in ("ratio", "trace"))
    paths = np.concatenate([ratio[:, layers], trace[:, None]], 1)
    times = rate * every * np.arange(len(records))
    values = theory.regime(training, theta, rate, times, paths)
    return {name: ("seed", array) for name, array in values.items()}


def measures(training: training_steps.Training, signs, theta, rate: float, quench: int) -> dict:
    """PR of the layers, as they are and after a quench on the loss; Tr H and loss after it."""
    quenched = training_steps.descend(training.loss, theta, rate, quench)
    leaves = training_steps.differentiable(quenched)
    exact = training.nets.square is not None  # then all signs give the same
    traces = [
        training.nets.trace(leaves, training.x, z).detach() for z in signs[: 1 if exact else None]
    ]
    return {
        "ratio": ratios(training, quenched),
        "ratio_moving": ratios(training, theta),
        "trace": torch.stack(traces).mean(0).numpy(force=True),
        "loss": training.loss(quenched).numpy(force=True),
    }


def ratios(training: training_steps.Training, theta):
    """PR of each hidden layer, missing where there is none.  (k, layer)"""
    with torch.no_grad():
        hidden = training.nets.layers(theta, training.x)[:-1]
        values = torch.stack([participation(rows) for rows in hidden], 1).numpy(force=True)
    blank = np.full((len(values), LAYERS - values.shape[1]), np.nan)
    return np.concatenate([values, blank], axis=1)


def dataset(records, first, every) -> xr.Dataset:
    """Records as arrays (mode, seed, watch, layer), missing for modes that a task does not have."""
    blank = {name: np.full_like(start, np.nan) for name, start in first.items()}
    modes = [[first, *records.get(mode, [blank] * RECORDS)] for mode in MODES]
    variables = {
        name: (
            ("mode", "seed", "watch", "layer")[: start.ndim + 2],
            np.stack([np.stack([record[name] for record in rows], 1) for rows in modes]),
        )
        for name, start in first.items()
    }
    steps = every * np.arange(RECORDS + 1.0)
    return xr.Dataset(variables | {"step": ("watch", steps)}, {"mode": list(MODES)})


def check(parameters: dict) -> None:
    """Raises ValueError for a fraction of the steps that is not positive."""
    if not parameters["share"] > 0:
        raise ValueError(f"share must be above 0, not {parameters['share']}")


FULL = {"seeds": 8, "share": 1.0, "channels": 8, "images": 64, "data": "digits", "pixels": 8}

study = Study(
    run,
    grid={"task": [*TASKS]},
    sizes={
        "full": FULL,
        "small": {"task": ["tanh", "minibatch"], "seeds": 2, "share": 0.002},
        "cuda": {"channels": 16, "images": 256, "data": "rendered", "pixels": 16},
    },
    options={
        "task": option(list, "only this task; may be repeated", choices=list(TASKS)),
        "seeds": option(int, "networks of each task", least=2),
        "share": option(float, "fraction of the steps"),
    },
    check=check,
    seed=True,
    device="torch",
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
