"""How far estimates of dimension are off, and claimed against true error."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Dimension found over true dimension of the 24 manifolds of the benchmark, mean over seeds, "
    "bars two standard deviations of a seed; the largest set of points, as they are."
)
CAPTION_BARS = (
    "Share of 95% intervals that hold the estimator's own mean, for each cloud and dimension; the "
    "grey band is where 95% of shares would lie if all errors were true, for the most repeats; the "
    "slower estimators have a third to a 24th of these and scatter up to five times as far."
)
LOOKS = {
    "learned": ("learned", "vermilion", "o"),
    "calibrated twonn": ("TwoNN, calibrated", "blue", "s"),
    "twonn": ("TwoNN", "grey", "D"),
}
CLOUDS = {"torus": ("orange", "o"), "gaussian": ("blue", "s"), "sphere": ("green", "^")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure: accuracy on the benchmark, and coverage."""
    return {
        "calibration": (CAPTION, draw(results)),
        "calibration_coverage": (CAPTION_BARS, draw_coverage(results)),
    }


def draw(results) -> Figure:
    """Found over true for each manifold, in the order of the true dimension."""
    part = results.sel(points=results.points.max(), change="clean").sortby("true")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.8))
        ax = figure.subplots()
        ax.axhline(1, color="black", linewidth=0.7)
        places = np.arange(part.sizes["manifold"])
        shown = [name for name in LOOKS if name in part.by]
        for shift, name in zip(np.linspace(-0.22, 0.22, len(shown)), shown, strict=True):
            label, color, marker = LOOKS[name]
            ratio = part.found.sel(by=name) / part.true
            look: dict = {
                "color": COLOURS[color],
                "fmt": marker,
                "markersize": 3.5,
                "linewidth": 0.8,
            }
            mean, spread = ratio.mean("seed"), 2 * ratio.std("seed", ddof=1)
            ax.errorbar(places + shift, mean, spread, label=label, **look)
        names = [
            f"{m} ({d:.0f})" for m, d in zip(part.manifold.values, part.true.values, strict=True)
        ]
        ax.set_xticks(places, names, rotation=60, ha="right")
        ax.set_ylabel("dimension found / true")
        ax.set_title(
            f"n = {int(part.points)}, {part.sizes['seed']} sets; true dimension in brackets"
        )
        ax.set_xlim(-0.6, places[-1] + 0.6)
        figure.legend(ncols=3, loc="outside upper right")
    return figure


def draw_coverage(results) -> Figure:
    """Share of intervals that hold, a row for each estimator."""
    names = results.estimator.values.tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.2 * len(names) + 1.4))
        ax = figure.subplots()
        ax.axvline(95, color="black", linewidth=0.7)
        reach = 196 * (0.95 * 0.05 / float(results.repeats.max())) ** 0.5
        ax.axvspan(95 - reach, min(100, 95 + reach), color=COLOURS["grey"], alpha=0.2, linewidth=0)
        rows = -np.arange(len(names))
        for shift, (cloud, (color, marker)) in zip((0.22, 0, -0.22), CLOUDS.items(), strict=True):
            for d in results.d.values:
                share = 100 * results.covered.sel(cloud=cloud, d=d).values
                ax.scatter(
                    share,
                    rows + shift,
                    s=4 + 2.2 * float(d),
                    marker=marker,
                    color=COLOURS[color],
                    linewidth=0,
                    label=f"{cloud}, d = {d}",
                )
        ax.set_yticks(rows, names)
        ax.set_ylim(rows[-1] - 0.7, 0.7)
        ax.set_xlabel("95% intervals that hold the estimator's own mean (%)")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7)
    return figure
