"""What is claimed of escape times, where, and with which tolerance."""

import math

import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, estimate_in, prediction_if, rivals_of_effect, settings_of
from sgdnoise.theory import boundary_time

ALPHA = 1.5  # of the jumps
TITLE = "Escape: how long noise takes to leave a well"
LEAD = (
    "Mean first passage times of chains that start at the bottom. exact: an integral whose end is "
    "shifted to account for discrete steps, claimed to 3%, of which the next order of the step "
    "takes 1%.",
    "formula: the limit of small noise, claimed to 1.5 / E where E, the barrier in units of the "
    "noise, is 3 or more; the measured time is corrected for discrete steps first.",
    "jumps: the limit of weak Lévy noise, claimed to 3% and 4.2 relaxation times where the time is "
    "50 of them or more; a numerical solution gives an exact time that is 4.1 of them shorter.",
    "One temperature: Kramers' formula, as if the noise were everywhere that at the bottom.",
)
EXACT = 0.03  # tolerance of exact times as a fraction: the next order of the step is 1%
MIN_HEIGHT, NEXT_ORDER = 3.0, 1.5  # E from which limits are claimed, to the fraction 1.5 / E
MIN_TIME, OFFSET = 50.0, 4.2  # relaxation times: from which jumps are claimed, and the tolerance
EXPONENT, RATIO = 0.05, 0.05  # tolerance of the power law, and of ratios of times


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Every well against its theory, then wells against each other."""
    rows: list[Verdict] = []
    for name, data in settings_of(results, "setting"):
        rows += [_jumps(data, name)] if name.startswith("jumps") else _well(data, name)
    return [*rows, *_label_noise(results), *_power(results), *_height(results)]


def _well(data, name):
    time, height = estimate_in(data, "time"), float(data.height)
    kind, tolerance = prediction_if(height >= MIN_HEIGHT), NEXT_ORDER / height
    continuous = _scaled(time, 1 / delay(data))
    plain, exact, formula = (float(data[key]) for key in ("plain", "exact", "formula"))
    others = [("one temperature", plain)] if math.isfinite(plain) else []
    seen = [("continuous time", exact), *((k, v * delay(data)) for k, v in others)]
    rows = [
        _relative(
            *(f"{name}: exact", data.seen, time, "prediction", EXACT),
            _of_noise(float(data.seen), height, *seen),
        ),
        _relative(
            *(f"{name}: formula", data.formula, continuous, kind, tolerance),
            _of_noise(formula, height, *others),
        ),
    ]
    if math.isfinite(data.plain):
        text = f"{name}: one temperature"
        rows.append(_relative(text, data.plain, continuous, "contrast", tolerance))
    return rows


def _jumps(data, name):
    tolerance = EXACT + OFFSET / float(data.height)
    kind, time = prediction_if(float(data.height) >= MIN_TIME), estimate_in(data, "time")
    predicted = float(data.formula)
    rivals = rivals_of_effect(lambda f: _of_jumps(predicted, f), "noise")
    return _relative(f"{name}: formula", data.formula, time, kind, tolerance, rivals)


def _of_noise(time, height, *others):
    """Times with other temperatures, to leading order: Arrhenius' factor alone changes."""

    def predict(factor):
        return time * math.exp(height * (1 / factor - 1)) if factor else math.inf

    return rivals_of_effect(predict, "noise", *others)


def _of_jumps(time, factor):
    """The time with jumps a factor as strong: it is proportional to eps^-alpha."""
    return time * factor**-ALPHA if factor else math.inf


def _label_noise(results):
    """The flat well against sharp ones: as wide, where curvature counts once, and as high."""
    rows, flat = [], "label noise, flat"
    for name in ("label noise, as wide", "label noise, as high"):
        if {flat, name} <= set(results.setting.values.tolist()):
            pair = [results.sel(setting=n) for n in (flat, name)]
            predicted = float(pair[0].exact / pair[1].exact)
            times = [_scaled(estimate_in(data, "time"), 1 / delay(data)) for data in pair]
            text = f"{flat}: time over that of the sharp well {name.split(', ')[1]}"
            heights = float(pair[0].height - pair[1].height)
            one = ("one temperature", _one_temperature(pair))
            rivals = _of_noise(predicted, heights, one)
            rows.append(_relative(text, predicted, _ratio(*times), "prediction", RATIO, rivals))
    return rows


def _one_temperature(pair):
    """The ratio if the noise of both wells were that of the sharp one, of twice the curvature.

    Then the barrier in units of the noise is that of the sharp well times half the square of the
    widths' ratio, and the prefactor is that of `boundary_time`.
    """
    flat, sharp = (float(data.height) for data in pair)
    height = flat / 2  # the flat well's barrier over the noise of the sharp one
    return boundary_time(height, 0.5) / boundary_time(sharp, 1.0)


def _power(results):
    """How time falls with the strength of jumps, between the two weakest."""
    names = [n for n in results.setting.values.tolist() if n.startswith("jumps, eps")][-2:]
    if len(names) < 2:
        return []
    strong, weak = (results.sel(setting=name) for name in names)
    log_two = math.log(2.0)
    ratio = _ratio(estimate_in(weak, "time"), estimate_in(strong, "time"))
    exponent = Estimate(-math.log(ratio.value) / log_two, ratio.stderr / ratio.value / log_two)
    predicted = -math.log(float(weak.formula / strong.formula)) / log_two
    kind = prediction_if(float(strong.height) >= MIN_TIME)
    text = "jumps: d log time / d log eps"
    rivals = rivals_of_effect(predicted, "exponent")
    return [Verdict(text, predicted, exponent, kind, EXPONENT, rivals)]


def _height(results):
    high, plain = "jumps, 4 times as high, eps = 0.05", "jumps, eps = 0.05"
    if not {high, plain} <= set(results.setting.values.tolist()):
        return []
    ratio = _ratio(*(estimate_in(results.sel(setting=name), "time") for name in (high, plain)))
    text = "jumps: time at 4 times the height, over plain"
    # With curvature 4 times as large the relaxation is 4 times as fast.
    rivals = (("in relaxation times", 0.25), ("in proportion to the height", 4.0))
    return [Verdict(text, 1.0, ratio, "prediction", RATIO, rivals)]


def delay(data) -> float:
    """The factor by which discrete steps are later, because they miss short visits to the end."""
    return float(data.seen / data.exact)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value * factor, estimate.stderr * factor)


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    """The ratio of independent means, its error to first order."""
    ratio = a.value / b.value
    return Estimate(ratio, ratio * math.hypot(a.stderr / a.value, b.stderr / b.value))


def _relative(text, predicted, measured, kind, fraction, rivals=()):
    predicted = float(predicted)
    return Verdict(text, predicted, measured, kind, fraction * predicted, tuple(rivals))


def tables(results: xr.Dataset) -> list[Table]:
    """Each well, how fine its steps are, and how many chains stayed."""
    rows = []
    for name, data in settings_of(results, "setting"):
        jumps = name.startswith("jumps")
        rows.append(
            (
                name,
                "-" if jumps else f"{float(data.height):.2f}",
                f"{float(data.steps):.0f}",
                f"{100 * (delay(data) - 1):.1f}",
                "-" if jumps else f"{float(data.exact / data.formula):.3f}",
                f"{float(data.time / data.formula):.3f}",
                f"{100 * float(data.time_stderr / data.time):.2f}",
                f"{100 * float(data.stayed):.3f}",
            )
        )
    headings = ("well", "E", "steps", "delay of steps, %", "exact / formula", "time / formula")
    caption = (
        "Mean times: predicted number of steps, the delay of discrete steps, and the chains that "
        "never left in 8 mean times"
    )
    return [Table(caption, (*headings, "s.e. %", "stayed, %"), rows)]
