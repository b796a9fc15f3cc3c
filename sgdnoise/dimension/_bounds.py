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
LEAST = 1e-7  # singular value, as a fraction of the largest
BLOCK = 4096  # rows at once


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
    number of coordinates is returned in place of the rank, which would take longer.  If all points
    lie in the space that the sample spans, its rank is theirs.
    """
    n, width = points.shape
    if not math.isfinite(at_least) or at_least >= width:
        at_least = width
    count = min(n, math.ceil(at_least) + MORE_ROWS)
    sample = _rows(points, np.linspace(0, n - 1, count).astype(int))
    rank = _rank(sample)
    if rank >= min(at_least, width):
        return width
    if count == n or _spans(sample, rank, points):
        return rank
    return _rank(_rows(points, np.arange(n)))


def _rows(points, rows):
    xp = namespace(points)
    return as_numpy(xp.take(points, xp.asarray(rows, device=device(points)), axis=0))


def _rank(array):
    """The rank of rows less their mean, within the rounding of their type."""
    eps = np.finfo(array.dtype).eps
    array = array.astype(np.float64)
    size = np.abs(array).max()
    array = array - array.mean(axis=0)
    short = array.T @ array if array.shape[0] > array.shape[1] else array @ array.T
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(short), 0.0))
    rounding = eps * max(size * array.size**0.5, values.max() * max(array.shape))
    # The root of an eigenvalue of rounding is a root of double precision.
    return int(np.count_nonzero(values > max(rounding, LEAST * values.max())))


def _spans(sample, rank, points):
    """Whether all points lie in the space through a sample of this rank, within rounding."""
    mean = sample.astype(np.float64).mean(axis=0)
    basis = np.linalg.svd(sample - mean, full_matrices=False)[2][:rank]
    size, total, outside = 0.0, 0.0, 0.0
    for start in range(0, points.shape[0], BLOCK):
        array = as_numpy(points[start : min(start + BLOCK, points.shape[0]), :])
        size = max(size, float(np.abs(array).max()))
        array = array - mean
        total += float(np.sum(array**2))
        outside += float(np.sum((array - (array @ basis.T) @ basis) ** 2))
    rounding = np.finfo(sample.dtype).eps * size * math.prod(points.shape) ** 0.5
    return outside <= max(rounding, LEAST * (total / max(rank, 1)) ** 0.5) ** 2
