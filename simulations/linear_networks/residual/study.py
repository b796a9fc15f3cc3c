"""How a residual that stays compresses a linear network: minibatches alone, no label noise.

Networks f(x) = x W V start at the minimum of least squares and descend on minibatches that they
cannot fit; their hidden dimension is held against the slow flow of that noise, and controls.
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
from sgdnoise.dynamics import sgd, simulate
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
    irrelevant_rate,
    label_noise_flow,
    label_noise_task,
    residual_task,
)
from simulations.linear_networks.residual import claims
from simulations.linear_networks.residual import figure as picture

OUT = Path("out/residual")
WATCHES, SIZES, MODES = 40, (8, 12, 2), (1.5, 1.0)
FLOWS = {  # whose noise, and whether with the jitter of discrete steps and what it feeds
    "form": ("form", {"discrete": False, "fed": False}),
    "general": ("general", {"discrete": False, "fed": False}),
    "form fed": ("form", {}),
    "fed": ("general", {}),
}


class Setting(NamedTuple):
    """Data, and how minibatches are drawn from them."""

    examples: int = 60
    batch: int = 4
    distinct: bool = False  # drawn without replacement
    rate: float = 0.04
    steps: int = 24_000  # with replacement; without it a step moves less, and there are more
    residual: float = 0.7  # standard deviation of the noise in the targets, once and for all
    kind: str = "even"  # or uneven: over outputs and inputs; or designed: noise = sigma^2 H
    how: str = "minibatch"  # or full, frozen

    @property
    def thinned(self) -> float:
        """f = (n - batch) / (n - 1) of distinct examples, by which their noise is less."""
        return (self.examples - self.batch) / (self.examples - 1) if self.distinct else 1.0


SETTINGS = {
    "60, batch 4": Setting(),
    "60, batch 4, distinct": Setting(distinct=True),
    "60, batch 16": Setting(batch=16, rate=0.05, steps=60_000),
    "60, batch 16, distinct": Setting(batch=16, rate=0.05, steps=60_000, distinct=True),
    "60, batch 16, slower": Setting(batch=16, rate=0.025, steps=240_000),
    "400, batch 4": Setting(400),
    "400, batch 16": Setting(400, batch=16, rate=0.05, steps=60_000),
    "uneven": Setting(200, kind="uneven"),
    "uneven, smaller": Setting(200, kind="uneven", residual=0.35, steps=96_000),
    "designed": Setting(80, kind="designed"),
    "designed, distinct": Setting(
        80, batch=16, rate=0.05, steps=60_000, distinct=True, kind="designed"
    ),
    "full batch": Setting(how="full"),
    "exact fit": Setting(residual=0.0),
    "frozen readout": Setting(how="frozen"),
}


class Size(NamedTuple):
    """How much is run."""

    settings: tuple[str, ...]
    runs: int
    share: float  # of the steps
    seed: int = 0


FULL = Size(tuple(SETTINGS), 64, 1.0)
SMALL = Size(("60, batch 4", "designed", "exact fit"), 10, 0.15)


def task_and_start(setting: Setting):
    """Inputs (n, d) whose second moment is diagonal, targets (n, o), and W, V of least squares.

    The teacher reads the first half of the inputs.  Designed data have each with residuals of
    either sign in each output, so that the noise is sigma^2 H; their other inputs reach units
    without a readout.
    """
    rng = np.random.default_rng(0)
    d, h, o = SIZES
    copies = 2 * o if setting.kind == "designed" else 1
    places = setting.examples // copies
    white = np.linalg.qr(rng.normal(size=(places, d)))[0] * places**0.5
    x = np.repeat(white * np.linspace(0.5, 1.5, d) ** 0.5, copies, axis=0)
    used = np.linalg.qr(rng.normal(size=(d // 2, o)))[0]
    mixed = np.linalg.qr(rng.normal(size=(o, o)))[0]
    product = np.concatenate([used @ np.diag(MODES) @ mixed, np.zeros((d - d // 2, o))])
    y = x @ product + setting.residual * _residuals(setting.kind, x, o, rng)
    w, v = rng.normal(size=(d, h)) / d**0.5, rng.normal(size=(h, o)) / h**0.5
    if copies > 1:
        w[: d // 2, h // 2 :] = w[d // 2 :, : h // 2] = v[h // 2 :] = 0
    return x, y, *_settled(x, np.linalg.lstsq(x, y, rcond=None)[0], w, v)


def _residuals(kind, x, outputs, rng):
    """Noise of unit variance in the targets, on the whole."""
    white = rng.normal(size=(len(x), outputs))
    match kind:
        case "even":
            return white
        case "uneven":  # larger in one output, and where the first and last inputs are large
            tilted = white * np.sqrt([1.8, 0.2])
            size = x[:, [0]] ** 2 / np.mean(x[:, 0] ** 2) + x[:, [-1]] ** 2 / np.mean(x[:, -1] ** 2)
            return tilted * np.sqrt(size / 2)
    signs = np.concatenate([np.eye(outputs), -np.eye(outputs)]) * outputs**0.5
    return np.tile(signs, (len(x) // len(signs), 1))


def _settled(x, best, w, v):
    """Where descent comes to rest; what little is left is taken up by the readout."""
    moment = x.T @ x / len(x)
    for _ in range(4000):
        slope = moment @ (w @ v - best)
        w, v = w - 0.05 * slope @ v.T, v - 0.05 * w.T @ slope
    return w, v + np.linalg.pinv(w, rcond=1e-9) @ (best - w @ v)


def process(setting: Setting, x, y, w, v):
    """What descends, from which theta, and how W and V are read from it."""
    net = TwoLayer(*SIZES, "linear")
    losses, theta, read = net.losses, np.concatenate([w.ravel(), v.ravel()]), net.weights
    if setting.how == "frozen":
        fixed, theta = jnp.asarray(v, jnp.float32), w.ravel()

        def losses(t, inputs, targets):
            return 0.5 * ((inputs @ t.reshape(w.shape) @ fixed - targets) ** 2).sum(1)

        def read(theta):
            return theta.reshape(w.shape), fixed

    problem = Problem(losses, (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)), jax)
    if setting.how == "full":
        model = noise.full_batch(problem)
    else:
        model = noise.minibatch(problem, setting.batch, replacement=not setting.distinct)
    return sgd(model, setting.rate), jnp.asarray(theta, jnp.float32), read


def seen(read, moment, unit, theta):
    """What is watched of one theta: participation ratio, and the last input's weights."""
    w, _ = read(theta)
    hidden = w.T @ moment @ w
    return {"ratio": jnp.trace(hidden) ** 2 / (hidden**2).sum(), "useless": w[-1] @ unit}


def run(setting: str, *, size: Size) -> xr.Dataset:
    """Chains of one setting, and the flows that foretell them, at the same moments."""
    seed = [size.seed, list(SETTINGS).index(setting)]
    return measured(SETTINGS[setting], runs=size.runs, share=size.share, seed=seed)


def measured(chosen: Setting, *, runs: int, share: float, seed) -> xr.Dataset:
    """The same of any setting, for a share of its steps."""
    x, y, w, v = task_and_start(chosen)
    moment, unit = x.T @ x / len(x), w[-1] / np.linalg.norm(w[-1])
    made, theta, read = process(chosen, x, y, w, v)
    every = max(1, round(chosen.steps * share / chosen.thinned / WATCHES))
    look = partial(seen, read, jnp.asarray(moment, jnp.float32), jnp.asarray(unit, jnp.float32))
    key, start = jax.random.fold_in(jax.random.key(seed[0]), seed[1]), jnp.tile(theta, (runs, 1))
    found = simulate(made, key, start, steps=WATCHES * every, every=every, observe=look)
    steps = every * np.arange(WATCHES + 1)
    strength = {"learning_rate": chosen.rate, "batch_size": chosen.batch / chosen.thinned}
    flows = _flows(x, y, w, v, chosen.rate * steps, strength, unit)
    residual = _size(x, y)
    off, error = claims.worst(np.asarray(found["ratio"], float), flows["ratio"][:, 1:])
    return xr.Dataset(
        {name: (("run", "watch"), np.asarray(value, np.float32)) for name, value in found.items()}
        | {f"{name}_flow": (("flow", "watch"), flows[name][:, 1:]) for name in found}
        | {f"{name}_start": flows[name][0, 0] for name in found}
        | {
            "amplification": amplification(moment, w, v, **strength),
            "sharpness": chosen.rate * _bends(moment, w, v)[-1],
            "haste": haste(x, y, strength) / _bends(moment, *flows["end"])[0],
            "residual": residual,
            "unlikeness": claims.unlikeness(_tasks(x, y)),
            "linear_rate": irrelevant_rate(moment[-1, -1], SIZES[2], residual, **strength),
            "thinned": chosen.thinned,
            "off": ("flow", off),
            "off_stderr": ("flow", error),
            "moving": int(chosen.how == "minibatch" and chosen.residual > 0),
            "step": ("watch", steps[1:].astype(float)),
        },
        {"flow": list(FLOWS)},
    )


def _tasks(x, y):
    """The noise of the residuals, and of labels with the same mean square."""
    general, _ = residual_task(x, y)
    return {"form": label_noise_task(x, y.shape[1], _size(x, y)), "general": general}


def _size(x, y):
    """Root of the mean squared residual of least squares."""
    left = x @ np.linalg.lstsq(x, y, rcond=None)[0] - y
    return float(np.mean(left**2) ** 0.5)


def haste(x, y, strength) -> float:
    """How fast the readout moves along the minima: the largest of rate / (2 batch) E |x|^2 r r^T.

    The slow flow needs it to be little of the least curvature, across them.
    """
    left = x @ np.linalg.lstsq(x, y, rcond=None)[0] - y
    pulled = left.T @ (np.sum(x**2, axis=1)[:, None] * left) / len(x)
    return strength["rate"] / (2 * strength["batch"]) * float(np.linalg.eigvalsh(pulled)[-1])


def _flows(x, y, w, v, times, strength, unit):
    """Participation ratio and useless weights along every flow, (flow, t), and where one ends."""
    tasks, found = _tasks(x, y), {name: list[np.ndarray]() for name in ("ratio", "useless")}
    for name, how in FLOWS.values():
        flow = label_noise_flow(tasks[name], w, v, times, **strength, **how)
        hidden = flow.hidden(tasks[name].moment)
        trace = np.einsum("thh->t", hidden)
        found["ratio"].append(trace**2 / (hidden**2).sum((1, 2)))
        found["useless"].append(flow.first[:, -1] @ unit)
    end = flow.first[-1], flow.second[-1]
    return {name: np.asarray(values) for name, values in found.items()} | {"end": end}


def _bends(moment, w, v):
    """Curvatures across the minima, ascending: of the product's A^1/2 K A^1/2."""
    root = np.kron(np.diag(np.diag(moment) ** 0.5), np.eye(v.shape[1]))
    bend = np.kron(np.eye(len(w)), v.T @ v) + np.kron(w @ w.T, np.eye(v.shape[1]))
    return np.linalg.eigvalsh(root @ bend @ root)


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All settings, on `jobs` processes; what is finished is kept in `folder`."""
    grid = {"setting": list(size.settings)}
    return sweep_one(partial(run, size=size), grid, folder, jobs=jobs, cluster=cluster)


def main(
    small: Small = False,
    setting: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    runs: Annotated[int | None, Option(help="of each setting", show_default="64, small 10")] = None,
    seed: Annotated[int, Option(help="of all draws")] = 0,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Descend on minibatches that cannot be fitted, and hold all of it against the slow flow."""
    size = SMALL if small else FULL
    size = size._replace(
        runs=size.runs if runs is None else runs,
        settings=tuple(setting or size.settings),
        seed=seed,
    )
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.runs < 2:
            raise ValueError(f"an error needs at least 2 runs, not {size.runs}")
        if size.seed < 0:
            raise ValueError(f"a seed is a whole number from 0, not {size.seed}")
        if unknown := set(size.settings) - set(SETTINGS):
            raise ValueError(f"no setting {unknown.pop()!r}: there are {'; '.join(SETTINGS)}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
