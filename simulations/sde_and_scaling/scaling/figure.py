"""Linear scaling: the path of the hidden dimension at many rates, and the spread at rest."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Rate and batch scaled together. Left: participation ratio of a linear network under label "
    "noise against time, points means over runs, lines the refined flow of each rate. Right: what "
    "changes from the smallest rate on, against the size of a step in the sharpest direction, with "
    "two standard errors; lines are theory, to which nothing is fitted."
)
PALETTE = ("black", "blue", "sky", "green", "orange", "vermilion")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"scaling": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Paths, and ratios to the smallest rate."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.9))
        paths, change = figure.subplots(1, 2)
        networks = results.dropna("batch", subset=["sharpness"])
        for color, batch in zip(PALETTE, networks.batch.values.tolist(), strict=False):
            _path(paths, networks.sel(batch=batch), COLOURS[color])
        paths.set(xlabel="time, rate × steps", ylabel="participation ratio")
        paths.legend(fontsize=7, title="rate × curvature", title_fontsize=7)
        _compression(change, networks)
        _rest(change, results.dropna("batch", subset=["feedback"]))
        change.axhline(1, color=COLOURS["grey"], linewidth=0.6)
        change.set(xlabel="rate × largest curvature", ylabel="over that at the smallest rate")
        change.legend(fontsize=7, loc="upper left")
    return figure


def _path(ax, part, color):
    rate = 0.01 * float(part.batch)
    some = part.isel(watch=slice(1, None, 4))
    label = f"{float(part.sharpness):.2f}"
    ax.plot(rate * some.step, some.ratio.mean("run"), "o", markersize=3, color=color, label=label)
    ax.plot(rate * part.step, part.ratio_flow.sel(flow="refined"), color=color, linewidth=0.8)


def _compression(ax, part):
    quarter = part.isel(watch=int(np.ceil(part.sizes["watch"] / 4)) - 1)
    predicted = quarter.ratio_flow.sel(flow="refined")
    middle, error = quarter.ratio.mean("run"), quarter.ratio.std("run", ddof=1)
    first, runs = float(middle[0]), part.sizes["run"]
    bars = 2 * error / first / runs**0.5
    color = COLOURS["blue"]
    ax.errorbar(part.sharpness, middle / first, bars, fmt="o", markersize=3, color=color)
    label = "PR, a quarter of the way"
    ax.plot(part.sharpness, predicted / float(predicted[0]), color=color, label=label)


def _rest(ax, part):
    rate = 0.1 * part.batch  # the largest curvature is one
    middle, error = part.excess.mean("group"), part.excess.std("group", ddof=1)
    first = float(middle[0])
    bars, color = 2 * error / first / part.sizes["group"] ** 0.5, COLOURS["vermilion"]
    ax.errorbar(rate, middle / first, bars, fmt="s", markersize=3, color=color)
    predicted = part.excess_predicted / float(part.excess_predicted[0])
    ax.plot(rate, predicted, color=color, label="excess loss at rest, regression")
