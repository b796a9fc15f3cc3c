"""How the map from images to a layer stretches, and of what rank it makes images near to one."""

from copy import deepcopy

import numpy as np
import torch

from sgdnoise.data import render, scenes
from sgdnoise.dimension import jacobian_dimension
from simulations.depth_profile._nets import VARIED, shown, through

__all__ = ["beside", "padded", "slopes", "stretching"]

LAYERS = 13  # most that a network has
NEXT, FOREIGN = 1e-9, 1e-4  # how near images next to one another are; what counts for their rank
PLACES = 6  # images that others are next to
APART = 1e-6  # of pixels, by which slopes are found
VOLUME = 3  # directions that a volume has


def stretching(net, inputs, tangents: int) -> dict:
    """Local dimension, largest singular value and volume of the map from pixels to each layer.

    Means over as many images as `tangents` directions suffice for, of logarithms but for the
    dimension; the volume is that of the leading three directions (Chen et al., 2023).
    """
    twin, places = deepcopy(net).double(), shown(net)
    some = inputs[: max(1, tangents // inputs[0].numel())].double()
    rows = [[_stretches(each) for each in slopes(twin, image, places)] for image in some]
    values = np.mean(rows, axis=0)
    names = ("local_dimension", "log_sensitivity", "log_volume")
    return {name: ("layer", padded(values[:, i])) for i, name in enumerate(names)}


@torch.no_grad()
def slopes(net, image, places) -> list:
    """Jacobians of the maps from pixels to layers, transposed, (D, m) each, in float64.

    By central differences, which for units with corners are exact where none is within `APART`.
    """
    parts = []
    for units in torch.eye(image.numel(), dtype=image.dtype, device=image.device).split(256):
        moved = APART * units.reshape(-1, *image.shape)
        above, below = through(net, image + moved), through(net, image - moved)
        parts.append([(above[at] - below[at]) / (2 * APART) for at in places])
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def _stretches(slopes):
    """Of a Jacobian, transposed (D, m)."""
    gram = slopes.T @ slopes if slopes.shape[1] < len(slopes) else slopes @ slopes.T
    values = torch.linalg.eigvalsh(gram).flip(0).clamp(min=1e-300).log() / 2
    dimension = float(jacobian_dimension(slopes[None])[0])
    return dimension, float(values[0]), float(values[:VOLUME].sum())


@torch.no_grad()
def beside(net, dimension, pixels: int, *, seed: int) -> dict:
    """Rank of images next to one another: local principal components of 3 d of them.

    Latents differ by `NEXT` of their range, in float64, and what is below `FOREIGN` of the largest
    singular value is not counted.  Largest and least over some images, and the participation ratio.
    """
    ranks = np.full((PLACES, LAYERS), np.nan)
    spread = np.full((PLACES, LAYERS), np.nan)
    if dimension is not None:
        device = next(net.parameters()).device
        twin = deepcopy(net).double()
        middles = scenes(PLACES, factors=VARIED, rng=[seed, 5])
        steps = NEXT * scenes(3 * dimension, factors=VARIED, rng=[seed, 6])
        for i, middle in enumerate(middles):
            near = render(torch.asarray(middle + steps, device=device), size=pixels)
            every = through(twin, near)
            for layer, place in enumerate(shown(net)):
                values = torch.linalg.svdvals(every[place] - every[place].mean(0))
                ranks[i, layer] = int((values > FOREIGN * values[0]).sum())
                spread[i, layer] = float((values**2).sum() ** 2 / (values**4).sum())
    return {
        "rank": ("layer", ranks.max(0)),
        "rank_least": ("layer", ranks.min(0)),
        "next_dimension": ("layer", spread.mean(0)),
    }


def padded(rows):
    """Rows of layers (l, ...) with nan for those that the network has not, (LAYERS, ...)."""
    rows = np.asarray(rows, float)
    return np.pad(
        rows,
        [(0, LAYERS - len(rows)), *[(0, 0)] * (rows.ndim - 1)],
        constant_values=np.nan,
    )
