"""Rates at which useless inputs are forgotten, under weight decay and under label noise."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Linear networks forget useless inputs. Left: rate at which the weights from an input shrink, "
    "over the mean of all, against its variance; lines are predictions, of slope 0 under decay and "
    "1 under label noise, points measured with two standard errors. Middle: participation ratio "
    "of the useless part of the hidden layer, all at the same shrinkage in total at first. Right: "
    "that of the whole hidden layer."
)
SHOWN = {"decay": ("blue", "o"), "both": ("green", "s"), "noise": ("vermilion", "D")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"decay": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Rates against variance, and dimension of the useless part and of all against time."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9))
        axes = figure.subplots(1, 3)
        for name in (n for n in SHOWN if n in results.setting.values):
            colour, marker = SHOWN[name]
            how = {"color": COLOURS[colour], "marker": marker, "label": name}
            part = results.sel(setting=name)
            for ax, plot in zip(axes, (_rates, _useless, _all), strict=True):
                plot(ax, part, how)
        rates, useless, whole = axes
        rates.set(xscale="log", yscale="log", xlabel="variance of the input", ylabel="rate / mean")
        for axis, ticks in ((rates.xaxis, [0.25, 0.5, 1, 2]), (rates.yaxis, [0.3, 0.5, 1, 2])):
            axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
            axis.set_ticks([], minor=True)
        rates.legend(fontsize=7)
        useless.set(xlabel="share of the time", ylabel="PR of the useless part", ylim=(0, None))
        whole.set(xlabel="share of the time", ylabel="PR of the hidden layer", ylim=(1, None))
    return figure


def _rates(ax, part, how):
    weights = part.useless.isel(watch=-1)
    middle, error = weights.mean("part"), weights.std("part", ddof=1) / part.sizes["part"] ** 0.5
    rates = np.log(part.start / middle) / float(part.step[-1])
    unit = float(part.rate.mean())
    bars = 2 * error / middle / float(part.step[-1]) / unit
    ax.errorbar(part.variance, rates / unit, bars, markersize=3, linestyle="none", **how)
    ax.plot(part.variance, part.rate / unit, color=how["color"], linewidth=0.9)


def _useless(ax, part, how):
    some = part.isel(watch=slice(3, None, 6))
    powers = part.variance * some.useless.mean("part") ** 2
    ax.plot(_share(some, part), _ratio(powers), markersize=3, linestyle="none", **how)
    exact = part.variance * (part.start * np.exp(-part.rate * part.step)) ** 2
    ax.plot(_share(part, part), _ratio(exact), color=how["color"], linewidth=0.9)


def _all(ax, part, how):
    some = part.isel(watch=slice(3, None, 6))
    ax.plot(_share(some, part), some.ratio.mean("part"), markersize=3, linestyle="none", **how)
    left = part.variance * (part.start * np.exp(-part.rate * part.step)) ** 2
    modes = part.modes_rest
    total = left.sum("input") + float(modes.sum())
    ratio = total**2 / ((left**2).sum("input") + float((modes**2).sum()))
    ax.plot(_share(part, part), ratio, color=how["color"], linewidth=0.9)


def _ratio(powers):
    return powers.sum("input") ** 2 / (powers**2).sum("input")


def _share(some, part):
    return some.step / float(part.step[-1])
