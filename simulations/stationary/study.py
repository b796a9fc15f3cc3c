"""Where noisy descent comes to rest: spreads of theta predicted without a fit, and measured.

Bowls with noise that does not depend on theta, under descent, momentum, its stochastic equation and
reshuffling; linear regression, whose noise does, on fresh examples and on given ones.
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

from sgdnoise import noise
from sgdnoise.core import Estimate, Problem, batch_means, mean
from sgdnoise.dynamics import Process, heavy_ball, langevin, nesterov, sgd, simulate
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
from sgdnoise.noise import Normal, reshuffled
from sgdnoise.theory import _stationary as stationary
from sgdnoise.theory import (
    finite_covariance,
    langevin_covariance,
    noise_feedback,
    online_covariance,
    reshuffled_covariance,
    stationary_covariance,
)
from simulations.stationary import figure as picture

OUT = Path("out/stationary")
TITLE = "Where descent comes to rest: its spread, predicted and measured"
LEAD = (
    "Measured: the mean over many chains of theta^T P^-1 theta / p, P the predicted covariance "
    "of theta: 1 if P is right, and nothing is fitted.",
    "Each formula that is often used in its place stands beside it, outside of its regime.",
)
P, EXAMPLES, BATCH = 4, 16, 4
CURVATURES = np.asarray([0.1, 0.4, 1.0, 2.0])
FINER = 16  # steps of the stochastic equation in one of descent
ALLOWED = 0.02
FED = 0.5  # share of noise that the spread itself makes, above which its fourth moments are wild


class Case(NamedTuple):
    """A way to descend, its rate, and what else it needs."""

    how: str
    rate: float
    momentum: float = 0.0
    batch: int = BATCH


CASES = {
    "descent, slow": Case("descent", 0.05),
    "descent, fast": Case("descent", 0.8),
    "equation": Case("langevin", 0.3),
    "heavy ball": Case("heavy ball", 0.3, 0.9),
    "heavy ball, fast": Case("heavy ball", 1.0, 0.9),
    "Nesterov": Case("nesterov", 0.3, 0.9),
    "reshuffled, slow": Case("reshuffled", 0.05),
    "reshuffled, fast": Case("reshuffled", 0.5),
    "online regression, slow": Case("online", 0.05, batch=1),
    "online regression, fast": Case("online", 0.6, batch=4),
    "given examples": Case("finite", 0.2, batch=2),
    "given examples, distinct": Case("distinct", 0.2, batch=4),
}


class Size(NamedTuple):
    """How much is run."""

    cases: tuple[str, ...]
    chains: int


FULL = Size(tuple(CASES), 40_000)
SMALL = Size(("descent, fast", "heavy ball", "reshuffled, fast", "given examples"), 4000)


def bowl() -> tuple[Problem, np.ndarray, np.ndarray]:
    """A quadratic loss around centres, its Hessian, the covariance of an example's gradient."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(P, P)))[0]
    hessian = basis * CURVATURES @ basis.T
    centres = rng.normal(size=(EXAMPLES, P)) * [1, 2, 0.5, 1]
    centres -= centres.mean(0)
    bend = jnp.asarray(hessian, jnp.float32)

    def losses(theta, centre):
        off = theta - centre
        return 0.5 * ((off @ bend) * off).sum(-1)

    problem = Problem(losses, (jnp.asarray(centres, jnp.float32),), jax)
    return problem, hessian, hessian @ centres.T @ centres @ hessian / EXAMPLES


def linear() -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, p) and targets (n,) with residuals of unlike size."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(EXAMPLES, P)) * [1.2, 1.0, 0.7, 0.5]
    y = x @ rng.normal(size=P) + rng.normal(size=EXAMPLES) * np.linspace(0.3, 1.2, EXAMPLES)
    return x, y


def made(case: Case):
    """The process, its mean at rest, the predicted covariance, one often used, and the time."""
    rate, mu = case.rate, case.momentum
    problem, hessian, each = bowl()
    c, slowest = each / case.batch, float(CURVATURES[0])
    still = np.zeros(P)
    model = noise.minibatch(problem, case.batch)
    match case.how:
        case "descent":
            rest = stationary_covariance(hessian, c, rate)
            other = langevin_covariance(hessian, c, rate)
            return sgd(model, rate), still, rest, other, 1 / (rate * slowest)
        case "langevin":
            step = rate / FINER  # whose own rest is that of descent at this rate, by theory
            rest = stationary_covariance(hessian, c * FINER, step)
            other = stationary_covariance(hessian, c, rate)
            return langevin(model, rate, step), still, rest, other, 1 / (step * slowest)
        case "heavy ball" | "nesterov":
            rule = heavy_ball if case.how == "heavy ball" else nesterov
            covariance = getattr(stationary, f"{rule.__name__}_covariance")
            other = langevin_covariance(hessian, c, rate / (1 - mu))
            time = max(1 / (rate / (1 - mu) * slowest), 2 / (1 - mu))
            return rule(model, rate, mu), still, covariance(hessian, c, rate, mu), other, time
        case "reshuffled":
            epoch = EXAMPLES // case.batch
            model = noise.from_weights(problem, reshuffled(EXAMPLES, case.batch))
            c = c * (EXAMPLES - case.batch) / (EXAMPLES - 1)
            rest = reshuffled_covariance(hessian, c, rate, epoch)
            other = stationary_covariance(hessian, c, rate)
            return sgd(model, rate), still, rest, other, 1 / (rate * slowest)
        case "online":
            inputs = np.diag([1.0, 0.5, 0.25, 0.15])
            rest = online_covariance(inputs, 0.5, rate, case.batch)
            other = rate * 0.25 / (2 * case.batch) * np.eye(P)
            return online(inputs, rate, case.batch), still, rest, other, 1 / (rate * 0.15)
    x, y = linear()
    replacement = case.how == "finite"
    rest = finite_covariance(x, y, rate, case.batch, replacement)
    other = finite_covariance(x, y, rate, case.batch, not replacement)
    data = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    problem = Problem(lambda t, a, b: 0.5 * (a @ t - b) ** 2, data, jax)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    slowest = np.linalg.eigvalsh(x.T @ x / len(x))[0]
    model = noise.minibatch(problem, case.batch, replacement)
    return sgd(model, rate), best, rest, other, 1 / (rate * slowest)


def online(inputs, rate: float, batch: int) -> Process:
    """Regression of 0.5 eps on fresh normal inputs of this diagonal covariance."""
    roots = jnp.asarray(np.diag(inputs) ** 0.5, jnp.float32)

    def step(theta, white):
        x = white[: batch * P].reshape(batch, P) * roots
        return theta - rate * (x @ theta - 0.5 * white[batch * P :]) @ x / batch

    return Process(step, Normal(batch * (P + 1)), rate)


def run(case: str, *, size: Size) -> xr.Dataset:
    """Chains of one case at rest, as squares in units of what is predicted."""
    chosen = CASES[case]
    process, best, rest, other, time = made(chosen)
    epoch = EXAMPLES // chosen.batch if chosen.how == "reshuffled" else 1
    steps = epoch * math.ceil(6 * time / epoch)
    start = jnp.tile(jnp.asarray(best, jnp.float32), (size.chains, 1))
    key = jax.random.key(list(CASES).index(case))
    seen = simulate(process, key, start, steps=steps, every=steps, observe=lambda t: t)
    off = np.asarray(seen, float)[:, 0] - best
    root = np.linalg.inv(np.linalg.cholesky(rest))
    white = off @ root.T
    entries = white.T @ white / len(white) - np.eye(P)
    error = np.sqrt(np.var(white[:, :, None] * white[:, None, :], axis=0) / len(white))
    facts = {
        "square": ("batch", batch_means((white**2).mean(1))),
        "often": (
            "batch",
            batch_means(np.einsum("ci,ij,cj->c", off, np.linalg.inv(other), off) / P),
        ),
        "worst": float(np.abs(entries / error).max()),
        "steps": float(steps),
        "chains": size.chains,
        "predicted": float(np.trace(rest)),
        "measured_trace": float((off**2).sum(1).mean()),
    }
    if chosen.how == "online":
        inputs = np.diag([1.0, 0.5, 0.25, 0.15])
        facts["feedback"] = noise_feedback(inputs, chosen.rate, chosen.batch)
    return xr.Dataset(facts)


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All cases, on `jobs` processes; what is finished is kept in `folder`."""
    return sweep_one(
        partial(run, size=size), {"case": list(size.cases)}, folder, jobs=jobs, cluster=cluster
    )


OFTEN = {
    "descent": "by the stochastic equation",
    "langevin": "by descent's own formula",
    "heavy ball": "by the equation at rate / (1 - momentum)",
    "nesterov": "by the equation at rate / (1 - momentum)",
    "reshuffled": "as if batches were independent",
    "online": "by rate σ² / 2B",
    "finite": "as if batches were distinct",
    "distinct": "as if drawn with replacement",
}


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The measured over the predicted spread of each case, and over one often used."""
    found = []
    for name in results.case.values.tolist():
        part, case = results.sel(case=name), CASES[name]
        claimed = not float(part.get("feedback", math.nan)) >= FED
        found.append(Verdict(f"{name}: spread", 1.0, _mean(part.square), claimed, ALLOWED))
        text = f"{name}: spread, {OFTEN[case.how]}"
        found.append(Verdict(text, 1.0, _mean(part.often), False, ALLOWED))
    return found


def _mean(values):
    found = mean(np.asarray(values))
    return Estimate(float(found.value), float(found.stderr), found.freedom)


def tables(results: xr.Dataset) -> list[Table]:
    """Traces, and the entry of the whitened covariance that is farthest from what it should be."""
    rows = []
    for name in results.case.values.tolist():
        part, case = results.sel(case=name), CASES[name]
        rows.append(
            (
                name,
                f"{case.rate:g}",
                f"{case.momentum:g}",
                f"{float(part.predicted):.4g}",
                f"{float(part.measured_trace):.4g}",
                f"{float(part.worst):.1f}",
                f"{float(part.steps):.0f}",
            )
        )
    headings = ("case", "rate", "momentum", "Tr S predicted", "measured", "worst entry, s.e.")
    caption = f"{int(results.chains[0]):,} chains; one of {P * (P + 1) // 2} entries is the worst"
    return [Table(caption, (*headings, "steps"), rows)]


def main(
    small: Small = False,
    chains: Annotated[
        int | None, Option(help="of each case", show_default="40000, small 4000")
    ] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Descend in bowls and regressions until at rest, and hold the spread against theory."""
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
