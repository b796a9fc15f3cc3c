"""Which layer label noise compresses in linear networks of 2, 3 and 4 layers, and its variants.

Networks f(x) = x W_1 ... W_L start at a minimum and descend under label noise, with momentum, with
reshuffled examples, or under labels that the model draws itself for squared loss or cross-entropy.
The dimension of each hidden layer and the imbalance of each two neighbours are compared with an
ordinary differential equation on the manifold of minima, nothing fitted.
"""

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import heavy_ball, mlp_problem, sgd
from sgdnoise.lab import Study, option
from sgdnoise.noise import reshuffled
from sgdnoise.theory import (
    MLP,
    LabelNoiseFlow,
    fisher_flow,
    label_noise_flow,
    label_noise_task,
    stationary_participation_ratio,
)
from simulations import _linear_networks as shared
from simulations.linear_networks.deep import claims, figure

EXAMPLES, MAX_HIDDEN = 60, 3  # hidden layers of the deepest network
# Labels c with weights exp(-(c - f)^2 / 2) on this lattice have the variance 1 of normal ones but
# for 2e-4, by Poisson's summation formula, if they extend this far from the largest output.
LATTICE, EXTENT = 1.25, 5.0


class Setting(NamedTuple):
    """A network, its task and its noise."""

    depth: int = 3  # layers of weights
    variant: str = "label"  # or momentum, reshuffled, fisher, soft, hard, quiet, silent, first
    rate: float = 0.04  # of momentum: the effective one
    batch: int = 4
    steps: int = 60_000
    modes: tuple[float, ...] = (1.5, 1.0)  # of the product, with zeros one for each output
    label_noise: float = 0.5
    momentum: float = 0.0
    d: int = 6
    h: int = 8


SOFTMAX = Setting(label_noise=1.0, rate=0.15, batch=48, modes=(1.5, 1.0, 0.0), steps=48_000)
STRONG = SOFTMAX._replace(rate=0.1, batch=8, steps=15_000)
SETTINGS = {
    "two layers": Setting(2),
    "three layers": Setting(3),
    "four layers": Setting(4),
    "smaller steps": Setting(rate=0.024, steps=100_000),
    "momentum": Setting(variant="momentum", momentum=0.8),
    "reshuffled": Setting(variant="reshuffled"),
    "Fisher": Setting(variant="fisher", label_noise=1.0, batch=16, modes=(1.5,)),
    "cross-entropy": SOFTMAX._replace(variant="soft"),
    "separable": STRONG._replace(variant="hard"),
    "separable, quiet": STRONG._replace(variant="quiet"),
    "no label noise": Setting(variant="silent"),
    "first layer alone": Setting(variant="first"),
}
SQUARED = ("label", "momentum", "reshuffled", "fisher", "silent", "first")  # losses
FULL_GRADIENT = ("fisher", "soft", "hard", "quiet")  # of all examples; labels alone are sampled


def widths(setting: Setting) -> tuple[int, ...]:
    """Inputs, hidden units of each layer, outputs."""
    return (setting.d, *[setting.h] * (setting.depth - 1), len(setting.modes))


def task_and_start(setting: Setting):
    """Inputs (n, d) of diagonal moments, outputs (n, o), and the weights of a minimum."""
    rng = np.random.default_rng(0)
    d, sizes = setting.d, widths(setting)
    x = shared.inputs_with_moments(rng, EXAMPLES, np.linspace(0.5, 1.5, d))
    left, right = (np.linalg.qr(rng.normal(size=(n, sizes[-1])))[0] for n in (d, sizes[-1]))
    product = left @ np.diag(setting.modes) @ right
    layers = [rng.normal(size=(i, o)) / i**0.5 for i, o in pairwise(sizes)]
    return x, x @ product, shared.descend_to_minimum(x.T @ x / EXAMPLES, product, layers, 5000)


def process_of(setting: Setting, x, y, layers):
    """The process, its start theta, and theta -> all weights."""
    net, problem, theta = problem_of(setting, x, y, layers)
    weights = net.weights
    if setting.variant == "first":
        fixed, theta = theta[layers[0].size :], theta[: layers[0].size]

        def weights(first):
            return net.weights(jnp.concatenate([first, fixed]))

        def losses(first, *examples):
            return net.losses(jnp.concatenate([first, fixed]), *examples)

        problem = Problem(losses, problem.examples)
    model, rate, mu = _noise(setting, problem), setting.rate, setting.momentum
    process = heavy_ball(model, rate * (1 - mu), mu) if mu else sgd(model, rate)
    return process, theta, weights


def _noise(setting, problem):
    """The noise of a setting."""
    batch, targets = setting.batch, problem.examples[-1]
    match setting.variant:
        case "silent":
            return noise.minibatch(problem, batch)
        case "quiet":
            return noise.full_batch(problem)
        case "soft" | "hard":
            labels = jnp.eye(targets.shape[1], dtype=targets.dtype)
            return noise.sampled_labels(problem, batch, labels)
        case "fisher":
            largest = (EXTENT + float(abs(targets).max())) // LATTICE
            labels = LATTICE * jnp.arange(-largest, largest + 1, dtype=targets.dtype)[:, None]
            return noise.sampled_labels(problem, batch, labels)
    law = reshuffled(EXAMPLES, batch) if setting.variant == "reshuffled" else None
    return noise.label_noise(problem, batch, setting.label_noise, law)


def problem_of(setting, x, y, layers):
    """The network, its problem in single precision, and theta."""
    net = MLP(widths(setting), "linear")
    theta = jnp.asarray(np.concatenate([w.ravel() for w in layers]), jnp.float32)
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    if setting.variant in SQUARED:
        return net, mlp_problem(net, x, y), theta

    def losses(theta, inputs, targets):
        return -jnp.sum(targets * jax.nn.log_softmax(net.outputs(theta, inputs)), 1)

    targets = jax.nn.softmax(y)
    if setting.variant != "soft":
        targets = jnp.eye(y.shape[1])[jnp.argmax(y, 1)]
    return net, Problem(losses, (x, targets)), theta


def curvature(setting: Setting, x, y):
    """The curvature of the mean loss in the product, (d o, d o), at outputs y."""
    if setting.variant in SQUARED:
        return np.kron(x.T @ x / len(x), np.eye(y.shape[1]))
    p = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    of_outputs = p[:, :, None] * np.eye(y.shape[1]) - p[:, :, None] * p[:, None, :]
    tensor = np.einsum("ni,nj,nab->iajb", x, x, of_outputs) / len(x)
    return tensor.reshape(x.shape[1] * y.shape[1], -1)


def flows(setting: Setting, x, y, layers, times):
    """Base and refined flow of a setting; the weights of controls are constant."""
    if setting.variant in ("silent", "first"):
        constant = [np.tile(w, (len(times), 1, 1)) for w in layers]
        return dict.fromkeys(("base", "refined"), LabelNoiseFlow(times, constant))
    strength: dict[str, Any] = {"learning_rate": setting.rate, "batch_size": setting.batch}
    if setting.variant in FULL_GRADIENT:
        follow = partial(fisher_flow, curvature(setting, x, y), layers, times, **strength)
        return {"base": follow(discrete_steps=0.0), "refined": follow()}
    task = label_noise_task(x, y.shape[1], setting.label_noise)
    discrete_steps = (1 - setting.momentum) / (1 + setting.momentum)
    follow = partial(label_noise_flow, task, layers, times, **strength)
    return {
        "base": follow(discrete_steps=0.0, with_feedback=False),
        "refined": follow(discrete_steps=discrete_steps),
    }


def strength_of(setting: Setting, x, y) -> dict[str, Any]:
    """The noise and steps of the refined flow of a setting, by the names of `flow_regime`."""
    strength: dict[str, Any] = {"learning_rate": setting.rate, "batch_size": setting.batch}
    if setting.variant in FULL_GRADIENT:
        return strength | {"curvature": curvature(setting, x, y)}
    return strength | {"discrete_steps": (1 - setting.momentum) / (1 + setting.momentum)}


def regime_of(setting: Setting, x, y, flow) -> dict[str, float]:
    """The small parameters of the refined flow of a setting."""
    task = label_noise_task(x, y.shape[1], setting.label_noise)
    return shared.regime_variables(task, flow.layers, **strength_of(setting, x, y))


def excess_of(setting: Setting, x, y, flow, minimum: float) -> dict:
    """The excess loss on the refined flow of a setting, and kappa Tr H."""
    task, refined = label_noise_task(x, y.shape[1], setting.label_noise), strength_of(setting, x, y)
    base = refined | {"discrete_steps": 0.0, "with_feedback": False}
    return shared.excess_variables(task, flow.layers, minimum, refined, base)


def loss_of(setting: Setting, x, y, layers, weights):
    """The loss of all examples, of theta as `process_of` has it."""
    _, problem, _ = problem_of(setting, x, y, layers)

    def loss(theta):
        return problem.value(jnp.concatenate([w.ravel() for w in weights(theta)]))

    return loss


def observe(weights, moment, theta):
    """Dimension and total imbalance at each hidden layer of one theta.  (layer,) each"""
    layers = weights(theta)
    product, ratios = jnp.eye(len(moment)), []
    for w in layers[:-1]:
        product = product @ w
        ratios.append(shared.participation_ratio(product.T @ moment @ product))
    totals = jnp.stack([jnp.sum(w**2) for w in layers])
    return {"ratio": jnp.stack(ratios), "imbalance": totals[:-1] - totals[1:]}


def run(setting: str, *, runs: int, fraction: float) -> xr.Dataset:
    """Chains of one setting, and the flows that predict them, at the same times."""
    chosen = SETTINGS[setting]
    x, y, layers = task_and_start(chosen)
    moment = x.T @ x / EXAMPLES
    process, theta, weights = process_of(chosen, x, y, layers)
    every = shared.steps_between_records(chosen.steps * fraction)
    loss = loss_of(chosen, x, y, layers, weights)
    records, mean_loss = shared.records_and_mean_loss(
        process,
        jax.random.key([*SETTINGS].index(setting)),
        theta,
        runs=runs,
        every=every,
        observe=partial(observe, weights, jnp.asarray(moment, jnp.float32)),
        loss=loss,
    )
    steps = every * np.arange(shared.RECORDS + 1)
    followed = flows(chosen, x, y, layers, chosen.rate * steps)
    predicted = {name: _records_of(flow, moment) for name, flow in followed.items()}
    variables = {}
    for name, values in records.items():
        of_flows = np.stack([predicted[flow][name] for flow in predicted])
        variables[name] = _variable(values, "run", "watch")
        variables[f"{name}_flow"] = _variable(of_flows[:, 1:], "flow", "watch")
        variables[f"{name}_start"] = _variable(of_flows[0, 0])
    product, squared = np.linalg.multi_dot(layers), chosen.variant in SQUARED
    return xr.Dataset(
        variables
        | regime_of(chosen, x, y, followed["refined"])
        | excess_of(chosen, x, y, followed["refined"], float(loss(theta)))
        | {
            "loss": (("run", "watch"), np.asarray(mean_loss, np.float32)),
            "ratio_rest": stationary_participation_ratio(moment, product) if squared else np.nan,
            "depth": chosen.depth,
            "step": ("watch", steps[1:].astype(float)),
        },
        {"flow": list(predicted), "layer": 1 + np.arange(MAX_HIDDEN)},
    )


def _variable(values, *first):
    """An array with hidden layers along its last axis, nan for those that a net does not have."""
    values = np.asarray(values, np.float32)
    missing = [(0, 0)] * (values.ndim - 1) + [(0, MAX_HIDDEN - values.shape[-1])]
    return xr.DataArray(np.pad(values, missing, constant_values=np.nan), dims=(*first, "layer"))


def _records_of(flow, moment):
    ratio = shared.participation_ratio(np.stack(flow.hidden_moments(moment)))
    totals = np.stack([np.sum(w**2, axis=(1, 2)) for w in flow.layers])
    return {"ratio": ratio.T, "imbalance": (totals[:-1] - totals[1:]).T}


study = Study(
    run,
    grid={"setting": [*SETTINGS]},
    sizes={
        "full": {"runs": 32, "fraction": 1.0},
        "small": {
            "setting": ["three layers", "first layer alone"],
            "runs": 8,
            "fraction": 0.05,
        },
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
