"""Participation ratio under a residual that stays, and how far each flow is from it."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Hidden layer of linear networks on minibatches that they cannot fit. Left: participation "
    "ratio against the share of the time, means over runs (points), the general flow fed by its "
    "own residuals (lines) and that of label noise as large (dashes), with the same feeding. "
    "Middle: controls, in which nothing may happen. Right: how far three flows lie from descent "
    "at their worst moment, with two standard errors."
)
SHOWN = {"60, batch 4": "black", "uneven, smaller": "vermilion", "designed": "blue"}
STILL = {"full batch": "green", "exact fit": "purple", "frozen readout": "orange"}
MARKS = {"form fed": ("sky", "s", "σ² H form, fed"), "general": ("grey", "o", "general")}
MARKS |= {"fed": ("vermilion", "D", "general, fed")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"residual": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Ratios against time, controls, and deviations of every flow."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.8, 3.1))
        ratio, still, off = figure.subplots(1, 3)
        for name in (n for n in SHOWN if n in results.setting.values):
            _ratio(ratio, results.sel(setting=name), COLOURS[SHOWN[name]], name)
        ratio.set(xlabel="share of the time", ylabel="participation ratio", yscale="log")
        ticks = [1.5, 2, 3, 4, 6]
        ratio.set_yticks(ticks, [str(t) for t in ticks], minor=False)
        ratio.minorticks_off()
        ratio.legend(fontsize=7)
        for name in (n for n in STILL if n in results.setting.values):
            part = results.sel(setting=name)
            change = part.ratio.mean("run") / float(part.ratio_start)
            still.plot(_share(part, part), change, color=COLOURS[STILL[name]], label=name)
        still.set(xlabel="share of the time", ylabel="PR over its start", ylim=(0.9, 1.1))
        still.legend(fontsize=7)
        _off(off, results)
    return figure


def _share(some, part):
    return some.step / float(part.step[-1])


def _ratio(ax, part, color, label):
    some = part.isel(watch=slice(1, None, 4))
    ax.plot(_share(some, part), some.ratio.mean("run"), "o", markersize=3, color=color, label=label)
    ax.plot(_share(part, part), part.ratio_flow.sel(flow="fed"), color=color)
    ax.plot(
        _share(part, part), part.ratio_flow.sel(flow="form fed"), "--", color=color, linewidth=0.7
    )


def _off(ax, results):
    names = [n for n in results.setting.values.tolist() if float(results.sel(setting=n).moving)]
    for place, name in enumerate(names):
        for flow, (color, marker, label) in MARKS.items():
            at = results.sel(setting=name, flow=flow)
            value, error = float(at.off), float(at.off_stderr)
            how = {"color": COLOURS[color], "markersize": 4, "label": None if place else label}
            ax.errorbar(value, place, xerr=2 * error, fmt=marker, elinewidth=0.8, **how)
    ax.plot([0, 0], [-0.4, len(names) - 0.6], color=COLOURS["grey"], linewidth=0.6, zorder=0)
    ax.set_yticks(np.arange(len(names)), names, fontsize=6.5)
    ax.set_ylim(len(names) - 0.5, -0.6 - 0.3 * len(names))
    ax.set(xlabel="flow lies off by, %")
    ax.legend(fontsize=7, loc="upper left", ncols=1)
