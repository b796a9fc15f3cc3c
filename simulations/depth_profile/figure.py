"""Estimated dimension over depth, before, during and after training, with surrogates and truth."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Estimated dimension of each layer, from input (0) to output (1): means over seeds, shades one "
    "standard error. Rows: networks; columns: moments of training, with the accuracy in training. "
    "Dashes: Gaussian points of equal covariance. Dots: the true dimension, where it is known, "
    "which no layer can raise."
)
SHOWN = {
    "participation_ratio": ("black", "PR"),
    "twonn": ("blue", "TwoNN"),
    "levina_bickel": ("sky", "MLE"),
    "gride 32-64": ("green", "Gride 32-64"),
    "geodesic": ("orange", "geodesic"),
}


BARE = "participation_ratio", "geodesic"  # whose surrogate is as the layer, or mostly fails
TICKS = (1, 2, 3, 5, 10, 20, 50)


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure: one for each kind of data."""
    tasks = results.task.values.tolist()
    found = {}
    for data in dict.fromkeys(task.split()[1] for task in tasks):
        own = [task for task in tasks if task.split()[1] == data]
        found[f"layers_{data}"] = (CAPTION, draw(results, own))
    return found


def draw(results, tasks) -> Figure:
    """One row a network: before, during, after."""
    last = results.sizes["moment"] - 1
    moments = sorted({0, (last + 1) // 2, last})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 0.9 + 1.75 * len(tasks)))
        rows = figure.subplots(len(tasks), len(moments), squeeze=False, sharey="row")
        for axes, task in zip(rows, tasks, strict=True):
            part = results.sel(task=task)
            for ax, moment in zip(axes, moments, strict=True):
                _profile(ax, part.isel(moment=moment))
            axes[0].set_ylabel(f"{task.split()[0]}\nestimated dimension")
        for ax in rows[-1]:
            ax.set_xlabel("depth")
        handles, labels = rows[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=7, fontsize=7)
    return figure


def _profile(ax, part):
    count = int(part.layers.values.flat[0])
    depth = np.linspace(0, 1, count)
    for name, (color, label) in SHOWN.items():
        look = {"color": COLOURS[color], "linewidth": 1}
        each = part.estimate.sel(estimator=name).isel(layer=slice(count))
        middle, error = each.mean("seed"), each.std("seed", ddof=1) / each.sizes["seed"] ** 0.5
        ax.plot(depth, middle, "o-", markersize=2, label=label, **look)
        ax.fill_between(depth, middle - error, middle + error, alpha=0.2, lw=0, color=look["color"])
        other = part.surrogate.sel(estimator=name).isel(layer=slice(count)).mean("seed")
        if name not in BARE:
            ax.plot(depth, other, "--", alpha=0.7, **(look | {"linewidth": 0.7}))
    if np.isfinite(part.true).all():
        ax.axhline(float(part.true[0]), linestyle=":", color=COLOURS["vermilion"], label="true")
    ax.plot([], [], "--", color=COLOURS["grey"], linewidth=0.7, label="surrogate")
    step, accuracy = float(part.step.values.flat[0]), float(part.accuracy.mean())
    ax.set_title(f"step {step:.0f}: {100 * accuracy:.0f}%", fontsize=7.5)
    ax.set(yscale="log")
    ax.yaxis.set_major_locator(FixedLocator(TICKS))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
