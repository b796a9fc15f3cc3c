"""Descent and SGD at the edge of stability against the central flow."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, mean_of, settings_of
from simulations.edge.claims import (
    CENTRAL,
    DESCENT,
    FLOW,
    batches_of,
    late,
    layers_of,
    relative_gap,
)

CAPTION = (
    "Gradient descent of one network in each case, against the number of steps: the largest "
    "curvature of the mean weights of windows (sharpness) over 2 / rate (top), the mean loss "
    "(middle), and the participation ratio (PR) of the last hidden layer (bottom). Points: "
    "descent. Solid: the central flow. Dashed: the gradient flow. Nothing is fitted."
)
BATCHES = (
    "SGD against its batch size, means over the second half of the steps, of all cases. Left: the "
    "gap of the sharpness to 2 / rate, over 2 / rate. Middle: batch sharpness over 2 / rate. "
    "Right: PR of the last hidden layer over that of gradient descent by theory. Filled points: "
    "means over chains with their standard error. Lines and crosses: the central flow with noise."
)
PANELS = {"sharpness": "sharpness x rate / 2", "loss": "mean loss", "ratio": "PR, last layer"}
CASE_COLOURS = ("blue", "vermilion", "green", "purple")
MARKERS = "osD^"


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Descent, and SGD."""
    return {"figure": (CAPTION, draw(results)), "batches": (BATCHES, draw_batches(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A column a case, a row an observable."""
    cases = list(settings_of(results, "case"))
    figure = Figure(figsize=(1 + 1.7 * max(2, len(cases)), 4.6))
    axes = figure.subplots(3, len(cases), squeeze=False, sharex="col")
    for column, (name, data) in enumerate(cases):
        for ax, variable in zip(axes[:, column], PANELS, strict=True):
            _panel(ax, data.isel(network=0), variable)
        axes[0, column].set_title(name.replace(", ", ",\n"), fontsize=7)
        axes[-1, column].set_xlabel("steps")
    for ax, label in zip(axes[:, 0], PANELS.values(), strict=True):
        ax.set_ylabel(label)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3)
    return figure


def _panel(ax, data, variable):
    values = data[variable]
    if variable == "ratio":
        values = values.isel(layer=int(np.isfinite(values[0, 0]).sum()) - 1)
    if variable == "sharpness":
        values = values * float(data.rate) / 2
        ax.axhline(1, color=COLOURS["grey"], linewidth=0.8)
    steps = data.step
    ax.plot(steps, values.sel(how=FLOW), "--", color=COLOURS["vermilion"], label=FLOW)
    ax.plot(steps, values.sel(how=CENTRAL), color=COLOURS["blue"], label=CENTRAL)
    ax.plot(steps, values.sel(how=DESCENT), "o", markersize=3, color="black", label=DESCENT)


@mpl.rc_context(STYLE)
def draw_batches(results) -> Figure:
    """The gap, batch sharpness, and PR, against the batch size."""
    figure = Figure(figsize=(7.2, 2.8))
    axes = figure.subplots(1, 3)
    cases = settings_of(results, "case")
    for (name, data), colour, marker in zip(cases, CASE_COLOURS, MARKERS, strict=False):
        style = {"color": COLOURS[colour]}
        sizes = batches_of(data)
        last = layers_of(data)[-1]
        base = float(late(data.ratio.sel(how=CENTRAL).isel(network=0, layer=last)))
        edge = 2 / float(data.rate)
        parts = [data.sel(batch=size) for size in sizes]
        measured = [
            [relative_gap(data, part) for part in parts],
            [_mean(part.batch_sharpness, edge) for part in parts],
            [_mean(part.sgd_ratio.isel(layer=last), base) for part in parts],
        ]
        theory = [
            [1 - float(late(part.flow_sharpness)) / edge for part in parts],
            [float(late(part.flow_batch_sharpness)) / edge for part in parts],
            [float(late(part.flow_ratio.isel(layer=last))) / base for part in parts],
        ]
        for ax, estimates, line in zip(axes, measured, theory, strict=True):
            values, errors = ([getattr(e, k) for e in estimates] for k in ("value", "stderr"))
            ax.errorbar(sizes, values, errors, fmt=marker, markersize=4, **style, label=name)
            ax.plot(sizes, line, "-x", markersize=5, linewidth=0.9, **style)
    labels = ("gap x rate / 2", "batch sharpness x rate / 2", "PR / PR of descent")
    for ax, label in zip(axes, labels, strict=True):
        ax.set(xscale="log", xlabel="batch size", ylabel=label)
        ax.set_xticks(list(results.batch.values), [str(b) for b in results.batch.values])
        ax.minorticks_off()
    axes[0].set_ylim(bottom=0)
    axes[2].axhline(1, color=COLOURS["grey"], linewidth=0.8)
    axes[0].plot([], [], "-x", markersize=5, linewidth=0.9, color=COLOURS["grey"], label=CENTRAL)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def _mean(values, unit):
    return mean_of(late(values)) / unit
