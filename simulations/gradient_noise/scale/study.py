"""How large a batch pays: the critical batch predicted from gradient noise, and as measured.

A step is taken with each of many batches, at the rate that lowers the mean loss most; that rate
and gain are held against 1 / (1 + B_n / B), with the noise scale B_n = Tr(HC) / g^T H g and nothing
fitted, in a quadratic bowl and at several moments in the training of a small network on digits.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.optimize import minimize_scalar
from torch import nn
from typer import Option

from sgdnoise.core import Estimate, GradientMatrix, nanmean
from sgdnoise.data import digits
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
from sgdnoise.nets import as_problem
from sgdnoise.noise import batch_efficiency, gradient_noise_scale, gradient_noise_scale_from_batches
from simulations.gradient_noise.scale import figure as picture

OUT = Path("out/noise_scale")
TITLE = "The critical batch: from gradient noise, and as measured by one step"
LEAD = (
    "McCandlish et al. (2018): in a quadratic bowl the best rate and gain of one step fall with "
    "the batch B as 1 / (1 + B_n / B), B_n = Tr(HC) / gᵀHg, from all examples and nothing fitted.",
    "Measured is the batch at which the best rate, and the gain, are half of those of the exact "
    "gradient, from all sizes within a factor of four of the prediction.",
    "In a network theory claims to hold where one exact step of the predicted rate gains what the "
    "quadratic says to a tenth; this needs no batch to be drawn, and is seen before measuring.",
)
TRAINED = {"start": 0, "early": 100, "middle": 300, "late": 1000}  # steps of descent
RATE, BATCH, HIDDEN = 0.1, 32, 24  # of that descent, and of the network
REGIME = 0.1  # share by which an exact step may gain other than a quadratic says
ALLOWED = {"quadratic": 0.03}  # of the measured over predicted; elsewhere:
NETWORK = 0.15
EASY = 16  # times as many draws in a bowl, whose loss costs nothing
PARTS = "rate", "gain", "rate_stderr", "gain_stderr"
NEAR = 4.0  # sizes within this factor of the prediction tell the critical batch


class Size(NamedTuple):
    """How much is run."""

    moments: tuple[str, ...]
    seeds: int
    examples: int
    shares: tuple[float, ...]  # of the predicted noise scale, as batches
    draws: int


FULL = Size(("quadratic", *TRAINED), 6, 400, (1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16), 160)
SMALL = Size(("quadratic", "middle"), 5, 120, (1 / 2, 2), 40)


class Place(NamedTuple):
    """A point of the weights: per-example gradients (n, p), v -> Hv, and steps -> loss changes."""

    gradients: Any
    curvature: Callable
    change: Callable  # (m, p) -> (m,)


def bowl(examples: int, rng) -> Place:
    """A quadratic of 30 curvatures over two decades, its noise of another shape."""
    steep, p = np.geomspace(0.02, 2, 30), 30
    noise = rng.normal(size=(examples, p)) @ (rng.normal(size=(p, p)) / p**0.5)
    gradients = rng.normal(size=p) / 4 + noise
    middle = gradients.mean(0)

    def change(steps):
        return steps @ middle + steps**2 @ steep / 2

    return Place(gradients, lambda v: steep * v, change)


def network(examples: int, steps: int, seed: int) -> Place:
    """A tanh network after some steps of minibatch descent on digits, by cross-entropy."""
    rng = np.random.default_rng([seed, 1])
    data = digits()
    some = rng.permutation(len(data.inputs))[:examples]
    inputs = torch.asarray(data.inputs[some])
    labels = torch.asarray(data.targets[some].argmax(1))
    torch.manual_seed(seed)
    layers = nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10)
    problem, theta = as_problem(
        nn.Sequential(*layers).double(), nn.CrossEntropyLoss(reduction="none"), inputs, labels
    )
    for _ in range(steps):
        theta = theta - RATE * problem.subset(rng.integers(0, examples, BATCH)).gradient(theta)
    here = float(problem.value(theta))
    values = torch.func.vmap(problem.value, chunk_size=50)

    def change(kicks):
        return values(theta + torch.asarray(kicks)).numpy() - here

    def curvature(v):
        return problem.hvp(theta, torch.asarray(v)).numpy()

    return Place(problem.gradients(theta).numpy(), curvature, change)


def run(moment: str, seed: int, *, size: Size) -> xr.Dataset:
    """Predicted and measured rates and gains at every batch size, at one point of the weights."""
    rng = np.random.default_rng([seed, 0])
    steps = TRAINED.get(moment)
    place = bowl(size.examples, rng) if steps is None else network(size.examples, steps, seed)
    rows, g = GradientMatrix(place.gradients), place.gradients.mean(0)
    bend = float(g @ place.curvature(g))
    best = {"rate": g @ g / bend, "gain": (g @ g) ** 2 / (2 * bend)}
    critical = gradient_noise_scale(rows, curvature=place.curvature, population=True).value
    found = {
        "critical": critical,
        "simple": gradient_noise_scale(rows, population=True).value,
        "rate_predicted": best["rate"],
        "gain_predicted": best["gain"],
    }
    batches = [max(1, round(share * critical)) for share in size.shares]
    draws = size.draws * (EASY if moment == "quadratic" else 1)
    drawn = [_gradients(place.gradients, b, draws, rng) for b in batches]
    guesses = [best["rate"] * batch_efficiency(b, critical) for b in batches]
    exact = searched(place, -g[None], best["rate"])
    measured = [searched(place, -d, guess) for d, guess in zip(drawn, guesses, strict=True)]
    found |= {"rate_exact": exact["rate"], "gain_exact": exact["gain"]}
    found["step_exact"] = -float(place.change(-best["rate"] * g[None])[0])
    found |= {name: ("share", [each[name] for each in measured]) for name in PARTS}
    found["batch"] = ("share", batches)
    few, many = (np.sum(each**2, axis=1) for each in (drawn[0], drawn[-1]))
    found["by_norms"] = gradient_noise_scale_from_batches(few, many, batches[0], batches[-1]).value
    return xr.Dataset(found, {"share": list(size.shares)})


def _gradients(gradients, batch, draws, rng):
    """Mean gradients of batches of independent examples, (draws, p)."""
    counts = rng.multinomial(batch, np.full(len(gradients), 1 / len(gradients)), size=draws)
    return counts @ gradients / batch


def searched(place: Place, directions, guess: float) -> dict:
    """The rate of the largest mean gain along all directions, and that gain, with errors.

    The rate solves mean slope = 0: its error is that of the slopes over the bend.  The gain is
    flat there, and its error is that of a mean at a given rate.  nan where there is none.
    """
    nothing = dict.fromkeys(PARTS, math.nan)
    if not guess > 0:  # a saddle, where the quadratic has no best step
        return nothing

    def mean_change(log_rate):
        return float(place.change(math.exp(log_rate) * directions).mean())

    ends, wide = (math.log(guess / 8), math.log(guess * 8)), {"xatol": 0.02}
    rate = math.exp(minimize_scalar(mean_change, bounds=ends, method="bounded", options=wide).x)
    if not 1.02 < rate / guess * 8 < 64 / 1.02:  # at an end there is no best rate
        return nothing
    apart = 0.05 * rate
    below, here, above = (place.change((rate + d) * directions) for d in (-apart, 0, apart))
    bend = float(np.mean(above + below - 2 * here)) / apart**2
    root, one = len(directions) ** 0.5, len(directions) == 1
    slopes = (above - below) / (2 * apart)
    off = float(slopes.mean()) / bend  # what the search has left
    return {
        "rate": rate - off,
        "gain": -float(here.mean()) + bend * off**2 / 2,
        "rate_stderr": 0.0 if one else float(slopes.std(ddof=1)) / root / abs(bend),
        "gain_stderr": 0.0 if one else float(here.std(ddof=1)) / root,
    }


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All moments and seeds, on `jobs` processes; what is finished is kept in `folder`."""
    grid: dict[str, list] = {"moment": list(size.moments), "seed": list(range(size.seeds))}
    return with_measured(
        sweep_one(partial(run, size=size), grid, folder, jobs=jobs, cluster=cluster)
    )


def with_measured(results: xr.Dataset) -> xr.Dataset:
    """The results with the batch that halves gain, and rate: B (exact / at B - 1), on average."""
    near = abs(np.log(results.share)) <= math.log(NEAR) + 1e-9
    for what in ("gain", "rate"):
        size = results.batch * (results[f"{what}_exact"] / results[what] - 1)
        middle = np.exp(np.log(size.where((size > 0) & near)).mean("share"))
        results = results.assign({f"critical_by_{what}": middle})
    return results


def in_regime(part: xr.Dataset) -> bool:
    """Whether one exact step of the predicted rate gains as predicted, on average to a tenth."""
    return bool(abs(float((part.step_exact / part.gain_predicted).mean()) - 1) <= REGIME)


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Measured over predicted critical batch, by rate, gain and norms; the simple scale beside."""
    return [v for name in results.moment.values.tolist() for v in _claims(results, name)]


def _claims(results, name) -> list[Verdict]:
    part = results.sel(moment=name)
    allowed, regime = ALLOWED.get(name, NETWORK), in_regime(part)

    def claim(text, ratio, claimed, allowed=allowed, of="predicted"):
        found = nanmean(ratio.values)
        measured = Estimate(float(found.value), float(found.stderr))
        return Verdict(f"{name}: {text}, over {of}", 1.0, measured, claimed, allowed)

    by_gain, by_rate = part.critical_by_gain, part.critical_by_rate
    return [
        claim("critical batch by gain", by_gain / part.critical, regime),
        claim("critical batch by rate", by_rate / part.critical, regime),
        claim("best exact rate", part.rate_exact / part.rate_predicted, regime),
        claim("scale by norms", part.by_norms / part.simple, True, 0.1, of="simple scale"),
        claim("critical batch by gain", by_gain / part.simple, False, of="simple scale"),
    ]


def tables(results: xr.Dataset) -> list[Table]:
    """Scales, rates and gains at each moment, mean ± s.e. over seeds."""
    shown = {
        "Tr(HC) / gᵀHg": results.critical,
        "measured by gain": results.critical_by_gain,
        "measured by rate": results.critical_by_rate,
        "Tr C / |g|²": results.simple,
        "exact step gains / predicted": results.step_exact / results.gain_predicted,
    }
    rows = []
    for name in results.moment.values.tolist():
        found = [nanmean(values.sel(moment=name).values) for values in shown.values()]
        rows.append((name, *(f"{float(e.value):.3g} ± {float(e.stderr):.2g}" for e in found)))
    caption = f"mean ± s.e. over {results.sizes['seed']} seeds"
    return [Table(caption, ("moment", *shown), rows)]


def main(
    small: Small = False,
    seeds: Annotated[
        int | None, Option(help="networks and bowls", show_default="6, small 5")
    ] = None,
    draws: Annotated[
        int | None, Option(help="batches of each size", show_default="160, small 40")
    ] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Measure best steps at many batch sizes, and print whether the noise scale foretells them."""
    size = SMALL if small else FULL
    size = size._replace(
        seeds=size.seeds if seeds is None else seeds, draws=size.draws if draws is None else draws
    )
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        least = min(size.seeds, size.draws)
        if least < 2:
            raise ValueError(f"an error needs at least 2 seeds and 2 draws, not {least}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster),
            size._asdict(),
            sys.modules[__name__],
            picture,
            out,
        )


if __name__ == "__main__":
    command(main)
