"""What is claimed of escape times, where, and how far it may be off."""

import math

import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict

TITLE = "Escape: how long noise takes to leave a well"
LEAD = (
    "Mean first times of chains that start at the bottom. exact: an integral, its end shifted by "
    "what steps miss, claimed to 3%, of which the next order of the step takes 1%.",
    "formula: the limit of small noise, claimed to 1.5 / E where E, the barrier in units of the "
    "noise, is 3 or more; what steps miss is taken off the measured time first.",
    "jumps: the limit of weak jumps, claimed to 3% and 4.2 relaxation times where the time is 50 "
    "of them or more; solved on a grid of places, the exact time is 4.1 of them shorter.",
    "One temperature: Kramers' formula, as if noise were everywhere what it is at the bottom.",
)
EXACTLY = 0.03  # share to which exact times are claimed: the next order of the step is 1%
HIGH, NEXT = 3.0, 1.5  # E from which limits are claimed, and to which share, times 1 / E
LONG, AGAIN = 50.0, 4.2  # relaxation times, from which jumps are claimed, and that they may be off
EXPONENT, ALIKE = 0.05, 0.05  # of the power law, and of ratios of times


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Every well against its theory, then wells against each other."""
    found: list[Verdict] = []
    for name in results.setting.values.tolist():
        part = results.sel(setting=name)
        found += [_jumped(part, name)] if _jumps(name) else _left(part, name)
    return [*found, *_label_noise(results), *_power(results), *_height(results)]


def _jumps(name):
    return name.startswith("jumps")


def _left(part, name):
    time, height, claimed = _time(part), float(part.height), float(part.height) >= HIGH
    bare = _scaled(time, 1 / delay(part))
    found = [
        _relative(f"{name}: exact", float(part.seen), time, True, EXACTLY),
        _relative(f"{name}: formula", float(part.formula), bare, claimed, NEXT / height),
    ]
    if math.isfinite(part.plain):
        text = f"{name}: one temperature"
        found.append(_relative(text, float(part.plain), bare, False, NEXT / height))
    return found


def _jumped(part, name):
    relaxations = float(part.height)
    allowed = EXACTLY + AGAIN / relaxations
    claimed = relaxations >= LONG
    return _relative(f"{name}: formula", float(part.formula), _time(part), claimed, allowed)


def _label_noise(results):
    """The flat well against sharp ones: as wide, where curvature counts once, and as high."""
    found, flat = [], "label noise, flat"
    for name in ("label noise, as wide", "label noise, as high"):
        if {flat, name} <= set(results.setting.values.tolist()):
            one, other = results.sel(setting=flat), results.sel(setting=name)
            predicted = float(one.exact / other.exact)
            times = [_scaled(_time(part), 1 / delay(part)) for part in (one, other)]
            text = f"{flat}: time over that of the sharp well {name.split(', ')[1]}"
            found.append(_relative(text, predicted, _over(*times), True, ALIKE))
    return found


def _power(results):
    """How time falls with the strength of jumps, between the two weakest."""
    names = [n for n in results.setting.values.tolist() if n.startswith("jumps, eps")][-2:]
    if len(names) < 2:
        return []
    strong, weak = (results.sel(setting=name) for name in names)
    doublings = math.log(2.0)
    ratio = _over(_time(weak), _time(strong))
    slope = Estimate(-math.log(ratio.value) / doublings, ratio.stderr / ratio.value / doublings)
    predicted = -math.log(float(weak.formula / strong.formula)) / doublings
    claimed = float(strong.height) >= LONG
    return [Verdict("jumps: d log time / d log eps", predicted, slope, claimed, EXPONENT)]


def _height(results):
    high, plain = "jumps, 4 times as high, eps = 0.05", "jumps, eps = 0.05"
    if not {high, plain} <= set(results.setting.values.tolist()):
        return []
    ratio = _over(*(_time(results.sel(setting=name)) for name in (high, plain)))
    return [Verdict("jumps: time at 4 times the height, over plain", 1.0, ratio, True, ALIKE)]


def delay(part) -> float:
    """By which factor steps are later, because they miss short visits beyond the end."""
    return float(part.seen / part.exact)


def _time(part):
    return Estimate(float(part.time), float(part.time_stderr))


def _scaled(one: Estimate, factor: float) -> Estimate:
    return Estimate(one.value * factor, one.stderr * factor)


def _over(one: Estimate, other: Estimate) -> Estimate:
    """The ratio of independent means, its error to first order."""
    ratio = one.value / other.value
    return Estimate(ratio, ratio * math.hypot(one.stderr / one.value, other.stderr / other.value))


def _relative(text, predicted, found, claimed, share):
    return Verdict(text, predicted, found, claimed, share * predicted)


def tables(results: xr.Dataset) -> list[Table]:
    """What each well is, how fine its steps are, and how many chains stayed."""
    rows = []
    for name in results.setting.values.tolist():
        part = results.sel(setting=name)
        rows.append(
            (
                name,
                "-" if _jumps(name) else f"{float(part.height):.2f}",
                f"{float(part.steps):.0f}",
                f"{100 * (delay(part) - 1):.1f}",
                f"{float(part.exact / part.formula):.3f}" if not _jumps(name) else "-",
                f"{float(part.time / part.formula):.3f}",
                f"{100 * float(part.time_stderr / part.time):.2f}",
                f"{100 * float(part.stayed):.3f}",
            )
        )
    headings = ("well", "E", "steps", "steps miss, %", "exact / formula", "time / formula")
    caption = "Mean times: predicted steps, what steps miss, and chains that never left in 8 times"
    return [Table(caption, (*headings, "s.e. %", "stayed, %"), rows)]
