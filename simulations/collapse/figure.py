"""Growth of the distance to invariant sets, of units, of two units alike, and of layers."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Growth, a step, of the logarithm of a distance; bars are two standard errors. a: a unit "
    "y = w2 w1 x near zero; lines are exact, dashes of second order. b: the median of whole units "
    "of the smallest batch; dashes have the slope of the exponent where it is negative. c: whole "
    "units that were drawn to zero, of those that did not blow up, and that blew up (crosses), of "
    "all. d: two units that are alike; lines are the curvatures that the chains met, dashes those "
    "at rest. e: a layer near zero over c² / 2, c the size of its kicks; the line is n − 2. f: "
    "what is left of it less n − 2, and refined (crosses)."
)
LINES = ("blue", "vermilion", "green", "orange", "purple", "sky")
LEAST = -200  # log10 of a size


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"collapse": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """A unit near zero and as a whole, two units alike, layers."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.2))
        panels = (_unit, _nets, _shares, _twins, _layer, _refined)
        for ax, panel in zip(figure.subplots(2, 3).ravel(), panels, strict=True):
            panel(ax, results)
    return figure


def _points(ax, x, part, name, color, label):
    error = 2 * part[f"{name}_stderr"]
    ax.errorbar(x, part[name], error, fmt="o", markersize=3.5, color=COLOURS[color], label=label)


def _by_batch(results):
    for color, batch in zip(LINES, results.batch.values.tolist(), strict=False):
        yield color, f"batch {batch}", results.sel(batch=batch)


def _unit(ax, results):
    ax.axhline(0, color="black", linewidth=0.7)
    for color, label, part in _by_batch(results):
        _points(ax, results.rate, part, "unit_growth", color, label)
        ax.plot(results.rate, part.unit_exact, color=COLOURS[color])
        ax.plot(results.rate, part.unit_small, "--", color=COLOURS[color], linewidth=0.8)
    ax.set(xlabel="learning rate", ylabel="growth a step", title="a  a unit near zero")
    ax.set_xticks(results.rate.values)
    ax.legend(fontsize=7)


def _nets(ax, results):
    part = results.isel(batch=0)
    steps = part.net_step.values
    for color, rate in zip(LINES, results.rate.values.tolist(), strict=False):
        here = part.sel(rate=rate)
        size, exponent = here.net_size.values, float(here.unit_exact)
        shown = np.where(size > LEAST, size, np.nan)
        ax.plot(steps, shown, ".", markersize=3, color=COLOURS[color], label=f"rate {rate:g}")
        if exponent < 0:
            line = size[0] + 2 * exponent * (steps - steps[0]) / np.log(10)
            ax.plot(steps, line, "--", color=COLOURS[color], linewidth=0.8)
    ax.set(xlabel="steps", ylabel="log10 of median |w2 w1|", ylim=(LEAST, 8))
    ax.set_title("b  whole units")
    ax.set_xticks(np.linspace(0, steps[-1], 4).round())
    ax.legend(fontsize=7)


def _shares(ax, results):
    for color, label, part in _by_batch(results):
        look: dict = {"color": COLOURS[color], "markersize": 4, "linewidth": 0.6}
        gone, blew = part.net_gone / part.net_alive, 1 - part.net_alive / part.net_count
        ax.plot(results.rate, 100 * gone, "o-", label=f"{label}, drawn to zero", **look)
        ax.plot(results.rate, 100 * blew, "x:", label=f"{label}, blew up", **look)
    ax.set(xlabel="learning rate", ylabel="networks (%)", title="c  whole units, at the end")
    ax.set_xticks(results.rate.values)
    ax.legend(fontsize=7, loc="center right")


def _twins(ax, results):
    ax.axhline(0, color="black", linewidth=0.7)
    for color, label, part in _by_batch(results):
        _points(ax, results.rate, part, "twins_growth", color, label)
        ax.plot(results.rate, part.twins_growth - part.twins_unlike, color=COLOURS[color])
        ax.plot(results.rate, part.twins_at_rest, "--", color=COLOURS[color], linewidth=0.8)
    ax.set(xlabel="learning rate", ylabel="growth a step", title="d  two units alike")
    ax.set_xticks(results.rate.values)
    ax.legend(fontsize=7, loc="lower left")


def _layer(ax, results):
    widths = results.width.values
    ax.axhline(0, color="black", linewidth=0.7)
    ax.plot(widths, widths - 2, color="black")
    _grown(ax, results, 0)
    ax.set_xticks(widths, [str(n) for n in widths])
    ax.set(
        xlabel="inputs and outputs, n", ylabel="growth over c² / 2", title="e  a layer near zero"
    )
    ax.legend(fontsize=7)


def _refined(ax, results):
    widths = results.width.values
    ax.axhline(0, color="black", linewidth=0.7)
    _grown(ax, results, widths - 2)
    ax.set_xticks(widths, [str(n) for n in widths])
    ax.set(xlabel="inputs and outputs, n", ylabel="growth over c² / 2, less n − 2")
    ax.set_title("f  what a finite rate adds")


def _grown(ax, results, less):
    shift = 0.06 * np.ptp(results.width.values) / 5
    for place, strength in enumerate(results.strength.values.tolist()):
        part, unit = results.sel(strength=strength), strength**2 / 2
        look: dict = {"color": COLOURS[LINES[place]], "markersize": 3.5}
        at, errors = results.width.values + place * shift, 2 * part.layer_growth_stderr / unit
        values, refined = part.layer_growth / unit - less, part.layer_refined / unit - less
        ax.errorbar(at, values, errors, fmt="o", label=f"kicks of {strength:g}", **look)
        ax.plot(at, refined, "x", color=look["color"], markersize=7)
