"""Every estimator of dimension on one set of points: its value, its error, and its notes."""

import math
import time
import warnings
from typing import NamedTuple

from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.dimension._calibration import calibrated
from sgdnoise.dimension._catalogue import ERROR_GROUPS, ESTIMATORS, LINEAR, MANIFOLD
from sgdnoise.dimension._points import Neighbours, find_neighbours
from sgdnoise.dimension._trained._predict import estimate

FIRST = "estimate"
BALLS = [name for name in MANIFOLD if name != "learned"]  # for which balls correct something
MAX_NEIGHBORS = 100  # of `abide`, which needs more than the other estimators


class Row(NamedTuple):
    """The result of one estimator, nan if it has none, and notes; `ball` is calibrated."""

    name: str
    value: float = math.nan
    stderr: float = math.nan
    ball: float = math.nan
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def neighbours(points) -> Neighbours:
    """The neighbours of distinct points (n, D), which all estimators share."""
    return find_neighbours(points, min(MAX_NEIGHBORS, len(points) - 1))


def measure(name: str, near: Neighbours) -> Row:
    """Value and error of the estimator of this name; ValueErrors and warnings become notes.

    The error is that of `with_group_error` with 5 splits, of 5 degrees of freedom;
    `estimate` has its own.
    """
    began, result, notes = time.monotonic(), Estimate(math.nan, math.nan), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if name == FIRST:
                result = estimate(near.points)
            else:
                result = Estimate(_value(name, near.points, near), math.nan)
                notes = [str(w.message) for w in caught if w.category is UserWarning]
                groups = ERROR_GROUPS.get(name, {})
                result = with_group_error(
                    lambda part: _value(name, part, near), near.points, splits=5, **groups
                )
        except ValueError as error:
            notes.append(str(error) if math.isnan(result.value) else f"no error: {error}")
    value, stderr = float(result.value), float(result.stderr)
    if not notes and not math.isfinite(value):
        notes.append(f"its value is {value}")
    elif not notes and not math.isfinite(stderr):
        notes.append("no error: groups of a fifth of the points are too small for it")
    return Row(name, value, stderr, math.nan, time.monotonic() - began, tuple(notes))


def calibrate_on_balls(row: Row, near: Neighbours) -> Row:
    """The row with its value corrected by simulated balls: see `calibrated`."""
    if math.isnan(row.value):
        return row
    began = time.monotonic()
    try:
        ball = float(calibrated(ESTIMATORS[row.name])(near.points, neighbours=near))
        notes = row.notes
    except ValueError as error:
        ball, notes = math.nan, (*row.notes, f"not calibrated: {error}")
    return row._replace(ball=ball, notes=notes, seconds=row.seconds + time.monotonic() - began)


def recommend(rows: list[Row]) -> str:
    """A sentence that says which number to take, and what the range of the others means."""
    named = {row.name: row for row in rows}
    others = [row.value for row in rows if row.name in MANIFOLD and math.isfinite(row.value)]
    first = named.get(FIRST)
    if first is None:
        take = "the recommended value is that of estimate, which was not requested"
    elif math.isnan(first.value):
        take = "none is recommended here, where estimate has no answer"
    else:
        take = f"take estimate, {first.value:.2f} ± {first.stderr:.2f}"
    if len(others) > 1:
        take += (
            f"; the neighbour estimators say {min(others):.1f} to {max(others):.1f}, apart by what "
            "edges, curvature, density and noise do to each"
        )
    if linear := [row.name for row in rows if row.name in LINEAR]:
        take += (
            f"; the linear ones, from {linear[0]} on, answer another question: how many dimensions "
            "the points span"
        )
    return take


def _value(name, part, near):
    """The value, from the shared neighbours if the points are all points and enough."""
    known = part is near.points and name in MANIFOLD and len(part) > MAX_NEIGHBORS
    return ESTIMATORS[name](part, neighbours=near) if known else ESTIMATORS[name](part)
