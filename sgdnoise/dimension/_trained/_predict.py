"""The recommended estimate of dimension, by regression on simulated manifolds."""

import math
import warnings
from functools import partial

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.core._groups import Group, current_group, shared_with, sharing
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._bounds import check_above, rank_of
from sgdnoise.dimension._points import Neighbours, check_points, find_neighbours, refuse_ties
from sgdnoise.dimension._serial import check_window
from sgdnoise.dimension._shared import n_for_groups, share
from sgdnoise.dimension._trained._features import (
    N_NEIGHBOURS,
    coordinates,
    features,
    log_dimensions,
)
from sgdnoise.dimension._trained._model import TrainedModel, descend, load, matern
from sgdnoise.dimension._trained._recording import of_recording
from sgdnoise.dimension._trained._scales import (
    NoSingleDimension,
    Scale,
    disagreement,
    is_beneath,
    of_ranks,
    of_thinned,
    sentence,
)
from sgdnoise.dimension._warnings import BeyondReference, Passages, ScalesDisagree

GROUPS = 5
MIN_POINTS = GROUPS * (N_NEIGHBOURS + 1)
LAST_TRAINED, FADING = math.log(90), 0.3  # log dimensions
MAX_TRAINED = 80.0  # the dimension above which few manifolds were trained on


@checked
@any_scale
def estimate(
    points, *, noisy: bool | None = None, exclude: int | str = 0, stderr: bool = True
) -> Estimate:
    r"""The dimension of points by our most accurate estimator, and its error.  (n, D) -> ()

    The value is that of `learned`, but at most the rank of the points, and the statistical error
    that of `with_group_error` over 6 partitions: from its variation over halves and fifths of the
    points, with an allowance for the larger fluctuations of few points.
    On the 24 manifolds of Campadelli et al. (2015), none of which it was trained on, the deviation
    is larger than the statistical error; docs/dimension.md lists it for each manifold.
    Do not trust it above d = 80, of which it warns (`BeyondReference`), for few points of a highly
    curved manifold, or for unions of manifolds of several dimensions.
    noisy: true for points with noise, where it is less accurate without noise; None: only if the
    dimension of all points is more than twice that of points thinned by 4 or 16, and that
    beneath the noise is a little below theirs, with the warning `ScalesDisagree`.
    exclude: as in `find_neighbours`, for rows that are moments in time; the value is then the mean
    over sets of rows half a window apart, and the error from contiguous blocks of rows, as it is
    where `SerialDependence` is warned of.
    stderr: false for the value alone, which takes a tenth of the time, with an error of nan.
    Raises ValueError as `check_points` does, for fewer than 205 distinct points, or 41 without an
    error, for near ties of distances, and, with `noisy` None, `NoSingleDimension`, a ValueError,
    if the dimension depends on scale.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 3))
        >>> bool(abs(estimate(points).value - 3) < 0.3)
        True
    """
    least = MIN_POINTS if stderr else N_NEIGHBOURS + 1
    points = check_points(points, min_points=least)
    window = check_window(exclude, points)
    count = n_for_groups(points.shape[0], N_NEIGHBOURS, GROUPS) if stderr else N_NEIGHBOURS
    shared = shared_with(points)
    neighbours = _known(shared, min(count, points.shape[0] - 1), window)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Passages)  # rows are thinned
        neighbours = neighbours or find_neighbours(points, count, allow_fewer=True, exclude=window)
    points = check_points(neighbours.points, min_points=least)
    if window:
        return _of_recording(neighbours, window, bool(noisy))
    share(Group(points, points, None, 1, GROUPS, shared), neighbours, 0)
    nearest = neighbours.first(N_NEIGHBOURS)
    if noisy is None:
        value, noisy = _chosen(nearest, shared)
    else:
        refuse_ties(nearest)
        value, _ = _look(nearest, noisy)
    value = _capped(value, nearest)
    if not stderr:
        return Estimate(value, math.nan)

    def statistic(group):
        return value if group is points else learned(group, noisy=noisy)

    with sharing(points, shared):
        return with_group_error(statistic, points, GROUPS, splits=6)


def _known(shared, count, window):
    """The neighbours that were left by an earlier call, if they are enough."""
    known = shared.get("neighbours")
    enough = known is not None and known.distances.shape[1] >= count
    return known if enough and shared.get("window") == window else None


def _of_recording(neighbours, window, noisy):
    """The estimate of rows in time, at most the rank of the points."""
    points = neighbours.points
    value_of = partial(_uncapped, noisy=noisy)
    result = of_recording(value_of, points, window, GROUPS)
    return Estimate(_capped(float(as_numpy(result.value)), neighbours), result.stderr, result.dof)


def _uncapped(points, window, noisy):
    """The dimension of points, also above their rank."""
    near = find_neighbours(points, N_NEIGHBOURS, exclude=window)
    xp, points = namespace(near.points), near.points
    return xp.asarray(_look(near, noisy)[0], dtype=points.dtype, device=device(points))


@checked
@any_scale
def learned(
    points,
    *,
    noisy: bool = False,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    r"""The dimension of points by regression on simulated manifolds.  (n, D) -> ()

    The `features` of the points, compared with those of uniform balls of as many points, give a
    dimension at each of several scales; the differences between scales show the effects of
    curvature, edges and uneven density.  The correction for these is learned from simulated
    manifolds (tools/train_dimension_model.py), with noise of 1 to 10% of the radius if `noisy`: it
    is the mean of a Gaussian process and of extremely randomised trees (Geurts et al., 2006).  The
    value is at most the rank of the points.
    exclude: as in `find_neighbours`.
    Raises ValueError for fewer than 41 points, and for near ties of distances.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(learned(points)), 1)
        2.0
    """
    neighbours = find_neighbours(points, N_NEIGHBOURS, neighbours, exclude=exclude)
    refuse_ties(neighbours)
    dimension, _ = _look(neighbours, noisy)
    return _capped(dimension, neighbours)


def _look(neighbours, noisy=False):
    """The dimension, and the log dimensions of the scales."""
    n = neighbours.points.shape[0]
    balls, model = load(noisy)
    values = as_numpy(features(neighbours.points, neighbours=neighbours))
    logs = log_dimensions(balls, values, n)
    inputs = coordinates(balls, values, n, logs)
    # Beyond the largest dimension of training the correction is unknown, and fades.
    weight = float(np.clip(1 - (inputs[0] - LAST_TRAINED) / FADING, 0, 1))
    dimension = float(np.exp(inputs[0] + weight * predict(model, inputs)))
    return dimension, logs


def _chosen(neighbours, shared):
    """The dimension, and whether it is that beneath noise.

    Raises NoSingleDimension if the dimension depends on scale in another way.
    """
    value, logs = _look(neighbours)
    ranks = of_ranks(neighbours.distances, logs)
    if ranks[0].dimension > neighbours.points.shape[1]:
        refuse_ties(neighbours)
    thinned = of_thinned(neighbours.points, _scale, shared)
    found = disagreement(ranks, thinned, value)
    if found is None:
        refuse_ties(neighbours)
        return value, False
    beneath, _ = _look(neighbours, noisy=True)
    if is_beneath(thinned, beneath):
        warnings.warn(
            f"the dimension depends on scale: {sentence(*found)}; the value is that beneath the "
            "noise, as with noisy=True",
            ScalesDisagree,
            stacklevel=3,
        )
        return beneath, True
    profile = [(scale.size, scale.dimension) for scale in [*ranks, *thinned]]
    raise NoSingleDimension(
        f"no single dimension: {sentence(*found)}; see scale_profile, or choose noisy=", profile
    )


def _scale(neighbours):
    """The scale of a thinned set."""
    value, logs = _look(neighbours)
    first = of_ranks(neighbours.distances, logs)[0]
    return Scale(first.size, value, first.trained)


def _capped(dimension, neighbours):
    """The dimension, at most the rank of the points, in their library.

    Values of groups are as they are, since their variation gives the error.
    """
    points = neighbours.points
    group = current_group(points)
    xp = namespace(points)

    def in_library(number):
        return xp.asarray(number, dtype=points.dtype, device=device(points))

    if group is not None and group.rows is not None:
        return in_library(dimension)
    _warn_beyond(dimension)
    check_above(in_library(dimension), neighbours)
    return in_library(min(dimension, float(rank_of(points, dimension))))


def _warn_beyond(value):
    if value > MAX_TRAINED and math.isfinite(value):
        warnings.warn(
            f"the dimension is at least {MAX_TRAINED:.0f}: its value of {value:.1f} is beyond "
            "those of most manifolds of the training",
            BeyondReference,
            stacklevel=4,
        )


def predict(model: TrainedModel, inputs: np.ndarray) -> float:
    """The mean prediction of the two regressions for inputs (c,)."""
    process = matern(inputs[None], model.coordinates, model.lengths)[0] @ model.weights
    leaves = descend(inputs[None], *model[3:-1])
    return float(process + np.mean(model.value[leaves])) / 2
