"""How residuals that stay compress a linear network: minibatches alone, without label noise.

Networks f(x) = x W V start at the minimum of least squares and descend on minibatches that they
cannot fit; the dimension of the hidden layer is compared with the flow of that noise, and controls.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.dynamics import sgd
from sgdnoise.lab import Study, option
from sgdnoise.theory import (
    irrelevant_rate,
    label_noise_flow,
    label_noise_task,
    residual_task,
)
from simulations import _linear_networks as shared
from simulations.linear_networks.residual import claims, figure

WIDTHS, MODES = (8, 12, 2), (1.5, 1.0)
WITHOUT_FEEDBACK: dict[str, Any] = {"discrete_steps": 0.0, "with_feedback": False}
FLOWS: dict[
    str, tuple[str, dict]
] = {  # flow -> its task, and whether it has the jitter of discrete steps and its feedback
    "form": ("form", WITHOUT_FEEDBACK),
    "general": ("general", WITHOUT_FEEDBACK),
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
    residual: float = 0.7  # standard deviation of the noise in the targets, drawn once and for all
    kind: str = "even"  # or uneven: over outputs and inputs; or designed: noise = sigma^2 H
    variant: str = "minibatch"  # or full, frozen

    @property
    def thinned(self) -> float:
        """f = (n - batch) / (n - 1) of distinct examples, by which their noise is smaller."""
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
    "full batch": Setting(variant="full"),
    "exact fit": Setting(residual=0.0),
    "frozen readout": Setting(variant="frozen"),
}


def task_and_start(setting: Setting):
    """Inputs (n, d) whose second moment is diagonal, targets (n, o), and W, V of least squares.

    The teacher uses the first half of the inputs.  Designed data repeat each input with residuals
    of either sign in each output, so that the noise is sigma^2 H; their other inputs reach units
    without a readout.
    """
    rng = np.random.default_rng(0)
    d, h, o = WIDTHS
    copies = 2 * o if setting.kind == "designed" else 1
    inputs = shared.inputs_with_moments(rng, setting.examples // copies, np.linspace(0.5, 1.5, d))
    x = np.repeat(inputs, copies, axis=0)
    used = np.linalg.qr(rng.normal(size=(d // 2, o)))[0]
    mixed = np.linalg.qr(rng.normal(size=(o, o)))[0]
    product = np.concatenate([used @ np.diag(MODES) @ mixed, np.zeros((d - d // 2, o))])
    y = x @ product + setting.residual * _residuals(setting.kind, x, o, rng)
    w, v = rng.normal(size=(d, h)) / d**0.5, rng.normal(size=(h, o)) / h**0.5
    if copies > 1:
        w[: d // 2, h // 2 :] = w[d // 2 :, : h // 2] = v[h // 2 :] = 0
    minimum = np.linalg.lstsq(x, y, rcond=None)[0]
    w, v = shared.descend_to_minimum(x.T @ x / len(x), minimum, [w, v], 4000)
    return x, y, w, v + np.linalg.pinv(w, rcond=1e-9) @ (minimum - w @ v)


def _residuals(kind, x, outputs, rng):
    """Noise of unit variance in the targets, on average."""
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


def process_of(setting: Setting, x, y, w, v):
    """The process, its start theta, and theta -> (W, V)."""
    frozen = setting.variant == "frozen"
    problem, theta, weights = shared.two_layer_problem(x, y, w, v, frozen=frozen)
    if setting.variant == "full":
        model = noise.full_batch(problem)
    else:
        model = noise.minibatch(problem, setting.batch, replacement=not setting.distinct)
    return sgd(model, setting.rate), theta, weights


def observe(weights, moment, direction, theta):
    """The records of one theta: participation ratio, and the last input's weights."""
    w, _ = weights(theta)
    return {
        "ratio": shared.participation_ratio(w.T @ moment @ w),
        "useless": w[-1] @ direction,
    }


def run(setting: str, *, runs: int, fraction: float, seed: int) -> xr.Dataset:
    """Chains of one setting, and the flows that predict them, at the same times."""
    chosen = SETTINGS[setting]
    x, y, w, v = task_and_start(chosen)
    moment, direction = x.T @ x / len(x), w[-1] / np.linalg.norm(w[-1])
    process, theta, weights = process_of(chosen, x, y, w, v)
    every = shared.steps_between_records(chosen.steps * fraction / chosen.thinned)
    constants = jnp.asarray(moment, jnp.float32), jnp.asarray(direction, jnp.float32)
    records = shared.run_chains(
        process,
        jax.random.fold_in(jax.random.key(seed), [*SETTINGS].index(setting)),
        theta,
        runs=runs,
        every=every,
        observe=partial(observe, weights, *constants),
    )
    steps = every * np.arange(shared.RECORDS + 1)
    strength: dict[str, Any] = {"learning_rate": chosen.rate, "batch_size": chosen.batch}
    drawn = strength | {"population_factor": chosen.thinned}
    flows, fed = _flows(x, y, w, v, chosen.rate * steps, drawn, direction)
    residual = residual_size(x, y)
    off, error = largest_deviation(np.asarray(records["ratio"], float), flows["ratio"][:, 1:])
    return xr.Dataset(
        {name: (("run", "watch"), np.asarray(v, np.float32)) for name, v in records.items()}
        | {
            f"{name}_flow": (("flow", "watch"), np.asarray(flows[name][:, 1:], np.float32))
            for name in records
        }
        | {f"{name}_start": flows[name][0, 0] for name in records}
        | shared.regime_variables(tasks_of(x, y)["general"], fed.layers, **drawn)
        | {
            "residual": residual,
            "unlikeness": unlikeness(tasks_of(x, y)),
            "linear_rate": chosen.thinned
            * irrelevant_rate(moment[-1, -1], WIDTHS[2], residual, **strength),
            "thinned": chosen.thinned,
            "off": ("flow", off),
            "off_stderr": ("flow", error),
            "moving": int(chosen.variant == "minibatch" and chosen.residual > 0),
            "step": ("watch", steps[1:].astype(float)),
        },
        {"flow": list(FLOWS)},
    )


def tasks_of(x, y):
    """The noise of the residuals, and of labels with the same mean square."""
    general, _ = residual_task(x, y)
    return {"form": label_noise_task(x, y.shape[1], residual_size(x, y)), "general": general}


def residual_size(x, y):
    """Root of the mean squared residual of least squares."""
    residuals = x @ np.linalg.lstsq(x, y, rcond=None)[0] - y
    return float(np.mean(residuals**2) ** 0.5)


def unlikeness(tasks) -> float:
    """The distance of the noise from that of labels, |noise - sigma^2 A| / |sigma^2 A|."""
    form, general = tasks["form"].noise, tasks["general"].noise
    norm = np.linalg.norm(form)
    return float(np.linalg.norm(general - form) / norm) if norm > 1e-12 else 0.0


def largest_deviation(ratio, flows):
    """Per cent by which each flow (flow, t) differs from descent (run, t), where it does most.

    With its sign, and with the standard error there.
    """
    mean = ratio.mean(0)
    off, error = 100 * (flows / mean - 1), 100 * ratio.std(0, ddof=1) / mean / len(ratio) ** 0.5
    place = abs(off).argmax(1)
    return np.take_along_axis(off, place[:, None], 1)[:, 0], error[place]


def _flows(x, y, w, v, times, strength, direction):
    """Participation ratio and irrelevant weights along every flow, (flow, t), and the last flow."""
    tasks = tasks_of(x, y)
    predicted: dict[str, list] = {"ratio": [], "useless": []}
    for task, terms in FLOWS.values():
        flow = label_noise_flow(tasks[task], [w, v], times, **strength, **terms)
        (hidden,) = flow.hidden_moments(tasks[task].moment)
        predicted["ratio"].append(shared.participation_ratio(hidden))
        predicted["useless"].append(flow.layers[0][:, -1] @ direction)
    arrays = {name: np.asarray(values) for name, values in predicted.items()}
    return arrays, flow


study = Study(
    run,
    grid={"setting": [*SETTINGS]},
    sizes={
        "full": {"runs": 64, "fraction": 1.0},
        "small": {
            "setting": ["60, batch 4", "designed", "exact fit"],
            "runs": 10,
            "fraction": 0.15,
        },
    },
    options={
        "setting": option(list, "only this setting; repeat for more", choices=SETTINGS),
        "runs": option(int, "chains of each setting", least=2),
    },
    claims=claims,
    figure=figure,
    seed=True,
)

if __name__ == "__main__":
    study.main()
