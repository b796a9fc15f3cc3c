"""Power off the readout, jitter of the readout and hidden dimension in the protocol."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of

CAPTION = (
    "One hidden linear layer of 200 units on 60 clusters in 200 dimensions. Left: the fraction of "
    "the power of the hidden layer off the readout that is lost in the second half of the "
    "training, against the rate; filled: batches of one, open: full batches; lines: theory, solid "
    "in its regime. Middle: variance of a readout weight in a stretch of 800 steps. Right: "
    "participation ratio of the hidden layer with label noise, against time; lines: theory from "
    "the first record on."
)
MIN_FRACTION = 1e-6  # that single precision resolves
MAX_AMPLIFICATION = 0.12  # of the regime
NOISE_COLOURS = {0.0: "blue", 0.5: "vermilion"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Lost power, jitter and dimension."""
    figure = Figure(figsize=(7.4, 2.8))
    lost, jitter, ratio = figure.subplots(1, 3)
    for label_noise, data in settings_of(results.sel(readout="trained"), "label_noise"):
        color = COLOURS[NOISE_COLOURS[label_noise]]
        for batch, cell in settings_of(data, "batch"):
            _lost(lost, cell, color, label_noise if batch == 1 else None)
        _jitter(jitter, data.sel(batch=1), color, label_noise)
    lost.set(xlabel="rate", ylabel="fraction lost off the readout", xscale="log", yscale="log")
    jitter.set(xlabel="rate", ylabel="jitter of the readout", xscale="log", yscale="log")
    lost.legend(title="label noise", fontsize=7, title_fontsize=7)
    _ratio(ratio, results.sel(batch=1, readout="trained"))
    ratio.set(xlabel="steps", ylabel="participation ratio")
    ratio.legend(title="rate", fontsize=7, title_fontsize=7)
    return figure


def _lost(ax, data, color, label):
    single, half = int(data.batch) == 1, data.sizes["watch"] // 2 - 1
    fraction, predicted = (
        (1 - data[of].isel(watch=-1) / data[of].isel(watch=half)).mean("net")
        for of in ("orthogonal", "orthogonal_said")
    )
    name, face = None if label is None else f"{label:g}", color if single else "none"
    visible, marker = fraction.where(fraction > MIN_FRACTION), "o" if single else "s"
    ax.plot(data.rate, visible, marker, color=color, mfc=face, ms=4, label=name)
    if single:
        _line(ax, data, predicted, color)


def _line(ax, data, predicted, color):
    """Solid in the regime, dotted up to where theory has networks diverge."""
    u = data.amplification.mean("net")
    ax.plot(data.rate.where(u <= MAX_AMPLIFICATION), predicted, color=color)
    ax.plot(data.rate.where(u < 1), predicted, ":", color=color)


def _jitter(ax, data, color, label):
    late = data.jitter.isel(watch=slice(data.sizes["watch"] // 2, None)).mean(("watch", "net"))
    ax.plot(data.rate, late, "o", color=color, ms=4, label=f"{label:g}")
    _line(ax, data, data.jitter_said.mean("net"), color)


def _ratio(ax, data):
    data = data.sel(label_noise=float(data.label_noise.max()))
    colors = ("black", "green", "orange", "sky")
    for (rate, cell), name in zip(settings_of(data, "rate"), colors, strict=False):
        at, color = cell.mean("net", skipna=False), COLOURS[name]
        if np.isfinite(at.ratio).all():
            ax.plot(at.step, at.ratio, "o", ms=3, color=color, label=f"{rate:g}")
            ax.plot(at.step, at.ratio_said + at.ratio[0] - at.ratio_said[0], color=color)
