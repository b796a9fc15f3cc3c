"""Estimators of dimension on one set of points: value, error, and notes."""

import inspect
import math
import re
import time
import warnings
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.core._groups import Group, sharing
from sgdnoise.dimension._calibration import calibrated
from sgdnoise.dimension._catalogue import ERROR_GROUPS, ESTIMATORS, LINEAR, MANIFOLD
from sgdnoise.dimension._points import Neighbours, find_neighbours
from sgdnoise.dimension._serial import check_window
from sgdnoise.dimension._shared import n_for_groups, share
from sgdnoise.dimension._trained._features import N_NEIGHBOURS
from sgdnoise.dimension._trained._predict import GROUPS, estimate
from sgdnoise.dimension._trained._predict import MIN_POINTS as MIN_POINTS
from sgdnoise.dimension._trained._scales import NoSingleDimension
from sgdnoise.dimension._warnings import (
    BeyondReference,
    ClosePairs,
    Discrete,
    SerialDependence,
    SeveralDimensions,
    Ties,
)

FIRST = "estimate"
FUNCTIONS = {FIRST: estimate, **ESTIMATORS}
SHOWN = (FIRST, "twonn", "participation_ratio")  # unless more are asked for
BALLS = [name for name in MANIFOLD if name != "learned"]  # for which balls correct something
MAX_NEIGHBORS = 100  # of `abide`, which needs more than the other estimators
FEW = (FIRST, "learned", "twonn", "l2n2", "levina_bickel", *LINEAR)  # which need fewer


SERIOUS = {  # doubts with which the recommended value is not one to take
    SerialDependence: "rows are moments in time, and depend on the rows before",
    Ties: "distances to neighbours are equal, as on a lattice or a path",
    Discrete: "coordinates are discrete, with steps as large as distances",
    SeveralDimensions: "parts of the points have different dimensions",
    ClosePairs: "more pairs of points are close than one dimension allows",
}
OPTIONS = {  # of the command line, for arguments of functions
    "see scale_profile, or choose noisy=": "see the picture, and --noisy",
    "noisy=True": "--noisy",
    "exclude='auto'": "--exclude auto",
    "exclude=": "--exclude",
}
DEPENDS = "the dimension depends on scale"  # how the warning `ScalesDisagree` begins
DISAGREE = 3  # ratio of values beyond which edges, curvature and noise do not explain it


class Settings(NamedTuple):
    """Whether the points have noise, and the rows in time that are no neighbours."""

    noisy: bool = False
    exclude: int | str = 0


DEFAULT = Settings()


class Row(NamedTuple):
    """The result of one estimator, nan if it has none, and notes; `ball` is calibrated.

    doubt: why the value is not one to take, or nothing.  scales: distances and dimensions that
    disagree, if that is why.
    """

    name: str
    value: float = math.nan
    stderr: float = math.nan
    ball: float = math.nan
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    interval: tuple[float, float] = (math.nan, math.nan)
    doubt: str = ""
    scales: tuple[tuple[float, float], ...] = ()


def neighbours(
    points, names: Collection[str], settings: Settings, *, refuse: bool
) -> tuple[Neighbours, dict[str, Any]]:
    """The neighbours of distinct points (n, D), and what the estimators of these names share.

    They are so many that the errors from groups need no other search.
    """
    most = N_NEIGHBOURS if all(name in FEW for name in names) else MAX_NEIGHBORS
    count = n_for_groups(len(points), most, GROUPS)
    window = check_window(settings.exclude, points)
    near = find_neighbours(points, count, allow_fewer=True, refuse=refuse, exclude=window)
    shared: dict[str, Any] = {}
    share(Group(near.points, near.points, None, 1, GROUPS, shared), near, window)
    return near, shared


def measure(
    name: str,
    near: Neighbours,
    settings: Settings = DEFAULT,
    told: Collection[str] = (),
    shared: dict[str, Any] | None = None,
) -> Row:
    """Value and error of the estimator of this name; ValueErrors and warnings become notes.

    The error is that of `with_group_error` with 5 splits, of 5 degrees of freedom;
    `estimate` has its own.  told: sentences that are no notes, since they were said of all.
    shared: what one estimator leaves for the next, such as neighbours for the groups.
    """
    shared = {} if shared is None else shared
    began, result = time.monotonic(), Estimate(math.nan, math.nan)
    notes: list[str] = []
    doubt, scales = "", []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if name == FIRST:
                with sharing(near.points, shared):
                    result = estimate(near.points, **_options(name, settings))
            else:
                result = Estimate(_value(name, near, settings), math.nan)
        except NoSingleDimension as error:
            doubt, scales = shell_words(str(error)), error.profile
        except ValueError as error:
            notes.append(_plain(error))
    first_of = {w.category: str(w.message) for w in reversed(caught)}
    notes += [text for category, text in first_of.items() if issubclass(category, UserWarning)]
    if name != FIRST and math.isfinite(result.value):
        result, refusal = _with_error(name, near, settings, result, shared)
        notes += [f"no error: {refusal}"] if refusal else []
    value, stderr = float(result.value), float(result.stderr)
    low, high = result.interval()
    notes = [_short(note, told) for note in dict.fromkeys(notes) if shell_words(note) not in told]
    if doubt:
        notes = [doubt]
    elif not notes and not math.isfinite(value):
        notes = [f"its value is {value}: distances tie, or too few lie within its radii"]
    elif not notes and not math.isfinite(stderr):
        notes = ["no error: groups of a fifth of the points are too small for it"]
    return Row(
        name,
        value,
        stderr,
        seconds=time.monotonic() - began,
        notes=tuple(notes),
        interval=(float(low), float(high)),
        doubt=doubt or (_serious(near, first_of) if name == FIRST else ""),
        scales=tuple(scales),
    )


def _serious(near, said):
    """Why the recommended value is not one to take, or nothing.

    said: sentences of warnings of the estimate, by their categories.
    """
    for category, reason in SERIOUS.items():
        if any(isinstance(doubt, category) for doubt in near.doubts):
            return f"no number is recommended: {reason}, see the warning"
    return f"no number is recommended: {said[BeyondReference]}" if BeyondReference in said else ""


def shell_words(text: str) -> str:
    """A sentence of the package with options of the command line for arguments of functions."""
    text = re.sub(r"exclude=(\d+)", r"--exclude \1", text)
    for argument, option in OPTIONS.items():
        text = text.replace(argument, option)
    return text


def _short(note, told):
    """A note without sentences that were said already."""
    note = shell_words(note)
    for sentence in told:
        note = note.replace(sentence, "see the warning")
    return note


def _with_error(name, near, settings, result, shared):
    """The result with its error, and why it has none."""
    groups = ERROR_GROUPS.get(name, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of groups, which say nothing of all points
        try:
            with sharing(near.points, shared):
                statistic = partial(ESTIMATORS[name], **_options(name, settings))
                return with_group_error(statistic, near.points, splits=5, **groups), ""
        except ValueError as error:
            return result, f"{_plain(error)} in a group"


def _plain(error):
    """The sentence of an error, which says first how many points there are and are needed."""
    text = r"at least \1 points are needed, and there are \2"
    return re.sub(
        r"at least (\d+) points of 1 coordinate are needed, not (\d+) of \d+", text, str(error)
    )


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


def recommend(rows: list[Row]) -> list[str]:
    """Sentences that say which number to take, and what the others mean."""
    named = {row.name: row for row in rows}
    others = [row.value for row in rows if row.name in MANIFOLD and math.isfinite(row.value)]
    sentences = [_taken(named.get(FIRST))]
    if len(others) > 1:
        between = f"the neighbour estimators say {min(others):.4g} to {max(others):.4g}"
        apart = ", apart by what edges, curvature, density and noise do to each"
        sentences.append(between + apart * (max(others) < DISAGREE * min(others)))
    if linear := [row.name for row in rows if row.name in LINEAR]:
        subject = f"the linear ones, from {linear[0]} on, answer"
        subject = subject if len(linear) > 1 else f"the value of {linear[0]} answers"
        sentences.append(f"{subject} another question: how many dimensions the points span")
    return sentences


def _taken(first):
    """The sentence on the recommended value."""
    if first is None:
        return "the recommended value is that of estimate, which was not requested"
    if first.doubt:
        return first.doubt
    if math.isnan(first.value):
        return f"none is recommended here, where estimate has no answer: {'; '.join(first.notes)}"
    low, high = first.interval
    between = f", 95% interval {low:.2f} to {high:.2f}" if math.isfinite(low) else ""
    beneath = any(note.startswith(DEPENDS) for note in first.notes)
    noise = f"; it is beneath the noise, since {DEPENDS}" if beneath else ""
    return f"take estimate, {first.value:.2f} ± {first.stderr:.2f}{between}{noise}"


def _options(name, settings):
    """The options of an estimator that come from the command line."""
    options = {"noisy": True} if settings.noisy and name in (FIRST, "learned") else {}
    takes_time = "exclude" in inspect.signature(FUNCTIONS[name]).parameters
    return options | {"exclude": settings.exclude} if takes_time and settings.exclude else options


def _value(name, near, settings):
    """The value, from the shared neighbours if they are enough."""
    needed = N_NEIGHBOURS if name in FEW else MAX_NEIGHBORS
    if name in MANIFOLD and near.distances.shape[1] >= needed:
        options = {"noisy": settings.noisy} if name == "learned" else {}
        return ESTIMATORS[name](near.points, neighbours=near, **options)
    return ESTIMATORS[name](near.points, **_options(name, settings))
