"""Linear scaling: what changes when rate and batch grow together, and what does not.

At a fixed rate / batch the slow flow of a linear network, as its stochastic equation has it, is
the same at every rate; the jitter of discrete steps breaks this in proportion to
rate x curvature.  The spread of theta at rest in online regression breaks sooner.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import math
from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from typer import Option

from sgdnoise.core import Estimate, batch_means, mean
from sgdnoise.dynamics import Process, simulate
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
from sgdnoise.noise import Normal
from sgdnoise.theory import excess_loss, noise_feedback, online_covariance
from simulations.linear_networks.two_layer.claims import regime
from simulations.linear_networks.two_layer.study import Setting, measured
from simulations.sde_and_scaling.scaling import figure as picture

OUT = Path("out/scaling")
TITLE = "Linear scaling of rate and batch: the slow flow, and the spread at rest"
LEAD = (
    "rate / batch is the same everywhere. Compression: the participation ratio of a linear network "
    "under label noise, a quarter of the way; rest: the excess loss of online linear regression.",
    "Each is held against its own theory, and against the smallest rate, whose values linear "
    "scaling says all others should have.",
)
SHARE = 0.01  # rate / batch of the networks
TIME = 1600.0  # rate x steps of the networks: four of their time scales
ONLINE = 0.1  # rate / batch of the regressions
INPUTS = np.diag([1.0, 0.5, 0.25, 0.1])  # covariance of what they see
LABEL_NOISE = 0.5
REST = 6  # rate x steps after which they are at rest, times the smallest curvature
FED = 0.5  # share of noise that the spread itself makes, above which its fourth moments are wild


class Size(NamedTuple):
    """How much is run."""

    batches: tuple[int, ...]  # of the networks, whose rate is SHARE x batch
    runs: int
    share: float  # of the time
    regressions: tuple[int, ...]  # batches, at rates ONLINE x batch
    chains: int


FULL = Size((1, 4, 8, 16, 20, 24), 48, 1.0, (1, 2, 4, 8, 12, 14), 20_000)
SMALL = Size((4, 16), 8, 0.25, (1, 8), 2000)


def run(batch: int, *, size: Size) -> xr.Dataset:
    """What is asked for at one batch: a network's path, a regression's rest, or both."""
    found = []
    if batch in size.batches:
        rate = SHARE * batch
        chosen = Setting(rate=rate, batch=batch, steps=round(TIME / rate))
        path = measured(chosen, runs=size.runs, share=size.share, seed=batch)
        found.append(path[["ratio", "ratio_flow", "amplification", "sharpness", "step"]])
    if batch in size.regressions:
        found.append(regression(ONLINE * batch, batch, size.chains))
    return xr.merge(found)


def regression(rate: float, batch: int, chains: int) -> xr.Dataset:
    """Excess loss of each of many chains, at rest after descent on ever fresh examples."""
    roots, d = jnp.asarray(np.diag(INPUTS) ** 0.5, jnp.float32), len(INPUTS)

    def step(theta, white):
        x = white[: batch * d].reshape(batch, d) * roots
        residual = x @ theta - LABEL_NOISE * white[batch * d :]
        return theta - rate * residual @ x / batch

    def loss(theta):
        return (jnp.diag(jnp.asarray(INPUTS)) * theta**2).sum() / 2

    made = Process(step, Normal(batch * (d + 1)), rate)
    steps = math.ceil(REST / float(np.diag(INPUTS).min()) / rate)
    start = jnp.zeros((chains, d), jnp.float32)
    seen = simulate(made, jax.random.key(batch), start, steps=steps, every=steps, observe=loss)
    rest = online_covariance(INPUTS, LABEL_NOISE, rate, batch)
    return xr.Dataset(
        {
            "excess": ("group", batch_means(np.asarray(seen)[:, 0])),
            "excess_predicted": excess_loss(INPUTS, rest),
            "feedback": noise_feedback(INPUTS, rate, batch),
        }
    )


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All batches, on `jobs` processes; what is finished is kept in `folder`."""
    batches = sorted({*size.batches, *size.regressions}, reverse=True)
    return sweep_one(
        partial(run, size=size), {"batch": batches}, folder, jobs=jobs, cluster=cluster
    ).sortby("batch")


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Every rate against its own theory, and against the smallest rate."""
    return [*_of_networks(results), *_of_regressions(results)]


def _of_networks(results):
    some = results.dropna("batch", subset=["sharpness"])
    quarter = some.isel(watch=math.ceil(some.sizes["watch"] / 4) - 1)
    flow = quarter.ratio_flow
    found = []
    for batch in some.batch.values.tolist():
        at, name = quarter.sel(batch=batch), f"rate {SHARE * batch:.2g}"
        claimed, share = regime(at)
        predicted = float(flow.sel(batch=batch, flow="refined"))
        text = f"{name}: PR at a quarter, refined flow"
        found.append(Verdict(text, predicted, _mean(at.ratio), claimed, share * predicted))
        if batch == some.batch.values[0]:
            continue
        first = quarter.isel(batch=0)
        change = _over(_mean(at.ratio), _mean(first.ratio))
        expected = predicted / float(flow.sel(flow="refined").isel(batch=0))
        text = f"{name}: PR over that at the smallest rate"
        found.append(Verdict(text, expected, change, claimed, 2 * share))
        straight = f"{name}: the same, by linear scaling"
        found.append(Verdict(straight, 1.0, change, claimed and share == 0.01, 0.05))
    return found


def _of_regressions(results):
    some = results.dropna("batch", subset=["feedback"])
    first, found = some.isel(batch=0), []
    for batch in some.batch.values.tolist():
        at, name = some.sel(batch=batch), f"regression, rate {ONLINE * batch:.2g}"
        predicted, excess = float(at.excess_predicted), _mean(at.excess)
        claimed = float(at.feedback) < FED
        text = f"{name}: excess loss at rest"
        found.append(Verdict(text, predicted, excess, claimed, 0.03 * predicted))
        if batch != some.batch.values[0]:
            change = _over(excess, _mean(first.excess))
            text = f"{name}: over that at the smallest rate, by linear scaling"
            found.append(Verdict(text, 1.0, change, False, 0.05))
    return found


def _mean(values):
    found = mean(np.asarray(values))
    return Estimate(float(found.value), float(found.stderr), found.dof)


def _over(one: Estimate, other: Estimate) -> Estimate:
    """The ratio of independent means, its error to first order."""
    ratio = one.value / other.value
    return Estimate(
        ratio, abs(ratio) * math.hypot(one.stderr / one.value, other.stderr / other.value)
    )


def tables(results: xr.Dataset) -> list[Table]:
    """How far linear scaling carries, beside the size of a step in the sharpest direction."""
    some = results.dropna("batch", subset=["sharpness"])
    rows = []
    for batch in some.batch.values.tolist():
        at = some.sel(batch=batch)
        apart = abs(at.ratio.mean("run") / some.isel(batch=0).ratio.mean("run") - 1)
        off = abs(at.ratio.mean("run") / at.ratio_flow.sel(flow="refined") - 1)
        rows.append(
            (
                f"{SHARE * batch:.2g}",
                str(batch),
                f"{float(at.sharpness):.2f}",
                f"{float(at.amplification):.3f}",
                f"{100 * float(apart.max()):.1f}",
                f"{100 * float(off.max()):.1f}",
            )
        )
    headings = ("rate", "batch", "rate λ_max", "u", "apart from the smallest rate, %", "refined, %")
    return [Table("PR of the network: largest deviation at any moment", headings, rows)]


def main(
    small: Small = False,
    runs: Annotated[int | None, Option(help="of each network", show_default="48, small 8")] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Scale rate and batch together, and hold what changes against theory."""
    size = SMALL if small else FULL
    size = size._replace(runs=size.runs if runs is None else runs)
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.runs < 2:
            raise ValueError(f"an error needs at least 2 runs, not {size.runs}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster),
            size._asdict(),
            sys.modules[__name__],
            picture,
            out,
        )


if __name__ == "__main__":
    command(main)
