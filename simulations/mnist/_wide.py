"""The participation ratio (PR) of layers of relus at random weights, for large widths.

As the width goes to infinity, units of a layer are independent given the images, and the inner
products of images follow from those one layer before by the arc-cosine kernel (Cho & Saul, 2009).
"""

import numpy as np

from sgdnoise.dimension import participation_ratio

UNITS = 1000  # drawn for the variance of one unit


def arc_cosine(products) -> np.ndarray:
    """Mean of 2 relu(w.x) relu(w.y) over normal w, from the inner products x.y.  (n, n) -> (n, n)

    |x| |y| (sin t + (pi - t) cos t) / pi, with t the angle between x and y.
    """
    norms = np.sqrt(np.diag(products))
    scale = norms[:, None] * norms
    cosine = np.clip(products / np.where(scale > 0, scale, 1), -1, 1)
    angle = np.arccos(cosine)
    return scale * (np.sin(angle) + (np.pi - angle) * cosine) / np.pi


def ratios(inputs, layers: int, width: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """PR of each hidden layer at a width, and for infinite width.  (n, d) -> (layers,), (layers,)

    1 / PR = 1 / PR_infinite + sum of v / width over the layers, to the first order in 1 / width: a
    layer adds the mean square v of the variance of one unit over images, in units of its mean.
    PR_infinite is unbiased for independent images; biases of the network are zero.
    """
    points, infinite, added = np.asarray(inputs, float), [], []
    for _ in range(layers):
        units = np.maximum(points @ rng.standard_normal((points.shape[1], UNITS)), 0).var(0)
        added.append(np.mean(units**2) / np.mean(units) ** 2)
        points = _points(arc_cosine(points @ points.T))
        infinite.append(float(participation_ratio(points, method="unbiased")))
    limit = np.asarray(infinite)
    return 1 / (1 / limit + np.cumsum(added) / width), limit


def _points(products):
    """Points with these inner products, (n, n)."""
    values, vectors = np.linalg.eigh(products)
    return vectors * np.sqrt(np.maximum(values, 0))
