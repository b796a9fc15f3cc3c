"""Distance of descent from its equations against the rate, and its spread at rest."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Left: largest difference of first and second moments of linear regression between descent and "
    "equations that are said to stand for it, exact; grey lines have slopes one and two. Right: "
    "variance at rest over that of the first-order equation, of descent and of SVAG(l), with three "
    "standard errors; the line is 1 / (1 - rate h / 2 l), to which nothing is fitted."
)
LOOKS = {
    "no noise": ("grey", "x"),
    "first order": ("blue", "o"),
    "Euler, a fifth of a step": ("sky", "s"),
    "second order": ("vermilion", "D"),
    "extrapolated": ("orange", "^"),
}
PULL = 1.2  # rate x curvature of the chains


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"weak_order": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Orders, and ratios of variances."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.9))
        left, right = figure.subplots(1, 2)
        rate = results.rate.values
        for way, (color, marker) in LOOKS.items():
            distance = results.distance.sel(way=way)
            left.plot(rate, distance, marker=marker, markersize=3, color=COLOURS[color], label=way)
        for slope, at in ((1, 0.2), (2, 0.05)):
            left.plot(rate, at * rate**slope, ":", color=COLOURS["grey"], linewidth=0.8)
        left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="distance of moments")
        left.legend(fontsize=6.5)
        _rest(right, results)
    return figure


def _rest(ax, results):
    stretch = results.stretch.values
    fine = np.geomspace(1, max(stretch) * 1.2, 100)
    ax.plot(fine, 1 / (1 - PULL / (2 * fine)), color=COLOURS["grey"], label="predicted")
    error = 3 * results.square.std("batch", ddof=1) / results.sizes["batch"] ** 0.5
    middle = results.square.mean("batch")
    ax.errorbar(
        stretch, middle, error, fmt="o", markersize=3, color=COLOURS["blue"], label="chains"
    )
    ax.axhline(1, color=COLOURS["grey"], linewidth=0.6, linestyle=":")
    ax.set_xscale("log", base=2)
    ax.set_xticks(stretch, [str(s) for s in stretch])
    ax.set(xlabel="l of SVAG; 1 is descent", ylabel="variance over the equation's")
    ax.legend(fontsize=7)
