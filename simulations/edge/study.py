"""The edge of stability: mean paths by theory beside gradient descent and SGD.

Tanh networks learn images at rates at which the largest curvature reaches 2 / rate.  The mean path,
the loss, the curvature and the participation ratio (PR) of every layer are compared with
`theory.central_flow`, with the gradient flow, and, under minibatches, with a gap of other size.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise.lab import Study, option
from sgdnoise.noise import batch_sharpness
from sgdnoise.theory import central_flow
from simulations._vision import check_data
from simulations.edge import claims, figure
from simulations.edge._networks import convnet, images, perceptron
from simulations.edge._training import Course

LAYERS = 3  # hidden layers, at most
BATCHES = (4, 8, 16, 32, 64, 128)
DIRECTIONS = {"descent": 4, "sgd": 3}  # of the central flow
WINDOW = 8  # steps over which the covariance of SGD is constant in theory
DRAWS = 4  # pairs of theta for the batch sharpness of theory


class Case(NamedTuple):
    """A network, its images, and the rate of its training."""

    net: str
    kind: str
    pixels: int
    rate: float
    images: int = 256
    hidden: tuple = (20, 20)
    batches: tuple = BATCHES


CONV: dict[str, Any] = {"hidden": ((6, 8), 16), "images": 128, "batches": (16,)}
CASES = {
    "perceptron, MNIST": Case("perceptron", "MNIST", 14, 0.3),
    "perceptron, CIFAR": Case("perceptron", "CIFAR", 8, 0.15, batches=(16, 64)),
    "convnet, MNIST": Case("convnet", "MNIST", 14, 0.1, **CONV),
    "convnet, CIFAR": Case("convnet", "CIFAR", 8, 0.15, **CONV),
}


def course_of(setting: Case, data, count: int) -> Course:
    """The training of a case; without a folder of data its images are of 8 x 8 pixels."""
    pixels = 8 if data is None else setting.pixels
    inputs, targets = images(data, setting.kind, min(count, setting.images), pixels)
    if setting.net == "perceptron":
        return Course(perceptron(inputs, targets, setting.hidden), setting.rate)
    return Course(convnet(inputs, targets, *setting.hidden), setting.rate)


def run(
    case: str,
    *,
    data,
    real: bool,
    images: int,
    networks: int,
    chains: int,
    batches,
    rate,
    every: int,
    windows: int,
) -> xr.Dataset:
    """Descent of several networks, and SGD of the first one, each beside its flow.

    real: whether data are read.  images: at most.  networks: initial weights.  chains: of SGD for
    each batch.  batches, rate: None for those of the case.  every, windows: steps, and number, of
    windows over which the weights are averaged.
    """
    setting = CASES[case] if rate is None else CASES[case]._replace(rate=rate)
    course = course_of(setting, data if real else None, images)
    starts = [course.begin(seed) for seed in range(networks)]
    parts = [_descent(course, start, every, windows) for start in starts]
    result = xr.concat(parts, "network").assign(rate=setting.rate, parameters=course.net.size)
    sizes = [size for size in BATCHES if size in (batches or setting.batches)]
    noisy = [_sgd(course, starts[0], size, every, windows, chains) for size in sizes]
    index = xr.IndexVariable("batch", sizes)
    return result.merge(xr.concat(noisy, index).reindex(batch=list(BATCHES)))


def _descent(course, start, every, windows) -> xr.Dataset:
    """Descent, the gradient flow, and the central flow from the same weights."""
    k = min(DIRECTIONS["descent"], course.net.size)
    central, flow = _central(course, start, every, windows, directions=k)
    paths = {
        "descent": course.descent(start, every, windows),
        "gradient flow": course.flow(start, every, windows),
        "central flow": central,
    }
    single = [_single(course, *pair) for pair in zip(flow.theta, flow.covariance, strict=True)]
    variables: dict[str, Any] = {
        "single": (("window", "moment"), np.asarray(single)),
        "sharpness": (("how", "window"), np.stack([r.sharpness[:, 0] for r in paths.values()])),
        "ratio": (("how", "window", "layer"), np.stack([_padded(r) for r in paths.values()])),
        "loss": (("how", "window"), np.stack([r.loss for r in paths.values()])),
        "still_loss": ("window", flow.loss),
        "unstable": ("window", (flow.curvatures > 1.99 / course.rate).sum(1)),
    }
    for name in ("gradient flow", "central flow"):
        gaps = np.asarray(paths["descent"].theta - paths[name].theta)
        variables[f"distance_{name.split()[0]}"] = ("window", np.linalg.norm(gaps, axis=1))
    middle = every // 2 + every * np.arange(windows)
    moments = ["oscillation", "gradient", "curvature"]
    coordinates = {"how": list(paths), "step": ("window", middle), "moment": moments}
    return xr.Dataset(variables, coordinates)


def _single(course, theta, covariance):
    """Along the largest oscillation: its variance, and those of gradients and curvatures."""
    _, sizes, directions = np.linalg.svd(np.asarray(covariance.rows), full_matrices=False)
    if not sizes[0] > 0:
        return [np.nan] * 3
    direction = jnp.asarray(directions[0])

    def losses(t):
        return course.problem.losses(t, *course.problem.examples)

    def slopes(t):
        return jax.jvp(losses, (t,), (direction,))[1]

    bends = jax.jvp(slopes, (theta,), (direction,))[1]
    return [float(sizes[0] ** 2), float(slopes(theta).var()), float(bends.var())]


def _central(course, start, every, windows, **options):
    """The central flow at the middle of each window, and all that it returns there."""
    flow = central_flow(
        course.problem,
        start,
        learning_rate=course.rate,
        steps=every * windows - every // 2,
        every=every // 2,
        **options,
    )
    middle = slice(0, None, 2)
    at = flow._replace(
        time=flow.time[middle],
        theta=flow.theta[middle],
        loss=flow.loss[middle],
        mean_loss=flow.mean_loss[middle],
        curvatures=flow.curvatures[middle],
        covariance=flow.covariance[middle],
        isotropic=flow.isotropic[middle],
    )
    return course.records(at.theta, at.mean_loss), at


def _sgd(course, start, batch, every, windows, chains) -> xr.Dataset:
    """SGD with one batch size, beside its central flow; nan where that has no law at rest."""
    records, batches = course.sgd(start, every, windows, batch=batch, chains=chains, seed=batch)
    axes = ("chain", "window")
    variables: dict[str, Any] = {
        "sgd_sharpness": (axes, np.stack([r.sharpness[:, 0] for r in records])),
        "sgd_loss": (axes, np.stack([r.loss for r in records])),
        "sgd_ratio": ((*axes, "layer"), np.stack([_padded(r) for r in records])),
        "batch_sharpness": (axes, batches),
        "trace": float(np.mean([course.trace(r.theta[-1]) for r in records[:1]])),
    }
    names = "flow_sharpness", "flow_loss", "flow_still_loss", "flow_batch_sharpness", "flow_ratio"
    values = _flow_of_sgd(course, start, batch, every, windows)
    for name, value in zip(names, values, strict=True):
        variables[name] = (("window", "layer")[: np.ndim(value)], value)
    return xr.Dataset(variables)


def _flow_of_sgd(course, start, batch, every, windows):
    """Sharpness, mean loss, loss at the mean, batch sharpness and ratios of the central flow."""
    options = {"directions": DIRECTIONS["sgd"], "batch_size": batch, "window": WINDOW}
    try:
        central, flow = _central(course, start, every, windows, **options)
    except ValueError:  # noise leaves no law at rest
        blank = np.full(windows, np.nan)
        return blank, blank, blank, blank, np.full((windows, LAYERS), np.nan)
    measure = jax.jit(lambda theta: batch_sharpness(course.problem, theta, batch))
    rng, batches = np.random.default_rng(0), np.full(windows, np.nan)
    for window in range(windows // 2, windows):
        draws = _draws(flow, window, rng)
        batches[window] = np.mean([float(measure(theta)) for theta in draws])
    return central.sharpness[:, 0], central.loss, flow.loss, batches, _padded(central)


def _draws(flow, window, rng):
    """Pairs of theta about the mean, of the covariance of the flow."""
    rows, theta = np.asarray(flow.covariance[window].rows), flow.theta[window]
    basis = np.linalg.svd(rows, full_matrices=False)[2]
    for _ in range(DRAWS):
        outside = rng.normal(size=theta.shape)
        outside -= basis.T @ (basis @ outside)
        shift = rng.normal(size=len(rows)) @ rows + flow.isotropic[window] ** 0.5 * outside
        for sign in (1, -1):
            yield theta + sign * jnp.asarray(shift, theta.dtype)


def _padded(records):
    """Ratios (t, LAYERS), with nan for layers that a network does not have."""
    ratios = np.full((len(records.ratios), LAYERS), np.nan)
    ratios[:, : records.ratios.shape[1]] = records.ratios
    return ratios


def check(parameters: dict) -> None:
    """Raises ValueError for a folder of data that does not exist or is not read."""
    check_data(parameters["data"], parameters["real"])
    if parameters["every"] % 2:
        raise ValueError(f"every must be even, not {parameters['every']}")


study = Study(
    run,
    grid={"case": [*CASES]},
    sizes={
        "full": {
            "data": None,
            "real": True,
            "images": 256,
            "networks": 2,
            "chains": 6,
            "batches": None,
            "rate": None,
            "every": 56,
            "windows": 8,
        },
        "small": {
            "case": ["perceptron, MNIST"],
            "real": False,
            "images": 40,
            "networks": 2,
            "chains": 2,
            "batches": (16,),
            "rate": 0.38,
            "every": 10,
            "windows": 2,
        },
    },
    options={
        "case": option(list, "only this case; may be repeated", choices=list(CASES)),
        "data": option(str, "folder with the files of MNIST and CIFAR-10; else they are fetched"),
        "chains": option(int, "chains of SGD for each batch size", least=2),
        "networks": option(int, "initial weights of descent", least=2),
    },
    check=check,
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
