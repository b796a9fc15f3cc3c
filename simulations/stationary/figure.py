"""Measured over predicted stationary variance, for every case and for formulas often used."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Stationary variance of theta over the predicted one, means over chains with three standard "
    "errors: 1 where theory is right. Squares: the same over a formula that is often used instead."
)


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """One row for each case: an enlarged view around 1 on the left, the full range on the right."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.2))
        near, far = figure.subplots(1, 2, sharey=True)
        names = results.case.values.tolist()
        for place, name in enumerate(names):
            at = results.sel(case=name)
            for ax in (near, far):
                _point(ax, at.square, place, "blue", "o", "theory" if not place else None)
            _point(far, at.often, place, "orange", "s", "often used" if not place else None)
        for ax in (near, far):
            ax.axvline(1, color=COLOURS["grey"], linewidth=0.6)
            ax.set(xlabel="measured over predicted variance")
        near.set_yticks(np.arange(len(names)), names)
        near.invert_yaxis()
        widest = float((3 * results.square.std("batch") / results.sizes["batch"] ** 0.5).max())
        near.set_xlim(1 - 2.5 * widest, 1 + 2.5 * widest)
        far.set_xscale("log")
        ticks = [t for t in (0.01, 0.1, 0.5, 1, 2, 5, 10, 100) if _inside(far, t)]
        far.set_xticks(ticks, [f"{t:g}" for t in ticks])
        far.minorticks_off()
        far.legend(fontsize=7)
    return figure


def _inside(ax, tick):
    low, high = ax.get_xlim()
    return low <= tick <= high


def _point(ax, values, place, color, marker, label):
    error = 3 * float(values.std("batch", ddof=1)) / values.sizes["batch"] ** 0.5
    ax.errorbar(
        float(values.mean()),
        place,
        xerr=error,
        fmt=marker,
        markersize=4,
        color=COLOURS[color],
        label=label,
    )
