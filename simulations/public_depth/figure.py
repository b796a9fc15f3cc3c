"""Participation ratio and TwoNN through depth, trained and untrained, whole and pooled."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.public_depth.claims import CLASSES, layers_of, places_of, samples_of

CAPTION = (
    "Dimension of the outputs of residual networks against depth, from the input to the logits, "
    "one colour a network. Top: participation ratio (PR). Bottom: TwoNN. Left: of all units. "
    "Right: of means over positions; the grey line is one less than the classes. Solid: public "
    "networks on test photographs, with standard errors. Dotted: untrained networks. Dashed with "
    "points: Gaussian points of equal covariance, by theory from the spectrum."
)
KINDS = {"pr": "PR", "twonn": "TwoNN"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A row a measure; whole outputs on the left and pooled ones on the right."""
    figure = Figure(figsize=(6.2, 4.4))
    axes = figure.subplots(2, 2, sharex=True)
    colours = list(COLOURS.values())
    for (depth, data), colour in zip(settings_of(results, "depth"), colours, strict=False):
        count = layers_of(data)
        for row, measure in zip(axes, KINDS, strict=True):
            for ax, suffix in zip(row, ("", "_pooled"), strict=True):
                _lines(ax, data, f"{measure}{suffix}", count, colour, f"ResNet-{depth}")
        at = samples_of(data, "test").isel(sample=0).isel(layer=list(places_of(data).values()))
        axes[1, 0].plot(at.relative_depth, at.theory, "o--", color=colour, linewidth=0.6, ms=2)
    axes[0, 1].axhline(CLASSES - 1, color=COLOURS["grey"], linewidth=0.8)
    for row, label in zip(axes, KINDS.values(), strict=True):
        row[0].set_ylabel(label)
        for ax in row:
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("")
    for ax, title in zip(axes[0], ("outputs", "means over positions"), strict=True):
        ax.set_title(title, fontsize=8)
    for ax in axes[1]:
        ax.set_xlabel("relative depth")
    axes[0, 0].legend(fontsize=6)
    return figure


def _lines(ax, data, measure, count, colour, label):
    for what, style in (("test", "-"), ("untrained", ":")):
        at = samples_of(data, what)
        if not at.sizes["sample"]:
            continue
        x, values = at.relative_depth.values[0, :count], at[measure].values[:, :count]
        ax.plot(x, values.mean(0), style, color=colour, label=label if what == "test" else None)
        if what == "test" and len(values) > 1:
            error = values.std(0, ddof=1) / np.sqrt(len(values))
            ax.fill_between(
                x, values.mean(0) - error, values.mean(0) + error, color=colour, alpha=0.3
            )
