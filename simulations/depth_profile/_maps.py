"""How the map from images to a layer stretches, and the rank of nearby images in a layer."""

from copy import deepcopy

import numpy as np
import torch

from sgdnoise.core import eigenvalue_participation_ratio
from sgdnoise.data import render, scenes
from sgdnoise.dimension import jacobian_dimension
from simulations._vision import VARIED, layer_indices, layers

MAX_LAYERS = 13  # of a network
NEARBY, THRESHOLD = 1e-9, 1e-4  # differences of latents; singular values that count for the rank
CENTRES = 6  # images with nearby images
STEP = 1e-6  # of pixels, in differences
DIRECTIONS = 3  # of a volume


def stretching(net, inputs, tangents: int) -> dict:
    """Local dimension, largest singular value and volume of the map from pixels to each layer.

    Means over as many images as `tangents` directions suffice for, of logarithms but for the
    dimension; the volume is that of the three leading directions (Chen et al., 2023).
    """
    net, indices = deepcopy(net).double(), layer_indices(net)
    images = inputs[: max(1, tangents // inputs[0].numel())].double()
    rows = [[singular_values(j) for j in jacobians(net, image, indices)] for image in images]
    values = np.mean(rows, axis=0)
    names = ("local_dimension", "log_sensitivity", "log_volume")
    return {name: ("layer", padded(values[:, i])) for i, name in enumerate(names)}


@torch.no_grad()
def jacobians(net, image, indices) -> list:
    """Jacobians of the maps from pixels to layers, transposed, (D, m) each, in float64.

    By central differences, which for ReLU are exact where no corner is within STEP.
    """
    chunks = []
    for units in torch.eye(image.numel(), dtype=image.dtype, device=image.device).split(256):
        shift = STEP * units.reshape(-1, *image.shape)
        above, below = layers(net, image + shift), layers(net, image - shift)
        chunks.append([(above[i] - below[i]) / (2 * STEP) for i in indices])
    return [torch.cat(chunk) for chunk in zip(*chunks, strict=True)]


def singular_values(jacobian):
    """Local dimension, log largest singular value and log volume of a Jacobian (D, m)."""
    wide = jacobian.shape[1] < len(jacobian)
    gram = jacobian.T @ jacobian if wide else jacobian @ jacobian.T
    values = torch.linalg.eigvalsh(gram).flip(0).clamp(min=1e-300).log() / 2
    dimension = float(jacobian_dimension(jacobian[None])[0])
    return dimension, float(values[0]), float(values[:DIRECTIONS].sum())


@torch.no_grad()
def nearby_rank(net, dimension, pixels: int, *, seed: int) -> dict:
    """The rank of nearby images in each layer: local principal components of 3 d of them.

    Latents differ by NEARBY of their range, in float64, and singular values below THRESHOLD of the
    largest do not count.  Largest and smallest over several centres, and the participation ratio.
    """
    ranks, ratios = np.full((2, CENTRES, MAX_LAYERS), np.nan)
    if dimension is not None:
        device, twin = next(net.parameters()).device, deepcopy(net).double()
        centres = scenes(CENTRES, factors=VARIED, rng=np.random.default_rng([seed, 5]))
        steps = NEARBY * scenes(3 * dimension, factors=VARIED, rng=np.random.default_rng([seed, 6]))
        for i, centre in enumerate(centres):
            images = render(torch.asarray(centre + steps, device=device), size=pixels)
            outputs = layers(twin, images)
            for j, index in enumerate(layer_indices(net)):
                values = torch.linalg.svdvals(outputs[index] - outputs[index].mean(0))
                ranks[i, j] = int((values > THRESHOLD * values[0]).sum())
                ratios[i, j] = float(eigenvalue_participation_ratio(values**2))
    return {
        "rank": ("layer", ranks.max(0)),
        "rank_least": ("layer", ranks.min(0)),
        "next_dimension": ("layer", ratios.mean(0)),
    }


def padded(rows):
    """Rows of layers (l, ...) with missing values up to MAX_LAYERS."""
    rows = np.asarray(rows, float)
    width = [(0, MAX_LAYERS - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
    return np.pad(rows, width, constant_values=np.nan)
