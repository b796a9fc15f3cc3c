"""Dimension of the last hidden layer against test error, over settings drawn at random.

Places are drawn in the space of rate, batch, width, share of shuffled labels and pixel noise; from
each place each of these is varied alone.  All networks of a place and more are trained at once; the
dimension is looked at where all have the same loss in training, and after equally many steps.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import warnings
from functools import partial
from itertools import product
from typing import Annotated, NamedTuple

import numpy as np
import xarray as xr
from typer import Option

from sgdnoise.dimension import Duplicates, find_neighbours, learned, participation_ratio, twonn
from sgdnoise.dimension._trained._features import MOST
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
from simulations.depth_profile.study import on_device
from simulations.generalisation import _nets as nets
from simulations.generalisation import claims
from simulations.generalisation import figure as picture

OUT = Path("out/generalisation")
SHUFFLED, NOISE = (0.0, 0.25, 0.5, 1.0), (0.0, 0.5, 1.0)  # a share, and of the pixels' own spread
ESTIMATORS = ("participation_ratio", "twonn", "learned")
MOMENTS = ("start", "equal loss", "equal steps")
WHERE = ("held", "trained")
LEAST = MOST + 1  # points that `learned` needs


class Size(NamedTuple):
    """How much is run."""

    tasks: tuple[str, ...]
    places: int
    seeds: int
    trained: int  # images
    others: int  # at most, to test on
    looked: int  # images that the estimators see, of either
    pixels: int  # of rendered images
    widths: tuple[int, ...]
    rates: tuple[float, ...]
    batches: tuple[int, ...]
    steps: int
    loss: float  # in training, at which networks are compared
    seed: int = 0


def tasks(*networks: str) -> tuple[str, ...]:
    """Each of the networks on each kind of images."""
    return tuple(f"{net} {data}" for data in nets.DATA for net in networks)


RATES = (0.025, 0.05, 0.1)
FULL = Size(
    tasks("mlp", "convnet"), 10, 3, 300, 1200, 300, 8, (32, 64, 128), RATES, (8, 16, 32), 1600, 0.3
)
CUDA = Size(
    tasks(*nets.NETS), 8, 2, 1000, 2000, 300, 16, (64, 128, 256), RATES, (16, 64, 256), 3000, 0.3
)
SMALL = Size(
    tasks("mlp", "convnet")[:2], 2, 1, 60, 200, 60, 8, (8, 12, 16), RATES, (4, 8, 16), 40, 1.8
)


def check(size: Size) -> None:
    """Raises ValueError for tasks that are not there, and sizes at which nothing can be said."""
    known = tasks(*nets.NETS)
    if unknown := set(size.tasks) - set(known):
        raise ValueError(f"no task is called {unknown.pop()!r}; there are {', '.join(known)}")
    if size.places < 2 or size.seeds < 1:
        raise ValueError(
            f"an error needs 2 places or more and a seed, not {size.places} and {size.seeds}"
        )
    if size.seed < 0:
        raise ValueError(f"a seed is a whole number from 0, not {size.seed}")


def levels(size: Size) -> dict[str, tuple]:
    """What each factor may be."""
    chosen = {"rate": size.rates, "batch": size.batches, "width": size.widths}
    return chosen | {"shuffled": SHUFFLED, "noise": NOISE}


def settings(place: int, *, size: Size) -> tuple[list[dict], list[str]]:
    """A place drawn at random, and from it each factor at its other levels; which one varied."""
    rng, known = np.random.default_rng([size.seed, place, 1]), levels(size)
    base = {name: values[rng.integers(len(values))] for name, values in known.items()}
    found, varied = [base], ["none"]
    for name, values in known.items():
        found += [base | {name: other} for other in values if other != base[name]]
        varied += [name] * (len(values) - 1)
    return found, varied


def run(task: str, place: int, *, size: Size, device: str) -> xr.Dataset:
    """All networks of one place: those of one shape and batch are trained together."""
    chosen, varied = settings(place, size=size)
    name, data = task.split()
    first = (size.seed * 1000 + place) * 100  # no two places have a seed in common
    known = levels(size)
    empty: dict[str, np.ndarray] = {}
    for at, (width, batch) in enumerate(product(known["width"], known["batch"])):
        own = [i for i, s in enumerate(chosen) if (s["width"], s["batch"]) == (width, batch)]
        if not own:
            continue
        every = [(i, k) for i in own for k in range(size.seeds)]
        draws = np.random.default_rng([size.seed, place, 2, at])
        seeds = [first + k for _, k in every]
        rows = trained(name, data, [chosen[i] for i, _ in every], seeds, draws, size, device)
        for what, values in rows.items():
            whole = empty.setdefault(
                what, np.full((len(chosen), size.seeds, *values.shape[1:]), np.nan)
            )
            for (i, k), value in zip(every, values, strict=True):
                whole[i, k] = value
    factors = {n: ("setting", np.asarray([s[n] for s in chosen], float)) for n in known}
    found = xr.Dataset({n: (AXES[n], values) for n, values in empty.items()} | factors)
    return found.assign_coords(
        varied=("setting", varied),
        moment=list(MOMENTS),
        where=list(WHERE),
        estimator=list(ESTIMATORS),
    )


_EACH = ("setting", "seed")
AXES = {
    "error": (*_EACH, "moment"),
    "loss": (*_EACH, "moment"),
    "accuracy": (*_EACH, "moment"),
    "dimension": (*_EACH, "moment", "where", "estimator"),
    "surrogate": (*_EACH, "estimator"),
    "input": (*_EACH, "estimator"),
    "step": _EACH,
    "tested": _EACH,
}


def trained(name, data, chosen, seeds, draws, size: Size, device: str) -> dict:
    """Networks of one width trained with one batch, (m,) settings and seeds, and what is seen."""
    width, batch = chosen[0]["width"], chosen[0]["batch"]
    parts = {s: _images(data, s, size) for s in set(seeds)}
    each = []
    for one, s in zip(chosen, seeds, strict=True):
        first, rest = parts[s]
        each.append(nets.spoilt(first, rest, one["shuffled"], one["noise"], s))
    task = nets.stacked(each, device)
    shape = each[0][0].shape[1:]
    made = partial(nets.network, name, shape, width)
    parameters, net = nets.together([made(s) for s in seeds], device)
    start = {n: p.detach().clone() for n, p in parameters.items()}
    rates = [c["rate"] for c in chosen]
    descent = {"rates": rates, "batch": batch, "steps": size.steps, "loss": size.loss}
    done = nets.train(parameters, net, task, rng=draws, **descent)
    moments = [
        seen(at, net, task, size, every=i > 0) for i, at in enumerate((start, done.equal, done.end))
    ]
    found = {n: np.stack([each[n] for each in moments], axis=1) for n in moments[0]}
    for values in found.values():
        values[np.isnan(done.step), 1] = np.nan  # that loss was never reached
    last = nets.hidden(done.end, net, task.others[:, : size.looked])
    rest = {
        "surrogate": np.asarray([estimates(gaussian(rows, draws)) for rows in _arrays(last)]),
        "input": np.asarray(
            [estimates(rows) for rows in _arrays(task.others[:, : size.looked].flatten(2))]
        ),
    }
    return found | rest | {"step": done.step, "tested": np.full(len(seeds), task.truth.shape[1])}


def seen(parameters, net, task, size: Size, *, every: bool) -> dict:
    """Test error, loss and accuracy in training, and the dimension of both kinds of images."""
    right = nets.outputs(parameters, net, task.others).argmax(2) == task.truth
    fitted = nets.outputs(parameters, net, task.inputs).argmax(2) == task.labels
    clouds = [
        [estimates(rows, every=every) for rows in _arrays(nets.hidden(parameters, net, part))]
        for part in (task.others[:, : size.looked], task.inputs[:, : size.looked])
    ]
    return {
        "error": 1 - right.double().mean(1).cpu().numpy(),
        "accuracy": fitted.double().mean(1).cpu().numpy(),
        "loss": nets.losses(parameters, net, task),
        "dimension": np.swapaxes(np.asarray(clouds), 0, 1),
    }


def estimates(rows, *, every: bool = True) -> list[float]:
    """Each of `ESTIMATORS`; nan where it cannot be had, or is left out for its time: `learned`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Duplicates)  # units that are all dead put points together
        try:
            near = find_neighbours(rows, MOST)
            local = twonn(near.points, neighbours=near)
            most = learned(near.points, neighbours=near) if every else np.nan
            return [float(participation_ratio(rows)), float(local), float(most)]
        except ValueError:
            return [np.nan] * len(ESTIMATORS)


def gaussian(rows, rng):
    """As many normal points whose covariance is that of the sample, on average."""
    beside = rows - rows.mean(0)
    return rng.standard_normal((len(rows), len(rows))) @ beside / (len(rows) - 1) ** 0.5


def _arrays(rows):
    return rows.double().cpu().numpy()


def _images(data, seed, size):
    return nets.images(data, size.trained + size.others, size.trained, size.pixels, seed)


def study(size: Size, *, jobs: int, folder, device="cpu", cluster: str | None = None):
    """All tasks and places, on `jobs` processes; what is finished is kept in `folder`."""
    grid = {"task": list(size.tasks), "place": list(range(size.places))}
    return sweep_one(
        partial(run, size=size, device=device), grid, folder, jobs=jobs, cluster=cluster
    )


def main(
    small: Small = False,
    task: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    places: Annotated[
        int | None, Option(help="drawn at random", show_default="10, cuda 8, small 2")
    ] = None,
    seeds: Annotated[
        int | None, Option(help="networks of a setting", show_default="3, cuda 2, small 1")
    ] = None,
    seed: Annotated[int, Option(help="of all draws")] = 0,
    device: Annotated[str, Option(help="cpu, or cuda for larger networks")] = "cpu",
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Train networks in many settings, and hold their test error against their dimension."""
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        name = on_device(device)
        size = SMALL if small else CUDA if device == "cuda" else FULL
        size = size._replace(
            tasks=tuple(task or size.tasks),
            places=size.places if places is None else places,
            seeds=size.seeds if seeds is None else seeds,
            seed=seed,
        )
        check(size)
        whole = partial(study, size, jobs=jobs, device=device, cluster=cluster)
        arguments, lead = size._asdict() | {"device": device}, claims.lead(name, size)
        run_study(whole, arguments, claims, picture, out, device=name, lead=lead)


if __name__ == "__main__":
    command(main)
