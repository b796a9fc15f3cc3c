"""The recommended estimate of dimension, by regression on simulated manifolds."""

from functools import partial

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.dimension._points import Neighbours, check_points, find_neighbours
from sgdnoise.dimension._trained._features import N_NEIGHBOURS, coordinates, features
from sgdnoise.dimension._trained._model import TrainedModel, descend, load, matern

GROUPS = 5
MIN_POINTS = GROUPS * (N_NEIGHBOURS + 1)


def estimate(points, *, noisy: bool = False) -> Estimate:
    r"""The dimension of points by our most accurate estimator, and its error.  (n, D) -> ()

    The value is that of `learned`, and the statistical error that of `with_group_error` over 6
    partitions: from its variation over halves and fifths of the points, with an allowance for the
    larger fluctuations of few points.
    On the 24 manifolds of Campadelli et al. (2015), none of which it was trained on, the deviation
    is larger than the statistical error; docs/dimension.md lists it for each manifold.
    Do not trust it above d = 80, for few points of a highly curved manifold, for lattices, for
    unions of manifolds of several dimensions, or for noise as large as the distance between
    neighbours.  noisy: for points with noise; it is less accurate without noise.
    Raises ValueError as `check_points` does, and for fewer than 205 distinct points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 3))
        >>> bool(abs(estimate(points).value - 3) < 0.3)
        True
    """
    neighbours = find_neighbours(check_points(points, min_points=MIN_POINTS), N_NEIGHBOURS)
    points = check_points(neighbours.points, min_points=MIN_POINTS)
    return with_group_error(partial(learned, noisy=noisy), points, GROUPS, splits=6)


def learned(points, *, noisy: bool = False, neighbours: Neighbours | None = None):
    r"""The dimension of points by regression on simulated manifolds.  (n, D) -> ()

    The `features` of the points, compared with those of uniform balls of as many points, give a
    dimension at each of several scales; the differences between scales show the effects of
    curvature, edges and uneven density.  The correction for these is learned from simulated
    manifolds (tools/train_dimension_model.py), with noise of 1 to 10% of the radius if `noisy`: it
    is the mean of a Gaussian process and of extremely randomised trees (Geurts et al., 2006).
    Raises ValueError for fewer than 41 points.
    """
    neighbours = find_neighbours(points, N_NEIGHBOURS, neighbours)
    xp, n = namespace(neighbours.points), neighbours.points.shape[0]
    balls, model = load(noisy)
    values = as_numpy(features(neighbours.points, neighbours=neighbours))
    inputs = coordinates(balls, values, n)
    dimension = float(np.exp(inputs[0] + predict(model, inputs)))
    return xp.asarray(dimension, dtype=neighbours.points.dtype, device=device(neighbours.points))


def predict(model: TrainedModel, inputs: np.ndarray) -> float:
    """The mean prediction of the two regressions for inputs (c,)."""
    process = matern(inputs[None], model.coordinates, model.lengths)[0] @ model.weights
    leaves = descend(inputs[None], *model[3:-1])
    return float(process + np.mean(model.value[leaves])) / 2
