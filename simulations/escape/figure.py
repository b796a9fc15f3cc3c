"""Mean times to leave wells: against their height, over the limits of small noise, and of jumps."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Mean times to leave a well. Left: against E, the height in units of the noise; points are "
    "chains, lines the exact integral with its end shifted by what steps miss, dashes the limit of "
    "small noise. Middle: over that limit, what steps miss taken off, with two standard errors; "
    "lines are exact. Right: gradients that jump, by their strength; the line is the limit of "
    "weak jumps, a power, and a well four times as high is left as soon."
)
KINDS = {
    "double well": ("black", "o"),
    "to the top": ("blue", "s"),
    "shaped noise": ("vermilion", "D"),
    "parabola": ("green", "^"),
    "label noise": ("orange", "v"),
}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"escape": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Times against height, over their limits, and of jumps."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9))
        times, over, jumps = figure.subplots(1, 3)
        for kind, (color, marker) in KINDS.items():
            names = [n for n in results.setting.values.tolist() if n.startswith(kind)]
            if names:
                part = results.sel(setting=names).sortby("height")
                look = {"color": COLOURS[color]}
                _times(times, part, marker, kind, **look)
                _over(over, part, marker, **look)
        times.set(xlabel="E", ylabel="mean time", yscale="log", xlim=(1.6, 5.4))
        times.legend(fontsize=6.5, loc="upper left")
        over.axhline(1, color=COLOURS["grey"], linewidth=0.6)
        over.set(xlabel="1 / E", ylabel="mean time over its limit", xlim=(0, 0.55))
        _jumps(jumps, results)
    return figure


def _times(ax, part, marker, kind, **look):
    ax.plot(part.height, part.time, marker, markersize=4, label=kind, **look)
    if kind != "label noise":  # of several curvatures, which no line joins
        ax.plot(part.height, part.seen, **look)
        ax.plot(part.height, part.formula, "--", linewidth=0.7, **look)


def _over(ax, part, marker, **look):
    bare = part.exact / part.seen / part.formula
    bars = 2 * part.time_stderr * bare
    ax.errorbar(1 / part.height, part.time * bare, bars, fmt=marker, markersize=4, **look)
    ax.plot(1 / part.height, part.exact / part.formula, linewidth=0.8, **look)


def _jumps(ax, results):
    for start, color, marker, label in (
        ("jumps, eps", "black", "o", "parabola"),
        ("jumps, 4", "vermilion", "D", "four times as high"),
    ):
        names = [n for n in results.setting.values.tolist() if n.startswith(start)]
        if names:
            part = results.sel(setting=names)
            strength = [float(name.split("= ")[1]) for name in names]
            look = {"color": COLOURS[color], "label": label, "markersize": 4}
            ax.errorbar(strength, part.time, 2 * part.time_stderr, fmt=marker, **look)
            ax.plot(strength, part.formula, color=COLOURS["grey"], linewidth=0.8, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="strength of jumps", ylabel="mean time")
    ticks = np.asarray([0.025, 0.05, 0.1, 0.2])
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_yticks([20, 50, 100, 200, 500], ["20", "50", "100", "200", "500"])
    ax.minorticks_off()
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7, loc="lower left")
