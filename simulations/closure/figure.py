"""Participation ratio and loss of SGD against the closure, and where the closure stops to hold."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Tanh networks that learn a noisy teacher. Left and middle: mean participation ratio of the "
    "hidden layer and mean loss of minibatch SGD over those of gradient descent without noise, "
    "against time; points are means over runs with their standard error, lines the closure, drawn "
    "while the closure error is at most 0.2. Right: deviation of the loss of the closure against "
    "the closure error, at all moments of all cases; the dashed line is the bound of the regime."
)
BOUND = 0.2
RATE_COLOURS = ("black", "blue", "green", "vermilion")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Ratio and loss against time, and deviations against the closure error."""
    figure = Figure(figsize=(7.4, 2.9))
    ratio, loss, deviation = figure.subplots(1, 3)
    names = [n for n in results.case.values.tolist() if n.startswith("minibatch")]
    names = [n for n in names if not n.endswith("wide")]
    for name, color in zip(names, RATE_COLOURS, strict=False):
        data = results.sel(case=name)
        _path(ratio, data, "ratio", COLOURS[color], name.split(", ")[1])
        _path(loss, data, "loss", COLOURS[color], None)
    ratio.set(xlabel="time", ylabel="PR over that of descent")
    loss.set(xlabel="time", ylabel="loss over that of descent")
    handles = ratio.get_legend_handles_labels()
    loss.legend(*handles, title="rate", fontsize=7, loc="center right", bbox_to_anchor=(1, 0.66))
    _deviations(deviation, results)
    return figure


def _path(ax, data, key, color, label):
    descent = data[f"{key}_by"].sel(how="descent")
    error = data[key].std("run", ddof=1) / data.sizes["run"] ** 0.5
    mean = data[key].mean("run") / descent
    ax.errorbar(data.time, mean, error / descent, fmt="o", markersize=3, color=color, label=label)
    inside = np.maximum.accumulate(np.abs(data.strain.values)) <= BOUND
    line = (data[f"{key}_by"].sel(how="closure") / descent).values
    ax.plot(np.r_[0, data.time.values[inside]], np.r_[1, line[inside]], color=color)


def _deviations(ax, results):
    for kind, color, marker in (("minibatch", "blue", "o"), ("label", "vermilion", "s")):
        names = [n for n in results.case.values.tolist() if n.startswith(kind)]
        if names:
            data = results.sel(case=names)
            gap = 100 * abs(data.loss_by.sel(how="closure") / data.loss.mean("run") - 1)
            x, y = abs(data.strain).values.ravel(), gap.values.ravel()
            ax.plot(x, y, marker, color=COLOURS[color], markersize=3, label=kind)
    ax.axvline(BOUND, linestyle="--", color=COLOURS["grey"])
    ax.axhline(1, linestyle=":", color=COLOURS["grey"])
    ax.set(xlabel="closure error", ylabel="deviation of the loss, %", ylim=(0.01, 100))
    ax.set(xscale="log", yscale="log")
    ax.legend(fontsize=7)
