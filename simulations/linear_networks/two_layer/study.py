"""How label noise compresses a two-layer linear network: SGD against a flow, nothing fitted.

Networks f(x) = x W V start at a minimum and descend with fresh label noise; the dimension,
eigenvalues and imbalance of their hidden layer are compared with an ordinary differential equation
on the manifold of minima, and with controls in which nothing may change.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.dynamics import langevin, sgd
from sgdnoise.lab import Study, option
from sgdnoise.theory import (
    imbalances,
    irrelevant_rate,
    label_noise_flow,
    label_noise_task,
    stationary_participation_ratio,
)
from simulations import _linear_networks as shared
from simulations.linear_networks.two_layer import claims, figure

FLOWS: dict[
    str, Any
] = {  # flow -> whether it has the jitter of discrete steps, and what that jitter feeds back
    "base": {"discrete_steps": 0.0, "with_feedback": False},
    "equation": {"discrete_steps": 0.0, "with_feedback": True},
    "refined": {"discrete_steps": 1.0, "with_feedback": True},
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
    variant: str = "descent"  # or equation, frozen, silent, full


SETTINGS = {
    "plain": Setting(),
    "slower": Setting(rate=0.02, steps=160_000),
    "larger batch": Setting(batch=16, steps=160_000),
    "stronger": Setting(rate=0.08, steps=10_000),
    "small start": Setting(gain=0.2),
    "large start": Setting(gain=1.7),
    "narrow": Setting(d=12, h=6, modes=(1.5, 1.0, 0.7), steps=27_000),
    "rank one": Setting(modes=(1.5, 0.0, 0.0), steps=27_000),
    "equation": Setting(variant="equation"),
    "frozen readout": Setting(variant="frozen"),
    "no label noise": Setting(variant="silent"),
    "full batch": Setting(variant="full"),
}


def task_and_start(setting: Setting):
    """Inputs (n, d), targets, and W, V at a minimum; see `two_layer_task`."""
    target_noise = setting.label_noise if setting.variant == "full" else 0.0
    return shared.two_layer_task(
        setting.d, setting.h, setting.modes, gain=setting.gain, target_noise=target_noise
    )


def irrelevant_direction(w, v):
    """The unit vector (h,) of the last input's weights to units without a readout."""
    readout = np.linalg.qr(v)[0]
    invisible = w[-1] - readout @ (readout.T @ w[-1])
    return invisible / np.linalg.norm(invisible)


def process_of(setting: Setting, x, y, w, v):
    """The process, its start theta, and theta -> (W, V)."""
    frozen = setting.variant == "frozen"
    problem, theta, weights = shared.two_layer_problem(x, y, w, v, frozen=frozen)
    match setting.variant:
        case "full":
            process = sgd(noise.full_batch(problem), setting.rate)
        case "silent":
            process = sgd(noise.minibatch(problem, setting.batch), setting.rate)
        case "equation":
            model = noise.label_noise(problem, setting.batch, setting.label_noise)
            process = langevin(model, setting.rate, setting.rate / 4)
        case _:
            model = noise.label_noise(problem, setting.batch, setting.label_noise)
            process = sgd(model, setting.rate)
    return process, theta, weights


def observe(weights, moment, direction, outputs, theta):
    """The records of one theta."""
    w, v = weights(theta)
    hidden = w.T @ moment @ w
    return {
        "ratio": shared.participation_ratio(hidden),
        "modes": jnp.linalg.eigvalsh(hidden)[::-1][:outputs],
        "imbalance": (w**2).sum() - (v**2).sum(),
        "useless": w[-1] @ direction,
    }


def run(setting: str, *, runs: int, fraction: float) -> xr.Dataset:
    """Chains of one setting, and the flows that predict them, at the same times."""
    chosen = SETTINGS[setting]
    x, y, w, v = task_and_start(chosen)
    o, direction, moment = len(chosen.modes), irrelevant_direction(w, v), x.T @ x / len(x)
    process, theta, weights = process_of(chosen, x, y, w, v)
    substeps = 4 if chosen.variant == "equation" else 1
    every = shared.steps_between_records(chosen.steps * fraction)
    constants = jnp.asarray(moment, jnp.float32), jnp.asarray(direction, jnp.float32), o
    loss = shared.two_layer_problem(x, y, w, v, frozen=chosen.variant == "frozen")[0].value
    records, mean_loss = shared.records_and_mean_loss(
        process,
        jax.random.key([*SETTINGS].index(setting)),
        theta,
        runs=runs,
        every=every * substeps,
        observe=partial(observe, weights, *constants),
        loss=loss,
    )
    steps = every * np.arange(shared.RECORDS + 1)
    task = label_noise_task(x, o, chosen.label_noise)
    strength = strength_of(chosen)
    paths = {
        name: label_noise_flow(task, [w, v], chosen.rate * steps, **strength, **terms)
        for name, terms in FLOWS.items()
    }
    flows = {name: _records_of(path, task.moment, direction, o) for name, path in paths.items()}
    predicted = {
        name: xr.concat([_variable(flows[flow][name][1:]) for flow in FLOWS], "flow")
        for name in records
    }
    return xr.Dataset(
        {name: _variable(values, "run") for name, values in records.items()}
        | {f"{name}_flow": values for name, values in predicted.items()}
        | {f"{name}_start": _variable(flows["base"][name][:1])[0] for name in records}
        | regime_of(chosen, task, paths)
        | excess_of(chosen, task, paths, float(loss(theta)))
        | {
            "loss": _variable(mean_loss, "run"),
            "ratio_rest": stationary_participation_ratio(moment, w @ v),
            "linear_rate": irrelevant_rate(moment[-1, -1], o, chosen.label_noise, **strength),
            "moving": int(chosen.variant in ("descent", "equation")),
            "step": ("watch", steps[1:].astype(float)),
        },
        {"flow": list(FLOWS), "mode": np.arange(o)},
    )


def flow_of(setting: Setting) -> str:
    """The flow that is to describe a setting."""
    return "equation" if setting.variant == "equation" else "refined"


def strength_of(setting: Setting) -> dict[str, Any]:
    """Learning rate and batch size, by the names of `label_noise_flow`."""
    return {"learning_rate": setting.rate, "batch_size": setting.batch}


def regime_of(setting: Setting, task, paths) -> dict[str, float]:
    """The small parameters of the flow that is to describe a setting."""
    name, strength = flow_of(setting), strength_of(setting)
    return shared.regime_variables(task, paths[name].layers, **strength, **FLOWS[name])


def excess_of(setting: Setting, task, paths, minimum: float) -> dict:
    """The excess loss on the flow that is to describe a setting, and kappa Tr H."""
    name, strength = flow_of(setting), strength_of(setting)
    terms = strength | FLOWS[name], strength | FLOWS["base"]
    return shared.excess_variables(task, paths[name].layers, minimum, *terms)


def _variable(values, *first):
    """An array of records, and of modes where it has that axis."""
    values = np.asarray(values, np.float32)
    return xr.DataArray(values, dims=(*first, "watch", "mode")[: values.ndim])


def _records_of(flow, moment, direction, outputs):
    (hidden,) = flow.hidden_moments(moment)
    first, second = flow.layers
    pairs = zip(first, second, strict=True)
    return {
        "ratio": shared.participation_ratio(hidden),
        "modes": np.linalg.eigvalsh(hidden)[:, ::-1][:, :outputs],
        "imbalance": np.asarray([np.trace(*imbalances(layers)) for layers in pairs]),
        "useless": first[:, -1] @ direction,
    }


study = Study(
    run,
    grid={"setting": [*SETTINGS]},
    sizes={
        "full": {"runs": 64, "fraction": 1.0},
        "small": {"setting": ["plain", "no label noise"], "runs": 8, "fraction": 0.25},
    },
    options={
        "setting": option(list, "only this setting; repeat for more", choices=SETTINGS),
        "runs": option(int, "chains of each setting", least=2),
    },
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
