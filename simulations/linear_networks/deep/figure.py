"""Participation ratios of all hidden layers of deeper networks, and under other noises."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE
from simulations.linear_networks._panels import worst_deviations
from simulations.linear_networks.deep.claims import CONTRASTS, CONTROLS, with_layers

CAPTION = (
    "Linear networks under label noise. Left: participation ratio of every hidden layer of the "
    "deepest network, and middle: of the last hidden layer under other noises; points are means "
    "over runs, lines the refined slow flow, dashes the base flow, dots the stationary value. "
    "Right: the deviation of each flow in its worst layer and time, with the largest standard "
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
MARKERS = {"base": ("grey", "o"), "refined": ("vermilion", "D")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Every layer of one network, one layer under every noise, and the largest deviations."""
    settings = {
        name: with_layers(results.sel(setting=name)) for name in results.setting.values.tolist()
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9))
        deep, noises, off = figure.subplots(1, 3)
        deepest = next((name for name in DEPTHS if name in settings), next(iter(settings)))
        _layers(deep, settings[deepest])
        deep.set_title(deepest)
        for name in (n for n in VARIANTS if n in settings):
            _curve(noises, settings[name].isel(layer=-1), COLOURS[VARIANTS[name]], name)
        noises.set_title("last hidden layer")
        for ax in (deep, noises):
            ax.set(xlabel="fraction of the time", ylabel="participation ratio")
            ax.legend(fontsize=6)
        moving = {k: v for k, v in settings.items() if k not in CONTROLS + CONTRASTS}
        worst_deviations(off, moving, ("watch", "layer"), MARKERS)
    return figure


def _layers(ax, setting):
    for k in range(setting.sizes["layer"]):
        _curve(ax, setting.isel(layer=k), COLOURS[LAYERS[k]], f"hidden layer {k + 1}")
    ax.axhline(float(setting.ratio_rest), color=COLOURS["grey"], linestyle=":", zorder=0)


def _curve(ax, layer, color, label):
    time, style = layer.step / float(layer.step[-1]), {"markersize": 3, "label": label}
    from_start = np.concatenate([[0.0], time])
    ax.plot(time[1::3], layer.ratio.mean("run")[1::3], "o", color=color, **style)
    for flow, line in (("refined", "-"), ("base", "--")):
        values = np.concatenate([[float(layer.ratio_start)], layer.ratio_flow.sel(flow=flow)])
        ax.plot(from_start, values, line, color=color, linewidth=1.0 if flow == "refined" else 0.6)
