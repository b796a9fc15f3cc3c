"""Changes of Tr H and of the dimension of hidden layers at three levels of label noise."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.relu_corners.claims import changes

CAPTION = (
    "A perceptron of relus under label noise on its own outputs for 32 digits; a column a level of "
    "noise. Rows: change of Tr H, and of the participation ratio (PR) of its hidden layers, "
    "against the number of steps. Points: SGD, with two standard errors over networks. Lines: "
    "theory, without a fitted number. Dots: descent on kappa Tr H with the gradient of autograd, "
    "which does not see the corners of relus."
)


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A row a quantity, a column a noise."""
    noises = list(settings_of(results, "label_noise"))
    names = results.quantity.values.tolist()
    order = [len(names) - 1, *range(len(names) - 1)]
    figure = Figure(figsize=(1.2 + 2.0 * len(noises), 1.7 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(noises), squeeze=False, sharex="col", sharey="row")
    for column, (noise, data) in enumerate(noises):
        for ax, quantity in zip(axes[:, column], order, strict=True):
            _course(ax, data, quantity)
        axes[0, column].set_title(f"label noise {noise:g}", fontsize=8)
        axes[-1, column].set_xlabel("thousand steps")
    for ax, quantity in zip(axes[:, 0], order, strict=True):
        name = names[quantity]
        ax.set_ylabel(f"{name if name == 'Tr H' else f'PR, {name}'}\nchange in %", fontsize=7)
    axes[0, 0].legend(fontsize=6)
    return figure


def _course(ax, data, quantity):
    steps = data.step.isel(path=0).values / 1000
    theory, measured, autograd = (
        100 * changes(data, what)[:, quantity] for what in ("theory", "sgd", "autograd")
    )
    ax.locator_params(axis="x", nbins=4)
    ax.axhline(0, color="0.8", linewidth=0.6)
    ax.plot(steps, theory.mean(0), color=COLOURS["blue"], label="theory")
    ax.plot(steps, autograd.mean(0), ":", color=COLOURS["vermilion"], label="autograd")
    error = 2 * measured.std(0, ddof=1) / np.sqrt(len(measured))
    style: dict = {"fmt": "o", "markersize": 2.5, "linewidth": 0.9, "color": COLOURS["black"]}
    ax.errorbar(steps, measured.mean(0), error, label="SGD", **style)
