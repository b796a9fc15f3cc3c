"""Participation ratio under a residual that stays, and the deviation of each flow from it."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE
from simulations.linear_networks import _panels as panels

CAPTION = (
    "Hidden layer of linear networks on minibatches that they cannot fit. Left: participation "
    "ratio against the fraction of the time, means over runs (points), the general flow fed by its "
    "own residuals (lines) and that of equally large label noise (dashes), with the same feeding. "
    "Middle: controls, in which nothing may change. Right: the deviation of three flows from "
    "descent at their worst time, with two standard errors."
)
SETTINGS = {"60, batch 4": "black", "uneven, smaller": "vermilion", "designed": "blue"}
CONTROLS = {"full batch": "green", "exact fit": "purple", "frozen readout": "orange"}
MARKERS = {"form fed": ("sky", "s", "σ² H form, fed"), "general": ("grey", "o", "general")}
MARKERS |= {"fed": ("vermilion", "D", "general, fed")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Ratios against time, controls, and deviations of every flow."""
    names = results.setting.values.tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.8, 3.1))
        ratio, unchanged, off = figure.subplots(1, 3)
        for name in (n for n in SETTINGS if n in names):
            setting, color = results.sel(setting=name), COLOURS[SETTINGS[name]]
            panels.ratio_curve(ratio, setting, color, name, line="fed", dashes="form fed")
        panels.ratio_axes(ratio)
        for name in (n for n in CONTROLS if n in names):
            setting = results.sel(setting=name)
            change = setting.ratio.mean("run") / float(setting.ratio_start)
            time = panels.relative_time(setting, setting)
            unchanged.plot(time, change, color=COLOURS[CONTROLS[name]], label=name)
        unchanged.set(xlabel="fraction of the time", ylabel="PR over its start", ylim=(0.9, 1.1))
        unchanged.legend(fontsize=7)
        _deviations(off, results)
    return figure


def _deviations(ax, results):
    names = [n for n in results.setting.values.tolist() if float(results.sel(setting=n).moving)]
    for place, name in enumerate(names):
        for flow, (color, marker, label) in MARKERS.items():
            at = results.sel(setting=name, flow=flow)
            value, error = float(at.off), float(at.off_stderr)
            style = {"color": COLOURS[color], "markersize": 4, "label": None if place else label}
            ax.errorbar(value, place, xerr=2 * error, fmt=marker, elinewidth=0.8, **style)
    ax.plot([0, 0], [-0.4, len(names) - 0.6], color=COLOURS["grey"], linewidth=0.6, zorder=0)
    ax.set_yticks(np.arange(len(names)), names, fontsize=6.5)
    ax.set_ylim(len(names) - 0.5, -0.6 - 0.3 * len(names))
    ax.set(xlabel="deviation of the flow, %")
    ax.legend(fontsize=7, loc="upper left", ncols=1)
