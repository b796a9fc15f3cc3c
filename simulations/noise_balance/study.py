"""Isotropic noise against label noise in two-layer networks: what expands, and where they balance.

Networks f(x) = x W V, and of ReLU units, descend with label noise and isotropic noise together, or
with isotropic noise and weight decay; their hidden dimension at rest, the imbalance of their layers
and the law of their weights are held against predictions without a fitted number.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from typing import Annotated, NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from typer import Option

from sgdnoise import noise
from sgdnoise.core import mean
from sgdnoise.dynamics import heun, overdamped_langevin, sgd
from sgdnoise.lab._terminal import (
    Cluster,
    Jobs,
    Out,
    Small,
    command,
    exit_on_error,
    run_study,
    sweep_all,
)
from sgdnoise.theory import (
    balance_under_decay,
    hessian_trace,
    imbalance_at_rest,
    label_noise_flow,
    label_noise_task,
)
from simulations.noise_balance import claims
from simulations.noise_balance import figure as picture
from simulations.noise_balance._chains import (
    BATCH,
    EXAMPLES,
    LAW_DECAY,
    LAW_T,
    LEVELS,
    WATCHES,
    factors,
    integrals,
    key_of,
    mixed,
    named,
    network,
    ratio,
    rested,
    run_of,
    task,
    told,
    warmed,
    watched,
)

OUT = Path("out/balance")
NET, MODES = (6, 8, 2), (1.5, 1.0)
UNITS = {  # activation, inputs, units, outputs; a ReLU unit has one input that is always 1
    "linear 10 to 2": ("linear", 10, 6, 2),
    "linear 4 to 4": ("linear", 4, 6, 4),
    "linear 2 to 10": ("linear", 2, 6, 10),
    "ReLU 6 to 2": ("relu", 6, 6, 2),
    "ReLU 4 to 4": ("relu", 4, 6, 4),
    "ReLU 3 to 8": ("relu", 3, 6, 8),
}
UNIT_T, UNIT_DECAY, UNIT_RATE = 0.05, 0.5, 0.02
GROWTH_T, GROWTH_RATE, WIDTH = 0.02, 0.01, 6
DECAY, DECAY_RATE, DECAY_NET = 0.3, 0.02, (8, 10, 2)
LAWS = {"1, 1, 1": (1, 1, 1), "1, 1, 4": (1, 1, 4), "1, 2, 2": (1, 2, 2), "2, 3, 2": (2, 3, 2)}
LAW_RATE = 0.05


class Size(NamedTuple):
    """How much is run."""

    levels: tuple[str, ...]
    rhos: tuple[float, ...]
    fans: tuple[int, ...]  # inputs, of 8 inputs and outputs together
    units: tuple[str, ...]
    temperatures: tuple[float, ...]
    kinds: tuple[str, ...]
    laws: tuple[str, ...]
    runs: int
    slow: float  # times that the slowest weights need, under both noises
    share: float  # of the steps of all else
    seed: int = 0


FULL = Size(
    tuple(LEVELS),
    (0.0, 0.03, 0.1, 0.3, 1.0),
    (6, 5, 4, 3, 2),
    tuple(UNITS),
    (3e-4, 1e-3, 3e-3, 1e-2, 1e-1),
    ("label", "isotropic", "none"),
    tuple(LAWS),
    32,
    6.0,
    1.0,
)
SMALL = Size(
    ("strong",),
    (0.1,),
    (2,),
    ("ReLU 6 to 2",),
    (1e-3,),
    ("isotropic",),
    ("1, 1, 4",),
    runs=16,
    slow=1.5,
    share=0.04,
)


def collapse(level: str, rho: float, *, size: Size) -> xr.Dataset:
    """One net at several strengths of label noise: one curve in rho."""
    return named("mix", mixed(NET, MODES, 0.2, level, rho, size, key_of(size, 1, level, rho)))


def plane(fan: int, rho: float, *, size: Size) -> xr.Dataset:
    """Nets of 8 inputs and outputs together, white inputs."""
    modes = np.linspace(1.5, 1.0, min(fan, 8 - fan))
    shape, key = (fan, WIDTH, 8 - fan), key_of(size, 2, fan, rho)
    return named("plane", mixed(shape, modes, 0.0, "strong", rho, size, key))


def units(unit: str, *, size: Size) -> xr.Dataset:
    """|w_in|^2 - |w_out|^2 of units under isotropic noise and decay, on random targets."""
    activation, d, h, o = UNITS[unit]
    rng = np.random.default_rng([size.seed, d, o])
    x, y = rng.normal(size=(EXAMPLES, d)), rng.normal(size=(EXAMPLES, o))
    if activation == "relu":
        x[:, -1] = 1  # the bias
    net, problem = network(x, y, h, activation)
    process = overdamped_langevin(problem, UNIT_T, UNIT_RATE, net.size, UNIT_DECAY)
    start = rng.normal(size=(2 * size.runs, net.size)) / 3
    look = partial(watched, net, problem, jnp.eye(d))
    seen, _ = run_of(process, start, look, 60_000 * size.share, key_of(size, 3, unit))
    middle, kick = (rested(seen[name]) / h for name in ("imbalance", "kick"))
    rest, step = imbalance_at_rest(d, o, UNIT_T, UNIT_DECAY), UNIT_RATE * UNIT_DECAY
    exact = (1 - step / 2) * middle - UNIT_RATE / 2 / UNIT_DECAY * kick
    pairs = {"law": (mean(middle), rest), "exact": (mean(exact), rest)}
    return named("unit", told(pairs) | {"scale": UNIT_T * (d + o) / UNIT_DECAY})


def growth(fan: int, *, size: Size) -> xr.Dataset:
    """Growth of Tr D under isotropic noise without decay, and with no noise at all."""
    d, o = fan, 8 - fan
    x, y, goal = task(d, o, np.linspace(1.5, 1.0, min(d, o)))
    net, problem = network(x, y, WIDTH)
    start = factors(goal, WIDTH, np.eye(d))
    heats = np.where(np.arange(8 * size.runs + 4) < 4, 0.0, GROWTH_T)  # four of them without

    def process(heat):
        return overdamped_langevin(problem, heat, GROWTH_RATE, net.size)

    def look(heat):  # noqa: ARG001 - the same of all
        return partial(watched, net, problem, jnp.eye(d))

    many, key = np.tile(start, (len(heats), 1)), key_of(size, 4, fan)
    given = jnp.asarray(heats, jnp.float32)
    seen, every = run_of(process, many, look, 10_000 * size.share, key, given)
    scale = 2 * GROWTH_T * WIDTH * GROWTH_RATE * every * WATCHES
    change, exact = _changes(net, start, seen, GROWTH_RATE, every)
    pairs = {
        "growth": (mean(change[4:]), scale * (d - o)),
        "growth_exact": (mean(exact[4:]), scale * (d - o)),
        "still": (mean(change[:4]), 0.0),
    }
    return named("grow", told(pairs) | {"scale": scale * (d + o)})


def under_decay(temperature: float, *, size: Size) -> xr.Dataset:
    """Isotropic noise and decay at rest: the hidden dimension, and the mean product's modes."""
    d, h, o = DECAY_NET
    x, y, goal = task(d, o, MODES)
    net, problem = network(x, y, h)
    process = overdamped_langevin(problem, temperature, DECAY_RATE, net.size, DECAY)
    start = np.tile(factors(goal, h, np.eye(d)), (size.runs, 1))
    left, _, right = np.linalg.svd(goal, full_matrices=False)
    one, other = jnp.asarray(left.T, jnp.float32), jnp.asarray(right.T, jnp.float32)

    def look(theta):
        w, v = net.weights(theta)
        along = jnp.diag(one @ w @ v @ other)
        seen = watched(net, problem, jnp.eye(d), theta)
        return seen | {"large": along[0], "small": along[1]}

    key = key_of(size, 5, temperature)
    seen, _ = run_of(process, start, look, 60_000 * size.share, key)
    found = {name: rested(values) for name, values in seen.items()}
    exact = balance_under_decay(temperature, DECAY, goal, h)
    pairs = {
        "ratio": (ratio(found["hidden"], found["square"]), exact.ratio),
        "large": (mean(found["large"]), MODES[0] - DECAY),
        "small": (mean(found["small"]), MODES[1] - DECAY),
    }
    c, least = temperature / DECAY, MODES[-1] - DECAY
    return named("decay", told(pairs)).assign(
        decay_reach=c / least * max(1.0, (h - d) / 2.5),
        decay_jitter=temperature * (d + h) / least**2,
    )


def contrast(kind: str, *, size: Size) -> xr.Dataset:
    """From one start: label noise, isotropic noise of the same trace there, or none."""
    (d, h, o), (rate, sigma) = NET, LEVELS["strong"]
    x, y, goal = task(d, o, MODES)
    moment, (net, problem) = x.T @ x / EXAMPLES, network(x, y, h)
    kappa = rate * sigma**2 / (4 * BATCH)
    start = factors(goal, h, moment, 0.15, np.random.default_rng(size.seed))
    w, v = (np.asarray(part) for part in net.weights(start))
    heat = 2 * kappa * hessian_trace(moment, w, v) / net.size if kind == "isotropic" else 0.0
    model = (
        noise.label_noise(problem, BATCH, sigma) if kind == "label" else noise.full_batch(problem)
    )
    process = sgd(warmed(model, heat, rate, net.size), rate)
    look = partial(watched, net, problem, jnp.asarray(moment, jnp.float32))
    steps, key = 3 / (2 * kappa * o) / rate * size.share, key_of(size, 6, kind)
    seen, every = run_of(process, np.tile(start, (4 * size.runs, 1)), look, steps, key)
    times = rate * every * np.arange(WATCHES + 1)
    flow = label_noise_flow(
        label_noise_task(x, o, sigma), w, v, times, learning_rate=rate, batch_size=BATCH
    )
    hidden = flow.hidden(moment)
    ratios = np.trace(hidden, axis1=1, axis2=2) ** 2 / (hidden**2).sum((1, 2))
    path = seen["hidden"] ** 2 / seen["square"]
    goals = ratios if kind == "label" else np.full_like(ratios, ratios[0])
    exact = _changes(net, start, seen, rate, every)[1]
    pairs = {
        "ratio": (mean(path[:, -1]), goals[-1]),
        "exact": (mean(exact), 2 * heat * (d - o) * h * times[-1]),
    }
    paths = {"path": ("watch", path.mean(axis=0)), "flow": ("watch", goals[1:])}
    return named("contrast", told(pairs) | paths | {"time": ("watch", times[1:])})


def law(sizes: str, *, size: Size) -> xr.Dataset:
    """The law of W at rest under isotropic noise and decay, against its marginal's integral."""
    d, h, o = LAWS[sizes]
    x, y, goal = task(d, o, np.linspace(1.0, 0.5, min(d, o)), 0.3)
    net, problem = network(x, y, h)
    moment = x.T @ x / EXAMPLES
    model = noise.isotropic(problem, 2 * LAW_T / LAW_RATE, net.size)
    process = heun(model, LAW_RATE, weight_decay=LAW_DECAY)
    start = np.random.default_rng(size.seed).normal(size=(8 * size.runs, net.size)) / 3
    square, one = jnp.asarray(moment, jnp.float32), jnp.eye(h)

    def look(theta):
        w = net.weights(theta)[0]
        curved = w.T @ square @ w
        volume = jnp.linalg.slogdet(curved / LAW_DECAY + one)[1]
        return {"hidden": jnp.trace(curved), "volume": volume}

    seen, _ = run_of(process, start, look, 20_000 * size.share, key_of(size, 7, sizes))
    exact = integrals(moment, moment @ goal, h)
    other = integrals(moment, moment @ goal, h, with_volume=False)
    pairs = {name: (mean(rested(seen[name])), exact[name]) for name in exact}
    return named("law", told(pairs) | {f"{name}_without": other[name] for name in other})


def _changes(net, start, seen, rate, every):
    """Changes of Tr D (chain,), and less what gradients' squares add to it, rate^2 a step."""
    w, v = net.weights(start)
    change = np.asarray(seen["imbalance"], float)[:, -1] - (w**2).sum() + (v**2).sum()
    return change, change - rate**2 * every * np.asarray(seen["kick"], float).sum(axis=1)


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All parts, on `jobs` processes; what is finished is kept in `folder`."""
    rhos, fans = {"rho": [*size.rhos]}, {"fan": [*size.fans]}
    some = {"rho": [rho for rho in size.rhos if 0 < rho < 1]}
    parts: dict[str, tuple] = {
        "collapse": (collapse, {"level": [*size.levels]} | rhos),
        "plane": (plane, fans | some),
        "units": (units, {"unit": [*size.units]}),
        "growth": (growth, fans),
        "decay": (under_decay, {"temperature": [*size.temperatures]}),
        "contrast": (contrast, {"kind": [*size.kinds]}),
        "law": (law, {"sizes": [*size.laws]}),
    }
    sized = {name: (partial(run, size=size), grid) for name, (run, grid) in parts.items()}
    found = sweep_all(sized, folder, jobs=jobs, cluster=cluster)
    return xr.merge(found.values(), join="outer", compat="no_conflicts")


def main(
    small: Small = False,
    runs: Annotated[int | None, Option(help="of each point", show_default="by size")] = None,
    seed: Annotated[int, Option(help="of all that is drawn")] = 0,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Run all parts, and hold them against the theory of the balance."""
    size = SMALL if small else FULL
    size = size._replace(runs=size.runs if runs is None else runs, seed=seed)
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.runs < 4:
            raise ValueError(f"errors need at least 4 runs of each point, not {size.runs}")
        if seed < 0:
            raise ValueError(f"a seed is a whole number from 0, not {seed}")
        whole = partial(study, size, jobs=jobs, cluster=cluster)
        run_study(whole, size._asdict(), claims, picture, out)


if __name__ == "__main__":
    command(main)
