"""Which layer label noise compresses in linear networks of 2, 3 and 4 layers, and its variants.

Networks f(x) = x W_1 ... W_L start at a minimum and descend under label noise, with momentum, with
reshuffled examples, or under labels that the model draws itself for squared loss or cross-entropy.
The dimension of each hidden layer and the imbalance of each two neighbours are held against an
ordinary differential equation on the manifold of minima, nothing fitted.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from itertools import pairwise
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from typer import Option

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import MLP, heavy_ball, sgd, simulate
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
from sgdnoise.noise import reshuffled
from sgdnoise.theory import (
    DeepLabelNoiseFlow,
    deep_amplification,
    deep_label_noise_flow,
    deep_ratio_at_rest,
    deep_sharpness,
    fisher_flow,
    label_noise_task,
    products_around,
)
from simulations.linear_networks.deep import claims
from simulations.linear_networks.deep import figure as picture

OUT = Path("out/deeper")
EXAMPLES, WATCHES, HIDDEN = 60, 40, 3  # hidden layers that are told of, at most
# Labels c with weights exp(-(c - f)^2 / 2) on this lattice have the variance 1 of normal ones but
# for 2e-4, by Poisson's sum, and reach so far from the largest output.
LATTICE, REACH = 1.25, 5.0


class Setting(NamedTuple):
    """A network, its task and its noise."""

    depth: int = 3  # layers of weights
    how: str = "label"  # or momentum, reshuffled, fisher, soft, hard, quiet, silent, first
    rate: float = 0.04  # of momentum: the effective one
    batch: int = 4
    steps: int = 60_000
    modes: tuple[float, ...] = (1.5, 1.0)  # of the product, with zeros one for each output
    label_noise: float = 0.5
    momentum: float = 0.0
    d: int = 6
    h: int = 8


SOFTMAX = Setting(label_noise=1.0, rate=0.15, batch=48, modes=(1.5, 1.0, 0.0), steps=48_000)
LOUD = SOFTMAX._replace(rate=0.1, batch=8, steps=15_000)
SETTINGS = {
    "two layers": Setting(2),
    "three layers": Setting(3),
    "four layers": Setting(4),
    "smaller steps": Setting(rate=0.024, steps=100_000),
    "momentum": Setting(how="momentum", momentum=0.8),
    "reshuffled": Setting(how="reshuffled"),
    "Fisher": Setting(how="fisher", label_noise=1.0, batch=16, modes=(1.5,)),
    "cross-entropy": SOFTMAX._replace(how="soft"),
    "separable": LOUD._replace(how="hard"),
    "separable, quiet": LOUD._replace(how="quiet"),
    "no label noise": Setting(how="silent"),
    "first layer alone": Setting(how="first"),
}
SQUARED = ("label", "momentum", "reshuffled", "fisher", "silent", "first")  # losses
FULL_GRADIENT = ("fisher", "soft", "hard", "quiet")  # labels alone are sampled


class Size(NamedTuple):
    """How much is run."""

    settings: tuple[str, ...]
    runs: int
    share: float  # of the steps


FULL = Size(tuple(SETTINGS), 32, 1.0)
SMALL = Size(("three layers", "first layer alone"), 8, 0.05)


def widths(setting: Setting) -> tuple[int, ...]:
    """Inputs, hidden units of each layer, outputs."""
    return (setting.d, *[setting.h] * (setting.depth - 1), len(setting.modes))


def task_and_start(setting: Setting):
    """Inputs (n, d) of diagonal moments, outputs (n, o), weights where descent comes to rest."""
    rng = np.random.default_rng(0)
    d, sizes = setting.d, widths(setting)
    white = np.linalg.qr(rng.normal(size=(EXAMPLES, d)))[0] * EXAMPLES**0.5
    x = white * np.linspace(0.5, 1.5, d) ** 0.5
    left, right = (np.linalg.qr(rng.normal(size=(n, sizes[-1])))[0] for n in (d, sizes[-1]))
    moment, goal = x.T @ x / EXAMPLES, left @ np.diag(setting.modes) @ right
    layers = [rng.normal(size=(i, o)) / i**0.5 for i, o in pairwise(sizes)]
    for _ in range(5000):
        around = products_around(layers)
        slope = moment @ (around[-1][0] @ layers[-1] - goal)
        layers = [w - 0.05 * a.T @ slope @ c.T for w, (a, c) in zip(layers, around, strict=True)]
    return x, x @ goal, layers


def process(setting: Setting, x, y, layers):
    """What descends, from which theta, and how all weights are read from it."""
    net, problem, theta = _problem(setting, x, y, layers)
    read = net.weights
    if setting.how == "first":
        fixed, theta = theta[layers[0].size :], theta[: layers[0].size]

        def read(t):
            return net.weights(jnp.concatenate([t, fixed]))

        def losses(t, *given):
            return net.losses(jnp.concatenate([t, fixed]), *given)

        problem = Problem(losses, problem.examples, jax)
    model, rate, mu = _noise(setting, problem), setting.rate, setting.momentum
    made = heavy_ball(model, rate * (1 - mu), mu) if mu else sgd(model, rate)
    return made, theta, read


def _noise(setting, problem):
    """The noise of a setting."""
    batch, targets = setting.batch, problem.examples[-1]
    match setting.how:
        case "silent":
            return noise.minibatch(problem, batch)
        case "quiet":
            return noise.full_batch(problem)
        case "soft" | "hard":
            return noise.sampled_labels(
                problem, batch, jnp.eye(targets.shape[1], dtype=targets.dtype)
            )
        case "fisher":
            most = (REACH + float(abs(targets).max())) // LATTICE
            labels = LATTICE * jnp.arange(-most, most + 1, dtype=targets.dtype)[:, None]
            return noise.sampled_labels(problem, batch, labels)
    law = reshuffled(EXAMPLES, batch) if setting.how == "reshuffled" else None
    return noise.label_noise(problem, batch, setting.label_noise, law)


def _problem(setting, x, y, layers):
    """The network, its problem in single precision, and theta."""
    net = MLP(widths(setting), "linear")
    theta = jnp.asarray(np.concatenate([w.ravel() for w in layers]), jnp.float32)
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    if setting.how in SQUARED:
        return net, net.problem(x, y), theta

    def losses(theta, inputs, targets):
        return -jnp.sum(targets * jax.nn.log_softmax(net.outputs(theta, inputs)), 1)

    targets = jax.nn.softmax(y)
    if setting.how != "soft":
        targets = jnp.eye(y.shape[1])[jnp.argmax(y, 1)]
    return net, Problem(losses, (x, targets), jax), theta


def curvature(setting: Setting, x, y):
    """Of the mean loss in the product, (d o, d o), where the outputs are y."""
    if setting.how in SQUARED:
        return np.kron(x.T @ x / len(x), np.eye(y.shape[1]))
    p = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    bends = p[:, :, None] * np.eye(y.shape[1]) - p[:, :, None] * p[:, None, :]
    each = np.einsum("ni,nj,nab->iajb", x, x, bends) / len(x)
    return each.reshape(x.shape[1] * y.shape[1], -1)


def flows(setting: Setting, x, y, layers, times):
    """Base and refined flow of a setting; controls stay where they are."""
    if setting.how in ("silent", "first"):
        still = [np.tile(w, (len(times), 1, 1)) for w in layers]
        return dict.fromkeys(("base", "refined"), DeepLabelNoiseFlow(times, still))
    strength = {"learning_rate": setting.rate, "batch_size": setting.batch}
    if setting.how in FULL_GRADIENT:
        bend = curvature(setting, x, y)
        follow = partial(fisher_flow, bend, layers, times, **strength)
        return {"base": follow(discrete=0.0), "refined": follow()}
    task = label_noise_task(x, y.shape[1], setting.label_noise)
    share = (1 - setting.momentum) / (1 + setting.momentum)
    follow = partial(deep_label_noise_flow, task, layers, times, **strength)
    return {"base": follow(discrete=0.0, fed=False), "refined": follow(discrete=share)}


def seen(read, moment, theta):
    """Dimension and total imbalance at each hidden layer of one theta.  (layer,) each"""
    layers = read(theta)
    before, ratios = jnp.eye(len(moment)), []
    for weights in layers[:-1]:
        before = before @ weights
        power = before.T @ moment @ before
        ratios.append(jnp.trace(power) ** 2 / jnp.sum(power**2))
    totals = jnp.stack([jnp.sum(w**2) for w in layers])
    return {"ratio": jnp.stack(ratios), "imbalance": totals[:-1] - totals[1:]}


def run(setting: str, *, size: Size) -> xr.Dataset:
    """Chains of one setting, and the flows that foretell them, at the same moments."""
    seed = list(SETTINGS).index(setting)
    return measured(SETTINGS[setting], runs=size.runs, share=size.share, seed=seed)


def measured(chosen: Setting, *, runs: int, share: float, seed: int) -> xr.Dataset:
    """The same of any setting, for a share of its steps."""
    x, y, layers = task_and_start(chosen)
    moment = x.T @ x / EXAMPLES
    made, theta, read = process(chosen, x, y, layers)
    every = max(1, round(chosen.steps * share / WATCHES))
    look = partial(seen, read, jnp.asarray(moment, jnp.float32))
    key, start = jax.random.key(seed), jnp.tile(theta, (runs, 1))
    found = simulate(made, key, start, steps=WATCHES * every, every=every, observe=look)
    steps = every * np.arange(WATCHES + 1)
    told = {
        name: _of_flow(flow, moment)
        for name, flow in flows(chosen, x, y, layers, chosen.rate * steps).items()
    }
    results = {}
    for name, values in found.items():
        both = np.stack([told[flow][name] for flow in told])
        results[name] = _watched(values, "run", "watch")
        results[f"{name}_flow"] = _watched(both[:, 1:], "flow", "watch")
        results[f"{name}_start"] = _watched(both[0, 0])
    u = deep_amplification(moment, layers, chosen.rate, chosen.batch)
    product, squared = np.linalg.multi_dot(layers), chosen.how in SQUARED
    return xr.Dataset(
        results
        | {
            "amplification": 0.0 if chosen.how in FULL_GRADIENT else u,
            "sharpness": chosen.rate * deep_sharpness(curvature(chosen, x, y), layers),
            "ratio_rest": deep_ratio_at_rest(moment, product) if squared else np.nan,
            "depth": chosen.depth,
            "step": ("watch", steps[1:].astype(float)),
        },
        {"flow": list(told), "layer": 1 + np.arange(HIDDEN)},
    )


def _watched(values, *first):
    """An array with hidden layers along its last axis, nan for those that a net does not have."""
    values = np.asarray(values, np.float32)
    missing = [(0, 0)] * (values.ndim - 1) + [(0, HIDDEN - values.shape[-1])]
    return xr.DataArray(np.pad(values, missing, constant_values=np.nan), dims=(*first, "layer"))


def _of_flow(flow, moment):
    powers = np.stack(flow.hidden(moment))
    ratio = np.trace(powers, axis1=2, axis2=3) ** 2 / np.sum(powers**2, axis=(2, 3))
    totals = np.stack([np.sum(w**2, axis=(1, 2)) for w in flow.layers])
    return {"ratio": ratio.T, "imbalance": (totals[:-1] - totals[1:]).T}


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All settings, on `jobs` processes; what is finished is kept in `folder`."""
    grid = {"setting": list(size.settings)}
    return sweep_one(partial(run, size=size), grid, folder, jobs=jobs, cluster=cluster)


def main(
    small: Small = False,
    setting: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    runs: Annotated[int | None, Option(help="of each setting", show_default="32, small 8")] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Descend with label noise in linear networks of several depths, against the slow flow."""
    size = SMALL if small else FULL
    size = size._replace(
        runs=size.runs if runs is None else runs, settings=tuple(setting or size.settings)
    )
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.runs < 2:
            raise ValueError(f"an error needs at least 2 runs, not {size.runs}")
        if unknown := set(size.settings) - set(SETTINGS):
            raise ValueError(f"no setting {unknown.pop()!r}: there are {', '.join(SETTINGS)}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
