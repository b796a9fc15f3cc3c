"""The noise of minibatches alone in nonlinear networks, against a flow without a fitted number.

Tanh networks learn digits by SGD without label noise.  Means over runs of the participation ratio
of the hidden layers and of Tr H are compared with `theory.minibatch_flow`, with gradient descent,
and with gradient descent on L + rate Tr C / (4 batch).
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from sgdnoise.core import Problem, batch_means
from sgdnoise.data import digits, principal, split
from sgdnoise.lab import Study, option
from sgdnoise.theory import minibatch_flow
from simulations.minibatch_noise import claims, figure
from simulations.minibatch_noise._network import (
    Net,
    batches_of,
    descend,
    normal_pairs,
    sgd,
    with_trace,
)

RECORDS, LAYERS = 4, 3  # moments at which runs are recorded; hidden layers, at most
LEARNING = 0.1  # rate of gradient descent before SGD begins
GROUPS, ROWS = 64, 64  # groups of runs whose means are stored; runs that are observed at once
LARGE = 1000  # parameters, from which the flow has longer windows and fewer averages
DRAWS, PROBES = 256, 8  # normal pairs for the mean of an observed number, and for the feedback
HOW = ("descent", "Tr C in the loss", "mean of the flow", "flow")


class Case(NamedTuple):
    """A network, its labels, and the minibatches of SGD."""

    widths: tuple[int, ...] = (10, 10, 10)
    examples: int = 100
    shuffled: float = 1.0  # fraction of the examples whose labels are dealt anew
    smoothing: float | None = None  # of the labels under cross-entropy; None: squared error
    learned: int = 3000  # steps of gradient descent before SGD begins
    rate: float = 0.1
    batch: int = 4
    sampling: str = "with_replacement"
    steps: int = 2000


ENTROPY = Case((10, 8, 3), 60, 0.5, 0.3, rate=0.2)
CASES = {
    "shuffled labels": Case(),
    "reshuffled": Case(batch=25, rate=0.05, sampling="reshuffled"),
    "cross-entropy": ENTROPY,
    "four layers": Case((10, 8, 8, 8, 3), 60, 0.5, rate=0.02),
    "from the start": Case((20, 40, 10), 128, 0.0, learned=0, steps=1500),
    "without replacement": Case(batch=10, sampling="without_replacement"),
    "separable": ENTROPY._replace(shuffled=0.0, smoothing=0.0, learned=100, rate=0.5),
    "reshuffled, long epochs": Case(sampling="reshuffled"),
}

PUBLISHED = [case for case in CASES if case != "reshuffled, long epochs"]  # a trial has it


def task(case: Case, seed: int = 0):
    """A network with its data, and the weights from which SGD starts."""
    generator = torch.Generator().manual_seed(seed)
    train, test = split(digits(case.widths[-1]), case.examples, rng=seed)
    data = principal(train, test, case.widths[0], whiten=False)[0]
    x, y = (torch.asarray(np.asarray(a), dtype=torch.float32) for a in (data.inputs, data.targets))
    dealt = torch.randperm(case.examples, generator=generator)[: _count(case)]
    y[dealt] = y[dealt[torch.randperm(len(dealt), generator=generator)]]
    if case.smoothing is not None:
        y = (1 - case.smoothing) * y + case.smoothing / y.shape[1]
    net = Net(case.widths, case.smoothing is not None, x, y)
    size = sum(i * o + o for i, o in zip(case.widths, case.widths[1:], strict=False))
    theta = torch.zeros(size)
    for weights, _ in net.layers(theta):  # views
        weights.copy_(torch.randn(weights.shape, generator=generator) / len(weights) ** 0.5)
    return net, descend(net.loss, theta, LEARNING, case.learned)


def _count(case):
    return round(case.shuffled * case.examples)


def run(case: str, *, runs: int, duration: float) -> xr.Dataset:
    """SGD of one case, and every prediction, at the same moments.

    duration: fraction of the steps of the case.
    """
    setting = CASES[case]
    net, start = task(setting)
    problem = Problem(net.losses, (net.x, net.y))
    every = max(1, round(setting.steps * duration / RECORDS))
    large = len(start) > LARGE
    penalised = with_trace(net, problem.gradients, setting.rate, setting.batch)
    flow = minibatch_flow(
        problem,
        start,
        learning_rate=setting.rate,
        batch_size=setting.batch,
        steps=RECORDS * every,
        every=every,
        sampling=setting.sampling,
        window=40 if large else 20,
        pairs=1 if large else 2,
    )
    rng = np.random.default_rng(0)
    clouds = [normal_pairs(m, s, DRAWS, rng) for m, s in zip(*flow[1:], strict=True)]
    predictions = [
        _path(net, partial(descend, net.loss, rate=setting.rate, steps=every), start),
        _path(net, partial(descend, penalised, rate=setting.rate, steps=every), start),
        _with_start(net, start, [net.observed(m) for m in flow.mean]),
        _with_start(net, start, [_observed(net, cloud).mean(0) for cloud in clouds]),
    ]
    feedback = [_feedback(problem, m, c) for m, c in zip(flow.mean, clouds, strict=True)]
    measured, scatter = simulated(setting, net, start, runs, every)
    curvature = torch.linalg.eigvalsh(torch.func.hessian(net.loss)(start))[-1]
    return _dataset(np.stack(predictions), measured, every).assign(
        feedback=("watch", [0.0, *feedback]),
        spread=("watch", [0.0, *(float(s.trace()) for s in flow.covariance)]),
        spread_runs=("watch", scatter),
        sharpness=setting.rate * float(curvature),
        epoch=setting.examples / setting.batch if setting.sampling == "reshuffled" else 0.0,
        parameters=len(start),
    )


def simulated(setting: Case, net: Net, start, runs: int, every: int):
    """Observed numbers of all runs, (run, watch, number), and the trace of their covariance."""
    generator = torch.Generator().manual_seed(1)
    batches = batches_of(setting.sampling, runs, setting.examples, setting.batch, generator)
    theta = start.repeat(runs, 1)
    records, scatter = [_observed(net, theta)], [0.0]
    for _ in range(RECORDS):
        theta = sgd(net, theta, setting.rate, batches=(next(batches) for _ in range(every)))
        records.append(_observed(net, theta))
        scatter.append(float(theta.var(0).sum()))
    return torch.stack(records, 1).numpy(), scatter


def _observed(net, theta):
    return torch.cat([net.observed(rows) for rows in theta.split(ROWS)])


def _path(net, advance, theta):
    """Observed numbers of a path without noise.  (watch, number)"""
    places = [theta]
    for _ in range(RECORDS):
        places.append(advance(places[-1]))
    return torch.stack([net.observed(t) for t in places]).numpy()


def _with_start(net, start, records):
    return torch.stack([net.observed(start), *records]).numpy()


def _feedback(problem, mean, cloud):
    """The fraction by which the jitter increases Tr C of the examples' gradients."""

    def trace(theta):
        gradients = problem.gradients(theta)
        return float((gradients - gradients.mean(0)).square().sum())

    places = [*cloud[:PROBES], *cloud[DRAWS : DRAWS + PROBES]]
    return sum(trace(t) for t in places) / len(places) / trace(mean) - 1


def _dataset(predictions, measured, every) -> xr.Dataset:
    """Arrays (how, watch), and (run, watch) of means of groups of runs; missing layers are nan."""
    groups = batch_means(measured, min(GROUPS, len(measured))).astype(np.float32)
    variables: dict[str, Any] = {}
    for name, axes, values in (
        ("", ("how", "watch"), predictions),
        ("_runs", ("run", "watch"), groups),
    ):
        layers = np.full((*values.shape[:-1], LAYERS), np.nan, np.float32)
        layers[..., : values.shape[-1] - 2] = values[..., :-2]
        variables["ratio" + name] = ((*axes, "layer"), layers)
        variables["trace" + name] = (axes, values[..., -2])
        variables["loss" + name] = (axes, values[..., -1])
    variables["step"] = ("watch", every * np.arange(RECORDS + 1))
    return xr.Dataset(variables, {"how": list(HOW)})


study = Study(
    run,
    grid={"case": [*CASES]},
    sizes={
        "full": {"case": PUBLISHED, "runs": 512, "duration": 1.0},
        "small": {"case": ["shuffled labels", "reshuffled"], "runs": 64, "duration": 0.01},
    },
    options={
        "case": option(list, "only this case; may be repeated", choices=list(CASES)),
        "runs": option(int, "runs of SGD of each case", least=2),
    },
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
