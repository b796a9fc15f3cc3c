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
MARKERS = {
    "quadratic": ("black", "o"),
    "start": ("orange", "s"),
    "early": ("sky", "D"),
    "middle": ("green", "^"),
    "late": ("vermilion", "v"),
}
NAMES = {"gain": "gain / exact gain", "rate": "best rate / exact best rate"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Gain and rate against the batch, and the critical batch at each moment."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.7))
        *panels, last = figure.subplots(1, 3)
        for ax, (name, label) in zip(panels, NAMES.items(), strict=True):
            _efficiency(ax, results, name)
            ax.set(xscale="log", xlabel="batch / noise scale", ylabel=label, ylim=(0, 1.25))
        _critical(last, results)
        figure.legend(*panels[0].get_legend_handles_labels(), ncols=6, loc="outside upper center")
    return figure


def _efficiency(ax, results, name):
    wide = np.geomspace(0.01, 300, 200)
    ax.plot(wide, 1 / (1 + 1 / wide), color=COLOURS["grey"], label="predicted")
    for moment in results.moment.values.tolist():
        at = results.sel(moment=moment)
        efficiency = at[name] / at[f"{name}_exact"]
        color, marker = MARKERS[moment]
        ax.errorbar(
            np.exp(np.log(at.batch / at.critical).mean("seed")),
            efficiency.mean("seed"),
            2 * _error(efficiency),
            fmt=marker,
            markersize=3,
            linewidth=0.8,
            color=COLOURS[color],
            label=moment,
        )


def _critical(ax, results):
    """Predicted by curvature, predicted without, and measured by the gain that is half."""
    places = np.arange(results.sizes["moment"])
    variables = {
        "Tr(HC) / g$^T$Hg": (results.critical, "grey", "_"),
        "measured": (results.critical_by_gain, "blue", "o"),
        "Tr C / |g|$^2$": (results.simple, "purple", "x"),
    }
    shifts = (-0.15, 0, 0.15)
    for shift, (label, (values, color, marker)) in zip(shifts, variables.items(), strict=True):
        logs = np.log(values)
        mean, error = np.exp(logs.mean("seed")), _error(logs)
        bars = [mean * (1 - np.exp(-2 * error)), mean * (np.exp(2 * error) - 1)]
        style = {"color": COLOURS[color], "fmt": marker, "markersize": 5, "linewidth": 0.8}
        ax.errorbar(places + shift, mean, bars, label=label, **style)
    ax.set_xticks(places, results.moment.values.tolist(), rotation=30, ha="right")
    ax.set(yscale="log", ylabel="critical batch (examples)")
    ax.legend(fontsize=6.5, loc="lower right")


def _error(values):
    return values.std("seed", ddof=1) / values.notnull().sum("seed") ** 0.5
