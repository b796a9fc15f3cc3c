"""The outputs of a residual network, block by block, and their dimension from one Gram matrix."""

import numpy as np
import torch
from torch import nn

from sgdnoise.dimension import Neighbours, participation_ratio, twonn

CHUNK = 250  # photographs in a forward pass
PLACES = ("input", "stem", "quarter", "middle", "three quarters", "last block", "logits")
ROUNDING = 1e-12  # of the largest squared distance, below which points coincide


def names_of(net: nn.Module) -> list[str]:
    """The modules whose outputs are measured: the stem, every block, and the logits."""
    stages = ("layer1", "layer2", "layer3")
    blocks = [f"{at}.{i}" for at in stages for i, _ in enumerate(net.get_submodule(at).children())]
    return ["relu", *blocks, "linear"]


def places(layers: int) -> dict[str, int]:
    """Name -> index of the layers that are tabulated, of input, stem, blocks and logits."""
    last = layers - 2
    inside = [1 + round(fraction * (last - 1)) for fraction in (0.25, 0.5, 0.75)]
    return dict(zip(PLACES, (0, 1, *inside, last, last + 1), strict=True))


def relative_depths(blocks: int) -> np.ndarray:
    """Layers of weights before the input, the stem, each block and the logits, over all of them."""
    weights = np.r_[0, 1, 1 + 2 * np.arange(1, blocks + 1), 2 * blocks + 2]
    return weights / weights[-1]


@torch.no_grad()
def outputs(net: nn.Module, inputs) -> list[torch.Tensor]:
    """The input, and the outputs of `names_of`, (n, ...) each."""
    modules, names = dict(net.named_modules()), names_of(net)
    chunks: dict[str, list] = {name: [] for name in names}
    handles = [
        modules[name].register_forward_hook(
            lambda _, __, output, chunk=chunks[name]: chunk.append(output)
        )
        for name in names
    ]
    try:
        for chunk in inputs.split(CHUNK):
            net(chunk)
    finally:
        for handle in handles:
            handle.remove()
    return [inputs, *(torch.cat(chunks[name]) for name in names)]


def pooled(rows: torch.Tensor) -> torch.Tensor:
    """Means over the positions of images, (n, channels)."""
    return rows.flatten(2).mean(2) if rows.ndim > 2 else rows


def gram(rows: torch.Tensor) -> np.ndarray:
    """Inner products of the centred rows.  (n, ...) -> (n, n), in float64"""
    rows = rows.flatten(1)
    rows = rows if rows.shape[1] > len(rows) else rows.double()
    centred = rows - rows.mean(0)
    return (centred @ centred.T).double().numpy()


def unbiased_ratio(rows: torch.Tensor) -> float:
    """The participation ratio of the units, unbiased for independent photographs."""
    rows = rows.flatten(1)
    rows = rows if rows.shape[1] > len(rows) else rows.double()
    return float(participation_ratio(rows, method="unbiased"))


def twonn_of(products: np.ndarray) -> float:
    """TwoNN of points with these inner products."""
    diagonal = np.diag(products)
    squared = diagonal[:, None] + diagonal - 2 * products
    coincide = squared <= ROUNDING * squared.max()
    np.fill_diagonal(coincide, True)
    distances = np.sqrt(np.where(coincide, np.inf, squared))
    index = np.argpartition(distances, 2, axis=1)[:, :2]
    nearest = np.take_along_axis(distances, index, axis=1)
    order = np.argsort(nearest, axis=1)
    sorted_ = (np.take_along_axis(table, order, axis=1) for table in (nearest, index))
    return float(twonn(distances, neighbours=Neighbours(distances, *sorted_)))


def variances_of(products: np.ndarray) -> np.ndarray:
    """The variances of the principal components of points with these inner products."""
    values = np.linalg.eigvalsh(products)[::-1] / (len(products) - 1)
    return np.maximum(values, 0)


def surrogate_twonn(variances: np.ndarray, draws: int, rng) -> np.ndarray:
    """TwoNN of normal points of these variances, as many as variances, several times."""
    scale, shape = variances**0.5, (len(variances), len(variances))
    clouds = (rng.standard_normal(shape) * scale for _ in range(draws))
    return np.asarray([twonn_of(cloud @ cloud.T) for cloud in clouds])


def classes(features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The fraction of the variance within classes, and the participation ratio of class means."""
    means = np.stack([features[labels == k].mean(0) for k in np.unique(labels)])
    within = features - means[np.searchsorted(np.unique(labels), labels)]
    total = ((features - features.mean(0)) ** 2).sum()
    return float((within**2).sum() / total), float(participation_ratio(means))
