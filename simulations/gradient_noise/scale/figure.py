"""Best rate and gain of one step against the batch, and the critical batch in training."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Gain and rate of the best single step with a batch of B examples, over those of the exact "
    "gradient, against B over the predicted noise scale: the line is the prediction, to which "
    "nothing is fitted; points are means over seeds, bars two standard errors. Right: that scale, "
    "and the batch at which the gain is measured to be half, at each moment."
)
LOOKS = {
    "quadratic": ("black", "o"),
    "start": ("orange", "s"),
    "early": ("sky", "D"),
    "middle": ("green", "^"),
    "late": ("vermilion", "v"),
}
NAMES = {"gain": "gain / exact gain", "rate": "best rate / exact best rate"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"noise_scale": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Gain and rate against the batch, and the critical batch at each moment."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.7))
        *panels, last = figure.subplots(1, 3)
        for ax, (what, label) in zip(panels, NAMES.items(), strict=True):
            _shares(ax, results, what)
            ax.set(xscale="log", xlabel="batch / noise scale", ylabel=label, ylim=(0, 1.25))
        _critical(last, results)
        figure.legend(*panels[0].get_legend_handles_labels(), ncols=6, loc="outside upper center")
    return figure


def _shares(ax, results, what):
    wide = np.geomspace(0.01, 300, 200)
    ax.plot(wide, 1 / (1 + 1 / wide), color=COLOURS["grey"], label="predicted")
    for moment in results.moment.values.tolist():
        part = results.sel(moment=moment)
        share = part[what] / part[f"{what}_exact"]
        color, marker = LOOKS[moment]
        middle = np.exp(np.log(part.batch / part.critical).mean("seed"))
        ax.errorbar(
            middle,
            share.mean("seed"),
            2 * _error(share),
            fmt=marker,
            markersize=3,
            linewidth=0.8,
            color=COLOURS[color],
            label=moment,
        )


def _critical(ax, results):
    """Predicted by curvature, predicted without, and measured by the gain that is half."""
    places = np.arange(results.sizes["moment"])
    shown = {
        "Tr(HC) / g$^T$Hg": (results.critical, "grey", "_"),
        "measured": (results.critical_by_gain, "blue", "o"),
        "Tr C / |g|$^2$": (results.simple, "purple", "x"),
    }
    for shift, (label, (values, color, marker)) in zip(
        (-0.15, 0, 0.15), shown.items(), strict=True
    ):
        logs = np.log(values)
        middle, error = np.exp(logs.mean("seed")), _error(logs)
        bars = [middle * (1 - np.exp(-2 * error)), middle * (np.exp(2 * error) - 1)]
        look = {"color": COLOURS[color], "fmt": marker, "markersize": 5, "linewidth": 0.8}
        ax.errorbar(places + shift, middle, bars, label=label, **look)
    ax.set_xticks(places, results.moment.values.tolist(), rotation=30, ha="right")
    ax.set(yscale="log", ylabel="critical batch (examples)")
    ax.legend(fontsize=6.5, loc="lower right")


def _error(values):
    return values.std("seed", ddof=1) / values.notnull().sum("seed") ** 0.5
