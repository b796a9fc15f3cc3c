"""Mean participation ratio and loss of SGD against the closure, and where it stops to hold."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Tanh networks that learn a noisy teacher. Left and middle: mean participation ratio of the "
    "hidden layer and mean loss of minibatch SGD over those of descent without noise, against "
    "time; points are means over runs with their standard error, lines the closure, which is "
    "drawn while the strain is at most 0.2. Right: how far the loss of the closure is off, "
    "against the strain, at all moments of all cases; the dashed line is the border of the regime."
)
BORDER = 0.2
SHADES = ("black", "blue", "green", "vermilion")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"closure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Ratio and loss against time, and deviations against the strain."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9))
        ratio, loss, off = figure.subplots(1, 3)
        names = [n for n in results.case.values.tolist() if n.startswith("minibatch")]
        shown = [n for n in names if not n.endswith("wide")][: len(SHADES)]
        for name, shade in zip(shown, SHADES, strict=False):
            part = results.sel(case=name)
            _course(ratio, part, "ratio", COLOURS[shade], name.split(", ")[1])
            _course(loss, part, "loss", COLOURS[shade], None)
        ratio.set(xlabel="time", ylabel="PR over that of descent")
        loss.set(xlabel="time", ylabel="loss over that of descent")
        drawn = ratio.get_legend_handles_labels()
        loss.legend(*drawn, title="rate", fontsize=7, loc="center right", bbox_to_anchor=(1, 0.66))
        _deviations(off, results)
    return figure


def _course(ax, part, key, color, label):
    plain = part[f"{key}_by"].sel(how="descent")
    error = part[key].std("run", ddof=1) / part.sizes["run"] ** 0.5
    middle = part[key].mean("run") / plain
    ax.errorbar(part.time, middle, error / plain, fmt="o", markersize=3, color=color, label=label)
    inside = np.maximum.accumulate(np.abs(part.strain.values)) <= BORDER
    line = (part[f"{key}_by"].sel(how="closure") / plain).values
    ax.plot(np.r_[0, part.time.values[inside]], np.r_[1, line[inside]], color=color)


def _deviations(ax, results):
    kinds = {"minibatch": ("blue", "o"), "label": ("vermilion", "s")}
    for kind, (color, marker) in kinds.items():
        names = [n for n in results.case.values.tolist() if n.startswith(kind)]
        if names:
            part = results.sel(case=names)
            gap = 100 * abs(part.loss_by.sel(how="closure") / part.loss.mean("run") - 1)
            x, y = abs(part.strain).values.ravel(), gap.values.ravel()
            ax.plot(x, y, marker, color=COLOURS[color], markersize=3, label=kind)
    ax.axvline(BORDER, linestyle="--", color=COLOURS["grey"])
    ax.axhline(1, linestyle=":", color=COLOURS["grey"])
    ax.set(xlabel="strain", ylabel="loss off by, %", xscale="log", yscale="log", ylim=(0.01, 100))
    ax.legend(fontsize=7)
