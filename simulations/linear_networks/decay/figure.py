"""Rates at which irrelevant inputs are forgotten, under weight decay and under label noise."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE
from simulations.linear_networks._panels import relative_time

CAPTION = (
    "Linear networks forget irrelevant inputs. Left: rate at which the weights from an input "
    "shrink, over the mean of all, against its variance; lines are predictions, of slope 0 under "
    "decay and 1 under label noise, points measured with two standard errors. Middle: "
    "participation ratio of the irrelevant part of the hidden layer, all at the same total "
    "shrinkage at first. Right: that of the complete hidden layer."
)
SETTINGS = {"decay": ("blue", "o"), "both": ("green", "s"), "noise": ("vermilion", "D")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Rates against variance, and dimension of the irrelevant part and of all against time."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9))
        rates, irrelevant, total = axes = figure.subplots(1, 3)
        for name in (n for n in SETTINGS if n in results.setting.values):
            colour, marker = SETTINGS[name]
            style = {"color": COLOURS[colour], "marker": marker, "label": name}
            for ax, plot in zip(axes, (_rates, _irrelevant, _all), strict=True):
                plot(ax, results.sel(setting=name), style)
        rates.set(xscale="log", yscale="log", xlabel="variance of the input", ylabel="rate / mean")
        for axis, ticks in ((rates.xaxis, [0.25, 0.5, 1, 2]), (rates.yaxis, [0.3, 0.5, 1, 2])):
            axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
            axis.set_ticks([], minor=True)
        rates.legend(fontsize=7)
        for ax, text, low in ((irrelevant, "irrelevant part", 0), (total, "hidden layer", 1)):
            ax.set(xlabel="fraction of the time", ylabel=f"PR of the {text}", ylim=(low, None))
    return figure


def _rates(ax, setting, style):
    weights = setting.useless.isel(watch=-1)
    mean, groups = weights.mean("part"), setting.sizes["part"]
    error = weights.std("part", ddof=1) / groups**0.5
    rates = np.log(setting.start / mean) / float(setting.step[-1])
    unit = float(setting.rate.mean())
    bars = 2 * error / mean / float(setting.step[-1]) / unit
    ax.errorbar(setting.variance, rates / unit, bars, markersize=3, linestyle="none", **style)
    ax.plot(setting.variance, setting.rate / unit, color=style["color"], linewidth=0.9)


def _irrelevant(ax, setting, style):
    records = setting.isel(watch=slice(3, None, 6))
    powers = setting.variance * records.useless.mean("part") ** 2
    measured = powers.sum("input") ** 2 / (powers**2).sum("input")
    _against_time(ax, setting, records, measured, _predicted_ratio(setting, []), style)


def _all(ax, setting, style):
    records = setting.isel(watch=slice(3, None, 6))
    predicted = _predicted_ratio(setting, setting.modes_rest.values)
    _against_time(ax, setting, records, records.ratio.mean("part"), predicted, style)


def _against_time(ax, setting, records, measured, predicted, style):
    time = relative_time(records, setting)
    ax.plot(time, measured, markersize=3, linestyle="none", **style)
    ax.plot(relative_time(setting, setting), predicted, color=style["color"], linewidth=0.9)


def _predicted_ratio(setting, modes):
    """PR of the irrelevant weights, which shrink at the predicted rates, and of other modes."""
    powers = setting.variance * (setting.start * np.exp(-setting.rate * setting.step)) ** 2
    total = powers.sum("input") + float(np.sum(modes))
    return total**2 / ((powers**2).sum("input") + float(np.sum(np.square(modes))))
