"""Linear scaling: the path of the hidden dimension at many rates, and the excess loss."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE
from simulations.sde_and_scaling.scaling.claims import RATE_PER_EXAMPLE, REGRESSION_RATE

CAPTION = (
    "Rate and batch scaled together. Left: participation ratio of a linear network under label "
    "noise against time, points means over runs, lines the refined flow of each rate. Right: what "
    "changes from the smallest rate on, against the size of a step in the sharpest direction, with "
    "two standard errors; lines are theory, to which nothing is fitted."
)
PALETTE = ("black", "blue", "sky", "green", "orange", "vermilion")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


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
        _excess(change, results.dropna("batch", subset=["feedback"]))
        change.axhline(1, color=COLOURS["grey"], linewidth=0.6)
        change.set(xlabel="rate × largest curvature", ylabel="over that at the smallest rate")
        change.legend(fontsize=7, loc="upper left")
    return figure


def _path(ax, network, color):
    rate = RATE_PER_EXAMPLE * float(network.batch)
    records = network.isel(watch=slice(1, None, 4))
    style = {"markersize": 3, "color": color, "label": f"{float(network.sharpness):.2f}"}
    ax.plot(rate * records.step, records.ratio.mean("run"), "o", **style)
    flow = network.ratio_flow.sel(flow="refined")
    ax.plot(rate * network.step, flow, color=color, linewidth=0.8)


def _compression(ax, networks):
    quarter = networks.isel(watch=int(np.ceil(networks.sizes["watch"] / 4)) - 1)
    predicted = quarter.ratio_flow.sel(flow="refined")
    mean, error = quarter.ratio.mean("run"), quarter.ratio.std("run", ddof=1)
    smallest, color = float(mean[0]), COLOURS["blue"]
    bars = 2 * error / smallest / networks.sizes["run"] ** 0.5
    ax.errorbar(networks.sharpness, mean / smallest, bars, fmt="o", markersize=3, color=color)
    label = "PR, a quarter of the time"
    ax.plot(networks.sharpness, predicted / float(predicted[0]), color=color, label=label)


def _excess(ax, regressions):
    rate = REGRESSION_RATE * regressions.batch  # the largest curvature is one
    mean, error = regressions.excess.mean("group"), regressions.excess.std("group", ddof=1)
    smallest, color = float(mean[0]), COLOURS["vermilion"]
    bars = 2 * error / smallest / regressions.sizes["group"] ** 0.5
    ax.errorbar(rate, mean / smallest, bars, fmt="s", markersize=3, color=color)
    predicted = regressions.excess_predicted / float(regressions.excess_predicted[0])
    ax.plot(rate, predicted, color=color, label="stationary excess loss, regression")
