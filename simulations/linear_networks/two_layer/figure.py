"""Participation ratio of the hidden layer against the slow flow, and what is left between them."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Hidden layer of linear networks under label noise. Left and middle: participation ratio, and "
    "the two largest eigenvalues, against time over the time scale 2 B / (rate² σ² o); points are "
    "means over runs, lines the refined slow flow, dashes the base flow, dots where theory rests. "
    "Right: the deviation of each from descent at its worst moment, with the standard error."
)
SHOWN = {"plain": "black", "larger batch": "blue", "stronger": "vermilion", "narrow": "green"}
MARKS = {"base": ("grey", "o"), "equation": ("sky", "s"), "refined": ("vermilion", "D")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"slow_flow": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Ratio and modes against time, and the worst deviations of every flow."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9))
        ratio, modes, off = figure.subplots(1, 3)
        shown = [name for name in SHOWN if name in results.setting.values]
        for name in shown:
            _ratio(ratio, results.sel(setting=name), COLOURS[SHOWN[name]], name)
        ratio.set(xlabel="share of the time", ylabel="participation ratio", yscale="log")
        ticks = [1.5, 2, 3, 4, 6]
        ratio.set_yticks(ticks, [str(t) for t in ticks], minor=False)
        ratio.minorticks_off()
        ratio.legend(fontsize=7)
        _modes(modes, results.sel(setting=shown[0]))
        modes.set(xlabel="share of the time", ylabel="eigenvalue", title=shown[0], ylim=(0, None))
        _off(off, results)
    return figure


def _share(part, whole):
    return part.step / float(whole.step[-1])


def _ratio(ax, part, color, label):
    some = part.isel(watch=slice(1, None, 4))
    ax.plot(_share(some, part), some.ratio.mean("run"), "o", markersize=3, color=color, label=label)
    ax.plot(_share(part, part), part.ratio_flow.sel(flow="refined"), color=color)
    ax.plot(_share(part, part), part.ratio_flow.sel(flow="base"), "--", color=color, linewidth=0.7)


def _modes(ax, part):
    some = part.isel(watch=slice(1, None, 4))
    for mode, name in enumerate(("black", "orange")):
        color = COLOURS[name]
        ax.plot(_share(some, part), some.modes.mean("run")[:, mode], "o", markersize=3, color=color)
        ax.plot(_share(part, part), part.modes_flow.sel(flow="refined")[:, mode], color=color)
        ax.plot(
            _share(part, part), part.modes_flow.sel(flow="base")[:, mode], "--", color=color, lw=0.7
        )


def _off(ax, results):
    names = [n for n in results.setting.values.tolist() if float(results.sel(setting=n).moving)]
    for place, name in enumerate(names):
        part = results.sel(setting=name)
        off = 100 * abs(part.ratio.mean("run") / part.ratio_flow - 1).max("watch")
        error = part.ratio.std("run", ddof=1) / part.ratio.mean("run") / part.sizes["run"] ** 0.5
        for flow, (color, marker) in MARKS.items():
            label = flow if place == 0 else None
            value = float(off.sel(flow=flow))
            ax.plot(value, place, marker, color=COLOURS[color], markersize=4, label=label)
        ax.barh(place, 100 * float(error.max()), color=COLOURS["grey"], alpha=0.3, height=0.7)
    ax.set_yticks(np.arange(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="PR off by, %", xlim=(0, None))
    ax.legend(fontsize=7)
