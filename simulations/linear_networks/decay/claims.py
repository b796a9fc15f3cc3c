"""What is claimed of weight decay and label noise on irrelevant inputs, and its tolerance.

Tolerances were written before the full run, after earlier trials (trials.md); the regime of
noise is that of the study of residuals: amplification, sharpness and ratio of time scales.
"""

import math
from dataclasses import replace

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, eigenvalue_participation_ratio, jackknife
from sgdnoise.lab import Table, Verdict, mean_of, prediction_if, rivals_of_effect
from sgdnoise.theory import FlowLimits, mode_with_decay, variance_slope
from simulations._linear_networks import PARAMETERS, parameter_cells, small_parameters
from simulations.linear_networks._claims import excess, relative, without_identities

TITLE = "Weight decay against label noise: which inputs a linear network forgets first"
LEAD = (
    "Irrelevant inputs of variances from 0.25 to 2 start with the same hidden power. Decay shrinks "
    "their weights alike, noise each in proportion to its variance: the slope of log rate against "
    "log variance is 0 under decay and 1 under noise, whatever their strengths.",
    "Predictions are closed forms without a fitted number; the units of noise and decay are such "
    "that 1 of either shrinks the irrelevant hidden power as fast in total, at first.",
    "In regime: u ≤ 0.12, rate λ_max ≤ 0.3, a ratio of time scales ≤ 0.1, the speed of the "
    "readout under noise over the least curvature, and a share of the jitter ≤ 0.05.",
    "The excess loss (E L - L) / (κ Tr H) is claimed to theory's own error, to the size of what "
    "decay changes in the jitter, and to the error of L, of modes whose missing strength is "
    "known to 15%: E L is the mean loss after a quarter of the time.",
)
REGIME = FlowLimits()
SLOPE, RATE = 0.03, 0.03  # tolerances of the slope, and of the rates (relative)
RATIO, MODES, SHORT = 0.03, 0.03, 0.15  # relative, of PR, hidden power, and missing strength
UNCHANGED = 0.01  # relative change of controls
RIVALS = ("decay", "noise")


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Slope, rates, dimension and stationary modes; without noise and decay nothing may change."""
    names = results.setting.values.tolist()
    judged = [_difference(results)] if set(RIVALS) <= set(names) else []
    for name in names:
        setting = results.sel(setting=name)
        if float(setting.rate.min()) > 0:
            judged += _claims(setting, name)
        else:
            judged.append(_unchanged(setting, name, results.rate.max("setting")))
    return without_identities(judged)


def regime(setting: xr.Dataset) -> bool:
    """Whether theory claims to hold."""
    return small_parameters(setting).claimed(REGIME)


def _difference(results):
    """The discriminating statistic: the slope under noise less that under decay."""
    decay, noise = (results.sel(setting=name) for name in RIVALS)
    noise_slope, decay_slope = (_of_mean(s, _slope(s)) for s in (noise, decay))
    kind = prediction_if(regime(noise) and regime(decay))
    error = math.hypot(noise_slope.stderr, decay_slope.stderr)
    measured = Estimate(noise_slope.value - decay_slope.value, error)
    rivals = (("noise shrinks as decay", 0.0),)
    text = "slope under noise less that under decay"
    return Verdict(text, 1.0, measured, kind, 2 * SLOPE, rivals)


def _unchanged(setting, name, rates=0.0):
    """Weights that must not shrink, as they would at the largest rates of any setting."""
    end = setting.useless.isel(watch=-1).mean("input") / float(setting.start.mean())
    shrunk = float((setting.start * np.exp(-rates * _time(setting))).mean() / setting.start.mean())
    text, rivals = f"{name}: useless weights at the end", (("they shrink", shrunk),)
    return Verdict(text, 1.0, mean_of(end), "prediction", UNCHANGED, rivals)


def _claims(setting, name):
    predicted, kind = setting.rate.values, prediction_if(regime(setting))
    total = float(predicted.sum())
    slope = round(float(variance_slope(setting.variance.values, predicted)), 12) + 0.0  # never -0
    others = _other_rates(setting)

    def ratio_after(rates):
        return _ratio(setting)(setting.start.values * np.exp(-rates * _time(setting)))

    ratio, measured = ratio_after(predicted), _of_mean(setting, _ratio(setting))
    slopes = tuple((k, variance_slope(setting.variance.values, v)) for k, v in others)
    ratios = [(k, ratio_after(v)) for k, v in others]
    if len(others) > 1 or slope > SLOPE:  # decay alone leaves the ratio as it is at any strength
        ratios = [*rivals_of_effect(lambda f: ratio_after(f * predicted), "rate"), *ratios]
    strengths = rivals_of_effect(1.0, "rate")
    judged = [
        Verdict("slope", slope, _of_mean(setting, _slope(setting)), kind, SLOPE, slopes),
        Verdict("rates", 1.0, _of_mean(setting, _total(setting, total)), kind, RATE, strengths),
        Verdict("PR of the useless", ratio, measured, kind, RATIO * ratio, tuple(ratios)),
    ]
    if float(setting.trained):
        judged += _stationary(setting, regime(setting))
    if float(setting.trained) and float(setting.excess.min()) > 0:
        judged.append(_excess(setting))
    return [replace(verdict, name=f"{name}: {verdict.name}") for verdict in judged]


def _excess(setting):
    """The excess loss, with the errors of decay in the jitter, and of the loss at rest."""
    loss = float(setting.loss_minimum) / float(setting.kappa_trace.mean())
    more = float(setting.decay_effect) + 2 * SHORT * loss
    row = excess(setting, "", regime(setting), more)
    return replace(row, name=row.name.removeprefix(": "))


def _other_rates(setting):
    """Rates of the same total if decay alone acted, and if noise alone did, where both differ."""
    rates, variance = setting.rate.values, setting.variance.values
    alone = {
        "weight decay alone": np.full_like(rates, rates.mean()),
        "label noise alone": variance * rates.sum() / variance.sum(),
    }
    return [(k, v) for k, v in alone.items() if not np.allclose(v, rates, rtol=0.02)]


def _stationary(setting, claimed):
    """Hidden power of each mode, and the missing strength of both, where theory is stationary.

    At rest the power of a mode depends on the ratio of noise to decay, and not on their strength.
    """
    missing = setting.strength - setting["product"]
    predicted = float((setting.strength - setting.product_rest).mean())
    at_end = mean_of(setting.ratio.isel(watch=-1))
    others = [(name, _modes_of(setting, name)) for name, _ in _other_rates(setting)]
    ratios = [(name, _ratio_of_all(setting, powers)) for name, powers in others]
    strengths = rivals_of_effect(predicted, "strength")
    weak = mean_of(missing.mean("mode"))
    return [
        relative("PR of all", at_end, _ratio_of_all(setting), claimed, RATIO, ratios),
        *(_power_of_mode(setting, k, claimed, others) for k in range(setting.sizes["mode"])),
        relative("modes too weak by", weak, predicted, claimed, SHORT, strengths),
    ]


def _power_of_mode(setting, k, claimed, others):
    text, measured = f"hidden power of mode {k + 1}", mean_of(setting.modes.isel(mode=k))
    rivals = [(name, powers[k]) for name, powers in others]
    return relative(text, measured, float(setting.modes_rest[k]), claimed, MODES, rivals)


def _modes_of(setting, name):
    """The stationary powers of the modes if weight decay, or label noise, acted alone."""
    strengths, small = setting.strength.values, 1e-9
    trace = len(strengths) + float(setting.variance.sum())  # inputs of the modes have variance 1
    prices = {"decay": small, "kappa": 0.0} if "decay" in name else {"decay": 0.0, "kappa": small}
    return [mode_with_decay(m, 1.0, trace, len(strengths), **prices).first for m in strengths]


def _ratio_of_all(setting, modes=None):
    """PR at the end of stationary modes and of the irrelevant weights that are left."""
    modes = setting.modes_rest.values if modes is None else modes
    weights = setting.start.values * np.exp(-setting.rate.values * _time(setting))
    powers = np.concatenate([setting.variance.values * weights**2, modes])
    return float(eigenvalue_participation_ratio(powers))


def _time(setting):
    return float(setting.step[-1])


def _rates(setting, weights):
    """Decay rates from mean weights (..., input) at the end."""
    return np.log(setting.start.values / weights) / _time(setting)


def _slope(setting):
    return lambda weights: variance_slope(setting.variance.values, _rates(setting, weights))


def _total(setting, unit):
    return lambda weights: _rates(setting, weights).sum(-1) / unit


def _ratio(setting):
    def ratio(weights):
        powers = setting.variance.values * weights**2
        return eigenvalue_participation_ratio(powers)

    return ratio


def _of_mean(setting, statistic):
    """A statistic of the mean weights over runs, by the jackknife over groups of these."""
    values = np.asarray(setting.useless.isel(watch=-1).transpose("part", "input"), float)
    mean, n = values.mean(0), len(values)
    return jackknife(float(statistic(mean)), statistic((n * mean - values) / (n - 1)))


def tables(results: xr.Dataset) -> list[Table]:
    """Of every setting: its regime, slope, and dimension at the end."""
    rows = []
    for name in results.setting.values.tolist():
        setting = results.sel(setting=name)
        slope = _of_mean(setting, _slope(setting)) if float(setting.rate.min()) > 0 else None
        irrelevant = _of_mean(setting, _ratio(setting))
        rows.append(
            (
                name,
                *parameter_cells(setting),
                f"{slope.value:.3f} ± {slope.stderr:.3f}" if slope is not None else "-",
                f"{irrelevant.value:.3f} ± {irrelevant.stderr:.3f}",
                f"{float(setting.ratio.isel(watch=-1).mean()):.3f}",
            )
        )
    headings = ("setting", *PARAMETERS, "slope", "PR of the irrelevant part")
    caption = "Slope of log rate against log variance, and PR at the end"
    return [Table(caption, (*headings, "PR of all"), rows)]
