"""What is claimed of weight decay and label noise on useless inputs, and how far it may be off.

Shares were written before the full run, after earlier trials with other seeds; the regime of noise
is that of the study of compression by residuals: amplification, sharpness and haste.
"""

import math

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, jackknife, mean
from sgdnoise.lab import Table, Verdict
from sgdnoise.theory import variance_slope

TITLE = "Weight decay against label noise: which inputs a linear network forgets first"
LEAD = (
    "Useless inputs of variances from 0.25 to 2 start with the same hidden power. Decay shrinks "
    "their weights alike, noise each in proportion to its variance: the slope of log rate against "
    "log variance is 0 under decay and 1 under noise, whatever their strengths.",
    "Predictions are closed forms without a fitted number; shares of noise and decay are such that "
    "1 of either shrinks the useless hidden power as fast in total, at first.",
    "In regime: u ≤ 0.12, rate λ_max ≤ 0.3, and haste ≤ 0.1, the speed of the readout under noise "
    "over the least curvature.",
)
GENTLE = (0.12, 0.3, 0.1)  # amplification, sharpness and haste
SLOPE, RATE = 0.03, 0.03  # to which the slope is claimed, and the share of the rates
RATIO, MODES, SHORT = 0.03, 0.03, 0.15  # shares of PR, hidden power, what a mode falls short by
STILL = 0.01  # share by which controls may move
RIVALS = ("decay", "noise")


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Slope, rates, dimension and rest of every setting; what nothing acts on must stay."""
    names = results.setting.values.tolist()
    found = [_apart(results)] if set(RIVALS) <= set(names) else []
    for name in names:
        part = results.sel(setting=name)
        found += _claims(part, name) if float(part.rate.min()) > 0 else _still(part, name)
    return found


def regime(part: xr.Dataset) -> bool:
    """Whether theory claims to hold."""
    numbers = (float(part[name]) for name in ("amplification", "sharpness", "haste"))
    return all(number <= most for number, most in zip(numbers, GENTLE, strict=True))


def _apart(results):
    """The discriminating statistic: the slope under noise less that under decay."""
    decay, noise = (results.sel(setting=name) for name in RIVALS)
    slopes = [_of_mean(part, _slope(part)) for part in (noise, decay)]
    claimed = regime(noise) and regime(decay)
    error = math.hypot(*(slope.stderr for slope in slopes))
    measured = Estimate(slopes[0].value - slopes[1].value, error)
    return Verdict("slope under noise less that under decay", 1.0, measured, claimed, 2 * SLOPE)


def _still(part, name):
    left = part.useless.isel(watch=-1).mean("input") / float(part.start.mean())
    return [Verdict(f"{name}: useless weights at the end", 1.0, _mean(left), True, STILL)]


def _claims(part, name):
    claimed, predicted = regime(part), part.rate.values
    total = float(predicted.sum())
    slope = round(float(variance_slope(part.variance.values, predicted)), 12) + 0.0  # never -0
    ratio = _ratio(part)(part.start.values * np.exp(-predicted * _time(part)))
    found = [
        Verdict("slope", slope, _of_mean(part, _slope(part)), claimed, SLOPE),
        Verdict("rates", 1.0, _of_mean(part, _total(part, total)), claimed, RATE),
        Verdict("PR of the useless", ratio, _of_mean(part, _ratio(part)), claimed, RATIO * ratio),
    ]
    if float(part.trained):
        found += _rest(part, claimed)
    return [verdict._replace(name=f"{name}: {verdict.name}") for verdict in found]


def _rest(part, claimed):
    """Hidden power of each mode, and by how much both fall short, where theory has them rest."""
    modes = part.modes_rest.values.tolist()
    short = part.strength - part["product"]
    low = float((part.strength - part.product_rest).mean())
    ratio = _of_all(part)
    return [
        Verdict("PR of all", ratio, _mean(part.ratio.isel(watch=-1)), claimed, RATIO * ratio),
        *(
            Verdict(
                f"hidden power of mode {k + 1}",
                m,
                _mean(part.modes.isel(mode=k)),
                claimed,
                MODES * m,
            )
            for k, m in enumerate(modes)
        ),
        Verdict("modes too weak by", low, _mean(short.mean("mode")), claimed, SHORT * low),
    ]


def _of_all(part):
    """PR at the end of modes at rest and what is left of the useless weights."""
    left = part.variance.values * (part.start.values * np.exp(-part.rate.values * _time(part))) ** 2
    powers = np.concatenate([left, part.modes_rest.values])
    return float(powers.sum() ** 2 / (powers**2).sum())


def _time(part):
    return float(part.step[-1])


def _fallen(part, weights):
    """Rates from mean weights (..., input) at the end."""
    return np.log(part.start.values / weights) / _time(part)


def _slope(part):
    return lambda weights: variance_slope(part.variance.values, _fallen(part, weights))


def _total(part, unit):
    return lambda weights: _fallen(part, weights).sum(-1) / unit


def _ratio(part):
    def ratio(weights):
        powers = part.variance.values * weights**2
        return powers.sum(-1) ** 2 / (powers**2).sum(-1)

    return ratio


def _of_mean(part, statistic):
    """A statistic of the mean weights over runs, by the jackknife over parts of these."""
    values = np.asarray(part.useless.isel(watch=-1).transpose("part", "input"), float)
    whole, parts = values.mean(0), len(values)
    return jackknife(float(statistic(whole)), statistic((parts * whole - values) / (parts - 1)))


def _mean(values):
    found = mean(np.asarray(values, float))
    return Estimate(float(found.value), float(found.stderr), found.freedom)


def tables(results: xr.Dataset) -> list[Table]:
    """Of every setting: its regime, slope, and dimension at the end."""
    rows = []
    for name in results.setting.values.tolist():
        part = results.sel(setting=name)
        moves = float(part.rate.min()) > 0
        slope = _of_mean(part, _slope(part)) if moves else None
        useless = _of_mean(part, _ratio(part))
        rows.append(
            (
                name,
                f"{float(part.amplification):.3f}",
                f"{float(part.sharpness):.2f}",
                f"{float(part.haste):.2f}",
                f"{slope.value:.3f} ± {slope.stderr:.3f}" if slope else "-",
                f"{useless.value:.3f} ± {useless.stderr:.3f}",
                f"{float(part.ratio.isel(watch=-1).mean()):.3f}",
            )
        )
    headings = ("setting", "u", "rate λ_max", "haste", "slope", "PR of the useless", "PR of all")
    return [Table("Slope of log rate against log variance, and PR at the end", headings, rows)]
