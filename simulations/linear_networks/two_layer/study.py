"""How label noise compresses a linear network: descent against the slow flow, nothing fitted.

Networks f(x) = x W V start at a minimum and descend with fresh label noise; their hidden dimension,
eigenvalues and imbalance are held against an ordinary differential equation on the manifold of
minima, and against controls in which nothing may happen.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from typer import Option

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import langevin, sgd, simulate
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
from sgdnoise.theory import (
    TwoLayer,
    amplification,
    hidden_imbalance,
    irrelevant_rate,
    label_noise_flow,
    label_noise_task,
    ratio_at_rest,
)
from simulations.linear_networks.two_layer import claims
from simulations.linear_networks.two_layer import figure as picture

OUT = Path("out/slow_flow")
EXAMPLES, WATCHES = 200, 40
FLOWS = {  # what the flow knows of: the jitter of discrete steps, and what the jitter feeds
    "base": {"discrete": False, "fed": False},
    "equation": {"discrete": False, "fed": True},
    "refined": {"discrete": True, "fed": True},
}


class Setting(NamedTuple):
    """A network, its task and its noise."""

    rate: float = 0.04
    batch: int = 4
    steps: int = 40_000
    d: int = 10
    h: int = 16
    modes: tuple[float, ...] = (1.5, 1.0)  # of the product, with zeros one for each output
    gain: float = 1.0  # of the initial weights
    label_noise: float = 0.5
    how: str = "descent"  # or equation, frozen, silent, full


SETTINGS = {
    "plain": Setting(),
    "slower": Setting(rate=0.02, steps=160_000),
    "larger batch": Setting(batch=16, steps=160_000),
    "stronger": Setting(rate=0.08, steps=10_000),
    "small start": Setting(gain=0.2),
    "large start": Setting(gain=1.7),
    "narrow": Setting(d=12, h=6, modes=(1.5, 1.0, 0.7), steps=27_000),
    "rank one": Setting(modes=(1.5, 0.0, 0.0), steps=27_000),
    "equation": Setting(how="equation"),
    "frozen readout": Setting(how="frozen"),
    "no label noise": Setting(how="silent"),
    "full batch": Setting(how="full"),
}


class Size(NamedTuple):
    """How much is run."""

    settings: tuple[str, ...]
    runs: int
    share: float  # of the steps


FULL = Size(tuple(SETTINGS), 64, 1.0)
SMALL = Size(("plain", "no label noise"), 8, 0.25)


def task_and_start(setting: Setting):
    """Inputs (n, d) whose second moment is diagonal, targets, and W, V where descent comes to rest.

    The product's inputs lie in the first half of the axes, so that the last one is useless.
    """
    rng = np.random.default_rng(0)
    d, h, o = setting.d, setting.h, len(setting.modes)
    white = np.linalg.qr(rng.normal(size=(EXAMPLES, d)))[0] * EXAMPLES**0.5
    x = white * np.linspace(0.5, 1.5, d) ** 0.5
    used = np.linalg.qr(rng.normal(size=(d // 2, o)))[0]
    mixed = np.linalg.qr(rng.normal(size=(o, o)))[0]
    y = x[:, : d // 2] @ used @ np.diag(setting.modes) @ mixed
    if setting.how == "full":
        y = y + setting.label_noise * rng.normal(size=y.shape)  # once and for all
    w = setting.gain * rng.normal(size=(d, h)) / d**0.5
    v = setting.gain * rng.normal(size=(h, o)) / h**0.5
    for _ in range(30_000):
        gradient = x.T @ (x @ (w @ v) - y) / EXAMPLES
        w, v = w - 0.05 * gradient @ v.T, v - 0.05 * w.T @ gradient
    return x, y, w, v


def useless(w, v):
    """The part of the last input's weights that no output sees, as a unit vector (h,)."""
    seen = np.linalg.qr(v)[0]
    part = w[-1] - seen @ (seen.T @ w[-1])
    return part / np.linalg.norm(part)


def process(setting: Setting, x, y, w, v):
    """What descends, from which theta, and how W and V are read from it."""
    net = TwoLayer(len(w), len(v), v.shape[1], "linear")
    losses, theta = net.losses, np.concatenate([w.ravel(), v.ravel()])

    def read(theta):
        return net.weights(theta)

    if setting.how == "frozen":
        fixed, theta = jnp.asarray(v, jnp.float32), w.ravel()

        def losses(t, inputs, targets):
            return 0.5 * ((inputs @ t.reshape(w.shape) @ fixed - targets) ** 2).sum(1)

        def read(theta):
            return theta.reshape(w.shape), fixed

    problem = Problem(losses, (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)), jax)
    match setting.how:
        case "full":
            made = sgd(noise.full_batch(problem), setting.rate)
        case "silent":
            made = sgd(noise.minibatch(problem, setting.batch), setting.rate)
        case "equation":
            model = noise.label_noise(problem, setting.batch, setting.label_noise)
            made = langevin(model, setting.rate, setting.rate / 4)
        case _:
            model = noise.label_noise(problem, setting.batch, setting.label_noise)
            made = sgd(model, setting.rate)
    return made, jnp.asarray(theta, jnp.float32), read


def seen(read, moment, unit, outputs, theta):
    """What is watched of one theta."""
    w, v = read(theta)
    values = jnp.linalg.eigvalsh(w.T @ moment @ w)[::-1]
    return {
        "ratio": values.sum() ** 2 / (values**2).sum(),
        "modes": values[:outputs],
        "imbalance": (w**2).sum() - (v**2).sum(),
        "useless": w[-1] @ unit,
    }


def run(setting: str, *, size: Size) -> xr.Dataset:
    """Chains of one setting, and the flows that foretell them, at the same moments."""
    seed = list(SETTINGS).index(setting)
    return measured(SETTINGS[setting], runs=size.runs, share=size.share, seed=seed)


def measured(chosen: Setting, *, runs: int, share: float, seed: int) -> xr.Dataset:
    """The same of any setting, for a share of its steps."""
    x, y, w, v = task_and_start(chosen)
    o, unit, moment = len(chosen.modes), useless(w, v), x.T @ x / EXAMPLES
    made, theta, read = process(chosen, x, y, w, v)
    finer = 4 if chosen.how == "equation" else 1
    every = max(1, round(chosen.steps * share / WATCHES)) * finer
    look = partial(seen, read, jnp.asarray(moment, jnp.float32), jnp.asarray(unit, jnp.float32), o)
    start = jnp.tile(theta, (runs, 1))
    key = jax.random.key(seed)
    found = simulate(made, key, start, steps=WATCHES * every, every=every, observe=look)
    steps = every // finer * np.arange(WATCHES + 1)
    task = label_noise_task(x, o, chosen.label_noise)
    strength = {"learning_rate": chosen.rate, "batch_size": chosen.batch}
    flows = {}
    for name, how in FLOWS.items():
        flow = label_noise_flow(task, w, v, chosen.rate * steps, **strength, **how)
        flows[name] = _of_flow(flow, task.moment, unit, o)
    results = {
        name: xr.concat([_watched(flows[f][name][1:]) for f in FLOWS], "flow") for name in found
    }
    return xr.Dataset(
        {name: _watched(values, "run") for name, values in found.items()}
        | {f"{name}_flow": values for name, values in results.items()}
        | {f"{name}_start": _watched(flows["base"][name][:1])[0] for name in found}
        | {
            "amplification": amplification(moment, w, v, **strength),
            "sharpness": chosen.rate * _sharpest(moment, w, v),
            "ratio_rest": ratio_at_rest(moment, w @ v),
            "linear_rate": irrelevant_rate(moment[-1, -1], o, chosen.label_noise, **strength),
            "moving": int(chosen.how in ("descent", "equation")),
            "step": ("watch", steps[1:].astype(float)),
        },
        {"flow": list(FLOWS), "mode": np.arange(o)},
    )


def _watched(values, *first):
    """An array of watches, and of modes where it has that axis."""
    values = np.asarray(values, np.float32)
    return xr.DataArray(values, dims=(*first, "watch", "mode")[: values.ndim])


def _of_flow(flow, moment, unit, outputs):
    values = np.linalg.eigvalsh(flow.hidden(moment))[:, ::-1]
    pairs = zip(flow.first, flow.second, strict=True)
    return {
        "ratio": values.sum(1) ** 2 / (values**2).sum(1),
        "modes": values[:, :outputs],
        "imbalance": np.asarray([np.trace(hidden_imbalance(w, v)) for w, v in pairs]),
        "useless": flow.first[:, -1] @ unit,
    }


def _sharpest(moment, w, v):
    """The largest curvature, of the product's A^1/2 K A^1/2."""
    root = np.kron(np.diag(np.diag(moment) ** 0.5), np.eye(v.shape[1]))
    bend = np.kron(np.eye(len(w)), v.T @ v) + np.kron(w @ w.T, np.eye(v.shape[1]))
    return float(np.linalg.eigvalsh(root @ bend @ root)[-1])


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All settings, on `jobs` processes; what is finished is kept in `folder`."""
    return sweep_one(
        partial(run, size=size),
        {"setting": list(size.settings)},
        folder,
        jobs=jobs,
        cluster=cluster,
    )


def main(
    small: Small = False,
    setting: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    runs: Annotated[int | None, Option(help="of each setting", show_default="64, small 8")] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Descend with label noise in linear networks, and hold all of it against the slow flow."""
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
