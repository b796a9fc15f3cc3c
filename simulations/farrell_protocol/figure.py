"""Power off the readout, its jitter and the hidden dimension in the group's protocol."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "One hidden linear layer of 200 units on 60 clusters in 200 dimensions. Left: how much power "
    "of the hidden layer off the readout is lost in the second half of the training, against the "
    "rate; filled: batches of one, open: full batches; lines: theory, solid in its regime. Middle: "
    "variance of a readout weight in a stretch of 800 steps. Right: participation ratio of the "
    "hidden layer with label noise, against time; lines: theory from the first watch on."
)
LEAST = 1e-6  # share that single precision can tell
GENTLE = 0.12  # amplification to which theory is claimed
NOISES = {0.0: "blue", 0.5: "vermilion"}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"protocol": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Lost power, jitter and dimension."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.8))
        lost, jitter, ratio = figure.subplots(1, 3)
        for label_noise in results.label_noise.values.tolist():
            part = results.sel(label_noise=label_noise, readout="trained")
            color = COLOURS[NOISES[label_noise]]
            for batch in part.batch.values.tolist():
                _lost(lost, part.sel(batch=batch), color, label_noise if batch == 1 else None)
            _jitter(jitter, part.sel(batch=1), color, label_noise)
        lost.set(xlabel="rate", ylabel="share lost off the readout", xscale="log", yscale="log")
        jitter.set(xlabel="rate", ylabel="jitter of the readout", xscale="log", yscale="log")
        lost.legend(title="label noise", fontsize=7, title_fontsize=7)
        _ratio(ratio, results.sel(batch=1, readout="trained"))
        ratio.set(xlabel="steps", ylabel="participation ratio")
        ratio.legend(title="rate", fontsize=7, title_fontsize=7)
    return figure


def _lost(ax, part, color, label):
    one, half = int(part.batch) == 1, part.sizes["watch"] // 2 - 1
    share, said = (
        (1 - part[of].isel(watch=-1) / part[of].isel(watch=half)).mean("net")
        for of in ("orthogonal", "orthogonal_said")
    )
    name = None if label is None else f"{label:g}"
    face = color if one else "none"
    shown = share.where(share > LEAST)
    ax.plot(part.rate, shown, "o" if one else "s", color=color, mfc=face, ms=4, label=name)
    if one:
        _line(ax, part, said, color)


def _line(ax, part, said, color):
    """Solid where theory claims to hold, dotted up to where it has networks diverge."""
    u = part.amplification.mean("net")
    ax.plot(part.rate.where(u <= GENTLE), said, color=color)
    ax.plot(part.rate.where(u < 1), said, ":", color=color)


def _jitter(ax, part, color, label):
    late = part.jitter.isel(watch=slice(part.sizes["watch"] // 2, None)).mean(("watch", "net"))
    ax.plot(part.rate, late, "o", color=color, ms=4, label=f"{label:g}")
    _line(ax, part, part.jitter_said.mean("net"), color)


def _ratio(ax, part):
    part = part.sel(label_noise=float(part.label_noise.max()))
    colours = ("black", "green", "orange", "sky")
    for rate, name in zip(part.rate.values.tolist(), colours, strict=False):
        at = part.sel(rate=rate).mean("net", skipna=False)
        if np.isfinite(at.ratio).all():
            ax.plot(at.step, at.ratio, "o", ms=3, color=COLOURS[name], label=f"{rate:g}")
            ax.plot(at.step, at.ratio_said + at.ratio[0] - at.ratio_said[0], color=COLOURS[name])
