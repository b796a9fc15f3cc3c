"""Mean times to leave wells: against the height, over the limit of small noise, and of jumps."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Mean times to leave a well. Left: against E, the height in units of the noise; points are "
    "chains, lines the exact integral with its end shifted for discrete steps, dashes the limit of "
    "small noise. Middle: over that limit, corrected for discrete steps, with two standard errors; "
    "lines are exact. Right: Lévy noise, by its strength; the line is the limit of weak noise, a "
    "power law, and a well four times as high is left as soon."
)
KINDS = {
    "double well": ("black", "o"),
    "to the top": ("blue", "s"),
    "shaped noise": ("vermilion", "D"),
    "parabola": ("green", "^"),
    "label noise": ("orange", "v"),
}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Times against height, over their limits, and of jumps."""
    figure = Figure(figsize=(7.4, 2.9))
    times, ratios, jumps = figure.subplots(1, 3)
    for kind, (color, marker) in KINDS.items():
        names = [n for n in results.setting.values.tolist() if n.startswith(kind)]
        if names:
            data = results.sel(setting=names).sortby("height")
            _times(times, data, marker, kind, color=COLOURS[color])
            _ratios(ratios, data, marker, color=COLOURS[color])
    times.set(xlabel="E", ylabel="mean time", yscale="log", xlim=(1.6, 5.4))
    times.legend(fontsize=6.5, loc="upper left")
    ratios.axhline(1, color=COLOURS["grey"], linewidth=0.6)
    ratios.set(xlabel="1 / E", ylabel="mean time over its limit", xlim=(0, 0.55))
    _jumps(jumps, results)
    return figure


def _times(ax, data, marker, kind, **style):
    ax.plot(data.height, data.time, marker, markersize=4, label=kind, **style)
    if kind != "label noise":  # its wells have several curvatures, which no line joins
        ax.plot(data.height, data.seen, **style)
        ax.plot(data.height, data.formula, "--", linewidth=0.7, **style)


def _ratios(ax, data, marker, **style):
    scale = data.exact / data.seen / data.formula
    bars = 2 * data.time_stderr * scale
    ax.errorbar(1 / data.height, data.time * scale, bars, fmt=marker, markersize=4, **style)
    ax.plot(1 / data.height, data.exact / data.formula, linewidth=0.8, **style)


def _jumps(ax, results):
    for prefix, color, marker, label in (
        ("jumps, eps", "black", "o", "parabola"),
        ("jumps, 4", "vermilion", "D", "four times as high"),
    ):
        names = [n for n in results.setting.values.tolist() if n.startswith(prefix)]
        if names:
            data = results.sel(setting=names)
            strength = [float(name.split("= ")[1]) for name in names]
            style = {"color": COLOURS[color], "label": label, "markersize": 4}
            ax.errorbar(strength, data.time, 2 * data.time_stderr, fmt=marker, **style)
            ax.plot(strength, data.formula, color=COLOURS["grey"], linewidth=0.8, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="strength of jumps", ylabel="mean time")
    ticks = np.asarray([0.025, 0.05, 0.1, 0.2])
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_yticks([20, 50, 100, 200, 500], ["20", "50", "100", "200", "500"])
    ax.minorticks_off()
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7, loc="lower left")
