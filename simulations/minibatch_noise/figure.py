"""The gap to gradient descent that minibatches make, against the flow and the drift of Tr C."""

import matplotlib as mpl
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.minibatch_noise.claims import observed

CAPTION = (
    "Difference to gradient descent of the participation ratio of the last hidden layer (top) and "
    "of the trace of the Hessian (bottom), against the number of steps. Points: SGD without label "
    "noise, means over runs with their standard error. Solid: the flow of minibatch noise. "
    "Dashed: gradient descent on L + rate Tr C / (4 batch). Nothing is fitted."
)
LINES = {"flow": ("-", "blue", "flow"), "Tr C in the loss": ("--", "vermilion", "Tr C in L")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A column a case, a row an observable."""
    cases = list(settings_of(results, "case"))
    figure = Figure(figsize=(1.7 * max(2, len(cases)), 3.6))
    axes = figure.subplots(2, len(cases), squeeze=False, sharex="col")
    for column, (name, data) in enumerate(cases):
        numbers = list(observed(data).values())[-2:]  # the last layer, and Tr H
        for ax, pair in zip(axes[:, column], numbers, strict=True):
            _panel(ax, data.step, *pair)
        axes[0, column].set_title(name.replace(", ", ",\n"), fontsize=7)
        axes[1, column].set_xlabel("steps")
    axes[0, 0].set_ylabel("gap in PR")
    axes[1, 0].set_ylabel("gap in Tr H")
    axes[0, 0].legend(fontsize=6)
    return figure


def _panel(ax, steps, predicted, runs):
    descent = predicted.sel(how="descent")
    error = runs.std("run", ddof=1) / runs.sizes["run"] ** 0.5
    gap = runs.mean("run") - descent
    ax.errorbar(steps, gap, error, fmt="o", markersize=3, color="black", label="SGD")
    for how, (style, colour, label) in LINES.items():
        ax.plot(steps, predicted.sel(how=how) - descent, style, color=COLOURS[colour], label=label)
