"""Growth of the distance to invariant sets: a unit, two equal units, and layers."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of

CAPTION = (
    "Growth per step of the logarithm of a distance; bars are two standard errors. a: a unit "
    "y = w2 w1 x near zero; lines are exact, dashes of second order. b: the median of whole units "
    "of the smallest batch; dashes have the slope of the exponent where it is negative. c: whole "
    "units that collapsed to zero, of those that did not diverge, and that diverged (crosses), of "
    "all. d: two nearly equal units; lines use the curvatures that the chains met, dashes those at "
    "the minimum. e: a layer near zero over c² / 2, c the size of its noise; the line is n − 2. "
    "f: the same less n − 2, and the refined prediction (crosses)."
)
LINES = ("blue", "vermilion", "green", "orange", "purple", "sky")
MIN_LOG_SIZE = -200


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A unit near zero and far from it, two equal units, layers."""
    figure = Figure(figsize=(9.6, 5.2))
    panels = (_unit, _nets, _fractions, _twins, _layer, _refined)
    for ax, panel in zip(figure.subplots(2, 3).ravel(), panels, strict=True):
        panel(ax, results)
    return figure


def _points(ax, x, data, name, color, label):
    error = 2 * data[f"{name}_stderr"]
    ax.errorbar(x, data[name], error, fmt="o", markersize=3.5, color=color, label=label)


def _by_batch(results):
    for color, (batch, data) in zip(LINES, settings_of(results, "batch"), strict=False):
        yield COLOURS[color], f"batch {batch}", data


def _rates(ax, results, title):
    ax.set(xlabel="learning rate", ylabel="growth per step", title=title)
    ax.set_xticks(results.rate.values)


def _unit(ax, results):
    ax.axhline(0, color="black", linewidth=0.7)
    for color, label, data in _by_batch(results):
        _points(ax, results.rate, data, "unit_growth", color, label)
        ax.plot(results.rate, data.unit_exact, color=color)
        ax.plot(results.rate, data.unit_small, "--", color=color, linewidth=0.8)
    _rates(ax, results, "a  a unit near zero")
    ax.legend(fontsize=7)


def _nets(ax, results):
    data = results.isel(batch=0)
    steps = data.net_step.values
    for color, (rate, cell) in zip(LINES, settings_of(data, "rate"), strict=False):
        size, exponent = cell.net_size.values, float(cell.unit_exact)
        visible = np.where(size > MIN_LOG_SIZE, size, np.nan)
        ax.plot(steps, visible, ".", markersize=3, color=COLOURS[color], label=f"rate {rate:g}")
        if exponent < 0:
            line = size[0] + 2 * exponent * (steps - steps[0]) / np.log(10)
            ax.plot(steps, line, "--", color=COLOURS[color], linewidth=0.8)
    ax.set(xlabel="steps", ylabel="log10 of median |w2 w1|", ylim=(MIN_LOG_SIZE, 8))
    ax.set_title("b  whole units")
    ax.set_xticks(np.linspace(0, steps[-1], 4).round())
    ax.legend(fontsize=7)


def _fractions(ax, results):
    for color, label, data in _by_batch(results):
        style: dict = {"color": color, "markersize": 4, "linewidth": 0.6}
        collapsed, diverged = data.net_gone / data.net_alive, 1 - data.net_alive / data.net_count
        ax.plot(results.rate, 100 * collapsed, "o-", label=f"{label}, collapsed", **style)
        ax.plot(results.rate, 100 * diverged, "x:", label=f"{label}, diverged", **style)
    _rates(ax, results, "c  whole units, at the end")
    ax.set_ylabel("networks (%)")
    ax.legend(fontsize=7, loc="center right")


def _twins(ax, results):
    ax.axhline(0, color="black", linewidth=0.7)
    for color, label, data in _by_batch(results):
        _points(ax, results.rate, data, "twins_growth", color, label)
        ax.plot(results.rate, data.twins_growth - data.twins_unlike, color=color)
        ax.plot(results.rate, data.twins_at_rest, "--", color=color, linewidth=0.8)
    _rates(ax, results, "d  two equal units")
    ax.legend(fontsize=7, loc="lower left")


def _layer(ax, results):
    ax.plot(results.width, results.width - 2, color="black")
    _layers(ax, results, 0)
    ax.set(ylabel="growth over c² / 2", title="e  a layer near zero")
    ax.legend(fontsize=7)


def _refined(ax, results):
    _layers(ax, results, results.width.values - 2)
    ax.set(ylabel="growth over c² / 2, less n − 2", title="f  what a finite rate adds")


def _layers(ax, results, subtracted):
    widths = results.width.values
    ax.axhline(0, color="black", linewidth=0.7)
    shift = 0.06 * np.ptp(widths) / 5
    for index, (strength, data) in enumerate(settings_of(results, "strength")):
        unit, color = strength**2 / 2, COLOURS[LINES[index]]
        x, errors = widths + index * shift, 2 * data.layer_growth_stderr / unit
        values, refined = (
            data[name] / unit - subtracted for name in ("layer_growth", "layer_refined")
        )
        style: dict = {"color": color, "markersize": 3.5, "label": f"noise of {strength:g}"}
        ax.errorbar(x, values, errors, fmt="o", **style)
        ax.plot(x, refined, "x", color=color, markersize=7)
    ax.set_xticks(widths, [str(n) for n in widths])
    ax.set_xlabel("inputs and outputs, n")
