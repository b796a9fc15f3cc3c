"""The dimension of every layer under SGD and Adam, beside theory."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.adaptive.claims import layers_of, percent

CAPTION = (
    "Perceptrons that have learned digits, under label noise on their own outputs. Change of the "
    "participation ratio (PR) of each hidden layer and of Tr H, against the number of steps. "
    "Points: the mean over chains and networks; two standard errors over chains are smaller than "
    "the points where none are seen. Lines: theory, without a fitted number. SGD and Adam start "
    "from the same weights. Sign descent has no line, since theory does not describe it."
)
SHOWN = {
    "sgd": ("SGD", "black"),
    "adam": ("Adam", "vermilion"),
    "sign descent": ("sign descent", "green"),
}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A panel for each layer of each case, then one of Tr H for each case."""
    cases = dict(settings_of(results, "case"))
    panels = [(name, q) for name, data in cases.items() for q in layers_of(data)]
    panels += [(name, "Tr H") for name in cases]
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.1 * columns, 1.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.ravel()[len(panels) :]:
        ax.set_visible(False)
    for ax, (name, quantity) in zip(axes.ravel(), panels, strict=False):
        _panel(ax, cases[name], quantity)
        ax.set_title(f"{name}: {quantity}", fontsize=7)
    for ax in axes[:, 0]:
        ax.set_ylabel("change in %", fontsize=7)
    for ax in axes[-1]:
        ax.set_xlabel("thousand steps", fontsize=7)
    axes[0, 0].legend(fontsize=6)
    return figure


def _panel(ax, case, quantity):
    ax.axhline(0, color="0.8", linewidth=0.6)
    for optimiser, data in settings_of(case, "optimiser"):
        if optimiser not in SHOWN:
            continue
        label, colour = SHOWN[optimiser]
        steps = data.step.values.reshape(-1, data.sizes["watch"])[0] / 1000
        theory, measured = (percent(data, quantity, what) for what in ("theory", "simulated"))
        if not np.isfinite(measured).any():
            continue
        error = measured.std(1, ddof=1) / measured.shape[1] ** 0.5
        error = 2 * np.sqrt(np.sum(error**2, 0)) / len(error)
        style: dict = {"fmt": "o", "markersize": 2.5, "linewidth": 0.9, "color": COLOURS[colour]}
        ax.plot(steps, theory.mean((0, 1)), color=COLOURS[colour], linewidth=0.9)
        ax.errorbar(steps, measured.mean((0, 1)), error, label=label, **style)
