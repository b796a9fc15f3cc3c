"""The group's own protocol: one hidden linear layer on clusters, and what of it theory foretells.

After the feed-forward experiments that accompany Farrell et al. (2022): 60 clusters of two classes
in 200 dimensions, 200 linear hidden units, batches of one example or of all 800 of an epoch, the
readout trained or frozen, six rates.  Widths and data are theirs, seeds and code are ours.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import xarray as xr
from typer import Option

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
from simulations.farrell_protocol import claims
from simulations.farrell_protocol import figure as picture
from simulations.farrell_protocol._task import (
    CLUSTERS,
    EPOCH,
    INPUTS,
    OUTPUTS,
    RATES,
    SAVES,
    SPREAD,
    clusters,
    start,
    targets,
)
from simulations.farrell_protocol._theory import Foretold

OUT = Path("out/protocol")
HUGE = 1e6  # weights that are beyond it diverge


class Size(NamedTuple):
    """How much is run: rates, batches with their epochs, networks of each, stretches watched."""

    rates: tuple[float, ...] = RATES
    batches: tuple[tuple[int, int], ...] = ((1, 100), (EPOCH, 1000))
    label_noises: tuple[float, ...] = (0.0, 0.5)
    nets: int = 4
    watches: int = 10


FULL = Size()
SMALL = Size(rates=(5e-4, 1e-2), batches=((1, 6),), nets=2, watches=4)


def stretches(net, rate, batch, label_noise, frozen, watches, between, stretch):
    """W, and V (SAVES, 200, 2) seen along the way, at the end of each stretch of descent.

    1/2 |x W V - y|^2 of fresh examples, one network at a time and in place: so large a matrix and
    so few networks go faster by plain numpy than as chains.
    """
    centres, classes = clusters(net).astype("f"), targets().astype("f")
    w, v = (start(net)[name].astype("f") for name in ("w", "v"))
    rng = np.random.Generator(np.random.SFC64([9, net, batch]))

    def step():
        drawn = rng.integers(CLUSTERS, size=batch)
        x = centres[drawn] + np.float32(SPREAD) * rng.standard_normal((batch, INPUTS), "f")
        y = classes[drawn]
        if label_noise:
            y = y + np.float32(label_noise) * rng.standard_normal((batch, OUTPUTS), "f")
        pull = x.T @ (x @ w @ v - y) * np.float32(rate / batch)
        kick = w.T @ pull
        np.subtract(w, pull @ v.T, out=w)
        if not frozen:
            np.subtract(v, kick, out=v)

    for _ in range(watches):
        for _ in range(between):
            step()
        saved = []
        for k in range(stretch):
            step()
            if (k + 1) % (stretch // SAVES) == 0:
                saved.append(v.copy())
        yield w.copy(), np.stack(saved)


def run(rate: float, batch: int, readout: str, label_noise: float, *, size: Size) -> xr.Dataset:
    """Networks of one kind, watched in stretches of as many steps as an epoch of ones has."""
    stretch = EPOCH if batch == 1 else SAVES  # steps
    every = dict(size.batches)[batch] * EPOCH // batch // size.watches
    how = (rate, batch, label_noise, readout == "frozen", size.watches, every - stretch, stretch)
    with np.errstate(over="ignore", invalid="ignore"):  # some rates diverge, which is judged
        each = [[_seen(net, *at) for at in stretches(net, *how)] for net in range(size.nets)]
    found = {
        name: (("net", "watch"), np.asarray([[at[name] for at in one] for one in each], np.float32))
        for name in each[0][0]
    }
    steps = every * (1.0 + np.arange(size.watches))
    foretold = [Foretold(net, rate, batch, label_noise) for net in range(size.nets)]
    return xr.Dataset(found | said(foretold, steps) | {"step": ("watch", steps)})


def said(each: list[Foretold], steps) -> dict:
    """What theory says of networks with a trained readout, at the same moments."""
    return {
        "orthogonal_said": _table(each, lambda one, step: one.power(step) / one.power(0), steps),
        "ratio_said": _table(each, Foretold.ratio, steps),
        "jitter_said": ("net", [one.jitter() for one in each]),
        "amplification": ("net", [one.u for one in each]),
        "learnt": ("net", [int(one.learnt(steps[-1])) for one in each]),
    }


def _table(each, of, steps):
    """Nothing where no law at rest is foretold."""
    rows = [[of(one, step) if one.u < 1 else np.nan for step in steps] for one in each]
    return ("net", "watch"), np.asarray(rows)


def _seen(net, w, saved) -> dict[str, float]:
    """Hidden dimension, power off the readout over that at the start, its jitter, the loss."""
    centres, v, start_w = clusters(net), saved[-1].astype(float), start(net)["w"]
    if not (np.isfinite(w).all() and np.isfinite(saved).all() and abs(w).max() < HUGE):
        return dict.fromkeys(("ratio", "orthogonal", "jitter", "loss"), np.nan)
    moment = centres.T @ centres / CLUSTERS + SPREAD**2 * np.eye(INPUTS)
    middle = centres.mean(0)
    values = np.linalg.eigvalsh(w.T @ (moment - np.outer(middle, middle)) @ w)
    seen = np.linalg.qr(saved.mean(0).astype(float))[0]
    error = centres @ w @ v - targets()
    return {
        "ratio": values.sum() ** 2 / (values**2).sum(),
        "orthogonal": _off(moment, w, seen) / _off(moment, start_w, seen),
        "jitter": saved.var(axis=0, ddof=1).mean(),
        "loss": 0.5 * (error**2).sum(1).mean() + 0.5 * SPREAD**2 * ((w @ v) ** 2).sum(),
    }


def _off(moment, w, seen):
    """Second moment of the hidden units off the directions that are seen."""
    hidden = w.T @ moment @ w
    return np.trace(hidden) - np.trace(seen.T @ hidden @ seen)


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All kinds of networks, on `jobs` processes; what is finished is kept in `folder`."""
    grid = {
        "rate": list(size.rates),
        "batch": [batch for batch, _ in size.batches],
        "readout": ["trained", "frozen"],
        "label_noise": list(size.label_noises),
    }
    return sweep_one(partial(run, size=size), grid, folder, jobs=jobs, cluster=cluster)


def main(
    small: Small = False,
    nets: Annotated[int | None, Option(help="of each kind", show_default="4, small 2")] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Train linear networks on clusters as the group did, and hold them against theory."""
    size = SMALL if small else FULL
    size = size._replace(nets=size.nets if nets is None else nets)
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.nets < 2:
            raise ValueError(f"an error needs at least 2 networks, not {size.nets}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
