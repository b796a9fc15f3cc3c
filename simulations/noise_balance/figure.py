"""Isotropic noise against label noise: one curve, which layer expands, and the laws behind."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.noise_balance.claims import BOUNDS, DECAY_BOUNDS, in_regime

CAPTION = (
    "Isotropic against label noise in two-layer linear networks. Above: stationary participation "
    "ratio of the hidden layer against rho = T/κ at several strengths of label noise (left) and "
    "under weight decay against the temperature (middle), lines theory; and from one start, noises "
    "of the same trace (right), line the slow flow of label noise. Below: stationary Tr D under "
    "both noises against the number of inputs, of 8 inputs and outputs (left), where isotropic "
    "noise expands above zero and compresses below, lines theory; imbalance of a unit (middle); "
    "E Tr K of the law of W, crosses without its log det (right). Bars: two standard errors; "
    "hollow: outside the regime."
)
LEVELS = ("black", "blue", "vermilion", "green")
KINDS = {"label": "vermilion", "isotropic": "blue", "none": "grey"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Six panels."""
    figure = Figure(figsize=(7.4, 4.6))
    panels = (_mix, _decay, _contrast, _plane, _units, _law)
    for ax, panel in zip(figure.subplots(2, 3).ravel(), panels, strict=True):
        panel(ax, results)
    return figure


def _bars(ax, x, data, name, color, label=None, inside=True):
    color = COLOURS[color]
    style: dict = {"fmt": "o", "markersize": 3.5, "color": color, "label": label, "capsize": 0}
    style["markerfacecolor"] = color if inside else "white"
    ax.errorbar(x, data[name], 2 * data[f"{name}_stderr"], **style)


def _mix(ax, results):
    rhos = results.rho.values
    x = np.where(rhos > 0, rhos, 0.4 * rhos[rhos > 0].min())
    for (level, data), color in zip(settings_of(results, "level"), LEVELS, strict=False):
        ax.plot(x, data.mix_ratio_predicted, color=COLOURS["grey"], lw=0.8)
        for position, (_, point) in zip(x, settings_of(data, "rho"), strict=True):
            label = level if position == x[0] else None
            inside = float(point.mix_reach) <= BOUNDS["reach"]
            _bars(ax, position, point, "mix_ratio", color, label, inside)
    ax.set(xscale="log", xlabel=r"$\rho$", ylabel="participation ratio")
    ax.set_xticks(x, [f"{rho:g}" for rho in rhos])
    ax.minorticks_off()
    ax.legend(fontsize=6.5, title="label noise", title_fontsize=6.5)


def _decay(ax, results):
    t = results.temperature.values
    ax.plot(t, results.decay_ratio_predicted, color=COLOURS["grey"], lw=0.8)
    for temperature, point in settings_of(results, "temperature"):
        inside = in_regime(point, "decay", DECAY_BOUNDS)
        _bars(ax, temperature, point, "decay_ratio", "black", inside=inside)
    ax.set(xscale="log", xlabel="temperature, with weight decay", ylabel="participation ratio")


def _contrast(ax, results):
    for kind, data in settings_of(results, "kind"):
        color, path = COLOURS[KINDS[kind]], data.isel(watch=slice(None, None, 12))
        ax.plot(path.contrast_time, path.contrast_path, "o", ms=2.5, color=color, label=kind)
        if kind == "label":
            ax.plot(data.contrast_time, data.contrast_flow, color=color, lw=0.8)
    ax.set(xlabel="time", ylabel="participation ratio")
    ax.legend(fontsize=6.5)


def _plane(ax, results):
    fans = results.fan.values
    measured = results.dropna("rho", how="all", subset=["plane_ratio"])
    for (rho, data), color in zip(settings_of(measured, "rho"), LEVELS, strict=False):
        ax.plot(fans, data.plane_imbalance_predicted, color=COLOURS[color], lw=0.8)
        _bars(ax, fans, data, "plane_imbalance", color, rf"$\rho$ = {rho:g}")
    ax.axhline(0, color=COLOURS["grey"], lw=0.6)
    ax.set_xticks(fans)
    ax.set(xlabel="inputs, of 8 with the outputs", ylabel="stationary Tr D")
    ax.legend(fontsize=6.5)


def _units(ax, results):
    names = results.unit.values.tolist()
    x = np.arange(len(names))
    _bars(ax, x, results, "unit_law", "black")
    ax.hlines(results.unit_law_predicted, x - 0.3, x + 0.3, color=COLOURS["vermilion"])
    ax.set_xticks(x, [n.replace(" to ", "→") for n in names], rotation=40, ha="right")
    ax.set(ylabel="D of a unit", xlim=(-0.6, len(names) - 0.4))


def _law(ax, results):
    names, red = results["sizes"].values.tolist(), COLOURS["vermilion"]
    x = np.arange(len(names))
    _bars(ax, x, results, "law_hidden", "black", "measured")
    ax.hlines(results.law_hidden_predicted, x - 0.3, x + 0.3, color=red, label="marginal law")
    ax.plot(x, results.law_hidden_without, "x", color=COLOURS["grey"], label="no log det")
    ax.set_xticks(x, names)
    ax.set(xlabel="inputs, units, outputs", ylabel="E Tr K", xlim=(-0.6, len(names) - 0.4))
    ax.legend(fontsize=6.5)
