"""The loss that SGD follows on average: of plain steps, of reshuffled epochs, of independent draws.

Without sampling error, over all orders and all sequences of an epoch; and with it, by the
stationary mean of linear regression.
"""

import math
from itertools import permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import torch
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import Estimate, Problem, mean
from sgdnoise.dynamics import Observable, moments, sgd, simulate
from sgdnoise.lab import Study, option
from sgdnoise.noise import reshuffled, with_replacement
from sgdnoise.theory import (
    gradient_flow,
    reshuffled_loss,
    reshuffled_minimum,
    reshuffled_shift,
    sgd_loss,
)
from simulations.sde_and_scaling.modified_loss import claims, figure

HALVED = (8e-3, 4e-3, 2e-3, 1e-3)
NET_EXAMPLES, EXAMPLES, UNITS, INPUTS = 4, 8, 2, 3
CASES = {  # what is averaged over, the loss of the flow, and the order of their difference
    "a step, L": ("step", "plain", 2),
    "a step, L + rate/4 |grad L|^2": ("step", "descent", 3),
    "all orders of an epoch, reshuffled loss": ("orders", "reshuffled", 3),
    "all orders of an epoch, descent's loss": ("orders", "descent", 2),
    "all sequences of draws, descent's loss": ("sequences", "descent", 3),
    "all sequences of draws, reshuffled loss": ("sequences", "reshuffled", 2),
}
LAWS = ("reshuffled", "independent")
STEPS = 40  # of a chain, times rate^2, so that errors are the same fraction of shifts
EQUILIBRATION = 12  # rate x smallest curvature x steps before the first record


# --- without sampling error ---


def network():
    """A curved problem of 4 examples and its theta: tanh units and a readout, in float64."""
    rng, size = np.random.default_rng(7), UNITS * INPUTS
    x = torch.asarray(rng.normal(size=(NET_EXAMPLES, INPUTS)))
    y = torch.asarray(rng.normal(size=NET_EXAMPLES))

    def losses(theta, x, y):
        hidden = torch.tanh(x @ theta[:size].reshape(INPUTS, UNITS))
        return 0.5 * (hidden @ theta[size:] - 2 * y) ** 2

    theta = torch.asarray(rng.normal(size=size + UNITS))
    return Problem(losses, (x, y)), theta


def example_weights(ensemble: str) -> torch.Tensor:
    """The example weights (member, step, n) of everything that is averaged over."""
    n = NET_EXAMPLES
    if ensemble == "step":
        return torch.full((1, 1, n), 1 / n, dtype=torch.float64)
    members = permutations(range(n)) if ensemble == "orders" else product(range(n), repeat=n)
    return torch.eye(n, dtype=torch.float64)[torch.asarray(list(members))]


def distance_from_flow(ensemble: str, loss: str, rate: float) -> float:
    """The distance of the mean over an ensemble from the flow of a loss, at the same time."""
    problem, theta = network()
    losses = {
        "plain": lambda: problem.value,
        "descent": lambda: sgd_loss(problem, rate),
        "reshuffled": lambda: reshuffled_loss(problem, rate, 1),
    }
    weights = example_weights(ensemble)
    gradients = torch.func.vmap(problem.weighted_gradient)
    thetas = theta.repeat(len(weights), 1)
    for k in range(weights.shape[1]):
        thetas = thetas - rate * gradients(thetas, weights[:, k])
    end = gradient_flow(torch.func.grad(losses[loss]()), theta, weights.shape[1] * rate, 2)
    return float((thetas.mean(0) - end).norm())


def with_distances(dataset: xr.Dataset) -> xr.Dataset:
    """The Dataset with every distance of CASES at every rate, which is computed here."""
    gaps = [
        [distance_from_flow(ensemble, loss, rate) for rate in HALVED]
        for ensemble, loss, _ in CASES.values()
    ]
    orders = [order for *_, order in CASES.values()]
    variables = {"gap": (("case", "halved"), gaps), "order": ("case", orders)}
    return dataset.assign(variables).assign_coords(case=list(CASES), halved=list(HALVED))


# --- with sampling error ---


def regression():
    """Inputs (n, p) and targets of which least squares is zero."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(EXAMPLES, INPUTS)), rng.normal(size=EXAMPLES)
    return x, y - x @ np.linalg.lstsq(x, y, rcond=None)[0]


def run(rate: float, batch: int, *, chains: int) -> xr.Dataset:
    """The stationary mean at one rate and batch, along the predicted shift, by both laws."""
    x, y = regression()
    curvatures = np.linalg.eigvalsh(x.T @ x / EXAMPLES)
    first = reshuffled_shift(x, y, rate, batch)
    direction = first / np.linalg.norm(first)
    means = [stationary_mean(law, x, y, rate, batch, direction, chains) for law in LAWS]
    return xr.Dataset(
        {
            "rest": ("law", [float(e.value) for e in means]),
            "rest_stderr": ("law", [float(e.stderr) for e in means]),
            "first": float(np.linalg.norm(first)),
            "exact": float(direction @ reshuffled_minimum(x, y, rate, batch)),
            "epoch": EXAMPLES // batch * rate * curvatures[-1],
        },
        {"law": list(LAWS)},
    )


def stationary_mean(law: str, x, y, rate: float, batch: int, direction, chains: int) -> Estimate:
    """The mean over the ends of epochs of each chain, after equilibration."""
    examples = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    problem = Problem(lambda t, x, y: (x @ t - y) ** 2 / 2, examples)
    weights = reshuffled if law == "reshuffled" else with_replacement
    process = sgd(noise.from_weights(problem, weights(EXAMPLES, batch)), rate)
    every, slowest = EXAMPLES // batch, np.linalg.eigvalsh(x.T @ x / EXAMPLES)[0]
    start, steps = (
        every * math.ceil(n / every) for n in (EQUILIBRATION / (rate * slowest), STEPS / rate**2)
    )
    axis = jnp.asarray(direction, jnp.float32)
    records = simulate(
        process,
        jax.random.fold_in(jax.random.key(LAWS.index(law)), round(1e4 * rate) + batch),
        jnp.zeros((chains, x.shape[1]), jnp.float32),
        steps=start + steps,
        every=every,
        observe=after(moments(lambda theta: theta @ axis), start),
    )
    return mean(np.asarray(records.mean, float)[:, 0])


def after(observable: Observable, start: int) -> Observable:
    """The same of everything after so many steps."""

    def add(total, theta, step):
        new = observable.add(total, theta, step)
        return jax.tree.map(lambda a, b: jnp.where(step > start, a, b), new, total)

    return observable._replace(add=add)


study = Study(
    run,
    grid={"rate": [0.02, 0.05, 0.1, 0.2], "batch": [1, 2]},
    sizes={"full": {"chains": 4000}, "small": {"rate": [0.1, 0.2], "batch": [1]}},
    options={"chains": option(int, "chains of each law", least=2)},
    claims=claims,
    figure=figure,
    arrange=with_distances,
)

if __name__ == "__main__":
    study.main()
