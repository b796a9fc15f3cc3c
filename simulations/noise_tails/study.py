"""How well the shape of gradient noise can be known: tails, normality, and what fakes them.

Estimators of a tail index on laws that are known; Gaussian noise of many scales, pooled or not;
the tail that multiplicative noise makes, against Kesten's equation; tests of normality with and
without the null; and the gradients of a network on digits.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy.stats import levy_stable
from typer import Option

from sgdnoise.data import digits
from sgdnoise.lab._terminal import (
    Cluster,
    Jobs,
    Out,
    Small,
    command,
    exit_on_error,
    run_study,
    sweep_all,
)
from sgdnoise.nets import as_problem
from sgdnoise.noise import METHODS, extreme_value_index, gaussianity, tail_index
from sgdnoise.theory import kesten_index
from simulations.noise_tails import claims
from simulations.noise_tails import figure as picture

OUT = Path("out/noise_tails")

DRAW = {  # (rng, m) -> m numbers of each law
    "Pareto 2": lambda rng, m: rng.choice([-1, 1], m) * (1 + rng.pareto(2, m)),
    "Student 1.5": lambda rng, m: rng.standard_t(1.5, m),
    "Student 3": lambda rng, m: rng.standard_t(3, m),
    "Student 5": lambda rng, m: rng.standard_t(5, m),
    "stable 1.2": lambda rng, m: levy_stable.rvs(1.2, 0, size=m, random_state=rng),
    "stable 1.7": lambda rng, m: levy_stable.rvs(1.7, 0, size=m, random_state=rng),
    "Gaussian": lambda rng, m: rng.normal(size=m),
}
SHAPES = {"24 x 60": (24, 60), "40 x 200": (40, 200), "100 x 3": (100, 3), "12 x 5": (12, 5)}
OTHERS = {  # noise that is not Gaussian, (rng, m) -> (m, 20)
    "random scale": lambda rng, m: rng.normal(size=(m, 20)) * rng.gamma(4, size=(m, 1)) ** 0.5,
    "Student 5": lambda rng, m: rng.standard_t(5, size=(m, 20)),
    "exponential": lambda rng, m: rng.exponential(size=(m, 20)),
}
POWER_AT = (25, 50, 100, 200, 400)
POOLED = ("hill", "stable", "blocks")
DRAWS = 99  # of the null of a test, in repeats


class Size(NamedTuple):
    """How much is run."""

    samples: tuple[int, ...]
    repeats: int
    spreads: tuple[float, ...]
    chains: int
    seeds: int
    tests: int
    power: int
    batches: tuple[int, ...]
    draws: int


FULL = Size((1000, 5000), 24, (0, 0.5, 1, 2), 100_000, 6, 500, 40, (1, 4, 16, 64), 800)
SMALL = Size((300,), 4, (0, 2), 5000, 2, 20, 4, (1, 16), 150)


def index(law: str, samples: int, *, repeats: int) -> xr.Dataset:
    """Every estimator on repeats of a law; of `moments` the inverse index, which can be zero."""
    rng = np.random.default_rng([list(DRAW).index(law), samples])
    rows = np.full((repeats, len(METHODS), 2), np.nan)
    for row in rows:
        x = DRAW[law](rng, samples)
        for place, method in enumerate(METHODS):
            row[place] = _index(x, method)[:2]
    axes = ("repeat", "estimator")
    found = {"index": (axes, rows[..., 0]), "index_stderr": (axes, rows[..., 1])}
    return xr.Dataset(found, {"estimator": list(METHODS)})


def _index(x, method):
    return extreme_value_index(x) if method == "moments" else tail_index(x, method=method)


def mixing(spread: float, member: int, *, rows: int = 400, columns: int = 200) -> xr.Dataset:
    """Gaussian noise whose scales have logarithms of deviation `spread`: pooled, and by layers."""
    rng = np.random.default_rng([member, round(100 * spread)])
    x = rng.normal(size=(rows, columns)) * np.exp(spread * rng.normal(size=columns))
    layers = np.zeros(columns)
    naive = [float(tail_index(x.reshape(-1), method=m).value) for m in POOLED]
    apart = [float(tail_index(x, method=m, layers=layers).value[0]) for m in POOLED]
    axes = ("by", "pooling")
    found = np.asarray([naive, apart]).T
    return xr.Dataset(
        {"mixed": (axes, found)}, {"by": list(POOLED), "pooling": ["naive", "layers"]}
    )


def chain(setting: int, chain_seed: int, *, chains: int, steps: int = 60) -> xr.Dataset:
    """Hill's index of theta after regression on one fresh Gaussian batch a step."""
    rate, batch = claims.KESTEN[setting]
    rng, theta = np.random.default_rng([setting, chain_seed]), np.zeros(chains)
    for _ in range(steps):
        theta = (1 - rate * rng.chisquare(batch, chains) / batch) * theta + rng.normal(size=chains)
    return xr.Dataset(
        {"theta_index": float(tail_index(theta).value), "kesten": kesten_index(rate, batch)}
    )


def null(shape: str, *, tests: int) -> xr.Dataset:
    """p-values of the test of normality on Gaussian noise of a covariance over four decades."""
    m, p = SHAPES[shape]
    rng = np.random.default_rng([m, p])
    scales, found = np.exp(2 * rng.normal(size=p)), []
    for _ in range(tests):
        x = rng.normal(size=(m, p)) * scales @ np.linalg.qr(rng.normal(size=(p, p)))[0]
        found.append(gaussianity(x, draws=DRAWS, rng=rng).p)
    return xr.Dataset({"p_value": ("test", found)})


def power(other: str, m: int, *, tests: int) -> xr.Dataset:
    """How often noise of another shape is found at 5%."""
    rng = np.random.default_rng([list(OTHERS).index(other), m])
    found = [gaussianity(OTHERS[other](rng, m), draws=DRAWS).p <= 0.05 for _ in range(tests)]
    return xr.Dataset({"found": float(np.mean(found))})


def network(stage: str, *, batches: tuple[int, ...], draws: int) -> xr.Dataset:
    """Minibatch noise of a network on digits: its normality by batch, its tails by layer."""
    torch.set_num_threads(1)
    gradients, layers = _gradients(200 if stage == "trained" else 0)
    noise = gradients - gradients.mean(0)
    rng, rows, tails = np.random.default_rng(0), [], []
    for batch in batches:
        picked = rng.integers(0, len(noise), (draws, batch))
        x = np.asarray([noise[examples].mean(0) for examples in picked])
        g = gaussianity(x, draws=DRAWS)
        rows.append([g.p, g.mardia.value, g.mardia.stderr])
        tails.append([_of_layers(x, layers, method) for method in POOLED])
    p, kurtosis, error = np.asarray(rows).T
    return xr.Dataset(
        {
            "batch_p": ("batch", p),
            "mardia": ("batch", kurtosis),
            "mardia_stderr": ("batch", error),
            "one_example": gaussianity(noise, draws=1).mardia.value,
            "layer_index": (("batch", "by", "layer"), np.asarray(tails)),
        },
        {"batch": list(batches), "by": list(POOLED), "layer": ["first", "second", "pooled"]},
    )


def _of_layers(x, layers, method):
    """Tail index in each layer, column by column of one scale, and of all numbers as they are."""
    apart = tail_index(x, method=method, layers=layers).value
    return [*apart, float(tail_index(x.reshape(-1), method=method).value)]


def _gradients(steps):
    """Per-example gradients of an MLP after some full steps of descent, and the layer of each."""
    data = digits()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10))
    loss = partial(torch.nn.functional.cross_entropy, reduction="none")
    inputs = torch.as_tensor(data.inputs, dtype=torch.float32)
    targets = torch.as_tensor(data.targets)
    labels = targets.argmax(1) if targets.ndim > 1 else targets.long()
    problem, theta = as_problem(net, loss, inputs, labels)
    for _ in range(steps):
        theta = theta - 0.5 * problem.gradient(theta)
    first = 65 * 16
    layers = np.where(np.arange(len(theta)) < first, 0, 1)
    return problem.gradients(theta).detach().numpy().astype(float), layers


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All parts, on `jobs` processes; what is finished is kept in `folder`."""
    parts: dict[str, tuple] = {
        "index": (
            partial(index, repeats=size.repeats),
            {"law": list(DRAW), "samples": [*size.samples]},
        ),
        "mixing": (mixing, {"spread": [*size.spreads], "member": list(range(size.seeds))}),
        "chain": (
            partial(chain, chains=size.chains),
            {"setting": list(range(len(claims.KESTEN))), "chain_seed": list(range(size.seeds))},
        ),
        "null": (partial(null, tests=size.tests), {"shape": list(SHAPES)}),
        "power": (partial(power, tests=size.power), {"other": list(OTHERS), "m": [*POWER_AT]}),
        "network": (
            partial(network, batches=size.batches, draws=size.draws),
            {"stage": ["start", "trained"]},
        ),
    }
    found = sweep_all(parts, folder, jobs=jobs, cluster=cluster)
    return xr.merge(found.values(), join="outer", compat="no_conflicts")


def main(
    small: Small = False,
    repeats: Annotated[int | None, Option(help="of each law", show_default="by size")] = None,
    seeds: Annotated[int | None, Option(help="of mixtures, chains", show_default="by size")] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Run all parts, and print what holds."""
    size = SMALL if small else FULL
    repeats = size.repeats if repeats is None else repeats
    size = size._replace(repeats=repeats, seeds=size.seeds if seeds is None else seeds)
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        least = min(size.seeds, size.repeats)
        if least < 2:
            raise ValueError(f"an error needs at least 2 seeds and 2 repeats, not {least}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
