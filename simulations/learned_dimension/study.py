"""A measured dimension as part of what is learned, beside the noise that moves it unasked.

Networks descend L + c m, m a participation ratio, an effective rank or TwoNN of their own hidden
layer, of the package's functions as they stand; others go on under label noise, which theory says
acts as kappa Tr H.  Where c is such that both end at one dimension, what else do they share?
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
from typer import Option

from sgdnoise.dimension import participation_ratio
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
from sgdnoise.theory import label_noise_strength
from simulations.depth_profile.study import on_device
from simulations.learned_dimension import claims
from simulations.learned_dimension import figure as picture
from simulations.learned_dimension._flow import flow
from simulations.learned_dimension._images import images
from simulations.learned_dimension._nets import (
    ADVERSARIAL,
    MEASURES,
    NOISY,
    begun,
    descended,
    hidden,
    in_batches,
    losses,
    measured,
    noisy_descent,
    seen,
    task,
    traces,
)

OUT = Path("out/objective")
AXES = {"share": ("component",), "noisy": ("noise",), "adversarial": ("push",)}
BATCH = 32  # examples, in which PR is estimated for its bias
COEFFICIENTS = {  # from 0 on up to where a measure falls below that of label noise
    "participation_ratio": (-0.003, 0.001, 0.003, 0.006, 0.01, 0.016),
    "effective_rank": (-0.003, 0.003, 0.01, 0.02, 0.03, 0.05),
    "twonn": (-0.003, 0.0002, 0.001, 0.003, 0.01),
}


class Size(NamedTuple):
    """How much is run; rates and times in units of the loss with its factor 1/2."""

    seeds: int
    learning: int  # steps before anything is added
    steps: int  # on L + c m
    noisy: int
    looks: int
    respond: int
    nets: int  # convolutional, of each kind
    epochs: int
    quench: int = 1000
    examples: int = 128
    width: int = 20  # inputs
    units: int = 40
    rate: float = 0.1
    noise_rate: float = 0.05
    batch: int = 8
    label_noise: float = 1.0
    channels: tuple[int, int] = (8, 16)
    pictures: int = 1000  # that these learn from
    first: int = 0  # seed


FULL = Size(8, 15_000, 1500, 80_000, 20, 200, 8, 20)
CUDA = FULL._replace(seeds=12, nets=12, epochs=40, units=128, channels=(64, 128))
SMALL = Size(2, 300, 4, 100, 2, 4, 2, 1, 10, 32, 10, units=16, channels=(4, 4), pictures=64)


def check(size: Size) -> None:
    """Raises ValueError for too few seeds or nets for an error, and sizes that cannot run."""
    if (least := min(size.seeds, size.nets)) < 2:
        raise ValueError(f"an error needs at least 2 seeds and nets, not {least}")
    if size.first < 0:
        raise ValueError(f"a seed is a whole number from 0, not {size.first}")
    if size.steps < 1:
        raise ValueError(f"a penalty acts for at least 1 step, not {size.steps}")


def run(seed: int, *, size: Size, device: str) -> xr.Dataset:
    """One seed's network as it learned, and where each objective and the noise take it."""
    data = task(seed, size.examples, size.width, device)
    plain = partial(losses, task=data)
    start = begun(data, size.units, seed)
    start = descended(start, plain, size.rate, size.learning)
    arms, ways = {"start": start}, {}
    noisy = size.noise_rate, size.noisy, size.batch, size.label_noise, seed, size.looks
    arms["label noise"], ways["label noise"] = noisy_descent(start, data, *noisy)
    kappa = label_noise_strength(size.noise_rate, size.label_noise, size.batch)
    longer = max(1, round(size.noisy * size.noise_rate / size.rate))
    arms["trace"], ways["trace"] = watched(
        start, lambda w: plain(w) + kappa * traces(w, data.inputs), longer, data, size
    )
    arms["descent"], ways["descent"] = watched(start, plain, size.steps, data, size)
    for name, every in COEFFICIENTS.items():
        ends, along = penalised(start, data, name, every, size)
        for at, c in enumerate(every):
            arms[f"{name} {c:.3g}"] = [part[at : at + 1] for part in ends]
            ways[f"{name} {c:.3g}"] = along[:, at]
    stack = [torch.cat(parts) for parts in zip(*arms.values(), strict=True)]
    unquenched = plain(stack).cpu().numpy()
    looked = seen(descended(stack, plain, size.rate, size.quench), data, seed)
    kept: dict = {name: (("arm", *AXES.get(name, ())), value) for name, value in looked.items()}
    still = torch.full((size.looks,), torch.nan, dtype=data.inputs.dtype)
    paths = [ways.get(arm, still).cpu().numpy() for arm in arms]
    kept |= {"path": (("arm", "look"), np.stack(paths)), "unquenched": ("arm", unquenched)}
    kept |= in_batches(hidden(start, data.inputs)[0], BATCH, seed)
    found = xr.Dataset(kept)
    return found.assign_coords(arm=list(arms), noise=list(NOISY), push=list(ADVERSARIAL))


def watched(start, total, steps, data, size):
    """Descent, and its participation ratio on the way."""

    def look(w):
        return measured(participation_ratio, hidden(w, data.inputs))

    steps = max(1, steps // size.looks) * size.looks
    ends, found = descended(start, total, size.rate, steps, look, steps // size.looks)
    return ends, found[:, 0] if found.shape[1] == 1 else found


def penalised(start, data, name: str, coefficients, size: Size):
    """Descent on L + c m with several c at once, and the participation ratio on the way."""
    c = torch.tensor(coefficients, dtype=data.inputs.dtype, device=data.inputs.device)
    stack = [part.expand(len(c), -1, -1) for part in start]

    def total(w):
        return losses(w, data) + c * measured(MEASURES[name], hidden(w, data.inputs))

    ends, found = watched(stack, total, size.steps, data, size)
    return ends, found.reshape(size.looks, len(c))


def study(size: Size, *, jobs: int, folder, device="cpu", cluster: str | None = None):
    """All seeds, the flow, and the convolutional nets, on `jobs` processes."""
    seeds = list(range(size.first, size.first + size.seeds))
    nets = list(range(size.first, size.first + size.nets))
    how = {"size": size, "device": device}
    grids: dict[str, tuple] = {
        "seeds": (partial(run, **how), {"seed": seeds}),
        "flow": (partial(flow, **how), {"seed": seeds}),
        "images": (partial(images, **how), {"net": nets}),
    }
    found = sweep_all(grids, folder, jobs=jobs, cluster=cluster)
    return xr.merge(found.values(), join="outer", compat="no_conflicts")


def main(
    small: Small = False,
    seeds: Annotated[
        int | None, Option(help="two-layer networks", show_default="8, small 2")
    ] = None,
    steps: Annotated[int | None, Option(help="on L + c m", show_default="1500, small 4")] = None,
    seed: Annotated[int, Option(help="the first")] = 0,
    device: Annotated[str, Option(help="cpu, or cuda for the full size")] = "cpu",
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Learn a dimension together with a task, and compare with the noise that moves it unasked."""
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        name = on_device(device)
        size = SMALL if small else CUDA if device == "cuda" else FULL
        size = size._replace(
            seeds=size.seeds if seeds is None else seeds,
            steps=size.steps if steps is None else steps,
            first=seed,
        )
        check(size)
        whole = partial(study, size, jobs=jobs, device=device, cluster=cluster)
        arguments, lead = size._asdict() | {"device": device}, claims.lead(name, size)
        run_study(whole, arguments, claims, picture, out, device=name, lead=lead)


if __name__ == "__main__":
    command(main)
