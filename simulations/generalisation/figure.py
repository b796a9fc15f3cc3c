"""Test error against the dimension of the last hidden layer, and their correlations by factor."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sgdnoise.lab import COLOURS, STYLE
from simulations.generalisation import _columns as columns
from simulations.generalisation._ranks import kendall

CAPTION = (
    "Test error against the dimension of the last hidden layer on held images, {moment}; each "
    "point a setting, its mean over seeds. Colours: share of shuffled labels; markers: networks. "
    "Columns: estimators; last column: agreement of pairs that differ in one factor alone, on "
    "these images (dots, 95% intervals from places drawn anew), and of all pairs."
)
MARKERS = ("o", "^", "s", "D")
SHADES = ("blue", "sky", "orange", "vermilion")
LINES = ("black", "green", "purple")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure: one for each moment at which networks are compared."""
    names = {"equal loss": "at equal loss in training", "equal steps": "after equally many steps"}
    return {
        f"generalisation_{moment.split()[1]}": (
            CAPTION.format(moment=said),
            draw(results, moment),
        )
        for moment, said in names.items()
    }


def draw(results, moment) -> Figure:
    """One row for each kind of images."""
    tasks = results.task.values.tolist()
    kinds = list(dict.fromkeys(task.split()[1] for task in tasks))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 1.1 + 2.2 * len(kinds)))
        rows = figure.subplots(len(kinds), len(columns.SHOWN) + 1, squeeze=False)
        for axes, kind in zip(rows, kinds, strict=True):
            own = [task for task in tasks if task.split()[1] == kind]
            for ax, name in zip(axes, columns.SHOWN, strict=False):
                _cloud(ax, results, own, name, moment)
                ax.sharey(axes[0])
            axes[0].set_ylabel(f"{kind}\ntest error")
            _by_factor(axes[-1], results, own, moment)
        for ax, short in zip(rows[-1], columns.SHOWN.values(), strict=False):
            ax.set_xlabel(f"{short} of the last hidden layer")
        rows[-1, -1].set_xlabel("agreement of pairs")
        nets = list(dict.fromkeys(task.split()[0] for task in tasks))
        figure.legend(handles=_keys(results, nets), loc="outside upper center", ncols=5, fontsize=7)
    return figure


def _cloud(ax, results, own, name, moment):
    for task, marker in zip(own, MARKERS, strict=False):
        of = columns.flat(results, [task], estimator=name, moment=moment)
        for share, shade in zip(np.unique(of.shuffled), SHADES, strict=False):
            some = of.shuffled == share
            look = {"color": COLOURS[shade], "marker": marker, "s": 9, "linewidths": 0.4}
            ax.scatter(of.dimension[some], of.error[some], alpha=0.7, **look)
    ax.set(xscale="log", ylim=(0, 1))
    ax.xaxis.set_major_locator(mpl.ticker.FixedLocator((2, 3, 5, 7, 10, 15, 20, 30, 50)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def _by_factor(ax, results, own, moment):
    factors = [*columns.FACTORS, *(["network"] if len(own) > 1 else []), "all pairs"]
    for i, (name, colour) in enumerate(zip(columns.SHOWN, LINES, strict=True)):
        found = [_agreed(results, own, factor, moment, name) for factor in factors]
        places = np.arange(len(factors)) + 0.22 * (i - 1)
        value = np.asarray([e.value for e in found])
        reach = value - np.asarray([e.interval()[0] for e in found])
        look = {"color": COLOURS[colour], "fmt": "o", "markersize": 2.5, "linewidth": 0.9}
        ax.errorbar(value, places, xerr=reach, **look)
    ax.axvline(0, color=COLOURS["grey"], linewidth=0.7)
    ax.set_yticks(range(len(factors)), factors, fontsize=7)
    ax.set(xlim=(-1.15, 1.15))
    ax.invert_yaxis()


def _agreed(results, own, factor, moment, name):
    if factor != "all pairs":
        return columns.agreement(results, own, factor, moment=moment, estimator=name)
    of = columns.flat(results, own, estimator=name, moment=moment)
    return kendall(of.dimension, of.error, of.place)


def _keys(results, nets):
    shares = np.unique(results.shuffled.values)
    bare: dict[str, Any] = {"linestyle": "none", "markersize": 4}
    keys = [
        Line2D([], [], color=COLOURS[shade], marker="o", label=f"shuffled {share:g}", **bare)
        for share, shade in zip(shares, SHADES, strict=False)
    ]
    keys += [
        Line2D([], [], color=COLOURS["grey"], marker=marker, label=net, **bare)
        for net, marker in zip(nets, MARKERS, strict=False)
    ]
    return keys + [
        Line2D([], [], color=COLOURS[colour], marker="o", label=short, **bare | {"linestyle": "-"})
        for short, colour in zip(columns.SHOWN.values(), LINES, strict=True)
    ]
