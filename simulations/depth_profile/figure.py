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
    "which no layer can increase."
)
ESTIMATORS = {
    "participation_ratio": ("black", "PR"),
    "twonn": ("blue", "TwoNN"),
    "levina_bickel": ("sky", "MLE"),
    "gride 32-64": ("green", "Gride 32-64"),
    "geodesic": ("orange", "geodesic"),
}
NO_SURROGATE = "participation_ratio", "geodesic"  # it equals the layer, or mostly fails
TICKS = (1, 2, 3, 5, 10, 20, 50)


def figures(results) -> dict[str, tuple[str, Figure]]:
    """One figure for each kind of images."""
    groups: dict[str, list] = {}
    for task in results.task.values.tolist():
        groups.setdefault(task.split()[1], []).append(task)
    return {data: (CAPTION, draw(results, tasks)) for data, tasks in groups.items()}


@mpl.rc_context(STYLE)
def draw(results, tasks) -> Figure:
    """One row per network: before, during, after training."""
    last = results.sizes["moment"] - 1
    moments = sorted({0, (last + 1) // 2, last})
    figure = Figure(figsize=(7.4, 0.9 + 1.75 * len(tasks)))
    rows = figure.subplots(len(tasks), len(moments), squeeze=False, sharey="row")
    for axes, task in zip(rows, tasks, strict=True):
        for ax, moment in zip(axes, moments, strict=True):
            _profile(ax, results.sel(task=task).isel(moment=moment))
        axes[0].set_ylabel(f"{task.split()[0]}\nestimated dimension")
    for ax in rows[-1]:
        ax.set_xlabel("depth")
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=7, fontsize=7)
    return figure


def _profile(ax, data):
    data = data.isel(layer=slice(int(data.layers.values.flat[0])))
    depth = np.linspace(0, 1, data.sizes["layer"])
    for name, (color, label) in ESTIMATORS.items():
        color, values = COLOURS[color], data.estimate.sel(estimator=name)
        mean, error = values.mean("seed"), values.std("seed", ddof=1) / values.sizes["seed"] ** 0.5
        ax.plot(depth, mean, "o-", markersize=2, label=label, color=color, linewidth=1)
        ax.fill_between(depth, mean - error, mean + error, alpha=0.2, lw=0, color=color)
        if name not in NO_SURROGATE:
            surrogate = data.surrogate.sel(estimator=name).mean("seed")
            ax.plot(depth, surrogate, "--", alpha=0.7, color=color, linewidth=0.7)
    if np.isfinite(data.true).all():
        ax.axhline(float(data.true[0]), linestyle=":", color=COLOURS["vermilion"], label="true")
    ax.plot([], [], "--", color=COLOURS["grey"], linewidth=0.7, label="surrogate")
    step, accuracy = float(data.step.values.flat[0]), float(data.accuracy.mean())
    ax.set_title(f"step {step:.0f}: {100 * accuracy:.0f}%", fontsize=7.5)
    ax.set(yscale="log")
    ax.yaxis.set_major_locator(FixedLocator(TICKS))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
