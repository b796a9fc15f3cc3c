"""Linear scaling: what changes when rate and batch grow together, and what does not.

At a fixed rate / batch the slow flow of a linear network, as its stochastic equation has it, is the
same at every rate; the jitter of discrete steps breaks this in proportion to rate x curvature.  The
stationary covariance of online regression breaks it sooner.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import batch_means
from sgdnoise.dynamics import Process, sgd, simulate
from sgdnoise.lab import Study, option
from sgdnoise.noise import Normal
from sgdnoise.theory import (
    excess_loss,
    label_noise_flow,
    label_noise_task,
    noise_feedback,
    online_covariance,
)
from simulations import _linear_networks as linear
from simulations.sde_and_scaling.scaling import claims, figure

RATE_PER_EXAMPLE = 0.01  # rate / batch of the networks
TIME = 1600.0  # rate x steps of the networks: four of their time scales
REGRESSION_RATE = 0.1  # rate / batch of the regressions
INPUTS = np.diag([1.0, 0.5, 0.25, 0.1])  # covariance of their inputs
LABEL_NOISE = 0.5
RELAXATIONS = 6  # rate x smallest curvature x steps after which they are stationary
FLOWS: dict[str, Any] = {
    "base": {"discrete_steps": 0.0, "with_feedback": False},
    "refined": {"discrete_steps": 1.0, "with_feedback": True},
}


def run(batch: int, *, batches, runs: int, fraction: float, regressions, chains) -> xr.Dataset:
    """The path of a network at one batch, the stationary state of a regression, or both."""
    datasets = []
    if batch in batches:
        datasets.append(network(RATE_PER_EXAMPLE * batch, batch, runs, fraction))
    if batch in regressions:
        datasets.append(regression(REGRESSION_RATE * batch, batch, chains))
    return xr.merge(datasets)


def network(rate: float, batch: int, runs: int, fraction: float) -> xr.Dataset:
    """The dimension of a two-layer network under label noise, and the flows that predict it."""
    x, y, w, v = linear.two_layer_task(10, 16, (1.5, 1.0))
    moment = x.T @ x / len(x)
    problem, theta, weights = linear.two_layer_problem(x, y, w, v)
    every = linear.steps_between_records(round(TIME / rate) * fraction)
    ratio = linear.run_chains(
        sgd(noise.label_noise(problem, batch, LABEL_NOISE), rate),
        jax.random.key(batch),
        theta,
        runs=runs,
        every=every,
        observe=partial(_ratio, weights, jnp.asarray(moment, jnp.float32)),
    )
    steps = every * np.arange(linear.RECORDS + 1)
    task = label_noise_task(x, 2, LABEL_NOISE)
    strength: dict[str, Any] = {"learning_rate": rate, "batch_size": batch}
    paths = [
        label_noise_flow(task, [w, v], rate * steps, **strength, **terms)
        for terms in FLOWS.values()
    ]
    flows = [linear.participation_ratio(path.hidden_moments(moment)[0])[1:] for path in paths]
    regime = linear.regime_variables(task, paths[-1].layers, **strength, **FLOWS["refined"])
    return xr.Dataset(
        regime
        | {
            "ratio": (("run", "watch"), np.asarray(ratio, np.float32)),
            "ratio_flow": (("flow", "watch"), np.asarray(flows, np.float32)),
            "step": ("watch", steps[1:].astype(float)),
        },
        {"flow": list(FLOWS)},
    )


def _ratio(weights, moment, theta):
    w, _ = weights(theta)
    return linear.participation_ratio(w.T @ moment @ w)


def regression(rate: float, batch: int, chains: int) -> xr.Dataset:
    """The stationary excess loss of each of many chains on new examples at each step."""
    roots, d = jnp.asarray(np.diag(INPUTS) ** 0.5, jnp.float32), len(INPUTS)

    def step(theta, white):
        x = white[: batch * d].reshape(batch, d) * roots
        residual = x @ theta - LABEL_NOISE * white[batch * d :]
        return theta - rate * residual @ x / batch

    def loss(theta):
        return (jnp.diag(jnp.asarray(INPUTS)) * theta**2).sum() / 2

    process = Process(step, Normal(batch * (d + 1)), rate)
    steps = math.ceil(RELAXATIONS / float(np.diag(INPUTS).min()) / rate)
    start, key = jnp.zeros((chains, d), jnp.float32), jax.random.key(batch)
    excess = simulate(process, key, start, steps=steps, every=steps, observe=loss)
    covariance = online_covariance(INPUTS, LABEL_NOISE, rate, batch)
    return xr.Dataset(
        {
            "excess": ("group", batch_means(np.asarray(excess)[:, 0])),
            "excess_predicted": excess_loss(INPUTS, covariance),
            "feedback": noise_feedback(INPUTS, rate, batch),
        }
    )


def all_batches(parameters: dict) -> list[int]:
    """The batches of networks and regressions, the longest runs first."""
    return sorted({*parameters["batches"], *parameters["regressions"]}, reverse=True)


study = Study(
    run,
    grid={"batch": all_batches},
    sizes={
        "full": {
            "batches": [1, 4, 8, 16, 20, 24],
            "runs": 48,
            "fraction": 1.0,
            "regressions": [1, 2, 4, 8, 12, 14],
            "chains": 20_000,
        },
        "small": {
            "batches": [4, 16],
            "runs": 8,
            "fraction": 0.25,
            "regressions": [1, 8],
            "chains": 2000,
        },
    },
    options={"runs": option(int, "chains of each network", least=2)},
    claims=claims,
    figure=figure,
    arrange=lambda dataset: dataset.sortby("batch"),
)

if __name__ == "__main__":
    study.main()
