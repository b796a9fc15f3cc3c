"""Isotropic noise against label noise: one curve, who expands, and the laws behind them."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Isotropic against label noise in two-layer linear networks. Above: participation ratio of the "
    "hidden layer at rest against rho = T/κ at several strengths of label noise (left) and under "
    "weight decay against T/λ (middle), lines theory; and from one start, noises of the same trace "
    "(right), line the slow flow of label noise. Below: Tr D at rest under both noises against the "
    "fan-in, of 8 inputs and outputs (left), where isotropic noise expands above zero and "
    "compresses below, lines theory; imbalance of a unit (middle); E Tr K of the law of W, crosses "
    "without its log det (right). Bars: two standard errors; hollow: outside the regime."
)
LEVELS = ("black", "blue", "vermilion", "green")
KINDS = {"label": "vermilion", "isotropic": "blue", "none": "grey"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"balance": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Six panels."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.6))
        (mix, decay, contrast), (plane, units, law) = figure.subplots(2, 3)
        _mix(mix, results)
        _decay(decay, results)
        _contrast(contrast, results)
        _plane(plane, results)
        _units(units, results)
        _law(law, results)
    return figure


def _bars(ax, x, part, name, color, label=None, inside=True, marker="o"):
    face = COLOURS[color] if inside else "white"
    ax.errorbar(
        x,
        part[name],
        2 * part[f"{name}_stderr"],
        fmt=marker,
        markersize=3.5,
        color=COLOURS[color],
        markerfacecolor=face,
        label=label,
        capsize=0,
    )


def _mix(ax, results):
    rhos = results.rho.values
    low = 0.4 * rhos[rhos > 0].min()
    x = np.where(rhos > 0, rhos, low)
    for level, color in zip(results.level.values.tolist(), LEVELS, strict=False):
        part = results.sel(level=level)
        ax.plot(x, part.mix_ratio_predicted, color=COLOURS["grey"], lw=0.8)
        for at, rho in zip(x, rhos, strict=True):
            point = part.sel(rho=rho)
            label = level if at == x[0] else None
            _bars(ax, at, point, "mix_ratio", color, label, float(point.mix_reach) <= 0.1)
    ticks = {at: f"{rho:g}" for at, rho in zip(x, rhos, strict=True)}
    ax.set(xscale="log", xlabel=r"$\rho$", ylabel="participation ratio")
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()
    ax.legend(fontsize=6.5, title="label noise", title_fontsize=6.5)


def _decay(ax, results):
    t = results.temperature.values
    ax.plot(t, results.decay_ratio_predicted, color=COLOURS["grey"], lw=0.8)
    for temperature in t:
        point = results.sel(temperature=temperature)
        inside = float(point.decay_reach) <= 0.1 and float(point.decay_jitter) <= 0.15
        _bars(ax, temperature, point, "decay_ratio", "black", inside=inside)
    ax.set(xscale="log", xlabel="temperature, with weight decay", ylabel="participation ratio")


def _contrast(ax, results):
    for kind in results.kind.values.tolist():
        part, color = results.sel(kind=kind), COLOURS[KINDS[kind]]
        ax.plot(
            part.contrast_time[::12], part.contrast_path[::12], "o", ms=2.5, color=color, label=kind
        )
        if kind == "label":
            ax.plot(part.contrast_time, part.contrast_flow, color=color, lw=0.8)
    ax.set(xlabel="time", ylabel="participation ratio")
    ax.legend(fontsize=6.5)


def _plane(ax, results):
    fans = results.fan.values
    some = [r for r in results.rho.values if np.isfinite(results.plane_ratio.sel(rho=r)).any()]
    for rho, color in zip(some, LEVELS, strict=False):
        part = results.sel(rho=rho)
        ax.plot(fans, part.plane_imbalance_predicted, color=COLOURS[color], lw=0.8)
        _bars(ax, fans, part, "plane_imbalance", color, rf"$\rho$ = {rho:g}")
    ax.axhline(0, color=COLOURS["grey"], lw=0.6)
    ax.set_xticks(fans)
    ax.set(xlabel="inputs, of 8 with the outputs", ylabel="Tr D at rest")
    ax.legend(fontsize=6.5)


def _units(ax, results):
    names = results.unit.values.tolist()
    places = np.arange(len(names))
    _bars(ax, places, results, "unit_law", "black")
    width = 0.3
    ax.hlines(
        results.unit_law_predicted, places - width, places + width, color=COLOURS["vermilion"]
    )
    ax.set_xticks(places, [n.replace(" to ", "→") for n in names], rotation=40, ha="right")
    ax.set(ylabel="D of a unit", xlim=(-0.6, len(names) - 0.4))


def _law(ax, results):
    names = results["sizes"].values.tolist()
    places = np.arange(len(names))
    _bars(ax, places, results, "law_hidden", "black", "measured")
    ax.hlines(
        results.law_hidden_predicted,
        places - 0.3,
        places + 0.3,
        color=COLOURS["vermilion"],
        label="marginal law",
    )
    ax.plot(places, results.law_hidden_without, "x", color=COLOURS["grey"], label="no log det")
    ax.set_xticks(places, names)
    ax.set(xlabel="inputs, units, outputs", ylabel="E Tr K", xlim=(-0.6, len(names) - 0.4))
    ax.legend(fontsize=6.5)
