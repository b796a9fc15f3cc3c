"""The closure of mean and covariance against runs of SGD, far from a minimum.

Tanh networks learn a noisy teacher from a random start.  The mean over runs of the participation
ratio of their hidden layer, of their loss and of theta is held against the closure, dense and of
low rank, and against descent without noise.
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
from sgdnoise.core import Factor, Problem
from sgdnoise.dimension import participation_ratio
from sgdnoise.dynamics import sgd, simulate
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
from sgdnoise.theory import TwoLayer, closure_error, moment_closure, second_order_mean
from simulations.closure import claims
from simulations.closure import figure as picture

OUT = Path("out/closure")
WATCHES, LEADING = 6, 30  # modes of the spread that tell the strain
TEACHERS, GAIN, RESIDUAL, BATCH, LABEL = 4, 1.5, 0.5, 4, 0.5
RANKS = (10, 30)
METHODS = ("descent", "middle", "closure", *(f"rank {rank}" for rank in RANKS))


class Case(NamedTuple):
    """A network d - h - o, its examples, noise, rate, and for how long."""

    kind: str  # minibatch, label or none
    rate: float
    time: float = 48.0
    widths: tuple[int, int, int] = (5, 8, 2)
    examples: int = 60


KINDS, RATES = ("minibatch", "label"), (0.05, 0.1, 0.2)
CASES = {f"{kind}, {rate}": Case(kind, rate) for kind in KINDS for rate in RATES}
CASES |= {f"{kind}, wide": Case(kind, 0.05, 4.8, (20, 22, 3), 100) for kind in KINDS}
CASES |= {"no noise": Case("none", 0.1)}


class Size(NamedTuple):
    """How much is run."""

    cases: tuple[str, ...]
    runs: int
    share: float  # of the time
    ranks: tuple[int, ...]


FULL = Size(tuple(CASES), 256, 1.0, RANKS)
SMALL = Size(("minibatch, 0.1", "no noise"), 512, 0.125, (10,))


def task(case: Case):
    """A network, its problem, and where it starts, for a tanh teacher with residuals."""
    rng, (d, h, o) = np.random.default_rng(2), case.widths
    x, teacher = rng.normal(size=(case.examples, d)), TwoLayer(d, TEACHERS, o)
    known = GAIN * _start(rng, teacher)
    y = teacher.outputs(known, x)
    y = y / y.std() + RESIDUAL * rng.normal(size=y.shape)
    net, data = TwoLayer(d, h, o), tuple(jnp.asarray(part, jnp.float32) for part in (x, y))
    return net, Problem(net.losses, data, jax), jnp.asarray(_start(rng, net), jnp.float32)


def _start(rng, net):
    first = rng.normal(size=net.d * net.h) / net.d**0.5
    return np.concatenate([first, rng.normal(size=net.h * net.o) / net.h**0.5])


def model_of(case: Case, problem: Problem):
    """The noise of a case."""
    match case.kind:
        case "label":
            return noise.label_noise(problem, BATCH, LABEL)
        case "minibatch":
            return noise.minibatch(problem, BATCH)
    return noise.full_batch(problem)


def seen(net, problem, theta):
    """Participation ratio of the hidden layer, and loss."""
    ratio = participation_ratio(net.hidden(theta, problem.examples[0]))
    return jnp.stack([ratio, problem.value(theta)])


def run(case: str, *, size: Size) -> xr.Dataset:
    """Runs of one case, and what each method foretells of them at the same moments."""
    chosen = CASES[case]
    net, problem, start = task(chosen)
    every = max(1, round(chosen.time * size.share / chosen.rate / WATCHES))
    how = {"steps": WATCHES * every, "every": every}
    model, look = model_of(chosen, problem), partial(seen, net, problem)
    key = jax.random.fold_in(jax.random.key(0), list(CASES).index(case))
    process = sgd(model, chosen.rate)
    theta = simulate(process, key, jnp.tile(start, (size.runs, 1)), **how).theta
    quiet = simulate(sgd(noise.full_batch(problem), chosen.rate), key, start[None], **how).theta[0]
    made = moment_closure(model, start, learning_rate=chosen.rate, **how)
    all_of_them = np.concatenate([np.stack([quiet, made.mean]), theta])
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(look)))(all_of_them))
    found = {"descent": values[0], "middle": values[1]}
    found["closure"] = _means(problem, look, made)
    for rank in _ranks(chosen, size, len(start)):
        rows = np.zeros((rank, len(start)), np.float32)
        thin = moment_closure(
            model, start, Factor(jnp.asarray(rows)), learning_rate=chosen.rate, **how
        )
        found[f"rank {rank}"] = _means(problem, look, thin)
    noisy = chosen.kind != "none"
    bent = left_out(problem, model, made) if noisy else np.zeros((WATCHES, 2))
    theta, quiet = np.asarray(theta, float), np.asarray(quiet, float)
    return _dataset(made, found, quiet, theta, values[2:], bent)


def _ranks(case, size, parameters):
    """The ranks below that of the matrix; none without noise."""
    return [r for r in size.ranks if r < parameters and case.kind != "none"]


def _means(problem, look, made):
    """What is expected at each moment, (watch, 2)."""
    thin = isinstance(made.spread[0], Factor)
    held = [spread.rows if thin else spread for spread in made.spread]

    @jax.jit
    def one(mean, held):
        return second_order_mean(problem, look, mean, Factor(held) if thin else held)

    return np.stack([np.asarray(one(*at)) for at in zip(made.mean, held, strict=True)])


def left_out(problem, model, made):
    """Strain, and feedback (E Tr C - Tr C(m)) / Tr C(m), of the leading modes, (watch, 2)."""

    def kick(t):
        return model.covariance(t).trace()

    @jax.jit
    def one(mean, spread):
        values, vectors = jnp.linalg.eigh(spread)
        rows = jnp.sqrt(jnp.clip(values, 0))[-LEADING:, None] * vectors[:, -LEADING:].T
        fed = second_order_mean(problem, kick, mean, Factor(rows)) / kick(mean) - 1
        return jnp.stack([closure_error(problem, mean, Factor(rows)), fed])

    return np.stack([np.asarray(one(*at)) for at in zip(made.mean, made.spread, strict=True)])


def _dataset(made, found, quiet, theta, values, bent):
    """Runs, methods, and what tells the regime; `shift` is theta's along that of the closure."""
    shift = np.asarray(made.mean, float) - quiet
    away = ((theta - quiet) * shift).sum(-1) / np.maximum((shift**2).sum(-1), 1e-30)
    blank = np.full((WATCHES, 2), np.nan)
    table = np.stack([np.asarray(found.get(name, blank)) for name in METHODS])
    return xr.Dataset(
        {
            "ratio": (("run", "watch"), values[..., 0]),
            "loss": (("run", "watch"), values[..., 1]),
            "shift": (("run", "watch"), away.astype(np.float32)),
            "ratio_by": (("how", "watch"), table[..., 0]),
            "loss_by": (("how", "watch"), table[..., 1]),
            "strain": ("watch", bent[:, 0]),
            "feedback": ("watch", bent[:, 1]),
            "spread": ("watch", np.asarray([np.trace(s) for s in made.spread])),
            "spread_runs": ("watch", theta.var(0, ddof=1).sum(-1)),
            "time": ("watch", np.asarray(made.time)),
            "parameters": theta.shape[-1],
        },
        {"how": list(METHODS)},
    )


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All cases, on `jobs` processes; what is finished is kept in `folder`."""
    return sweep_one(
        partial(run, size=size),
        {"case": list(size.cases)},
        folder,
        jobs=jobs,
        cluster=cluster,
    )


def main(
    small: Small = False,
    case: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    runs: Annotated[int | None, Option(help="of each case", show_default="256, small 512")] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Train tanh networks many times, and hold their means against the closure."""
    size = SMALL if small else FULL
    size = size._replace(runs=size.runs if runs is None else runs, cases=tuple(case or size.cases))
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.runs < 2:
            raise ValueError(f"an error needs at least 2 runs, not {size.runs}")
        if unknown := set(size.cases) - set(CASES):
            raise ValueError(f"no case {unknown.pop()!r}: there are {'; '.join(CASES)}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
