"""The estimated dimension of representations through depth, before, during and after training.

Perceptrons, VGG-11 and ResNet-20 learn digits and rendered images, whose true dimension is known
and which no layer can increase.  Each estimate is compared with that of Gaussian points of equal
covariance, with the rank of nearby images, and with how the map to the layer stretches.
"""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import nn

from sgdnoise.core import mean
from sgdnoise.data import rendered
from sgdnoise.dimension import learned
from sgdnoise.lab import Study, merge_sweeps, option, size_table
from sgdnoise.nets import as_problem
from sgdnoise.nets.models import mlp, preactivation_resnet, vgg
from simulations._vision import CLASSES, VARIED, images, layer_indices, layers
from simulations.depth_profile import claims, figure
from simulations.depth_profile._clouds import (
    MIN_POINTS,
    NAMES,
    NEAREST,
    estimates,
    factor,
    gram,
    ratio_to_surrogate,
    surrogate,
)
from simulations.depth_profile._maps import nearby_rank, padded, stretching

NETS, DATA = ("mlp7", "mlp3", "vgg11", "resnet20"), ("digits", "rendered")
TASKS = tuple(f"{net} {data}" for data in DATA for net in NETS)
MLP3_WIDTH = 500
MAX_RELUS = 8  # of a network
INPUTS = {2: ("x", "y"), 3: ("x", "y", "log_size"), 5: VARIED}  # whose dimension is estimated
MLP_STEPS = 3  # perceptrons make so many times as many steps
RATE, BATCH = 0.05, 32
TRAINED = 0.8  # fraction of the images
PROBES, HESSIAN_IMAGES = 10, 100  # random signs, and images, for the trace of the Hessian


def network(net: str, shape, units: int, channels: tuple[int, int], *, seed: int):
    """The network for images of a shape (channels, h, w)."""
    width = int(np.prod(shape))
    match net:
        case "mlp7":
            return mlp((width, *[units] * 6, CLASSES), seed=seed)
        case "mlp3":
            return mlp((width, *[MLP3_WIDTH] * 3, CLASSES), "tanh", seed=seed)
        case "vgg11":
            return vgg(channels[0], size=shape[1], inputs=shape[0], seed=seed)
    return preactivation_resnet((3, 3, 3), channels[1], CLASSES, shape[0], seed=seed)


def run(task: str, seed: int, *, size: dict, device: str) -> xr.Dataset:
    """One training, and the measures of its layers at each moment."""
    name, kind = task.split()
    data = images(kind, size["images"], size["pixels"], seed=seed)
    shape = data.inputs.shape[1:]
    net, initial = (
        network(name, shape, size["units"], size["channels"], seed=seed).to(device) for _ in "ab"
    )
    inputs, labels = (torch.asarray(array, device=device) for array in data[:2])
    rng, trained = np.random.default_rng([seed, 3]), int(TRAINED * len(inputs))
    sample = inputs[: min(trained, size["looked"])]
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    moments = [m * (MLP_STEPS if name.startswith("mlp") else 1) for m in size["moments"]]
    rows, step = [], 0
    for moment in moments:
        for _ in range(moment - step):
            index = torch.asarray(rng.integers(0, trained, BATCH), device=device)
            optimizer.zero_grad()
            F.cross_entropy(net(inputs[index]), labels[index]).backward()
            optimizer.step()
        step = moment
        columns = layer_measures(net, sample, size["tangents"], rng)
        columns |= network_measures(net, inputs, labels, trained, rng)
        columns |= nearby_rank(net, data.dimension, size["pixels"], seed=seed)
        rows.append(xr.Dataset(columns))
    fixed = {"step": ("moment", np.asarray(moments, float)), "layers": len(layer_indices(net))}
    fixed |= initial_measures(initial, sample, rng)
    fixed["true"] = float("nan" if data.dimension is None else data.dimension)
    coords = {"estimator": list(NAMES), "close": list(NEAREST)}
    return xr.concat(rows, "moment").assign(fixed).assign_coords(coords)


@torch.no_grad()
def layer_measures(net, inputs, tangents: int, rng) -> dict:
    """Estimates for each layer and its surrogate, and the stretching of the map to it."""
    outputs = layers(net, inputs)
    columns: dict[str, list] = {"estimate": [], "surrogate": []}
    ratios = []
    for index in layer_indices(net):
        products = gram(outputs[index])
        gaussian = surrogate(products, rng)
        columns["estimate"].append(_numbers(estimates(products)))
        columns["surrogate"].append(_numbers(estimates(gaussian)))
        ratios.append(ratio_to_surrogate(products, gaussian))
    variables = {
        f"{name}{suffix}": (("layer", "estimator"), padded([row[i] for row in rows]))
        for name, rows in columns.items()
        for i, suffix in enumerate(("", "_stderr"))
    }
    stretched = stretching(net, inputs, tangents)
    return variables | {"matched": ("layer", padded(ratios))} | stretched


def network_measures(net, inputs, labels, trained: int, rng) -> dict:
    """Accuracy in training and on the other images, loss, and the trace of its Hessian."""
    with torch.no_grad():
        outputs = torch.cat([net(chunk) for chunk in inputs.split(1000)])
    correct = (outputs.argmax(1) == labels).double()
    losses = partial(F.cross_entropy, reduction="none")
    problem, theta = as_problem(net, losses, inputs[:HESSIAN_IMAGES], labels[:HESSIAN_IMAGES])
    signs = rng.choice([-1.0, 1.0], (PROBES, len(theta)))
    signs = torch.asarray(signs, dtype=theta.dtype, device=theta.device)
    trace = mean(np.asarray([float(z @ problem.hvp(theta, z)) for z in signs]))
    return {
        "accuracy": float(correct[:trained].mean()),
        "accuracy_elsewhere": float(correct[trained:].mean()),
        "loss": float(losses(outputs[:trained], labels[:trained]).mean()),
        "hessian_trace": float(trace.value),
        "hessian_trace_stderr": float(trace.stderr),
    }


@torch.no_grad()
def initial_measures(net, inputs, rng) -> dict:
    """The factor of each ReLU on estimates, and how far a rotation changes any."""
    outputs = layers(net, inputs)
    relus = [i for i, module in enumerate(net) if isinstance(module, nn.ReLU)]
    value, stderr = np.full((2, MAX_RELUS, len(NEAREST)), np.nan)
    for row, i in enumerate(relus):
        estimate = factor(gram(outputs[i]), gram(outputs[i + 1]))
        value[row], stderr[row] = estimate.value, estimate.stderr
    return {
        "relu": (("layer_relu", "close"), value),
        "relu_stderr": (("layer_relu", "close"), stderr),
        "turned": change_by_rotation(outputs[layer_indices(net)[1]], rng),
    }


def change_by_rotation(rows, rng, times: int = 3) -> float:
    """Largest relative change of any estimate by an orthogonal layer made of reflections.

    Not of pixels: they lie on a lattice, where neighbours at equal distances have no order.
    """
    rotated = rows = rows.double()
    for _ in range(times):
        unit = torch.asarray(rng.standard_normal(rows.shape[1]), device=rows.device)
        rotated = rotated - 2 * torch.outer(rotated @ unit, unit) / (unit @ unit)
    before, after = (np.asarray(_numbers(estimates(gram(r)))[0]) for r in (rows, rotated))
    return float(np.nanmax(np.abs(after / before - 1)))


def input_dimension(latents: int, seed: int, *, looked: int, pixels: int) -> xr.Dataset:
    """The dimension of rendered images, by the estimator that was trained on manifolds."""
    data = rendered(looked, factors=INPUTS[latents], kinds=("disc",), size=pixels, rng=seed)
    return xr.Dataset({"learned": float(learned(data.inputs.reshape(looked, -1)))})


def _numbers(estimates):
    """Values and errors of estimates, two lists."""
    return [[float(getattr(e, key)) for e in estimates.values()] for key in ("value", "stderr")]


def execute(parameters: dict, session) -> xr.Dataset:
    """All tasks and seeds, and the dimension of inputs."""
    p, seeds = parameters, list(range(parameters["seeds"]))
    names = ("images", "looked", "moments", "pixels", "units", "channels", "tangents")
    train = partial(run, size={name: p[name] for name in names}, device=p["device"])
    inputs = partial(input_dimension, looked=p["looked"], pixels=p["pixels"])
    return merge_sweeps(
        session.sweep_all(
            {
                "nets": (train, {"task": list(p["task"]), "seed": seeds}),
                "inputs": (inputs, {"latents": list(p["latents"]), "seed": seeds}),
            }
        )
    )


def check(parameters: dict) -> None:
    """Raises ValueError for too few images to estimate a dimension."""
    if (trained := int(TRAINED * parameters["images"])) < MIN_POINTS:
        raise ValueError(
            f"the estimators need {MIN_POINTS} images or more in training, not {trained} of "
            f"{parameters['images']}"
        )


FULL, SMALL, CUDA = size_table(  # parameter: full, small, cuda
    {
        "task": (TASKS, ("mlp3 digits", "mlp3 rendered"), TASKS),
        "seeds": (3, 2, 3),
        "images": (3000, 500, 50_000),
        "looked": (600, 330, 2000),  # images that the estimators use
        "moments": ((0, 10, 100, 1000), (0, 40), (0, 10, 100, 1000, 10_000)),  # steps
        "pixels": (16, 8, 32),
        "units": (100, 24, 500),  # in each hidden layer of mlp7
        "channels": ((8, 8), (8, 8), (64, 16)),  # first of vgg11 and resnet20
        "tangents": (768, 64, 6144),  # directions in which the map to a layer is differentiated
        "latents": ((2, 3, 5), (2,), (2, 3, 5)),  # of images as inputs
    }
)

study = Study(
    execute=execute,
    sizes={"full": FULL, "small": SMALL, "cuda": CUDA},
    options={
        "task": option(list, "only this network on these images", choices=list(TASKS)),
        "seeds": option(int, "trainings of each task", least=2),
        "images": option(int, "images, 4 of 5 to train on"),
    },
    check=check,
    device="torch",
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
