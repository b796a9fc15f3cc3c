"""How far estimates of dimension are off, and how often their error bars hold."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of

CAPTION = (
    "Estimated over true dimension of the 24 manifolds of the benchmark, mean over seeds; bars are "
    "two standard deviations of a seed; the largest number of points, without noise."
)
CAPTION_COVERAGE = (
    "Percentage of 95% intervals that contain the estimator's own mean, for each manifold and "
    "dimension.  The grey band is where 95% of the percentages would lie if all errors were true, "
    "for the largest number of repeats; slow estimators have 3 to 24 times fewer repeats and "
    "scatter up to five times as far."
)
MARKERS = {
    "learned": ("learned", "vermilion", "o"),
    "calibrated twonn": ("TwoNN, calibrated", "blue", "s"),
    "twonn": ("TwoNN", "grey", "D"),
}
MANIFOLDS = {"torus": ("orange", "o"), "gaussian": ("blue", "s"), "sphere": ("green", "^")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The accuracy on the benchmark, and the coverage of the error bars."""
    return {
        "figure": (CAPTION, draw(results)),
        "coverage": (CAPTION_COVERAGE, draw_coverage(results)),
    }


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Estimated over true for each manifold, in the order of the true dimension."""
    data = results.sel(points=results.points.max(), change="clean").sortby("true")
    figure = Figure(figsize=(7.2, 3.8))
    ax = figure.subplots()
    ax.axhline(1, color="black", linewidth=0.7)
    positions = np.arange(data.sizes["manifold"])
    names = [name for name in MARKERS if name in data.by]
    for shift, name in zip(np.linspace(-0.22, 0.22, len(names)), names, strict=True):
        label, color, marker = MARKERS[name]
        ratio = data.found.sel(by=name) / data.true
        mean, deviation = ratio.mean("seed"), 2 * ratio.std("seed", ddof=1)
        style: dict = {"fmt": marker, "markersize": 3.5, "linewidth": 0.8}
        ax.errorbar(positions + shift, mean, deviation, label=label, color=COLOURS[color], **style)
    pairs = zip(data.manifold.values, data.true.values, strict=True)
    ax.set_xticks(positions, [f"{m} ({d:.0f})" for m, d in pairs], rotation=60, ha="right")
    ax.set_ylabel("dimension estimated / true")
    ax.set_title(f"n = {int(data.points)}, {data.sizes['seed']} sets; true dimension in brackets")
    ax.set_xlim(-0.6, positions[-1] + 0.6)
    figure.legend(ncols=3, loc="outside upper right")
    return figure


@mpl.rc_context(STYLE)
def draw_coverage(results) -> Figure:
    """Percentage of intervals that hold, a row for each estimator."""
    names = results.estimator.values.tolist()
    figure = Figure(figsize=(6.4, 0.2 * len(names) + 1.4))
    ax = figure.subplots()
    ax.axvline(95, color="black", linewidth=0.7)
    reach = 196 * (0.95 * 0.05 / float(results.repeats.max())) ** 0.5
    ax.axvspan(95 - reach, min(100, 95 + reach), color=COLOURS["grey"], alpha=0.2, linewidth=0)
    rows = -np.arange(len(names))
    for shift, (cloud, (color, marker)) in zip((0.22, 0, -0.22), MANIFOLDS.items(), strict=True):
        for d, data in settings_of(results.sel(cloud=cloud), "d"):
            style: dict = {"s": 4 + 2.2 * d, "marker": marker, "color": COLOURS[color]}
            label = f"{cloud}, d = {d}"
            ax.scatter(100 * data.covered, rows + shift, linewidth=0, label=label, **style)
    ax.set_yticks(rows, names)
    ax.set_ylim(rows[-1] - 0.7, 0.7)
    ax.set_xlabel("95% intervals that contain the estimator's own mean (%)")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7)
    return figure
