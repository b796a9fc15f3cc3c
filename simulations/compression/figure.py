"""Dimension of the hidden layer under noise of several shapes, and on the effective loss."""

import matplotlib as mpl
from matplotlib.figure import Figure

from sgdnoise.core import nanmean
from sgdnoise.lab import COLOURS, STYLE, band

CAPTION = (
    "Above: participation ratio of the hidden layer, read after a quench; the line is noiseless "
    "descent on L + κ Tr H, which knows nothing of the noisy runs. Below: how far each lies from "
    "that line, paired by seed. Bands are two standard errors over seeds."
)
CAPTION_OTHERS = (
    "Other measures: Tr H and accuracy after the quench, the loss as it is. TwoNN has no "
    "point where two test representations coincide."
)
MARKERS = {
    "label": ("label noise", "vermilion", "o"),
    "gaussian": ("Gaussian, same covariance", "blue", "s"),
    "diagonal": ("its diagonal only", "purple", "v"),
    "isotropic": ("isotropic, same trace", "orange", "^"),
    "none": ("no noise", "grey", "D"),
}
TITLES = {
    "three": "digits 0-2, whitened",
    "ten": "ten digits, not whitened",
    "three_weak": "digits 0-2, whitened, 1/4 of the noise",
    "ten_weak": "ten digits, not whitened, 1/4 of the noise",
}
OTHERS = {
    "trace": "Tr H",
    "loss": "training loss L",
    "accuracy": "test accuracy",
    "twonn": "TwoNN dimension (test set)",
}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure: the main one, weaker noise where it was run, other measures."""
    names = results.setting.values.tolist()
    weak = [name for name in names if name.endswith("_weak")]
    main = [name for name in names if name not in weak]
    columns = {"figure": main, "weak": weak}
    drawn = {
        stem: (CAPTION, draw(results.sel(setting=column)))
        for stem, column in columns.items()
        if column
    }
    return {**drawn, "others": (CAPTION_OTHERS, draw_others(results))}


def draw(results) -> Figure:
    """The main picture: a column for each setting, dimensions above, deviations below."""
    with mpl.rc_context(STYLE):
        names = list(results.setting.values)
        figure = Figure(figsize=(3.6 * len(names), 4.6))
        axes = figure.subplots(2, len(names), sharex="col", height_ratios=[3, 1.4], squeeze=False)
        for letter, (top, below), name in zip("abcdefgh", axes.T, names, strict=False):
            _column(top, below, results.sel(setting=name), f"{letter}  {TITLES[name]}")
        axes[0, 0].set_ylabel("participation ratio of the hidden layer")
        axes[1, 0].set_ylabel("deviation (%)")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _column(top, below, setting, title):
    time = setting.step.values / 1000
    has_theory = was_run(setting, "prediction")
    if has_theory:
        predicted = setting.dimension.sel(mode="prediction").values
        line = nanmean(predicted).value
        top.plot(time, line, color="black", label="predicted: descent on L + κ Tr H", zorder=5)
    for mode, (label, color, marker) in MARKERS.items():
        if not was_run(setting, mode):
            continue
        style = {"color": COLOURS[color], "marker": marker, "label": label, "linewidth": 0.7}
        measured = setting.dimension.sel(mode=mode).values
        band(top, time, nanmean(measured), **style)
        if has_theory:
            band(below, time, nanmean(100 * (measured / predicted - 1)), **style)
    below.axhline(0, color="black")
    if any(was_run(setting, mode) for mode in ("none", "diagonal", "isotropic")):
        below.set_yscale("symlog", linthresh=10, linscale=1.5)
        below.set_yticks([-100, -10, 0, 10, 100], ["−100", "−10", "0", "10", "100"])
        below.minorticks_off()
    else:
        below.set_ylim(-5, 5)
    below.set_xlabel("steps / 1000")
    top.set_title(title)
    top.set_ylim(bottom=0)


def was_run(setting, mode) -> bool:
    """Whether a mode was run in this setting."""
    return mode in setting.mode and bool(setting.lasted.sel(mode=mode).notnull().all())


def draw_others(results) -> Figure:
    """The other measures: a row for each setting."""
    with mpl.rc_context(STYLE):
        names = list(results.setting.values)
        figure = Figure(figsize=(9, 2.3 * len(names) + 0.5))
        axes = figure.subplots(len(names), len(OTHERS), squeeze=False, sharex="row")
        for letter, line, name in zip("abcdefgh", axes, names, strict=False):
            for ax, (variable, ylabel) in zip(line, OTHERS.items(), strict=True):
                _series(ax, results.sel(setting=name), variable)
                ax.set(ylabel=ylabel, xlabel="steps / 1000")
            line[0].set_title(f"{letter}  {TITLES[name]}")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


def _series(ax, setting, variable):
    for mode, (label, color, marker) in {
        "prediction": ("predicted", "black", ""),
        **MARKERS,
    }.items():
        if was_run(setting, mode):
            measured = nanmean(setting[variable].sel(mode=mode).values)
            style = {"color": COLOURS[color], "marker": marker, "label": label, "linewidth": 0.8}
            band(ax, setting.step.values / 1000, measured, **style)
    if variable == "loss":
        ax.set_yscale("log")
