"""The critical batch: predicted from gradient noise, and measured.

A step is taken with each of many batches, at the rate that lowers the mean loss most; that rate
and gain are compared with 1 / (1 + B_n / B), with the noise scale B_n = Tr(HC) / g^T H g and
nothing fitted, for a quadratic loss and at several times in the training of a small network.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.optimize import minimize_scalar
from torch import nn

from sgdnoise.core import GradientMatrix
from sgdnoise.data import digits
from sgdnoise.lab import Study, option
from sgdnoise.nets import as_problem
from sgdnoise.noise import batch_efficiency, gradient_noise_scale, gradient_noise_scale_from_batches
from simulations.gradient_noise.scale import claims, figure

TRAINED = {"start": 0, "early": 100, "middle": 300, "late": 1000}  # steps of SGD
RATE, BATCH, HIDDEN = 0.1, 32, 24  # of that SGD, and of the network
QUADRATIC_DRAWS = 16  # times as many draws for a quadratic, whose loss costs nothing
MEASURES = "rate", "gain", "rate_stderr", "gain_stderr"
FACTOR = 4.0  # the critical batch is read from sizes within this factor of the prediction


class Place(NamedTuple):
    """A point of the weights: per-example gradients (n, p), v -> Hv, and steps -> loss changes."""

    gradients: Any
    curvature: Callable
    change: Callable  # (m, p) -> (m,)


def quadratic(examples: int, rng) -> Place:
    """A quadratic of 30 curvatures over two decades, with noise of another shape."""
    curvatures, p = np.geomspace(0.02, 2, 30), 30
    noise = rng.normal(size=(examples, p)) @ (rng.normal(size=(p, p)) / p**0.5)
    gradients = rng.normal(size=p) / 4 + noise
    mean = gradients.mean(0)

    def change(steps):
        return steps @ mean + steps**2 @ curvatures / 2

    return Place(gradients, lambda v: curvatures * v, change)


def network(examples: int, n_steps: int, seed: int) -> Place:
    """A tanh network after some steps of SGD on digits, with cross-entropy."""
    rng = np.random.default_rng([seed, 1])
    data = digits()
    chosen = rng.permutation(len(data.inputs))[:examples]
    inputs = torch.asarray(data.inputs[chosen])
    labels = torch.asarray(data.targets[chosen].argmax(1))
    torch.manual_seed(seed)
    layers = nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10)
    problem, theta = as_problem(
        nn.Sequential(*layers).double(), nn.CrossEntropyLoss(reduction="none"), inputs, labels
    )
    for _ in range(n_steps):
        theta = theta - RATE * problem.subset(rng.integers(0, examples, BATCH)).gradient(theta)
    value = float(problem.value(theta))
    values = torch.func.vmap(problem.value, chunk_size=50)

    def change(steps):
        return values(theta + torch.asarray(steps)).numpy() - value

    def curvature(v):
        return problem.hvp(theta, torch.asarray(v)).numpy()

    return Place(problem.gradients(theta).numpy(), curvature, change)


def run(moment: str, seed: int, *, examples: int, shares: list, draws: int) -> xr.Dataset:
    """Predicted and measured rates and gains at every batch size, at one point of the weights."""
    rng = np.random.default_rng([seed, 0])
    steps = TRAINED.get(moment)
    place = quadratic(examples, rng) if steps is None else network(examples, steps, seed)
    rows, g = GradientMatrix(place.gradients), place.gradients.mean(0)
    curvature = float(g @ place.curvature(g))
    predicted = {"rate": g @ g / curvature, "gain": (g @ g) ** 2 / (2 * curvature)}
    critical = gradient_noise_scale(rows, curvature=place.curvature, population=True).value
    values = {
        "critical": critical,
        "simple": gradient_noise_scale(rows, population=True).value,
        "rate_predicted": predicted["rate"],
        "gain_predicted": predicted["gain"],
    }
    largest = critical if math.isfinite(critical) else examples  # infinite at a saddle
    batches = [max(1, round(fraction * largest)) for fraction in shares]
    count = draws * (QUADRATIC_DRAWS if moment == "quadratic" else 1)
    gradients = [batch_gradients(place.gradients, b, count, rng) for b in batches]
    guesses = [predicted["rate"] * batch_efficiency(b, critical) for b in batches]
    exact = best_step(place, -g[None], predicted["rate"])
    measured = [best_step(place, -d, guess) for d, guess in zip(gradients, guesses, strict=True)]
    values |= {"rate_exact": exact["rate"], "gain_exact": exact["gain"]}
    values["step_exact"] = -float(place.change(-predicted["rate"] * g[None])[0])
    values |= {name: ("share", [step[name] for step in measured]) for name in MEASURES}
    values["batch"] = ("share", batches)
    small, large = (np.sum(d**2, axis=1) for d in (gradients[0], gradients[-1]))
    by_norms = gradient_noise_scale_from_batches(small, large, batches[0], batches[-1])
    values["by_norms"] = by_norms.value
    return xr.Dataset(values, {"share": shares})


def batch_gradients(gradients, batch, draws, rng):
    """Mean gradients of batches of independent examples, (draws, p)."""
    counts = rng.multinomial(batch, np.full(len(gradients), 1 / len(gradients)), size=draws)
    return counts @ gradients / batch


def best_step(place: Place, directions, guess: float) -> dict:
    """The rate of the largest mean gain along all directions, and that gain, with errors.

    The rate solves mean slope = 0: its error is that of the slopes over the second derivative.  The
    gain is flat there, and its error is that of a mean at a given rate.  nan where there is none.
    """
    none = dict.fromkeys(MEASURES, math.nan)
    if not guess > 0:  # a saddle, where the quadratic has no best step
        return none

    def mean_change(log_rate):
        return float(place.change(math.exp(log_rate) * directions).mean())

    ends, wide = (math.log(guess / 8), math.log(guess * 8)), {"xatol": 0.02}
    rate = math.exp(minimize_scalar(mean_change, bounds=ends, method="bounded", options=wide).x)
    if not 1.02 < rate / guess * 8 < 64 / 1.02:  # at an end there is no best rate
        return none
    width = 0.05 * rate
    below, at, above = (place.change((rate + d) * directions) for d in (-width, 0, width))
    second = float(np.mean(above + below - 2 * at)) / width**2
    root, single = len(directions) ** 0.5, len(directions) == 1
    slopes = (above - below) / (2 * width)
    off = float(slopes.mean()) / second  # the remaining error of the search
    return {
        "rate": rate - off,
        "gain": -float(at.mean()) + second * off**2 / 2,
        "rate_stderr": 0.0 if single else float(slopes.std(ddof=1)) / root / abs(second),
        "gain_stderr": 0.0 if single else float(at.std(ddof=1)) / root,
    }


def with_measured(results: xr.Dataset) -> xr.Dataset:
    """The results with the batch that halves gain, and rate: B (exact / at B - 1), on average."""
    near = abs(np.log(results.share)) <= math.log(FACTOR) + 1e-9
    for name in ("gain", "rate"):
        size = results.batch * (results[f"{name}_exact"] / results[name] - 1)
        mean = np.exp(np.log(size.where((size > 0) & near)).mean("share"))
        results = results.assign({f"critical_by_{name}": mean})
    return results


study = Study(
    run,
    grid={
        "moment": ["quadratic", *TRAINED],
        "seed": lambda parameters: range(parameters["seeds"]),
    },
    sizes={
        "full": {
            "seeds": 6,
            "examples": 400,
            "shares": [1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16],
            "draws": 160,
        },
        "small": {
            "moment": ["quadratic", "middle"],
            "seeds": 5,
            "examples": 120,
            "shares": [1 / 2, 2],
            "draws": 40,
        },
    },
    options={
        "seeds": option(int, "networks and quadratics", least=2),
        "draws": option(int, "batches of each size", least=2),
    },
    claims=claims,
    figure=figure,
    arrange=with_measured,
)

if __name__ == "__main__":
    study.main()
