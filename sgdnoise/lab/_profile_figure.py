"""The picture of a scale profile, which the command `sgdnoise dimension` draws."""

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from sgdnoise.core._files import atomic_write
from sgdnoise.dimension._scale import Profile
from sgdnoise.lab._plot import COLOURS, STYLE, plot_scale_profile
from sgdnoise.lab._survey import FIRST, Row
from sgdnoise.lab._survey_report import CREATOR


def draw_profile(profile: Profile, by: str, rows: list[Row], name: str, path: Path) -> Path:
    """Draw the dimension against scale, with the recommended value and its interval."""
    first = next((row for row in rows if row.name == FIRST), None)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 3.2))
        ax = figure.add_subplot()
        plot_scale_profile(ax, profile, label="points thinned, ± 2 standard errors")
        _mark(ax, first, name)
        _ticks(ax, np.asarray(ax.get_xlim()))
        ax.set_ylim(top=1.08 * ax.get_ylim()[1])
        ax.set(xlabel="distance between neighbours, of points thinned more and more")
        ax.set(ylabel=f"dimension by {by}")
        ax.legend(loc="best", fontsize=7)
        metadata = {"Software" if path.suffix == ".png" else "Creator": CREATOR}
        with atomic_write(path) as new:
            figure.savefig(new, format=path.suffix[1:], dpi=200, metadata=metadata)
    return path


def _mark(ax, first, name):
    """The recommended value as a line with its interval, and a title that says it."""
    if first is not None and first.doubt:
        _mark_doubt(ax, first, name)
        return
    if first is None or not math.isfinite(first.value):
        ax.set_title(f"{name}: dimension against scale", color=COLOURS["black"])
        return
    low, high = first.interval
    ax.axhline(
        first.value, color=COLOURS["black"], linewidth=0.8, zorder=1, label="estimate of all points"
    )
    text = f"{name}: dimension {first.value:.2f}"
    if math.isfinite(low):
        ax.axhspan(low, high, color=COLOURS["black"], alpha=0.12, linewidth=0, zorder=0)
        text += f", 95% interval {low:.2f} to {high:.2f}"
    ax.set_title(text, color=COLOURS["black"])


def _mark_doubt(ax, first, name):
    """A title that says why there is no number, and the scales that disagree."""
    ax.set_title(f"{name}: {first.doubt.partition(':')[0]}", color=COLOURS["vermilion"])
    if first.scales:
        label = "scales that estimate compares"
        style = {"marker": "D", "markersize": 3, "fillstyle": "none", "linestyle": "none"}
        ax.plot(*zip(*first.scales, strict=True), color=COLOURS["vermilion"], label=label, **style)


def _ticks(ax, scale):
    """Plain numbers on the axis of scales: 1, 2 and 5 of each decade, or evenly spaced ones."""
    wide = scale.max() > 10 * scale.min()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(4))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.yaxis.set_major_locator(MaxNLocator(6))
