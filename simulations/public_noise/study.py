"""Gradient noise of residual networks that others trained on GPUs.

Public ResNet-20, 32, 44 and 56 with frozen batch norm see training photographs with their original
labels.  Measured are the noise covariance C, its spectrum, layers and alignment with curvature;
second moments under labels that the network draws itself against its Fisher information; the gain
of one step against the batch; and the kurtosis of the noise against the batch.
"""

import numpy as np
import xarray as xr

from sgdnoise.core import GradientMatrix
from sgdnoise.lab import Study, option
from sgdnoise.noise import gradient_noise_scale
from simulations._vision import check_data, public_resnet, stand_in
from simulations._vision import photographs as cifar_photographs
from simulations.public_noise import _kurtosis as kurtosis
from simulations.public_noise import claims, figure
from simulations.public_noise._fisher import Fisher, calibrated_temperature
from simulations.public_noise._network import Place, layers_of, stages_of
from simulations.public_noise._steps import Curvature, gains, simple_scale

DEPTHS = (20, 32, 44, 56)
BATCHES = (8, 16, 32, 64, 128)
SHARES = (0.5, 1.0)  # of the best rate of a batch
STAGES = ("stem", "stage 1", "stage 2", "stage 3", "readout")
LAYERS = 2 + (max(DEPTHS) - 2) // 2  # stem, blocks, readout
SEPARATE = 2000  # other photographs, on which the temperature is fitted


def run(
    depth: int,
    *,
    data,
    trained: bool,
    photographs: int,
    deeper: int,
    pixels: int,
    labelled: int,
    leading: int,
    probes: int,
    steps: int,
    draws: int,
    projections: int,
    device: str,
) -> xr.Dataset:
    """All measures of one network.

    photographs: the population of ResNet-20, `deeper` that of the others.  labelled: of these, how
    many have gradients under every label.  leading: eigenvectors of C along which curvature is
    exact.  steps: batches of each size.  draws: of labels, and of batches for the kurtosis.
    """
    n = photographs if depth == DEPTHS[0] else deeper
    rng = np.random.default_rng(depth)
    place, logits, labels = _place(depth, n, data, trained, pixels, device)
    gradients = place.gradients()
    batches = [b for b in BATCHES if b <= n // 2]
    values = _noise(place, gradients, photographs, leading, probes, rng)
    curvature = values.pop("curvature")
    step = gains(place, gradients, curvature, batches, SHARES, steps, rng)
    padding = len(BATCHES) - len(batches)
    for name in ("gain", "gain_stderr"):
        rows = np.pad(step[name], ((0, padding), (0, 0)), constant_values=np.nan)
        values[name] = (("batch", "share"), rows)
    values["exact"], values["rate"] = ("share", step["exact"]), step["rate"]
    values |= _kurtoses(place, gradients, batches, projections, draws, rng)
    values |= _fisher(place, labelled, draws, calibrated_temperature(logits, labels), rng)
    values |= {"trained": trained, "examples": n}
    return xr.Dataset(values, {"batch": [*BATCHES], "share": [*SHARES], "stage": [*STAGES]})


def _place(depth, n, data, trained, pixels, device):
    """The network on its photographs; logits and labels of others, which fit a temperature."""
    if trained:
        net, (inputs, labels) = public_resnet(depth, data), cifar_photographs(n, data)
        others, other_labels = cifar_photographs(SEPARATE, data, start=n)
    else:
        net, inputs, labels = stand_in(n, pixels)
        others, other_labels = inputs, labels
    place = Place(net.to(device), inputs.to(device), labels.to(device))
    logits = Place(place.net, others.to(device), other_labels.to(device)).logits()
    return place, logits, other_labels.to(device)


def _noise(place, gradients, size, leading, probes, rng) -> dict:
    """Spectrum, scales, alignment and layers of C; and the curvature, which steps need."""
    curvature = Curvature(place, gradients, leading, probes, rng)
    spectrum, square = curvature.eigenvalues, curvature.square
    values = {
        "curvature": curvature,
        "eigenvalues": ("rank", np.pad(spectrum, (0, size - len(spectrum)))),
        "participation": spectrum.sum() ** 2 / np.sum(spectrum**2),
        "captured": spectrum[:leading].sum() / spectrum.sum(),
        "square": square,
        "loss": place.loss(place.theta),
        "accuracy": float((place.logits().argmax(1) == place.labels).double().mean()),
        "simple": simple_scale(gradients),
        "curvature_along": curvature.along_gradient(curvature.hessian),
    }
    of_all = gradient_noise_scale(GradientMatrix(gradients))  # for photographs not seen
    values["simple_low"], values["simple_high"] = of_all.interval()
    for name, form in (("hessian", curvature.hessian), ("gauss_newton", curvature.gauss_newton)):
        aligned = curvature.aligned(form)
        values[f"{name}_scale"], values[f"{name}_scale_stderr"] = curvature.scale(form)
        values[f"{name}_cosine"], values[f"{name}_overlap"] = aligned.cosine.value, aligned.overlap
        values[f"{name}_exponent"] = aligned.exponent.value
        values[f"{name}_exponent_stderr"] = aligned.exponent.stderr
    layers = layers_of(place.net)
    centred = gradients - gradients.mean(0)
    traces = [float(centred[:, at].square().sum()) / len(centred) for at in layers.values()]
    sizes = [at.stop - at.start for at in layers.values()]
    for name, numbers in (("layer_trace", traces), ("layer_size", sizes)):
        padded = np.pad(
            np.asarray(numbers, float), (0, LAYERS - len(numbers)), constant_values=np.nan
        )
        values[name] = ("layer", padded)
    return values


def _kurtoses(place, gradients, batches, projections, draws, rng) -> dict:
    """Kurtosis of the whole gradient, and of that of each stage."""
    centred = gradients - gradients.mean(0)
    whole = kurtosis.of_group(centred, batches, projections, draws, rng)
    parts = [
        kurtosis.of_group(centred[:, at], batches, kurtosis.COLUMNS, draws, rng)
        for at in stages_of(place.net).values()
    ]
    padding = (0, len(BATCHES) - len(batches))
    values: dict = {"kurtosis_norms": whole["norms"], "kurtosis_single": whole["single"]}
    values["kurtosis_pooled"] = whole["pooled"]
    values["kurtosis_pooled_stderr"] = whole["pooled_stderr"]
    for name in ("predicted", "measured", "measured_stderr"):
        rows = [np.pad(g[name], padding, constant_values=np.nan) for g in (whole, *parts)]
        values[f"kurtosis_{name}"] = ("batch", rows[0])
        values[f"stage_kurtosis_{name}"] = (("stage", "batch"), np.asarray(rows[1:]))
    values["stage_kurtosis_single"] = ("stage", [part["single"] for part in parts])
    return values | {"stage_trace": ("stage", [part["trace"] for part in parts])}


def _fisher(place, labelled, draws, temperature, rng) -> dict:
    """Second moments under drawn labels, under those of the photographs, and calibrated ones."""
    logits = place.logits()[:labelled].double()
    fisher = Fisher(place.gradients_by_label(labelled), logits.softmax(1).cpu().numpy())
    directions, _ = fisher.leading()
    drawn = fisher.drawn(directions, stages_of(place.net), draws, rng)
    along = float(place.gauss_newton(directions, labelled).trace())
    drawn["along"] = tuple(number / along for number in drawn["along"])
    values: dict = {"temperature": temperature}
    for name in ("trace", "product", "distance", "along"):
        values[f"drawn_{name}"], values[f"drawn_{name}_stderr"] = drawn[name]
    values["drawn_stage"] = ("stage", [drawn[stage][0] for stage in STAGES])
    values["drawn_stage_stderr"] = ("stage", [drawn[stage][1] for stage in STAGES])
    given = fisher.given(place.labels[:labelled].cpu().numpy())
    for name, (value, error) in given.items():
        values[f"given_{name}"], values[f"given_{name}_stderr"] = value, error
    values["calibrated_trace"] = fisher.under((logits / temperature).softmax(1).cpu().numpy())
    return values | {"fisher_participation": fisher.trace**2 / fisher.square}


def check(parameters: dict) -> None:
    """Raise ValueError for a folder that does not exist, and numbers that rise."""
    check_data(parameters["data"], parameters["trained"])
    if (
        parameters["labelled"] > parameters["deeper"]
        or parameters["deeper"] > parameters["photographs"]
    ):
        raise ValueError(
            f"labelled {parameters['labelled']}, deeper {parameters['deeper']} and photographs "
            f"{parameters['photographs']} must not fall"
        )


study = Study(
    run,
    grid={"depth": [*DEPTHS]},
    sizes={
        "full": {
            "data": None,
            "trained": True,
            "photographs": 256,
            "deeper": 128,
            "pixels": 32,
            "labelled": 64,
            "leading": 24,
            "probes": 4,
            "steps": 12,
            "draws": 40_000,
            "projections": 2048,
        },
        "small": {
            "depth": [20],
            "trained": False,
            "photographs": 40,
            "deeper": 40,
            "pixels": 8,
            "labelled": 20,
            "leading": 12,
            "steps": 8,
            "draws": 4000,
            "projections": 256,
        },
        "cuda": {"photographs": 1024, "deeper": 1024, "leading": 48},
    },
    options={
        "depth": option(list, "only this depth; may be repeated", choices=[*DEPTHS]),
        "data": option(str, "folder with CIFAR-10 and the checkpoints; else they are fetched"),
        "photographs": option(int, "photographs that ResNet-20 sees", least=32),
        "deeper": option(int, "photographs that the deeper networks see", least=32),
        "steps": option(int, "batches of each size", least=4),
    },
    check=check,
    claims=claims,
    figure=figure,
    device="torch",
)

if __name__ == "__main__":
    study.main()
