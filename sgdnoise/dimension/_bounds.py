"""The largest dimension that points can have: the number of coordinates, and the rank."""

import math
import warnings

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._groups import current_group
from sgdnoise.dimension._warnings import AboveCoordinates

MIN_POINTS = 100  # below which values vary by more
ALLOWED = 0.1  # fraction above the bound from which a warning is issued
SURE = 4  # standard errors, each about d / n^1/2, for few points
MORE_ROWS = 10  # than the rank in question, in a sample


def check_above(value, neighbours):
    """The value, with a warning if it is more than a tenth above the rank of the points.

    For n points the tenth is at least 4 n^-1/2, four standard errors of an estimator from ratios.
    Nothing is said of fewer than 100 points, of an infinite value, which says it itself, or
    for neighbours that were not found by `find_neighbours`, whose points may be unknown.
    """
    if not neighbours.searched or neighbours.points.shape[0] < MIN_POINTS:
        return value
    try:
        number = float(as_numpy(value))
    except TypeError:  # jax, tracing
        return value
    points = neighbours.points
    n, width = points.shape
    group = current_group(points)
    if (group is not None and group.rows is not None) or not 0 < number < math.inf:
        return value
    allowed = 1 + max(ALLOWED, SURE / n**0.5)
    bound = rank_of(points, number / allowed)
    if number > allowed * bound:
        what = f"{width} coordinates" if bound == width else f"rank {bound}"
        warnings.warn(
            f"the dimension {number:.4g} is above what points of {what} can have: "
            "distances mislead, or there is noise or rounding",
            AboveCoordinates,
            stacklevel=3,
        )
    return value


def rank_of(points, at_least: float) -> int:
    """The rank of the points less their mean, or the number of coordinates if that is certain.

    at_least: the rank in question.  If a sample of so many rows and 10 more has that rank, the
    number of coordinates is returned in place of the rank, which would take longer.
    """
    n, width = points.shape
    if not math.isfinite(at_least) or at_least >= width:
        at_least = width
    count = min(n, math.ceil(at_least) + MORE_ROWS)
    if _rank(points, count) >= min(at_least, width):
        return width
    return _rank(points, n)


def _rank(points, count):
    """The rank of equally spaced rows, within the rounding of their type."""
    xp, n = namespace(points), points.shape[0]
    rows = np.linspace(0, n - 1, count).astype(int)
    array = as_numpy(xp.take(points, xp.asarray(rows, device=device(points)), axis=0))
    eps = np.finfo(array.dtype).eps
    array = array.astype(np.float64)
    size = np.abs(array).max()
    array = array - array.mean(axis=0)
    short = array.T @ array if array.shape[0] > array.shape[1] else array @ array.T
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(short), 0.0))
    rounding = eps * max(size * array.size**0.5, values.max() * max(array.shape))
    # The root of an eigenvalue of rounding is a root of double precision.
    return int(np.count_nonzero(values > max(rounding, 1e-7 * values.max())))
