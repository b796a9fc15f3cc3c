"""The dimension we would answer with: what a cloud looks like, held against known manifolds."""

from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.dimension._points import Neighbours, check_points, find_neighbours
from sgdnoise.dimension._trained._features import MOST, Balls, coordinates, features

GROUPS = 5
LEAST = GROUPS * (MOST + 1)
TREES = 200
TABLE = Path(__file__).with_name("reference.npz")


class TrainedModel(NamedTuple):
    """Two regressions: weights (m,) of covariances with places (m, c), and a forest.

    The forest is arrays (tree, node): which coordinate, up to what bound, the node to go on to
    below it and above it, and the value there; a leaf leads to itself.
    """

    places: Any
    lengths: Any
    weights: Any
    coordinate: Any
    bound: Any
    below: Any
    above: Any
    value: Any


def estimate(points, *, noisy: bool = False) -> Estimate:
    r"""Dimension of a cloud by the most accurate means we have, and its error.  (n, D) -> ()

    The value is that of `learned`, the error statistical, that of `grouped` over 6 partitions: from
    its spread over halves and fifths of the points, of which the smaller follow the portrait less
    steadily, which is allowed for.
    On the 24 manifolds of Campadelli et al. (2015), of which it has seen none, docs/dimension.md
    says how far off it is, kind by kind; that is more than the statistical error says.
    Do not trust it above d = 80, on few points of a highly curved manifold, for lattices, for
    unions of pieces of several dimensions, or where noise is as large as the distance between
    neighbours; where there is noise, noisy=True looks below it, and is less accurate without.
    Raises ValueError as `cloud` does, and for fewer than 205 distinct points.
    """
    near = find_neighbours(check_points(points, least=LEAST), MOST)
    points = check_points(near.points, least=LEAST)
    return with_group_error(partial(learned, noisy=noisy), points, GROUPS, splits=6)


def learned(points, *, noisy: bool = False, neighbours: Neighbours | None = None):
    r"""Dimension of the known manifolds that look like the cloud.  (n, D) -> ()

    The cloud's `portrait`, held against those of uniform balls of as many points, gives a dimension
    at each of several scales; how these differ says what curvature, edges and uneven density have
    done.  That is learned from simulated manifolds (`simulations/reference.py`), with noise of 1 to
    10% of the radius if `noisy`: the mean of a Gaussian process and of extremely randomised trees
    (Geurts et al., 2006).
    Raises ValueError for fewer than 41 points.
    """
    near = find_neighbours(points, MOST, neighbours)
    xp, n = namespace(near.points), near.points.shape[0]
    balls, regression = reference(noisy)
    place = coordinates(balls, as_numpy(features(near.points, neighbours=near)), n)
    found = np.exp(place[0] + predict(regression, place))
    return xp.asarray(float(found), dtype=near.points.dtype, device=device(near.points))


@cache
def reference(noisy: bool = False) -> tuple[Balls, TrainedModel]:
    """What `simulations/reference.py` found, as it is shipped, and the regression on it."""
    kind = "noisy" if noisy else "clean"
    with np.load(TABLE) as kept:
        balls = Balls(kept["sizes"], kept["dimensions"], kept["portraits"])
        names = ("places", "rest", "lengths", "variance")
        return balls, fit(*(kept[f"{kind}_{name}"].astype(float) for name in names))


def fit(places: np.ndarray, rest: np.ndarray, lengths: np.ndarray, variance) -> TrainedModel:
    """The regression of rest (m,) on places (m, c), variance in units of the process's own."""
    from sklearn.ensemble import ExtraTreesRegressor

    noise = variance * np.eye(len(rest))
    weights = np.linalg.solve(matern(places, places, lengths) + noise, rest)
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, max_features=0.7, random_state=0)
    trees = [tree.tree_ for tree in forest.fit(places, rest).estimators_]
    most = max(tree.node_count for tree in trees)
    return TrainedModel(places, lengths, weights, *_as_arrays(trees, most))


def predict(known: TrainedModel, place: np.ndarray) -> float:
    """The mean of what the two regressions say at a place (c,)."""
    smooth = matern(place[None], known.places, known.lengths)[0] @ known.weights
    tree = np.arange(known.value.shape[0])
    node, before = np.zeros_like(tree), None
    while before is None or np.any(node != before):
        before = node
        less = place.astype(np.float32)[known.coordinate[tree, node]] <= known.bound[tree, node]
        node = np.where(less, known.below[tree, node], known.above[tree, node])
    return float(smooth + np.mean(known.value[tree, node])) / 2


def matern(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Matern covariance of smoothness 3/2 between places (m, c) and (k, c).  -> (m, k)"""
    apart = np.sqrt(3 * np.sum(((a[:, None, :] - b[None, :, :]) / lengths) ** 2, axis=2))
    return (1 + apart) * np.exp(-apart)


def _as_arrays(trees, most):
    """Trees of scikit-learn as arrays (tree, node)."""
    rows = []
    for tree in trees:
        own = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        below, above = (
            np.where(leaf, own, child) for child in (tree.children_left, tree.children_right)
        )
        parts = (np.maximum(tree.feature, 0), tree.threshold, below, above, tree.value[:, 0, 0])
        rows.append([np.pad(part, (0, most - own.size)) for part in parts])
    return (np.stack(column) for column in zip(*rows, strict=True))
