"""Distance of SGD from its equations against the rate, and its stationary variance."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE
from simulations.sde_and_scaling.weak_order._regression import CURVATURE, RATE

CAPTION = (
    "Left: largest difference of first and second moments of linear regression between descent and "
    "equations that are said to describe it, exact; grey lines have slopes one and two. Right: "
    "stationary variance over that of the first-order equation, of descent and of SVAG(l), with "
    "three standard errors; the line is 1 / (1 - rate h / 2 l), to which nothing is fitted."
)
MARKERS = {
    "no noise": ("grey", "x"),
    "first order": ("blue", "o"),
    "Euler, a fifth of a step": ("sky", "s"),
    "second order": ("vermilion", "D"),
    "extrapolated": ("orange", "^"),
}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Orders, and ratios of variances."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.9))
        left, right = figure.subplots(1, 2)
        rate = results.rate.values
        for name, (color, marker) in MARKERS.items():
            style = {"marker": marker, "markersize": 3, "color": COLOURS[color], "label": name}
            left.plot(rate, results.distance.sel(way=name), **style)
        for slope, at in ((1, 0.2), (2, 0.05)):
            left.plot(rate, at * rate**slope, ":", color=COLOURS["grey"], linewidth=0.8)
        left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="distance of moments")
        left.legend(fontsize=6.5)
        _variances(right, results)
    return figure


def _variances(ax, results):
    stretch = results.stretch.values
    fine = np.geomspace(1, max(stretch) * 1.2, 100)
    predicted = 1 / (1 - RATE * CURVATURE / (2 * fine))
    ax.plot(fine, predicted, color=COLOURS["grey"], label="predicted")
    error = 3 * results.square.std("batch", ddof=1) / results.sizes["batch"] ** 0.5
    style = {"fmt": "o", "markersize": 3, "color": COLOURS["blue"], "label": "chains"}
    ax.errorbar(stretch, results.square.mean("batch"), error, **style)
    ax.axhline(1, color=COLOURS["grey"], linewidth=0.6, linestyle=":")
    ax.set_xscale("log", base=2)
    ax.set_xticks(stretch, [str(s) for s in stretch])
    ax.set(xlabel="l of SVAG; 1 is descent", ylabel="variance over the equation's")
    ax.legend(fontsize=7)
