"""Whether points have what estimators from distances assume: ties, discrete values, order."""

import math

import numpy as np

from sgdnoise.core._arrays import as_numpy
from sgdnoise.dimension._serial import dependent_fraction, passages
from sgdnoise.dimension._warnings import (
    DimensionWarning,
    Discrete,
    Passages,
    SerialDependence,
    Ties,
)

RANK = 5  # tests compare with the dimension of this rank and its double
MAX_TIED = 0.1  # fraction of exact ties above which a warning is issued
# Expected fractions of near ties, and the observed fraction above which a warning is issued.
TIE_LEVELS = ((0.05, 0.25), (0.01, 0.2), (0.001, 0.101), (0.0, MAX_TIED))
MIN_POINTS = 100  # below which fractions say little, and only exact ties are counted
MAX_ROUNDING = 0.05  # of the squared distance to the nearest neighbour
MAX_ROWS, MAX_AXES = 1000, 128  # rows and coordinates whose values are counted


def median_dimension(distances, rank: int, *, logarithms: bool = False) -> float:
    """The dimension at which the median of (r_k / r_2k)^d, k = `rank`, is 1/2.

    (r_k / r_2k)^d is Beta(k, k) if the density is constant over 2k neighbours; a median does not
    depend on a few points that repeat others or lie far away.  logarithms: `distances` are logs.
    """
    inner, outer = distances[:, rank - 1], distances[:, 2 * rank - 1]
    ratio = np.median(outer - inner if logarithms else np.log(outer) - np.log(inner))
    return math.log(2) / float(ratio) if ratio > 0 else math.inf


def flaws(points, distances, index, rows, window: int = 0) -> list[DimensionWarning]:
    """Warnings, not yet issued, of ties, discrete coordinates and dependent rows.

    distances, index: of 10 neighbours, or of all others if there are fewer.  rows (n,): the rows of
    the points in the data.  window: the rows that were excluded.
    """
    points, distances, index = (as_numpy(array) for array in (points, distances, index))
    tests: list[DimensionWarning | None] = [near_ties(distances), discrete(points, distances)]
    if np.mean(distances[:, 0] == distances[:, min(1, distances.shape[1] - 1)]) <= MAX_TIED:
        order = serial_dependence(index, rows, window) or double_passages(index, rows, window)
        tests.append(order)  # not of lattices, which are listed in an order
    return [warning for warning in tests if warning is not None]


def near_ties(distances) -> Ties | None:
    """A warning if many points have their two nearest neighbours at nearly one distance.

    At dimension d, that of ranks 5 to 10, P(r_2 / r_1 < 1 + e) = 1 - (1 + e)^-d: it compares the
    fraction of the points with this law where it is 0 (exact ties), 0.1, 1 and 5%.
    """
    n, known = distances.shape
    if known < 2:
        return None
    logarithms = np.log(distances[:, 1]) - np.log(distances[:, 0])
    tested = TIE_LEVELS if known >= 2 * RANK and n >= MIN_POINTS else TIE_LEVELS[-1:]
    d = median_dimension(distances, RANK) if len(tested) > 1 else 1.0
    for expected, allowed in tested:
        edge = -math.log1p(-expected) / d
        fraction = float(np.mean(logarithms <= edge))
        if fraction > allowed:
            few = f", where {expected:.1%} are expected" if expected else ""
            return Ties(
                f"{fraction:.0%} of {n} points have their two nearest neighbours at one distance "
                f"or nearly{few}, as on a lattice (use i3d) or a path in equal steps (use exclude=)"
            )
    return None


def discrete(points, distances) -> Discrete | None:
    """A warning if the steps between the values of coordinates are as large as distances.

    A coordinate is discrete if its values repeat in half of the rows; its step h is its range over
    the number of its values less one.  Rounding to steps adds h^2 / 6 to squared distances, in rows
    that have not the median, as most rows of a one-hot code have; more than 5% of the median
    squared distance to the nearest neighbour is too much.
    """
    n, width = points.shape
    axes = np.linspace(0, width - 1, min(width, MAX_AXES)).astype(int)
    values = np.sort(points[:: math.ceil(n / MAX_ROWS)][:, axes].astype(np.float64), axis=0)
    steps, weights = _steps(values)
    few, varying = np.count_nonzero(steps), np.count_nonzero(values[0] < values[-1])
    rounding = np.sum(steps**2 * weights) / 6 * width / axes.size
    size = float(np.median(distances[:, 0].astype(np.float64) ** 2))
    if n < MIN_POINTS or 2 * few < varying or not rounding > MAX_ROUNDING * size:
        return None
    return Discrete(
        f"{few / varying:.0%} of the coordinates are discrete, with steps of about "
        f"{np.median(steps[steps > 0]):.3g} where nearest neighbours are {size**0.5:.3g} apart, "
        "so that distances mislead; i3d is made for whole numbers"
    )


def serial_dependence(index, rows, window: int = 0) -> SerialDependence | None:
    """A warning if the nearest neighbours of many rows are the rows before or after them."""
    result = dependent_fraction(index, rows, window)
    if result is None:
        return None
    count, fraction, expected = result
    beyond = f" beyond the {window} that were excluded" if window else ""
    remedy = "a larger exclude" if window else "exclude=, a number of rows or auto"
    return SerialDependence(
        f"the nearest neighbour of {fraction:.0%} of the rows is within {count} rows of "
        f"it{beyond}, where {expected:.1%} are expected: rows are moments in time, and distances "
        f"see the path; use {remedy}"
    )


def double_passages(index, rows, window: int) -> Passages | None:
    """A warning if two neighbours of many rows are moments of one passage of a path."""
    result, step = passages(index, rows, window), window // 2
    if result is None or step < 2:
        return None
    return Passages(
        f"the two nearest neighbours of {result[0]:.0%} of the rows are within {step} rows of each "
        f"other, where {result[1]:.1%} are expected: the path passes by and counts twice; take "
        f"every {step}th row, points[::{step}], with exclude={-(-window // step)}, as estimate does"
    )


def _steps(values):
    """The step of each coordinate, 0 if it is not discrete, and the fraction off the median."""
    rows = values.shape[0]
    distinct = 1 + np.count_nonzero(np.diff(values, axis=0), axis=0)
    step = (values[-1] - values[0]) / np.maximum(distinct - 1, 1)
    weight = np.mean(values != values[rows // 2], axis=0)
    return np.where(2 * distinct > rows, 0.0, step), weight
