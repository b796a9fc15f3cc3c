"""Isotropic noise against label noise in two-layer networks: what expands, where they balance.

Networks f(x) = x W V, and of ReLU units, are trained with label noise and isotropic noise together,
or with isotropic noise and weight decay.  Their stationary hidden dimension, the imbalance of their
layers and the law of their weights are compared with predictions without a fitted number.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import mean
from sgdnoise.dynamics import heun, overdamped_langevin, sgd
from sgdnoise.lab import Study, merge_sweeps, option, size_table
from sgdnoise.theory import (
    balance_under_decay,
    hessian_trace,
    label_noise_flow,
    label_noise_task,
    stationary_imbalance,
)
from simulations._linear_networks import (
    excess_variables,
    participation_ratio,
    regime_variables,
)
from simulations.noise_balance import claims, figure
from simulations.noise_balance._chains import (
    BASE,
    BATCH,
    DECAY,
    DECAY_NET,
    EXAMPLES,
    LAW_DECAY,
    LAW_T,
    LEVELS,
    MODES,
    NET,
    RECORDS,
    TILT,
    WIDTH,
    compared,
    factors,
    integrals,
    key_of,
    measures,
    mixed,
    network,
    prefixed,
    ratio,
    recorded,
    recorded_with_loss,
    stationary,
    task,
    with_temperature,
)

UNITS = {  # activation, inputs, units, outputs; a ReLU unit has one input that is always 1
    "linear 10 to 2": ("linear", 10, 6, 2),
    "linear 4 to 4": ("linear", 4, 6, 4),
    "linear 2 to 10": ("linear", 2, 6, 10),
    "ReLU 6 to 2": ("relu", 6, 6, 2),
    "ReLU 4 to 4": ("relu", 4, 6, 4),
    "ReLU 3 to 8": ("relu", 3, 6, 8),
}
UNIT_T, UNIT_DECAY, UNIT_RATE = 0.05, 0.5, 0.02
GROWTH_T, GROWTH_RATE = 0.02, 0.01
DECAY_RATE = 0.02
LAWS = {"1, 1, 1": (1, 1, 1), "1, 1, 4": (1, 1, 4), "1, 2, 2": (1, 2, 2), "2, 3, 2": (2, 3, 2)}
LAW_RATE = 0.05


def collapse(level: str, rho: float, *, seed: int, **length) -> xr.Dataset:
    """One network at several strengths of label noise: one curve in rho."""
    key = key_of(seed, 1, level, rho)
    return prefixed("mix", mixed(NET, MODES, TILT, level, rho, key, seed=seed, **length))


def plane(fan: int, rho: float, *, seed: int, **length) -> xr.Dataset:
    """Networks of 8 inputs and outputs together, white inputs."""
    modes, shape = np.linspace(1.5, 1.0, min(fan, 8 - fan)), (fan, WIDTH, 8 - fan)
    key = key_of(seed, 2, fan, rho)
    return prefixed("plane", mixed(shape, modes, 0.0, "strong", rho, key, seed=seed, **length))


def units(unit: str, *, runs: int, fraction: float, seed: int) -> xr.Dataset:
    """|w_in|^2 - |w_out|^2 of units under isotropic noise and decay, on random targets."""
    activation, d, h, o = UNITS[unit]
    rng = np.random.default_rng([seed, d, o])
    x, y = rng.normal(size=(EXAMPLES, d)), rng.normal(size=(EXAMPLES, o))
    if activation == "relu":
        x[:, -1] = 1  # the bias
    net, problem = network(x, y, h, activation)
    process = overdamped_langevin(problem, UNIT_T, UNIT_RATE, UNIT_DECAY)
    start = rng.normal(size=(2 * runs, net.size)) / 3
    observe = partial(measures, net, problem, jnp.eye(d))
    records, _ = recorded(process, start, observe, 60_000 * fraction, key_of(seed, 3, unit))
    imbalance, kick = (stationary(records[name]) / h for name in ("imbalance", "kick"))
    law, step = stationary_imbalance(d, o, UNIT_T, UNIT_DECAY), UNIT_RATE * UNIT_DECAY
    exact = (1 - step / 2) * imbalance - UNIT_RATE / 2 / UNIT_DECAY * kick
    pairs = {"law": (mean(imbalance), law), "exact": (mean(exact), law)}
    return prefixed("unit", compared(pairs) | {"scale": UNIT_T * (d + o) / UNIT_DECAY})


def growth(fan: int, *, runs: int, fraction: float, seed: int) -> xr.Dataset:
    """Growth of Tr D under isotropic noise without decay, and without any noise."""
    d, o = fan, 8 - fan
    x, y, goal = task(d, o, np.linspace(1.5, 1.0, min(d, o)))
    net, problem = network(x, y, WIDTH)
    start = factors(goal, WIDTH, np.eye(d))
    temperatures = np.where(np.arange(8 * runs + 4) < 4, 0.0, GROWTH_T)  # the first four have none

    def process(temperature):
        return overdamped_langevin(problem, temperature, GROWTH_RATE)

    def observe(temperature):  # noqa: ARG001 - the same for every chain
        return partial(measures, net, problem, jnp.eye(d))

    starts, key = np.tile(start, (len(temperatures), 1)), key_of(seed, 4, fan)
    temperature_of_chain = jnp.asarray(temperatures, jnp.float32)
    records, every = recorded(
        process, starts, observe, 10_000 * fraction, key, temperature_of_chain
    )
    scale = 2 * GROWTH_T * WIDTH * GROWTH_RATE * every * RECORDS
    change, exact = _changes(net, start, records, GROWTH_RATE, every)
    pairs = {
        "growth": (mean(change[4:]), scale * (d - o)),
        "growth_exact": (mean(exact[4:]), scale * (d - o)),
        "still": (mean(change[:4]), 0.0),
    }
    return prefixed("grow", compared(pairs) | {"scale": scale * (d + o)})


def under_decay(temperature: float, *, runs: int, fraction: float, seed: int) -> xr.Dataset:
    """Isotropic noise and decay: the stationary hidden dimension, and modes of the mean product."""
    d, h, o = DECAY_NET
    x, y, goal = task(d, o, MODES)
    net, problem = network(x, y, h)
    process = overdamped_langevin(problem, temperature, DECAY_RATE, DECAY)
    start = np.tile(factors(goal, h, np.eye(d)), (runs, 1))
    vectors = np.linalg.svd(goal, full_matrices=False)
    left, right = (jnp.asarray(vectors[i].T, jnp.float32) for i in (0, 2))

    def observe(theta):
        w, v = net.weights(theta)
        modes = jnp.diag(left @ w @ v @ right)
        values = measures(net, problem, jnp.eye(d), theta)
        return values | {"large": modes[0], "small": modes[1]}

    key = key_of(seed, 5, temperature)
    records, _ = recorded(process, start, observe, 60_000 * fraction, key)
    means = {name: stationary(values) for name, values in records.items()}
    exact = balance_under_decay(temperature, DECAY, goal, h)
    pairs = {
        "ratio": (ratio(means["hidden"], means["square"]), exact.participation_ratio),
        "large": (mean(means["large"]), MODES[0] - DECAY),
        "small": (mean(means["small"]), MODES[1] - DECAY),
    }
    c, smallest = temperature / DECAY, MODES[-1] - DECAY
    regime = {
        "reach": c / smallest * max(1.0, (h - d) / 2.5),
        "jitter": temperature * (d + h) / smallest**2,
    }
    return prefixed("decay", compared(pairs) | regime)


def contrast(kind: str, *, runs: int, fraction: float, seed: int) -> xr.Dataset:
    """From one start: label noise, isotropic noise of the same initial trace, or no noise."""
    (d, h, o), (rate, sigma) = NET, LEVELS["strong"]
    x, y, goal = task(d, o, MODES)
    moment, (net, problem) = x.T @ x / EXAMPLES, network(x, y, h)
    kappa = rate * sigma**2 / (4 * BATCH)
    start = factors(goal, h, moment, 0.15, np.random.default_rng(seed))
    w, v = (np.asarray(layer) for layer in net.weights(start))
    temperature = (
        2 * kappa * hessian_trace(moment, [w, v]) / net.size if kind == "isotropic" else 0.0
    )
    label = kind == "label"
    model = noise.label_noise(problem, BATCH, sigma) if label else noise.full_batch(problem)
    process = sgd(with_temperature(model, temperature, rate, net.size), rate)
    observe = partial(measures, net, problem, jnp.asarray(moment, jnp.float32))
    steps, key = 3 / (2 * kappa * o) / rate * fraction, key_of(seed, 6, kind)
    starts = np.tile(start, (4 * runs, 1))
    records, every = recorded_with_loss(process, starts, observe, problem.value, steps, key)
    times = rate * every * np.arange(RECORDS + 1)
    strength: dict[str, Any] = {"learning_rate": rate, "batch_size": BATCH}
    flow = label_noise_flow(label_noise_task(x, o, sigma), [w, v], times, **strength)
    hidden = flow.hidden_moments(moment)[0]
    predicted = participation_ratio(hidden)
    if not label:
        predicted = np.full_like(predicted, predicted[0])
    excess = _excess_on_the_way(records["loss"], x, flow.layers, sigma, strength) if label else {}
    path = records["hidden"] ** 2 / records["square"]
    exact = _changes(net, start, records, rate, every)[1]
    pairs = {
        "ratio": (mean(path[:, -1]), predicted[-1]),
        "exact": (mean(exact), 2 * temperature * (d - o) * h * times[-1]),
    }
    paths = {"path": ("watch", path.mean(axis=0)), "flow": ("watch", predicted[1:])}
    return prefixed("contrast", compared(pairs) | paths | excess | {"time": ("watch", times[1:])})


def _excess_on_the_way(losses, x, layers, label_noise: float, strength: dict) -> dict:
    """(E L - L) / (kappa Tr H) on the flow (t, in, out) of label noise, after a quarter of it.

    losses: (chain, t - 1), the mean loss since the previous time; L is zero.
    """
    task = label_noise_task(x, layers[-1].shape[-1], label_noise)
    theory = excess_variables(task, layers, 0.0, strength, strength | BASE)
    first = losses.shape[1] // 4
    added, unit = (theory[name][1][first:].mean() for name in ("excess", "kappa_trace"))
    measured = mean(losses[:, first:].mean(axis=1) / unit)
    small = regime_variables(task, layers, **strength)
    return compared({"excess": (measured, added / unit)}) | small


def law(sizes: str, *, runs: int, fraction: float, seed: int) -> xr.Dataset:
    """The stationary law of W under isotropic noise and decay, against its marginal's integral."""
    d, h, o = LAWS[sizes]
    x, y, goal = task(d, o, np.linspace(1.0, 0.5, min(d, o)), 0.3)
    net, problem = network(x, y, h)
    moment = x.T @ x / EXAMPLES
    model = noise.isotropic(problem, 2 * LAW_T / LAW_RATE)
    process = heun(model, LAW_RATE, weight_decay=LAW_DECAY)
    start = np.random.default_rng(seed).normal(size=(8 * runs, net.size)) / 3
    square, identity = jnp.asarray(moment, jnp.float32), jnp.eye(h)

    def observe(theta):
        w = net.weights(theta)[0]
        hidden = w.T @ square @ w
        volume = jnp.linalg.slogdet(hidden / LAW_DECAY + identity)[1]
        return {"hidden": jnp.trace(hidden), "volume": volume}

    records, _ = recorded(process, start, observe, 20_000 * fraction, key_of(seed, 7, sizes))
    exact = integrals(moment, moment @ goal, h)
    without = integrals(moment, moment @ goal, h, with_volume=False)
    pairs = {name: (mean(stationary(records[name])), exact[name]) for name in exact}
    return prefixed("law", compared(pairs) | {f"{k}_without": v for k, v in without.items()})


def _changes(net, start, records, rate, every):
    """Changes of Tr D (chain,), and the same less what squared gradients add, rate^2 per step."""
    w, v = net.weights(start)
    change = np.asarray(records["imbalance"], float)[:, -1] - (w**2).sum() + (v**2).sum()
    return change, change - rate**2 * every * np.asarray(records["kick"], float).sum(axis=1)


def execute(parameters: dict, session) -> xr.Dataset:
    """All experiments, each on its own grid."""
    p = parameters
    length = {name: p[name] for name in ("runs", "relaxations", "seed")}
    common = {name: p[name] for name in ("runs", "fraction", "seed")}
    rhos, fans = {"rho": list(p["rhos"])}, {"fan": list(p["fans"])}
    inner = {"rho": [rho for rho in p["rhos"] if 0 < rho < 1]}
    sweeps = {
        "collapse": (partial(collapse, **length), {"level": list(p["levels"])} | rhos),
        "plane": (partial(plane, **length), fans | inner),
        "units": (partial(units, **common), {"unit": list(p["units"])}),
        "growth": (partial(growth, **common), fans),
        "decay": (partial(under_decay, **common), {"temperature": list(p["temperatures"])}),
        "contrast": (partial(contrast, **common), {"kind": list(p["kinds"])}),
        "law": (partial(law, **common), {"sizes": list(p["laws"])}),
    }
    return merge_sweeps(session.sweep_all(sweeps))


FULL, SMALL = size_table(  # parameter: full, small
    {
        "levels": (tuple(LEVELS), ("strong",)),
        "rhos": ((0.0, 0.03, 0.1, 0.3, 1.0), (0.1,)),
        "fans": ((6, 5, 4, 3, 2), (2,)),  # inputs, of 8 inputs and outputs together
        "units": (tuple(UNITS), ("ReLU 6 to 2",)),
        "temperatures": ((3e-4, 1e-3, 3e-3, 1e-2, 1e-1), (1e-3,)),
        "kinds": (("label", "isotropic", "none"), ("isotropic",)),
        "laws": (tuple(LAWS), ("1, 1, 4",)),
        "runs": (32, 16),
        "relaxations": (6.0, 1.5),  # duration under both noises, in relaxation times
        "fraction": (1.0, 0.04),  # of the steps of all other experiments
    }
)

study = Study(
    execute=execute,
    sizes={"full": FULL, "small": SMALL},
    options={"runs": option(int, "runs of each point", least=4)},
    seed=True,
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
