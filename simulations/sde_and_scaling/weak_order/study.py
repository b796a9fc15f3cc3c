"""Which equation descent follows: weak orders from exact moments, and variances at rest measured.

The second moments of linear regression are linear maps, so that the distance between descent and an
equation needs no sampling; its slope against the rate is the weak order.  Chains of descent and of
SVAG show how far their spread at rest is from that of the equation.
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
from sgdnoise.core import Estimate, Problem, batch_means, mean
from sgdnoise.dynamics import sgd, simulate, svag
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
from sgdnoise.noise import with_replacement
from sgdnoise.theory import (
    AffineGradients,
    euler_maruyama_map,
    observed_orders,
    propagate_moments,
    regression_gradients,
    sde_map,
    sgd_map,
    stationary_variance_ratio,
    talay_tubaro,
)
from simulations.sde_and_scaling.weak_order import figure as picture

OUT = Path("out/weak_order")
TITLE = "Which stochastic equation descent follows, and how closely"
LEAD = (
    "Slopes are between the two smallest rates, from exact second moments: what is allowed is "
    "twice the change from the slope before it, which the next order of the rate makes.",
    "Variances at rest are those of many chains over that of the first-order equation.",
)
TIME, START = 2.0, 1.0
RATES = tuple(2.0**-k for k in range(3, 11))
WAYS = {  # name -> claimed order
    "no noise": 1,
    "first order": 1,
    "second order": 2,
    "Euler, a fifth of a step": 1,
    "extrapolated": 2,
}
RATE, CURVATURE = 0.6, 2.0  # of the chains: rate x curvature 1.2
STRETCHES = (1, 2, 4, 16)


class Size(NamedTuple):
    """How much is run."""

    rates: tuple[float, ...]
    stretches: tuple[int, ...]
    chains: int


FULL = Size(RATES, STRETCHES, 100_000)
SMALL = Size(RATES[:5], (1, 4), 4000)


def problem() -> AffineGradients:
    """Twelve examples of three inputs, in minibatches of two."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(12, 3)) * [1.0, 0.7, 0.5]
    return regression_gradients(x, x @ [1.0, -1.0, 0.5] + 0.5 * rng.normal(size=12), 2)


def distances(rate: float) -> dict[str, float]:
    """Largest difference of first and second moments from descent at a time, of each way."""
    given, steps, start = problem(), round(TIME / rate), np.full(3, START)
    reached = propagate_moments(sgd_map(given, rate), start, steps)

    def off(moments):
        return float(np.max(np.abs(moments - reached)))

    def euler(cuts):
        return propagate_moments(
            euler_maruyama_map(given, rate, rate / cuts, order=2), start, cuts * steps
        )

    orders = {"no noise": 0, "first order": 1, "second order": 2}
    found = {
        name: off(propagate_moments(sde_map(given, rate, TIME, order=order), start, 1))
        for name, order in orders.items()
    }
    return found | {
        "Euler, a step a rate": off(
            propagate_moments(euler_maruyama_map(given, rate, rate), start, steps)
        ),
        "Euler, a fifth of a step": off(
            propagate_moments(euler_maruyama_map(given, rate, rate / 5), start, 5 * steps)
        ),
        "extrapolated": off(talay_tubaro(euler(1), euler(2))),
    }


def chains(stretch: int, count: int) -> np.ndarray:
    """Squares of theta at rest in a parabola, of SVAG (of descent for 1), one of each chain."""
    centres = np.random.default_rng(5).normal(size=16)
    centres -= centres.mean()

    def losses(theta, centre):
        return CURVATURE / 2 * (theta[0] - centre) ** 2

    bowl = Problem(losses, (jnp.asarray(centres, jnp.float32),))
    if stretch == 1:
        process = sgd(noise.minibatch(bowl, 4), RATE)
    else:
        process = svag(bowl, with_replacement(16, 4), RATE, stretch)
    steps = 60 * stretch
    seen = simulate(
        process,
        jax.random.key(stretch),
        jnp.zeros((count, 1), jnp.float32),
        steps=steps,
        every=steps,
        observe=lambda t: t[0] ** 2,
    )
    equation = RATE * CURVATURE * centres.var() / 8  # rate C / (2 h B), C = h^2 Var c
    return np.asarray(seen, float)[:, 0] / equation


def run(part: str, *, size: Size) -> xr.Dataset:
    """The exact distances, or the chains of one stretch."""
    if part == "orders":
        found = [distances(rate) for rate in size.rates]
        values = [[each[name] for name in found[0]] for each in found]
        return xr.Dataset(
            {"distance": (("rate", "way"), values)},
            {"rate": list(size.rates), "way": list(found[0])},
        )
    return xr.Dataset({"square": ("batch", batch_means(chains(int(part), size.chains)))})


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """The distances and all stretches, on `jobs` processes."""
    parts = ["orders", *map(str, size.stretches)]

    found = sweep_one(partial(run, size=size), {"part": parts}, folder, jobs=jobs, cluster=cluster)
    squares = found.square.sel(part=parts[1:]).rename(part="stretch")
    return xr.Dataset(
        {
            "distance": found.distance.sel(part="orders", drop=True),
            "square": squares.assign_coords(stretch=list(size.stretches)),
        }
    )


def slopes(results: xr.Dataset, way: str) -> np.ndarray:
    """Observed orders between neighbouring rates."""
    return observed_orders(results.distance.sel(way=way), results.rate)


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Orders, Euler's exact step, and variances at rest over the equation's."""
    found = []
    for way, order in WAYS.items():
        seen = slopes(results, way)
        text = f"{way}: weak order"
        allowed = 2 * abs(float(seen[-1] - seen[-2]))
        found.append(Verdict(text, order, Estimate(float(seen[-1]), 0.0), True, allowed))
    exact = float(results.distance.sel(way="Euler, a step a rate").max())
    text = "Euler, a step a rate: distance from descent"
    found.append(Verdict(text, 0.0, Estimate(exact, 0.0), True, 1e-12))
    for stretch in results.stretch.values.tolist():
        ratio = stationary_variance_ratio(RATE, CURVATURE, stretch=stretch)
        name = "descent" if stretch == 1 else f"SVAG({stretch})"
        spread = mean(results.square.sel(stretch=stretch).values)
        measured = Estimate(float(spread.value), float(spread.stderr), spread.dof)
        text = f"{name}: variance at rest, over the equation's"
        found.append(Verdict(text, ratio, measured, True, 0.02 * ratio))
        found.append(Verdict(f"{name}: as if it were the equation", 1.0, measured, False, 0.02))
    return found


def tables(results: xr.Dataset) -> list[Table]:
    """Distances and slopes at every rate."""
    rows = []
    for way in results.way.values.tolist():
        distance = results.distance.sel(way=way).values
        with np.errstate(divide="ignore", invalid="ignore"):
            seen = observed_orders(distance, results.rate)
        last = f"{seen[-1]:.3f}" if way in WAYS else "-"
        rows.append((way, *(f"{d:.1e}" for d in distance), last))
    headings = ("equation", *(f"{rate:.2g}" for rate in results.rate.values), "last slope")
    return [Table(f"distance of moments from descent's at time {TIME:g}, by rate", headings, rows)]


def main(
    small: Small = False,
    chains: Annotated[
        int | None, Option(help="at rest, of each stretch", show_default="100000, small 4000")
    ] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Compare descent with the equations that are said to stand for it."""
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
