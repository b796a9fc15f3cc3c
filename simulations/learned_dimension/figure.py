"""Dimension, accuracy and robustness against the coefficient, and spectra at one dimension."""

from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE
from simulations.learned_dimension.claims import SHORT, arms, at_noise, strength

CAPTION = (
    "Networks that descend L + c m, for a measure m of their hidden layer. Columns: participation "
    "ratio after training, accuracy on other digits as they come, with pixel noise of several "
    "sizes, and after adversarial steps of several sizes (means over the sizes), against c, on a "
    "scale that is logarithmic beyond the smallest. Grey square: the network before; dashed line "
    "and its band: label noise. Bars and bands are two standard errors over seeds."
)
SPECTRA = (
    "Left: participation ratio on the way, over the share of the steps of each. Middle: share of "
    "the variance of the hidden layer by principal component, of label noise, of the descent on "
    "L + κ Tr H that stands for it, and of the penalties where c brings each seed to the "
    "participation ratio (for TwoNN, to the TwoNN) of its own label noise, between two c that were "
    "tried. Right: Tr H after each, over that of the network before."
)
COLOUR = {"participation_ratio": "blue", "effective_rank": "green", "twonn": "purple"}
PANELS = {
    "PR": ("participation_ratio", None),
    "accuracy elsewhere": ("accuracy", None),
    "with pixel noise": ("noisy", "noise"),
    "adversarial step": ("adversarial", "push"),
}
OTHERS = {"label noise": ("vermilion", "-"), "trace": ("black", ":")}
TEXT = {"trace": "L + κ Tr H", "label noise": "label noise"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {
        "objective": (CAPTION, draw(results)),
        "objective_spectra": (SPECTRA, spectra(results)),
    }


def draw(results) -> Figure:
    """A row for each measure, a column for what comes of it."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 5.2))
        axes = figure.subplots(3, 4, sharey="col", sharex="row")
        for at, (row, name) in enumerate(zip(axes, SHORT, strict=True)):
            for ax, (title, (what, axis)) in zip(row, PANELS.items(), strict=True):
                _against(ax, results, name, _of(results, what, axis))
                if at == 0:
                    ax.set_title(title)
            row[0].set_ylabel(f"m: {SHORT[name]}")
            row[0].set_yscale("log")
            row[0].set_yticks([2, 4, 8, 16], ["2", "4", "8", "16"])
            row[0].set_yticks([], minor=True)
        for ax in axes[2]:
            ax.set_xlabel("c")
    return figure


def _of(results, what, axis):
    values = results[what] if axis is None else results[what].mean(axis)
    return values.dropna("seed", how="all")


def _against(ax, results, name, values):
    noise = values.sel(arm="label noise")
    middle, error = _summary(noise)
    ax.axhspan(middle - 2 * error, middle + 2 * error, color=COLOURS["vermilion"], alpha=0.15, lw=0)
    ax.axhline(middle, color=COLOURS["vermilion"], linestyle="--", linewidth=0.9)
    every = arms(results, name, -np.inf)
    c = [strength(arm) for arm in every]
    found = [_summary(values.sel(arm=arm)) for arm in every]
    colour = COLOURS[COLOUR[name]]
    ax.errorbar(
        *(c, [f[0] for f in found], [2 * f[1] for f in found]),
        color=colour,
        marker="o",
        markersize=3,
        linewidth=0.9,
    )
    start = _summary(values.sel(arm="start"))
    ax.errorbar(0, start[0], 2 * start[1], color=COLOURS["grey"], marker="s", markersize=3)
    ax.set_xscale("symlog", linthresh=min(abs(each) for each in c))
    ends = sorted({c[0], 0.0, c[-1]})
    ax.set_xticks(ends, [f"{end:g}" for end in ends])
    ax.set_xticks([], minor=True)


def spectra(results) -> Figure:
    """On the way, at the end, and what it costs in curvature."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.7))
        way, share, bars = figure.subplots(1, 3)
        shown = {
            TEXT[arm]: (*look, lambda values, arm=arm: values.sel(arm=arm))
            for arm, look in OTHERS.items()
        }
        for name, short in SHORT.items():
            shown[f"L + c {short}"] = (COLOUR[name], "-", partial(at_noise, results, name))
        for text, (colour, line, of) in shown.items():
            how = {"color": COLOURS[colour], "linestyle": line, "linewidth": 1.0}
            along = of(results.path).mean("seed")
            way.plot(np.arange(1, along.size + 1) / along.size, along, label=text, **how)
            mean = of(results["share"]).mean("seed")
            share.plot(np.arange(1, mean.size + 1), mean, marker="o", markersize=2, **how)
        _curvature(bars, results, shown)
        way.set(xlabel="share of the steps", ylabel="participation ratio", ylim=(0, None))
        share.set(xlabel="principal component", ylabel="share of the variance", yscale="log")
        share.set_ylim(1e-3, 1)
        share.set_xticks([1, 4, 8, 12])
        way.legend(fontsize=6, loc="lower left")
    return figure


def _curvature(ax, results, shown):
    start = results.trace.sel(arm="start")
    for place, (colour, _, of) in enumerate(shown.values()):
        middle, error = _summary((of(results.trace) / start).dropna("seed"))
        ax.bar(place, middle, yerr=2 * error, color=COLOURS[colour], width=0.7)
    ax.axhline(1, color=COLOURS["grey"], linewidth=0.7)
    names = ("noise", "κ Tr H", "PR", "eff. rank", "TwoNN")
    ax.set_xticks(range(len(shown)), names[: len(shown)], rotation=30)
    ax.set_ylabel("Tr H, over before")


def _summary(values):
    return float(values.mean()), float(values.std(ddof=1)) / max(1, values.size) ** 0.5
