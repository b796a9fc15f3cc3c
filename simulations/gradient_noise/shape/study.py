"""The shape of gradient noise against curvature, through the training of two small networks.

What is exact: labels drawn from the network's own softmax give gradients whose second moment is,
on average, the Fisher information, that is the Gauss-Newton matrix; how far a draw lies from it is
known too.  What is often said of the labels that the data have, and of random ones, stands beside.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import math
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from typer import Option

from sgdnoise.core import Gram
from sgdnoise.data import digits, rendered
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
from sgdnoise.nets import as_problem, per_example_gradients
from sgdnoise.nets.models import convnet, mlp
from sgdnoise.noise import alignment, fisher_inner_product, fisher_scatter, fisher_trace
from simulations.gradient_noise.shape import claims
from simulations.gradient_noise.shape import figure as picture

OUT = Path("out/noise_shape")
CLASSES = 10
TRAINED = 1000  # examples to train on; the first of them are looked at
RATE, BATCH = 0.1, 32
KEPT = 60  # eigenvalues
KINDS = ("data", "drawn", "random")


class Size(NamedTuple):
    """How much is run."""

    nets: tuple[str, ...]
    seeds: int
    moments: tuple[int, ...]  # steps of descent
    examples: int
    draws: int
    probes: int


FULL = Size(("mlp", "convnet"), 4, (0, 30, 100, 300, 1000, 3000), 100, 400, 100)
SMALL = Size(("mlp",), 2, (0, 30), 20, 40, 20)


def network(name: str, seed: int):
    """A network, its inputs and its labels, to train."""
    rng = np.random.default_rng([seed, 2])
    if name == "mlp":
        data = digits()
        some = rng.permutation(len(data.inputs))[:TRAINED]
        net, inputs, targets = mlp((64, 32, CLASSES), seed=seed), data.inputs, data.targets
        return net, *_torch(inputs[some], targets[some].argmax(1))
    data = rendered(TRAINED, size=16, rng=rng)
    return convnet((8, 8, 16, 16), CLASSES, 16, seed=seed), *_torch(data.inputs, data.targets)


def _torch(inputs, labels):
    return torch.asarray(inputs, dtype=torch.float32), torch.asarray(labels)


def run(net: str, seed: int, *, size: Size) -> xr.Dataset:
    """One training: at each moment, what labels make of the gradients, and how C lies to H."""
    module, inputs, labels = network(net, seed)
    rng = np.random.default_rng([seed, 3])
    descent = torch.optim.SGD(module.parameters(), RATE)
    found, done = [], 0
    for moment in size.moments:
        for _ in range(moment - done):
            some = torch.asarray(rng.integers(0, TRAINED, BATCH))
            descent.zero_grad()
            F.cross_entropy(module(inputs[some]), labels[some]).backward()
            descent.step()
        done = moment
        found.append(looked_at(module, inputs, labels, size=size, rng=rng))
    return xr.concat(found, xr.IndexVariable("moment", list(size.moments)))


def looked_at(module, inputs, labels, *, size: Size, rng) -> xr.Dataset:
    """Everything that is measured at one point of training, from the first of the examples."""
    n = size.examples
    with torch.no_grad():
        outputs = module(inputs)
        right = float((outputs.argmax(1) == labels).double().mean())
        laws = outputs[:n].double().softmax(1).numpy()
    gram = by_label(module, inputs[:n])
    values = compared(gram, laws, labels[:n].numpy(), size=size, rng=rng)
    values["accuracy"] = right
    return xr.Dataset(values | against_hessian(module, inputs[:n], labels[:n], size=size, rng=rng))


def by_label(module, inputs) -> np.ndarray:
    """Inner products of the gradients of each example under each label, (n y, n y)."""
    n = len(inputs)
    repeated = inputs.repeat_interleave(CLASSES, 0)
    every = torch.arange(CLASSES).repeat(n)
    losses = partial(F.cross_entropy, reduction="none")
    return per_example_gradients(module, losses, repeated, every).gram().double().numpy()


def compared(gram, laws, labels, *, size: Size, rng) -> dict:
    """A under each kind of labels against F: traces, inner products, and distances."""
    n = len(labels)
    fisher = laws.ravel() / n
    norm = float(fisher_inner_product(gram, fisher, fisher))
    total = float(fisher_trace(gram, fisher))
    random = rng.integers(0, CLASSES, n)
    kinds = {"data": labels, "random": random}
    shape = {
        kind: _ratios(gram, _ones(chosen), fisher, norm, total) for kind, chosen in kinds.items()
    }
    uniform = rng.random((size.draws, n, 1))
    chosen = (uniform > laws.cumsum(1)[None]).sum(2).clip(max=CLASSES - 1)
    drawn = np.stack([_ratios(gram, _ones(each), fisher, norm, total) for each in chosen])
    shape["drawn"] = drawn.mean(0)
    predicted = float(fisher_scatter(gram, laws)) / norm
    error = drawn.std(0, ddof=1) / size.draws**0.5
    traces, products, cosines, distances = np.stack([shape[kind] for kind in KINDS], 1)
    root = (fisher**0.5)[:, None]
    eigenvalues = np.linalg.eigvalsh(root * gram * root.T)[::-1][:KEPT]
    return {
        "kind": list(KINDS),
        "trace_ratio": ("kind", traces),
        "product_ratio": ("kind", products),
        "cosine": ("kind", cosines),
        "distance": ("kind", distances),
        "trace_ratio_drawn_stderr": error[0],
        "product_ratio_drawn_stderr": error[1],
        "distance_drawn_stderr": error[3],
        "distance_predicted": predicted,
        "fisher_eigenvalues": ("mode", np.pad(eigenvalues, (0, KEPT - len(eigenvalues)))),
        "fisher_participation": total**2 / norm,
    }


def _ones(chosen):
    """Weight 1 / n on the label of each example, flat."""
    return (np.eye(CLASSES)[chosen] / len(chosen)).ravel()


def _ratios(gram, weights, fisher, norm, total):
    """Tr A / Tr F, <A, F> / |F|^2, the cosine, and |A - F|^2 / |F|^2."""
    product, own = (
        float(fisher_inner_product(gram, weights, fisher)),
        float(fisher_inner_product(gram, weights, weights)),
    )
    return np.asarray(
        [
            float(fisher_trace(gram, weights)) / total,
            product / norm,
            product / math.sqrt(norm * own),
            (own + norm - 2 * product) / norm,
        ]
    )


def against_hessian(module, inputs, labels, *, size: Size, rng) -> dict:
    """The centred covariance under the data's labels, its spectrum, and how the Hessian lies."""
    losses = partial(F.cross_entropy, reduction="none")
    problem, theta = as_problem(module, losses, inputs, labels)
    covariance = Gram(per_example_gradients(module, losses, inputs, labels), 1 / len(labels))
    lies = alignment(
        covariance, lambda v: problem.hvp(theta, v), 10, n_probes=size.probes, rng=rng
    )
    eigenvalues = covariance.eigenvalues().double().numpy()[:KEPT]
    return {
        "noise_eigenvalues": ("mode", np.pad(eigenvalues, (0, KEPT - len(eigenvalues)))),
        "noise_participation": float(covariance.participation_ratio()),
        "hessian_cosine": lies.cosine.value,
        "hessian_cosine_stderr": lies.cosine.stderr,
        "overlap": lies.overlap,
        "exponent": lies.exponent.value,
        "exponent_stderr": lies.exponent.stderr,
    }


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All networks and seeds, on `jobs` processes; what is finished is kept in `folder`."""
    grid: dict[str, list] = {"net": list(size.nets), "seed": list(range(size.seeds))}
    return sweep_one(partial(run, size=size), grid, folder, jobs=jobs, cluster=cluster)


def main(
    small: Small = False,
    seeds: Annotated[
        int | None, Option(help="trainings of each network", show_default="4, small 2")
    ] = None,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Train two networks, and hold the shape of their gradient noise against curvature."""
    size = SMALL if small else FULL
    size = size._replace(seeds=size.seeds if seeds is None else seeds)
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.seeds < 2:
            raise ValueError(f"an error needs at least 2 seeds, not {size.seeds}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
