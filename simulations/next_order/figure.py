"""Participation ratio and Tr H of SGD against the flows of first and of the next order."""

import matplotlib as mpl
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.next_order.claims import paths, steps_of

CAPTION = (
    "Participation ratio of the hidden layer (top) and trace of the Hessian (bottom) of two-layer "
    "tanh networks under label noise, against the number of steps. Points: SGD, mean over networks "
    "with the standard error of its distance to the flow of the next order. Dashed: gradient "
    "descent on L + kappa Tr H (first order). Solid: the flow of the next order. Nothing is fitted."
)
LABELS = {"ratio": "participation ratio", "trace": "Tr H"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A column a case, a row an observable."""
    cases = list(settings_of(results, "case"))
    figure = Figure(figsize=(1.9 * max(2, len(cases)), 3.8))
    axes = figure.subplots(2, len(cases), squeeze=False, sharex="col")
    for column, (name, data) in enumerate(cases):
        for ax, (key, label) in zip(axes[:, column], LABELS.items(), strict=True):
            _panel(ax, data, key)
            if column == 0:
                ax.set_ylabel(label)
        axes[0, column].set_title(name, fontsize=8)
        axes[1, column].set_xlabel("thousand steps")
    axes[0, 0].legend(fontsize=6)
    return figure


def _panel(ax, data, key):
    steps = steps_of(data) / 1000
    measured, following = paths(data, key, "sgd"), paths(data, key, "next order")
    gap = measured - following
    error = gap.std(0, ddof=1) / len(gap) ** 0.5
    middle = following.mean(0) + gap.mean(0)
    ax.errorbar(steps, middle, error, fmt="o", markersize=3, color="black", label="SGD")
    first = paths(data, key, "first order").mean(0)
    ax.plot(steps, first, "--", color=COLOURS["vermilion"], label="first order")
    ax.plot(steps, following.mean(0), color=COLOURS["blue"], label="next order")
