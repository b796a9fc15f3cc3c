"""The estimated dimension of representations through depth, before, during and after training.

Perceptrons, VGG-11 and ResNet-20 learn digits and rendered images, whose true dimension is known
and which no layer can raise: beside each estimate stand that of Gaussian points of equal
covariance, the rank of images next to one another, and how the map to the layer stretches.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import nn
from typer import Option

from sgdnoise.core import mean
from sgdnoise.data import rendered
from sgdnoise.dimension import learned
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
from simulations.depth_profile import claims
from simulations.depth_profile import figure as picture
from simulations.depth_profile._clouds import CLOSE, LEAST, NAMES, estimates, factor, gram, matched
from simulations.depth_profile._clouds import surrogate as gaussian
from simulations.depth_profile._maps import beside, padded, stretching
from simulations.depth_profile._nets import DATA, NETS, VARIED, images, network, shown, through

OUT = Path("out/layers")
RELUS = 8  # most that a network has
INPUTS = {2: ("x", "y"), 3: ("x", "y", "log_size"), 5: VARIED}  # whose dimension is estimated
CHEAP = 3  # times as many steps are made by perceptrons
RATE, BATCH = 0.05, 32
SHARE = 0.8  # of the images, to train on
PROBES, CURVED = 10, 100  # random signs, and images, for the Hessian


class Size(NamedTuple):
    """How much is run."""

    tasks: tuple[str, ...]
    seeds: int
    images: int
    looked: int  # images that the estimators see
    moments: tuple[int, ...]  # steps
    pixels: int
    units: int  # in each hidden layer of mlp7
    channels: tuple[int, int]  # first of vgg11 and of resnet20, as published 64 and 16
    tangents: int  # directions in which the map to a layer is differentiated
    latents: tuple[int, ...] = (2, 3, 5)  # of images whose dimension is estimated as they come


TASKS = tuple(f"{net} {data}" for data in DATA for net in NETS)
FULL = Size(TASKS, 3, 3000, 600, (0, 10, 100, 1000), 16, 100, (8, 8), 768)
CUDA = Size(TASKS, 3, 50_000, 2000, (0, 10, 100, 1000, 10_000), 32, 500, (64, 16), 6144)
SMALL = Size(("mlp3 digits", "mlp3 rendered"), 2, 500, 330, (0, 40), 8, 24, (8, 8), 64, (2,))


def on_device(device: str) -> str:
    """The name of a device; raises ValueError where there is none."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f"there is no device {device!r}; there are cpu and cuda")
    if device == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise ValueError("no CUDA device is to be found here; use --device cpu")
    return torch.cuda.get_device_name()


def check(size: Size) -> None:
    """Raises ValueError for tasks that are not there, and sizes at which nothing is estimated."""
    if unknown := set(size.tasks) - set(TASKS):
        raise ValueError(f"no task is called {unknown.pop()!r}; there are {', '.join(TASKS)}")
    if size.seeds < 2:
        raise ValueError(f"an error needs at least 2 seeds, not {size.seeds}")
    if (trained := int(SHARE * size.images)) < LEAST:
        raise ValueError(
            f"the estimators look at {LEAST} images or more that were trained on, not at "
            f"{trained} of {size.images}"
        )


def run(task: str, seed: int, *, size: Size, device: str) -> xr.Dataset:
    """One training, and what is seen of its layers at each moment."""
    name, kind = task.split()
    data = images(kind, size.images, size.pixels, seed=seed)
    made = partial(network, name, data.inputs.shape[1:], size.units, size.channels, seed=seed)
    net, start = made().to(device), made().to(device)
    inputs, labels = (torch.asarray(part, device=device) for part in data[:2])
    rng, trained = np.random.default_rng([seed, 3]), int(SHARE * len(inputs))
    descent = torch.optim.SGD(net.parameters(), RATE)
    moments = [m * (CHEAP if name.startswith("mlp") else 1) for m in size.moments]
    found, done = [], 0
    for moment in moments:
        for _ in range(moment - done):
            some = torch.asarray(rng.integers(0, trained, BATCH), device=device)
            descent.zero_grad()
            F.cross_entropy(net(inputs[some]), labels[some]).backward()
            descent.step()
        done = moment
        looked = seen(net, inputs[: min(trained, size.looked)], size=size, rng=rng)
        looked |= judged(net, inputs, labels, trained, rng)
        looked |= beside(net, data.dimension, size.pixels, seed=seed)
        found.append(xr.Dataset(looked))
    fixed = {"step": ("moment", np.asarray(moments, float)), "layers": len(shown(net))}
    fixed |= at_start(start, inputs[: min(trained, size.looked)], rng)
    fixed["true"] = float("nan" if data.dimension is None else data.dimension)
    along = xr.concat(found, "moment").assign(fixed)
    return along.assign_coords(estimator=list(NAMES), close=list(CLOSE))


@torch.no_grad()
def seen(net, inputs, *, size: Size, rng) -> dict:
    """Estimates for each layer and its surrogate, and the stretching of the map to it."""
    every = through(net, inputs)
    clouds, others, ratios = [], [], []
    for place in shown(net):
        own = gram(every[place])
        other = gaussian(own, rng)
        clouds.append(_numbers(estimates(own)))
        others.append(_numbers(estimates(other)))
        ratios.append(matched(own, other))
    found = {"estimate": clouds, "surrogate": others}
    result = {
        f"{name}{end}": (("layer", "estimator"), padded([each[i] for each in rows]))
        for name, rows in found.items()
        for i, end in enumerate(("", "_stderr"))
    }
    stretched = stretching(net, inputs, size.tangents)
    return result | {"matched": ("layer", padded(ratios))} | stretched


def judged(net, inputs, labels, trained: int, rng) -> dict:
    """Accuracy in training and on the other images, loss, and the trace of its Hessian."""
    with torch.no_grad():
        outputs = torch.cat([net(part) for part in inputs.split(1000)])
    right = (outputs.argmax(1) == labels).double()
    losses = partial(F.cross_entropy, reduction="none")
    problem, theta = as_problem(net, losses, inputs[:CURVED], labels[:CURVED])
    signs = rng.choice([-1.0, 1.0], (PROBES, len(theta)))
    signs = torch.asarray(signs, dtype=theta.dtype, device=theta.device)
    bends = mean(np.asarray([float(z @ problem.curvature(theta, z)) for z in signs]))
    return {
        "accuracy": float(right[:trained].mean()),
        "accuracy_elsewhere": float(right[trained:].mean()),
        "loss": float(losses(outputs[:trained], labels[:trained]).mean()),
        "hessian_trace": float(bends.value),
        "hessian_trace_stderr": float(bends.stderr),
    }


@torch.no_grad()
def at_start(net, inputs, rng) -> dict:
    """What each ReLU multiplies estimates by, and how far turning the images changes any."""
    every = through(net, inputs)
    places = [at for at, part in enumerate(net) if isinstance(part, nn.ReLU)]
    factors = [factor(gram(every[at]), gram(every[at + 1])) for at in places]
    blank = np.full((RELUS, len(CLOSE)), np.nan)
    value, stderr = blank.copy(), blank.copy()
    for i, each in enumerate(factors):
        value[i], stderr[i] = each.value, each.stderr
    return {
        "relu": (("layer_relu", "close"), value),
        "relu_stderr": (("layer_relu", "close"), stderr),
        "turned": turned(every[shown(net)[1]], rng),
    }


def turned(rows, rng, times: int = 3) -> float:
    """Largest relative change of any estimate where an orthogonal layer, of mirrors, is put after.

    Not of pixels: they lie on a lattice, where neighbours at equal distances are in no order.
    """
    after = rows = rows.double()
    for _ in range(times):
        unit = torch.asarray(rng.standard_normal(rows.shape[1]), device=rows.device)
        after = after - 2 * torch.outer(after @ unit, unit) / (unit @ unit)
    first, second = (np.asarray(_numbers(estimates(gram(r)))[0]) for r in (rows, after))
    return float(np.nanmax(np.abs(second / first - 1)))


def truth(latents: int, seed: int, *, size: Size) -> xr.Dataset:
    """The dimension by which rendered images come in, by the estimator learned from manifolds."""
    factors = INPUTS[latents]
    data = rendered(size.looked, factors=factors, kinds=("disc",), size=size.pixels, rng=seed)
    return xr.Dataset({"learned": float(learned(data.inputs.reshape(size.looked, -1)))})


def _numbers(found):
    """Values and errors of estimates, two lists."""
    return [[float(getattr(e, part)) for e in found.values()] for part in ("value", "stderr")]


def study(size: Size, *, jobs: int, folder, device="cpu", cluster: str | None = None):
    """All tasks and seeds, on `jobs` processes; what is finished is kept in `folder`."""
    seeds = list(range(size.seeds))
    grids: dict[str, tuple] = {
        "nets": (partial(run, size=size, device=device), {"task": list(size.tasks), "seed": seeds}),
        "inputs": (partial(truth, size=size), {"latents": list(size.latents), "seed": seeds}),
    }
    found = sweep_all(grids, folder, jobs=jobs, cluster=cluster)
    return xr.merge(found.values(), join="outer", compat="no_conflicts")


def main(
    small: Small = False,
    images: Annotated[
        int | None,
        Option(help="rendered, 4 of 5 to train on", show_default="3000, cuda 50000, small 500"),
    ] = None,
    task: Annotated[list[str] | None, Option(help="one of them; again for more")] = None,
    seeds: Annotated[int | None, Option(help="trainings each", show_default="3, small 2")] = None,
    device: Annotated[str, Option(help="cpu, or cuda for the full size")] = "cpu",
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Train networks, and estimate the dimension of each layer before, during and after."""
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        name = on_device(device)
        size = SMALL if small else CUDA if device == "cuda" else FULL
        size = size._replace(
            images=size.images if images is None else images,
            tasks=tuple(task or size.tasks),
            seeds=size.seeds if seeds is None else seeds,
        )
        check(size)
        whole = partial(study, size, jobs=jobs, device=device, cluster=cluster)
        arguments, lead = size._asdict() | {"device": device}, claims.lead(name, size)
        run_study(whole, arguments, claims, picture, out, device=name, lead=lead)


if __name__ == "__main__":
    command(main)
