"""Participation ratio and TwoNN of every layer against the number of steps."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sgdnoise.lab import COLOURS, STYLE
from simulations.mnist.in_time.claims import CLASSES, MEASURED, layers_of

CAPTION = (
    "Dimension of the layers in the time of training, from 0 steps on, on all of MNIST: a row a "
    "measure, a column a network. Lines: means over seeds on held-out images, shades one standard "
    "error. Dots: images of the training. Dashes: TwoNN of Gaussian points of equal covariance, by "
    "theory from the spectrum. Crosses: participation ratio (PR) at random weights, by theory. "
    "Grey line: one less than the classes. Last row: error in training and on held-out images."
)
LAYER_COLOURS = ("sky", "blue", "green", "vermilion", "purple")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of this part."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A column a network; PR, TwoNN, and errors."""
    nets = results.net.values.tolist()
    figure = Figure(figsize=(1.2 + 2.9 * len(nets), 6.4))
    rows = figure.subplots(3, len(nets), squeeze=False, sharex=True, sharey="row")
    for column, net in enumerate(nets):
        data = results.sel(net=net)
        for ax, measure in zip(rows[:2, column], MEASURED, strict=True):
            _layers(ax, data, measure)
        _start(rows[0, column], data)
        _errors(rows[2, column], data)
        rows[0, column].set_title(net, fontsize=8)
        rows[2, column].set_xlabel("steps")
    rows[0, 0].axhline(CLASSES - 1, color=COLOURS["grey"], linewidth=0.8)
    rows[0, -1].axhline(CLASSES - 1, color=COLOURS["grey"], linewidth=0.8)
    for axes, label in zip(rows, (*MEASURED.values(), "error, %"), strict=True):
        axes[0].set_ylabel(label)
    _scales(rows, results.step.values)
    figure.legend(handles=_handles(results), loc="outside upper center", ncols=5, fontsize=7)
    return figure


def _layers(ax, data, measure):
    x = np.arange(data.sizes["step"])
    for layer, colour in zip(layers_of(data), LAYER_COLOURS[1:], strict=True):
        style: dict = {"color": COLOURS[colour]}
        test, training = (data[measure].sel(layer=layer, images=w) for w in ("test", "training"))
        values = test.transpose("seed", "step").values
        mean, error = values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5
        ax.plot(x, mean, **style, linewidth=1)
        ax.fill_between(x, mean - error, mean + error, alpha=0.25, linewidth=0, **style)
        ax.plot(x, training.mean("seed"), "o", markersize=2.5, **style)
        if measure == "twonn":
            theory = data.theory.sel(layer=layer, images="test").mean("seed")
            ax.plot(x, theory, "--", linewidth=0.7, **style)
    entry = data[measure].sel(layer="input", images="test").isel(step=0).mean("seed")
    ax.plot([0], [entry], "D", markersize=3, color=COLOURS[LAYER_COLOURS[0]])


def _start(ax, data):
    at = data.isel(seed=0)
    for layer, colour in zip(layers_of(data), LAYER_COLOURS[1:], strict=True):
        ax.plot([0], at.wide.sel(layer=layer), "x", markersize=5, color=COLOURS[colour])


def _errors(ax, data):
    x = np.arange(data.sizes["step"])
    for where, style in (("test", "-"), ("training", ":")):
        values = 100 * data.error.sel(images=where).mean("seed")
        ax.plot(x, values.where(values > 0), style, color=COLOURS["black"])


def _scales(rows, steps):
    for ax in rows.flat:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.set_xticks(range(len(steps)), [f"{s:g}" for s in steps], rotation=60, fontsize=6)
    for ax in rows[:2].flat:
        ax.yaxis.set_major_locator(mpl.ticker.FixedLocator((3, 5, 7, 10, 15, 20, 30, 50, 80)))


def _handles(results):
    def handle(colour, label, **style):
        return Line2D([], [], color=COLOURS[colour], label=label, **style)

    layers = zip(results.layer.values.tolist()[1:], LAYER_COLOURS[1:], strict=True)
    point: dict = {"linestyle": "none"}
    return [
        handle(LAYER_COLOURS[0], "input", marker="D", markersize=3, **point),
        *(handle(colour, layer) for layer, colour in layers),
        handle("black", "held out"),
        handle("black", "training", marker="o", markersize=3, linestyle=":"),
        handle("black", "Gaussian, theory", linestyle="--", linewidth=0.7),
        handle("black", "random weights, theory", marker="x", markersize=5, **point),
    ]
