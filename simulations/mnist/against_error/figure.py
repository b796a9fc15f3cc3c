"""Test error against the dimension of the last hidden layer, and agreement by factor."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sgdnoise.lab import COLOURS, STYLE
from simulations.mnist.against_error.claims import FACTORS, MEASURED, agreement, correlation, flat

CAPTION = (
    "Test error against the dimension of the last hidden layer on held-out images of MNIST; each "
    "point is one training on all 60,000 images. Colours: fraction of shuffled labels; markers: "
    "batch size, larger for larger rates. A row a network. Right: agreement of pairs of settings "
    "that differ in one factor alone, and the rank correlation of all, with 95% intervals from "
    "resampled settings."
)
LABEL_COLOURS = ("blue", "sky", "orange", "vermilion")
MEASURE_COLOURS = ("black", "purple")
MARKERS = ("o", "^")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of this part."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A row a network: PR, TwoNN, agreement."""
    nets = results.net.values.tolist()
    figure = Figure(figsize=(7.4, 0.9 + 2.2 * len(nets)))
    rows = figure.subplots(len(nets), len(MEASURED) + 1, squeeze=False)
    for axes, net in zip(rows, nets, strict=True):
        data = results.sel(net=net)
        for ax, measure in zip(axes, MEASURED, strict=False):
            _settings(ax, data, measure)
            ax.sharey(axes[0])
        axes[0].set_ylabel(f"{net}\ntest error, %")
        _factors(axes[-1], data)
    for ax, name in zip(rows[-1], MEASURED.values(), strict=False):
        ax.set_xlabel(f"{name} of the last hidden layer")
    rows[-1, -1].set_xlabel("correlation with test error")
    figure.legend(handles=_handles(results), loc="outside upper center", ncols=4, fontsize=7)
    return figure


def _settings(ax, data, measure):
    of = flat(data, measure)
    for fraction, colour in zip(np.unique(of.shuffled), LABEL_COLOURS, strict=False):
        for batch, marker in zip(np.unique(of.batch), MARKERS, strict=False):
            rows = (of.shuffled == fraction) & (of.batch == batch)
            sizes = 8 * np.sqrt(of.rate[rows] / of.rate.min())
            style: dict = {"marker": marker, "color": COLOURS[colour], "linewidths": 0.4}
            ax.scatter(of.dimension[rows], 100 * of.error[rows], s=sizes, alpha=0.7, **style)
    ax.set(xscale="log", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_major_locator(mpl.ticker.FixedLocator((3, 4, 5, 7, 10, 15, 20, 30, 50)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def _factors(ax, data):
    names = [*(f"{factor} alone" for factor in FACTORS), "all settings"]
    for i, (measure, colour) in enumerate(zip(MEASURED, MEASURE_COLOURS, strict=True)):
        of = flat(data, measure)
        estimates = [*(agreement(of, factor) for factor in FACTORS), correlation(of)]
        value = np.asarray([e.value for e in estimates])
        reach = value - np.asarray([e.interval()[0] for e in estimates])
        y = np.arange(len(names)) + 0.2 * (i - 0.5)
        style: dict = {"color": COLOURS[colour], "fmt": "o", "markersize": 2.5, "linewidth": 0.9}
        ax.errorbar(value, y, xerr=reach, **style)
    ax.axvline(0, color=COLOURS["grey"], linewidth=0.7)
    ax.set_yticks(range(len(names)), names, fontsize=7)
    ax.set(xlim=(-1.5, 1.5))
    ax.invert_yaxis()


def _handles(results):
    def handle(colour, label, marker, line="none"):
        style: dict = {"linestyle": line, "marker": marker, "markersize": 4, "label": label}
        return Line2D([], [], color=COLOURS[colour], **style)

    labels = zip(results.shuffled.values, LABEL_COLOURS, strict=False)
    batches = zip(results.batch.values, MARKERS, strict=False)
    measures = zip(MEASURED.values(), MEASURE_COLOURS, strict=True)
    return [
        *(handle(colour, f"shuffled {fraction:g}", "o") for fraction, colour in labels),
        *(handle("grey", f"batch {batch}", marker) for batch, marker in batches),
        *(handle(colour, name, "o", "-") for name, colour in measures),
    ]
