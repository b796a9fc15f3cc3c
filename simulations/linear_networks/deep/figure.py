"""Participation ratios of all hidden layers of deeper networks, and of other noises."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Linear networks under label noise. Left: participation ratio of every hidden layer of the "
    "deepest network, and middle: of the last hidden layer under other noises; points are means "
    "over runs, lines the refined slow flow, dashes the base flow, dots where all layers rest. "
    "Right: the deviation of each flow in its worst layer and moment, with the largest standard "
    "error."
)
DEPTHS = ("four layers", "three layers", "two layers")
VARIANTS = {
    "three layers": "black",
    "momentum": "blue",
    "reshuffled": "vermilion",
    "cross-entropy": "green",
    "Fisher": "orange",
}
LAYERS = ("black", "blue", "vermilion")
MARKS = {"base": ("grey", "o"), "refined": ("vermilion", "D")}
STILL = ("separable", "separable, quiet", "no label noise", "first layer alone")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"deeper": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Every layer of one network, one layer under every noise, and worst deviations."""
    names = results.setting.values.tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9))
        deep, noises, off = figure.subplots(1, 3)
        deepest = next((name for name in DEPTHS if name in names), names[0])
        _layers(deep, _own(results, deepest))
        deep.set_title(deepest)
        for name in (n for n in VARIANTS if n in names):
            part = _own(results, name).isel(layer=-1)
            _curve(noises, part, COLOURS[VARIANTS[name]], name)
        noises.set_title("last hidden layer")
        for ax in (deep, noises):
            ax.set(xlabel="share of the time", ylabel="participation ratio")
            ax.legend(fontsize=6)
        _off(off, results, [name for name in names if name not in STILL])
    return figure


def _own(results, name):
    """A setting, with the hidden layers that its network has."""
    part = results.sel(setting=name)
    return part.isel(layer=slice(int(part.depth) - 1))


def _layers(ax, part):
    for k in range(part.sizes["layer"]):
        _curve(ax, part.isel(layer=k), COLOURS[LAYERS[k]], f"hidden layer {k + 1}")
    ax.axhline(float(part.ratio_rest), color=COLOURS["grey"], linestyle=":", zorder=0)


def _curve(ax, part, color, label):
    time = part.step / float(part.step[-1])
    start, zero = float(part.ratio_start), np.concatenate([[0.0], time])
    ax.plot(time[1::3], part.ratio.mean("run")[1::3], "o", markersize=3, color=color, label=label)
    for flow, style in (("refined", "-"), ("base", "--")):
        values = np.concatenate([[start], part.ratio_flow.sel(flow=flow)])
        ax.plot(zero, values, style, color=color, linewidth=1.0 if flow == "refined" else 0.6)


def _off(ax, results, names):
    for place, name in enumerate(names):
        part = _own(results, name)
        middle = part.ratio.mean("run")
        off = 100 * abs(middle / part.ratio_flow - 1).max(("watch", "layer"))
        error = part.ratio.std("run", ddof=1) / middle / part.sizes["run"] ** 0.5
        for flow, (color, marker) in MARKS.items():
            label = flow if place == 0 else None
            value = float(off.sel(flow=flow))
            ax.plot(value, place, marker, color=COLOURS[color], markersize=4, label=label)
        ax.barh(place, 100 * float(error.max()), color=COLOURS["grey"], alpha=0.3, height=0.7)
    ax.set_yticks(np.arange(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="PR off by, %", xlim=(0, None))
    ax.legend(fontsize=7)
