"""The loss that descent follows on average: of plain steps, of reshuffled epochs, of free draws.

Without chance, by all orders and all sequences of an epoch; and with it, by where the mean of
linear regression comes to rest.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import math
from functools import partial
from itertools import permutations, product
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import xarray as xr
from typer import Option

from sgdnoise import noise
from sgdnoise.core import Estimate, Problem, mean
from sgdnoise.dynamics import Observable, moments, sgd, simulate
from sgdnoise.lab import Table, Verdict
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
from sgdnoise.noise import reshuffled, with_replacement
from sgdnoise.theory import (
    gradient_flow,
    reshuffled_loss,
    reshuffled_minimum,
    reshuffled_shift,
    sgd_loss,
)
from simulations.sde_and_scaling.modified_loss import figure as picture

OUT = Path("out/modified_loss")
TITLE = "Modified losses: what a finite learning rate adds to the loss"
LEAD = (
    "Orders: how fast the mean of a step or an epoch leaves a flow as the rate is halved, three "
    "times; their slopes are carried on to rate zero, the error is what the last halving still "
    "changed, and 0.02 is allowed.  A loss that is right to second order shows 3, another 2.",
    "Rest: the mean of linear regression at the ends of epochs, along the predicted shift; exact "
    "to 2%, to first order to a quarter of steps x rate x curvature of an epoch, claimed up to 1.",
    "Independent batches must stay where least squares is, to 5% of the shift of the others.",
)
HALVED = (8e-3, 4e-3, 2e-3, 1e-3)
SINGLE, EXAMPLES, UNITS, INPUTS = 4, 8, 2, 3
CASES = {  # what moves, whose flow, and at which order of the rate they part
    "a step, L": ("step", "plain", 2),
    "a step, L + rate/4 |grad L|^2": ("step", "descent", 3),
    "all orders of an epoch, reshuffled loss": ("orders", "reshuffled", 3),
    "all orders of an epoch, descent's loss": ("orders", "descent", 2),
    "all sequences of draws, descent's loss": ("sequences", "descent", 3),
    "all sequences of draws, reshuffled loss": ("sequences", "reshuffled", 2),
}
ROUNDED = 2e-15  # of a gap, some digits of theta
LAWS = ("reshuffled", "independent")
STEPS = 40  # of a chain, times rate^2, so that errors are alike shares of shifts
SETTLED = 12  # rate x smallest curvature x steps before anything is seen
SLOPE, EXACTLY, EPOCH, STAYS = 0.02, 0.02, 0.25, 0.05  # what is allowed


class Size(NamedTuple):
    """How much is run."""

    rates: tuple[float, ...]
    batches: tuple[int, ...]
    chains: int


FULL = Size((0.02, 0.05, 0.1, 0.2), (1, 2), 4000)
SMALL = Size((0.1, 0.2), (1,), 4000)


# --- without chance ---


def network():
    """A curved problem of 4 examples and its theta: tanh units and a readout, in float64."""
    rng = np.random.default_rng(7)
    size = UNITS * INPUTS
    x, y = torch.asarray(rng.normal(size=(SINGLE, INPUTS))), torch.asarray(rng.normal(size=SINGLE))

    def losses(theta, x, y):
        hidden = torch.tanh(x @ theta[:size].reshape(INPUTS, UNITS))
        return 0.5 * (hidden @ theta[size:] - 2 * y) ** 2

    theta = torch.asarray(rng.normal(size=size + UNITS))
    return Problem(losses, (x, y)), theta


def ways(what: str) -> torch.Tensor:
    """All that is averaged over: example weights (way, step, n)."""
    if what == "step":
        return torch.full((1, 1, SINGLE), 1 / SINGLE, dtype=torch.float64)
    many = permutations(range(SINGLE)) if what == "orders" else product(range(SINGLE), repeat=4)
    return torch.eye(SINGLE, dtype=torch.float64)[torch.asarray(list(many))]


def parted(what: str, whose: str, rate: float) -> float:
    """How far the mean over all ways ends from where the flow of a loss leads in the same time."""
    problem, theta = network()
    losses = {
        "plain": lambda: problem.value,
        "descent": lambda: sgd_loss(problem, rate),
        "reshuffled": lambda: reshuffled_loss(problem, rate, 1),
    }
    weights = ways(what)
    gradients = torch.func.vmap(problem.weighted)
    thetas = theta.repeat(len(weights), 1)
    for k in range(weights.shape[1]):
        thetas = thetas - rate * gradients(thetas, weights[:, k])
    end = gradient_flow(torch.func.grad(losses[whose]()), theta, weights.shape[1] * rate, 2)
    return float((thetas.mean(0) - end).norm())


def deterministic() -> xr.Dataset:
    """Every gap of CASES at every rate."""
    gaps = [[parted(what, whose, rate) for rate in HALVED] for what, whose, _ in CASES.values()]
    return xr.Dataset(
        {"gap": (("case", "halved"), gaps), "order": ("case", [o for *_, o in CASES.values()])},
        {"case": list(CASES), "halved": list(HALVED)},
    )


# --- with chance ---


def regression():
    """Inputs (n, p) and targets of which least squares is zero."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(EXAMPLES, INPUTS)), rng.normal(size=EXAMPLES)
    return x, y - x @ np.linalg.lstsq(x, y, rcond=None)[0]


def run(rate: float, batch: int, *, size: Size) -> xr.Dataset:
    """Where the mean rests at one rate and batch, along the predicted shift, by both laws."""
    x, y = regression()
    curvatures = np.linalg.eigvalsh(x.T @ x / EXAMPLES)
    first = reshuffled_shift(x, y, rate, batch)
    along = first / np.linalg.norm(first)
    found = [rest(law, x, y, rate, batch, along, size.chains) for law in LAWS]
    return xr.Dataset(
        {
            "rest": ("law", [float(e.value) for e in found]),
            "rest_stderr": ("law", [float(e.stderr) for e in found]),
            "first": float(np.linalg.norm(first)),
            "exact": float(along @ reshuffled_minimum(x, y, rate, batch)),
            "epoch": EXAMPLES // batch * rate * curvatures[-1],
        },
        {"law": list(LAWS)},
    )


def rest(law: str, x, y, rate: float, batch: int, along, chains: int) -> Estimate:
    """The mean over time of each chain, at the ends of epochs, after it has settled."""
    examples = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    problem = Problem(lambda t, x, y: (x @ t - y) ** 2 / 2, examples)
    make = reshuffled if law == "reshuffled" else with_replacement
    made = sgd(noise.from_weights(problem, make(EXAMPLES, batch)), rate)
    every, least = EXAMPLES // batch, np.linalg.eigvalsh(x.T @ x / EXAMPLES)[0]
    settled, steps = (
        every * math.ceil(n / every) for n in (SETTLED / (rate * least), STEPS / rate**2)
    )
    direction = jnp.asarray(along, jnp.float32)
    look = late(moments(lambda theta: theta @ direction), settled)
    start = jnp.zeros((chains, x.shape[1]), jnp.float32)
    key = jax.random.fold_in(jax.random.key(LAWS.index(law)), round(1e4 * rate) + batch)
    found = simulate(made, key, start, steps=settled + steps, every=every, observe=look)
    return mean(np.asarray(found.mean, float)[:, 0])


def late(fold: Observable, settled: int) -> Observable:
    """The same of what comes after so many steps."""

    def add(kept, theta, step):
        new = fold.add(kept, theta, step)
        return jax.tree.map(lambda one, other: jnp.where(step > settled, one, other), new, kept)

    return fold._replace(add=add)


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All rates and batches, on `jobs` processes; what is finished is kept in `folder`."""
    grid = {"rate": list(size.rates), "batch": list(size.batches)}
    found = sweep_one(partial(run, size=size), grid, folder, jobs=jobs, cluster=cluster)
    return found.assign(deterministic())


# --- what is claimed ---


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Orders, and means at rest."""
    found = []
    for case in results.case.values.tolist():
        part = results.sel(case=case)
        order = float(part.order)
        found.append(Verdict(f"order: {case}", order, slope(part.gap.values), True, SLOPE))
    for batch in results.batch.values.tolist():
        for rate in results.rate.values.tolist():
            at = results.sel(rate=rate, batch=batch)
            found += _rests(at, f"batch {batch}, rate {rate:g}")
    return found


def slope(gaps) -> Estimate:
    """At which power of the rate gaps close, carried on to rate zero from three slopes.

    A slope is off by a multiple of the rate, twice the second less the first by one of its square:
    the error is what that leaves, and what rounding does to the smallest gap.
    """
    slopes = -np.diff(np.log2(gaps))
    before, after = 2 * slopes[1:] - slopes[:-1]
    return Estimate(float(after), float(abs(after - before)) / 3 + ROUNDED / gaps[-1])


def _rests(at, name):
    exact, first, epoch = float(at.exact), float(at.first), float(at.epoch)
    moved, stayed = (
        Estimate(float(at.rest.sel(law=law)), float(at.rest_stderr.sel(law=law))) for law in LAWS
    )
    shift = f"{name}: shift by reshuffling"
    allowed = EPOCH * epoch * first
    return [
        Verdict(f"{shift}, exact", exact, moved, True, EXACTLY * exact),
        Verdict(f"{shift}, first order", first, moved, epoch <= 1, allowed),
        Verdict(f"{name}: shift by independent batches", 0.0, stayed, True, STAYS * exact),
    ]


def tables(results: xr.Dataset) -> list[Table]:
    """How far the first order of the rate carries."""
    rows = []
    for batch in results.batch.values.tolist():
        for rate in results.rate.values.tolist():
            at = results.sel(rate=rate, batch=batch)
            moved, error = at.rest.sel(law="reshuffled"), at.rest_stderr.sel(law="reshuffled")
            rows.append(
                (
                    f"{rate:g}",
                    str(batch),
                    f"{float(at.epoch):.2f}",
                    f"{float(at.exact / at.first):.3f}",
                    f"{float(moved / at.first):.4f} ± {float(error / at.first):.4f}",
                )
            )
    headings = ("rate", "batch", "rate x curvature of an epoch", "exact / first order", "measured")
    return [Table("Shift of the mean by reshuffling, over its first order", headings, rows)]


def main(
    small: Small = False,
    chains: Annotated[int | None, Option(help="of each law", show_default="4000")] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Hold the mean of descent against the flows of modified losses, and where it rests."""
    size = SMALL if small else FULL
    size = size._replace(chains=size.chains if chains is None else chains)
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.chains < 2:
            raise ValueError(f"an error needs at least 2 chains, not {size.chains}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster),
            size._asdict(),
            sys.modules[__name__],
            picture,
            out,
        )


if __name__ == "__main__":
    command(main)
