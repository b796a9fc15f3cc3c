"""Dimension of layers and Tr H under noise of several shapes, and on the effective loss."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sgdnoise.core import nanmean
from sgdnoise.lab import COLOURS, STYLE, band, settings_of

CAPTION = (
    "Left: participation ratio, over that at the start, of the layer whose predicted one changes "
    "most; the line is gradient descent without noise on L + κ Tr H (for minibatches "
    "L + rate Tr C / (4 batch)), which is computed without the noisy runs. Middle: deviation of "
    "each hidden layer from its prediction, paired by seed, first layer dark, last one light. "
    "Right: Tr H over that at the start. Means over seeds; bands are two standard errors."
)
MODES = {
    "prediction": ("predicted", "black", ""),
    "label": ("noise", "vermilion", "o"),
    "isotropic": ("isotropic, equal trace", "orange", "^"),
    "diagonal": ("diagonal only", "purple", "v"),
    "none": ("no noise", "grey", "D"),
}
TITLES = {
    "resnet": "residual network, digits",
    "vgg": "VGG-11, digits",
    "tanh": "two layers, tanh, digits 0-2",
    "deep": "four layers, tanh, digits 0-2",
    "relu": "two layers, ReLU, digits 0-2",
    "ten": "two layers, tanh, ten digits",
    "minibatch": "tanh, ten digits, minibatches alone",
}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A row for each task: PR, the deviation of each layer, Tr H."""
    count = results.sizes["task"]
    figure = Figure(figsize=(7.4, 0.7 + 1.55 * count))
    axes = figure.subplots(count, 3, squeeze=False)
    for letter, row, (name, data) in zip(
        "abcdefgh", axes, settings_of(results, "task"), strict=False
    ):
        layer = most_changed(data)
        _modes(row[0], data, data.ratio.isel(layer=layer), f"PR, layer {layer + 1}")
        _layers(row[1], data)
        _modes(row[2], data, data.trace, "Tr H")
        row[0].set_title(f"{letter}  {TITLES[name]}", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("steps / 1000")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=7)
    return figure


def most_changed(data) -> int:
    """The layer whose predicted PR changes most."""
    predicted = data.ratio.sel(mode="prediction").isel(layer=slice(int(data.layers)))
    change = np.log(predicted).isel(watch=[0, -1]).diff("watch").mean("seed")
    return int(np.argmax(abs(change.values)))


def _modes(ax, data, values, ylabel):
    """Each mode that the task has, over the start of its seed."""
    values = values / values.isel(watch=0)
    for mode, (label, color, marker) in MODES.items():
        rows = values.sel(mode=mode).values
        if np.isfinite(rows).all():
            style = {"color": COLOURS[color], "marker": marker, "label": label, "linewidth": 0.8}
            band(ax, data.step.values / 1000, nanmean(rows), **style)
    ax.set(ylabel=f"{ylabel} / start")


def _layers(ax, data):
    """Percentage by which PR under noise exceeds the prediction, of each hidden layer."""
    count = int(data.layers)
    deviation = 100 * (data.ratio.sel(mode="label") / data.ratio.sel(mode="prediction") - 1)
    for layer in range(count):
        color = mpl.colormaps["viridis"](0.9 * layer / max(1, count - 1))
        band(ax, data.step.values / 1000, nanmean(deviation.isel(layer=layer).values), color=color)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(ylabel="deviation, %")
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
