"""The trained regressions, and the files in which they are shipped.

reference.npz holds the simulated manifolds that the regressions are fitted to.  forest.npz holds
the grown trees, so that predictions do not depend on the installed scikit-learn; it is
self-consistent with reference.npz alone.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.dimension._trained._features import Balls

N_TREES = 200
REFERENCE = Path(__file__).with_name("reference.npz")
FOREST = Path(__file__).with_name("forest.npz")


class TrainedModel(NamedTuple):
    """Two regressions of corrections on coordinates (m, c): a Gaussian process and a forest.

    coordinates, lengths, weights: those of the process.  roots (trees,): the first node of each
    tree; of each node, feature, threshold, left and right child, and value.  A leaf is its own
    child.
    """

    coordinates: Any
    lengths: Any
    weights: Any
    roots: Any
    feature: Any
    threshold: Any
    left: Any
    right: Any
    value: Any


@cache
def load(noisy: bool = False) -> tuple[Balls, TrainedModel]:
    """The balls and the trained model that are shipped with the package."""
    kind = "noisy" if noisy else "clean"
    with np.load(REFERENCE) as arrays:
        balls = Balls(arrays["sizes"], arrays["dimensions"], arrays["features"])
        names = ("coordinates", "residuals", "lengths", "variance")
        inputs, residuals, *process = (arrays[f"{kind}_{name}"].astype(float) for name in names)
    with np.load(FOREST) as arrays:
        forest = [arrays[f"{kind}_{name}"] for name in ("leaf", "feature", "threshold")]
    return balls, assemble(inputs, residuals, process[0], process[1], unpack(*forest))


def grow(coordinates: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, ...]:
    """The forest for these data: of all nodes whether a leaf, of the others feature and threshold.

    The nodes of each tree are in depth-first order, as scikit-learn has them, so that the left
    child follows its parent.  scikit-learn compares inputs in single precision with thresholds in
    double precision; thresholds rounded down to single precision decide in the same way.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(N_TREES, min_samples_leaf=2, max_features=0.7, random_state=0)
    trees = [tree.tree_ for tree in forest.fit(coordinates, residuals).estimators_]
    leaf = np.concatenate([tree.children_left < 0 for tree in trees])
    feature, threshold = (
        np.concatenate([getattr(tree, name) for tree in trees])[~leaf]
        for name in ("feature", "threshold")
    )
    rounded = threshold.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return leaf, feature.astype(np.int8), np.where(rounded > threshold, below, rounded)


def unpack(leaf, feature, threshold) -> tuple[Any, Any, Any, Any, Any]:
    """Roots (trees,), and feature, threshold, left and right child of every node."""
    nodes = np.arange(leaf.size)
    roots, left, right = [0], np.where(leaf, nodes, nodes + 1), nodes.copy()
    parents: list[int] = []  # of which the right child is still to come
    for node, is_leaf in enumerate(leaf.tolist()):
        if not is_leaf:
            parents.append(node)
        elif parents:
            right[parents.pop()] = node + 1
        else:
            roots.append(node + 1)  # the tree is complete
    features, thresholds = np.zeros(leaf.size, np.int8), np.zeros(leaf.size, np.float32)
    features[~leaf], thresholds[~leaf] = feature, threshold
    return np.asarray(roots[:-1]), features, thresholds, left, right


def assemble(
    coordinates, residuals, lengths, variance, forest: tuple[Any, Any, Any, Any, Any]
) -> TrainedModel:
    """The model of residuals (m,) at coordinates (m, c), with an unpacked forest.

    variance: of the noise, in units of that of the process.  The value of a leaf is the mean
    residual of the data in it.
    """
    noise = variance * np.eye(len(residuals))
    weights = np.linalg.solve(matern(coordinates, coordinates, lengths) + noise, residuals)
    leaves = descend(coordinates, *forest)
    counts, totals = (
        np.bincount(leaves.ravel(), np.tile(v, len(forest[0])), minlength=forest[1].size)
        for v in (np.ones(len(residuals)), residuals)
    )
    value = totals / np.maximum(counts, 1)
    return TrainedModel(coordinates, lengths, weights, *forest, value)


def fit(coordinates: np.ndarray, residuals: np.ndarray, lengths, variance) -> TrainedModel:
    """The trained model for these data, with a forest grown by the installed scikit-learn."""
    forest = unpack(*grow(coordinates, residuals))
    return assemble(coordinates, residuals, lengths, variance, forest)


def descend(inputs, roots, feature, threshold, left, right) -> np.ndarray:
    """The leaves (trees, k) that inputs (k, c) reach."""
    inputs = inputs.astype(np.float32)
    row, node = np.arange(len(inputs)), np.tile(roots[:, None], (1, len(inputs)))
    while True:
        child = np.where(inputs[row, feature[node]] <= threshold[node], left[node], right[node])
        if np.array_equal(child, node):
            return node
        node = child


def matern(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The Matern covariance of smoothness 3/2 between inputs (m, c) and (k, c).  -> (m, k)"""
    squared = np.zeros((len(a), len(b)))
    for column, length in enumerate(lengths):  # all at once take 11 times the memory
        squared += ((a[:, column, None] - b[None, :, column]) / length) ** 2
    distance = np.sqrt(3 * squared)
    return (1 + distance) * np.exp(-distance)
