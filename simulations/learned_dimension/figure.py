"""Dimension, accuracy and robustness against the coefficient, and spectra at one dimension."""

from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE
from simulations.learned_dimension.claims import LABELS, arms, at_noise, strength

CAPTION = (
    "Networks trained on L + c m, for a measure m of their hidden layer. Columns: participation "
    "ratio after training, and accuracy on test images as they are, with pixel noise of several "
    "sizes, and after adversarial steps of several sizes (means over the sizes), against c, on a "
    "scale that is logarithmic beyond the smallest. Grey square: the network before; dashed line "
    "and its band: label noise. Bars and bands are two standard errors over seeds."
)
SPECTRA = (
    "Left: participation ratio during training, over the fraction of the steps. Middle: fraction "
    "of the variance of the hidden layer by principal component, for label noise, for descent on "
    "its effective loss L + κ Tr H, and for the penalties where c brings each seed to the "
    "participation ratio (for TwoNN, to the TwoNN) of its own label noise, between two c that were "
    "tried. Right: Tr H after each, over that of the network before."
)
COLOUR = {"participation_ratio": "blue", "effective_rank": "green", "twonn": "purple"}
PANELS = {
    "PR": ("participation_ratio", None),
    "test accuracy": ("accuracy", None),
    "with pixel noise": ("noisy", "noise"),
    "adversarial step": ("adversarial", "push"),
}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """What a penalty does, and spectra at one dimension."""
    return {"figure": (CAPTION, draw(results)), "spectra": (SPECTRA, draw_spectra(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """A row for each measure, a column for each result."""
    figure = Figure(figsize=(7.4, 5.2))
    axes = figure.subplots(3, 4, sharey="col", sharex="row")
    for row, name in zip(axes, LABELS, strict=True):
        for ax, (title, (key, axis)) in zip(row, PANELS.items(), strict=True):
            values = results[key] if axis is None else results[key].mean(axis)
            _against(ax, results, name, values.dropna("seed", how="all"))
            if name == next(iter(LABELS)):
                ax.set_title(title)
        row[0].set_ylabel(f"m: {LABELS[name]}")
        row[0].set_yscale("log")
        row[0].set_yticks([2, 4, 8, 16], ["2", "4", "8", "16"])
        row[0].set_yticks([], minor=True)
    for ax in axes[2]:
        ax.set_xlabel("c")
    return figure


def _against(ax, results, name, values):
    red, style = COLOURS["vermilion"], {"markersize": 3, "linewidth": 0.9}
    mean, error = _summary(values.sel(arm="label noise"))
    ax.axhspan(mean - 2 * error, mean + 2 * error, color=red, alpha=0.15, lw=0)
    ax.axhline(mean, color=red, linestyle="--", linewidth=0.9)
    penalties = arms(results, name, -np.inf)
    c = [strength(arm) for arm in penalties]
    means, errors = zip(*(_summary(values.sel(arm=arm)) for arm in penalties), strict=True)
    bars = [2 * error for error in errors]
    ax.errorbar(c, means, bars, color=COLOURS[COLOUR[name]], marker="o", **style)
    mean, error = _summary(values.sel(arm="start"))
    ax.errorbar(0, mean, 2 * error, color=COLOURS["grey"], marker="s", markersize=3)
    ax.set_xscale("symlog", linthresh=min(map(abs, c)))
    ends = sorted({c[0], 0.0, c[-1]})
    ax.set_xticks(ends, [f"{end:g}" for end in ends])
    ax.set_xticks([], minor=True)


@mpl.rc_context(STYLE)
def draw_spectra(results) -> Figure:
    """The participation ratio during training, the spectra at the end, and Tr H."""
    figure = Figure(figsize=(7.4, 2.7))
    path_ax, share_ax, trace_ax = figure.subplots(1, 3)
    lines: dict[str, tuple] = {
        "label noise": ("noise", "vermilion", "-", lambda v: v.sel(arm="label noise")),
        "L + κ Tr H": ("κ Tr H", "black", ":", lambda v: v.sel(arm="trace")),
    }
    for name, label in LABELS.items():
        select = partial(at_noise, results, name)
        short = label.replace("effective", "eff.")
        lines[f"L + c {label}"] = (short, COLOUR[name], "-", select)
    start = results.trace.sel(arm="start")
    for x, (label, (_, color, line, select)) in enumerate(lines.items()):
        style = {"color": COLOURS[color], "linestyle": line, "linewidth": 1.0}
        path, variance = (select(results[key]).mean("seed") for key in ("path", "share"))
        path_ax.plot(np.arange(1, path.size + 1) / path.size, path, label=label, **style)
        share_ax.plot(np.arange(1, variance.size + 1), variance, marker="o", markersize=2, **style)
        mean, error = _summary((select(results.trace) / start).dropna("seed"))
        trace_ax.bar(x, mean, yerr=2 * error, color=COLOURS[color], width=0.7)
    path_ax.set(xlabel="fraction of the steps", ylabel="participation ratio", ylim=(0, None))
    path_ax.legend(fontsize=6, loc="lower left")
    share_ax.set(xlabel="principal component", ylabel="fraction of the variance", yscale="log")
    share_ax.set_ylim(1e-3, 1)
    share_ax.set_xticks([1, 4, 8, 12])
    trace_ax.axhline(1, color=COLOURS["grey"], linewidth=0.7)
    trace_ax.set_xticks(range(len(lines)), [line[0] for line in lines.values()], rotation=30)
    trace_ax.set_ylabel("Tr H, over before")
    return figure


def _summary(values):
    return float(values.mean()), float(values.std(ddof=1)) / max(1, values.size) ** 0.5
