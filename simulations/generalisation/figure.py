"""Test error against the dimension of the last hidden layer, and their correlations by factor."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sgdnoise.lab import COLOURS, STYLE
from simulations.generalisation._ranks import kendall
from simulations.generalisation._settings import ESTIMATORS, FACTORS, agreement, flat

CAPTION = (
    "Test error against the dimension of the last hidden layer on test images, {moment}; each "
    "point is a setting, its mean over seeds. Colours: fraction of shuffled labels; markers: "
    "networks. Columns: estimators; last column: agreement of pairs that differ in one factor "
    "alone, on these images (dots, 95% intervals from resampled places), and of all pairs."
)
MARKERS = ("o", "^")
LABEL_COLOURS = ("blue", "sky", "orange", "vermilion")
ESTIMATOR_COLOURS = ("black", "green", "purple")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """One figure for each moment at which networks are compared."""
    names = {"equal loss": "at equal loss in training", "equal steps": "after equally many steps"}
    return {
        moment.split()[1]: (CAPTION.format(moment=text), draw(results, moment))
        for moment, text in names.items()
    }


@mpl.rc_context(STYLE)
def draw(results, moment) -> Figure:
    """One row for each kind of images."""
    tasks = results.task.values.tolist()
    kinds = list(dict.fromkeys(task.split()[1] for task in tasks))
    figure = Figure(figsize=(8.4, 1.1 + 2.2 * len(kinds)))
    rows = figure.subplots(len(kinds), len(ESTIMATORS) + 1, squeeze=False)
    for axes, kind in zip(rows, kinds, strict=True):
        group = [task for task in tasks if task.split()[1] == kind]
        for ax, name in zip(axes, ESTIMATORS, strict=False):
            _settings(ax, results, group, name, moment)
            ax.sharey(axes[0])
        axes[0].set_ylabel(f"{kind}\ntest error")
        _by_factor(axes[-1], results, group, moment)
    for ax, label in zip(rows[-1], ESTIMATORS.values(), strict=False):
        ax.set_xlabel(f"{label} of the last hidden layer")
    rows[-1, -1].set_xlabel("agreement of pairs")
    nets = list(dict.fromkeys(task.split()[0] for task in tasks))
    figure.legend(handles=_handles(results, nets), loc="outside upper center", ncols=5, fontsize=7)
    return figure


def _settings(ax, results, tasks, name, moment):
    for task, marker in zip(tasks, MARKERS, strict=False):
        of = flat(results, [task], estimator=name, moment=moment)
        for fraction, color in zip(np.unique(of.shuffled), LABEL_COLOURS, strict=False):
            rows = of.shuffled == fraction
            style: dict = {"s": 9, "linewidths": 0.4, "alpha": 0.7}
            style |= {"color": COLOURS[color], "marker": marker}
            ax.scatter(of.dimension[rows], of.error[rows], **style)
    ax.set(xscale="log", ylim=(0, 1))
    ax.xaxis.set_major_locator(mpl.ticker.FixedLocator((2, 3, 5, 7, 10, 15, 20, 30, 50)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def _by_factor(ax, results, tasks, moment):
    factors = [*FACTORS, *(["network"] if len(tasks) > 1 else []), "all pairs"]
    for i, (name, color) in enumerate(zip(ESTIMATORS, ESTIMATOR_COLOURS, strict=True)):
        estimates = [_agreement(results, tasks, factor, moment, name) for factor in factors]
        y = np.arange(len(factors)) + 0.22 * (i - 1)
        value = np.asarray([e.value for e in estimates])
        reach = value - np.asarray([e.interval()[0] for e in estimates])
        style = {"color": COLOURS[color], "fmt": "o", "markersize": 2.5, "linewidth": 0.9}
        ax.errorbar(value, y, xerr=reach, **style)
    ax.axvline(0, color=COLOURS["grey"], linewidth=0.7)
    ax.set_yticks(range(len(factors)), factors, fontsize=7)
    ax.set(xlim=(-1.15, 1.15))
    ax.invert_yaxis()


def _agreement(results, tasks, factor, moment, name):
    if factor != "all pairs":
        return agreement(results, tasks, factor, moment=moment, estimator=name)
    of = flat(results, tasks, estimator=name, moment=moment)
    return kendall(of.dimension, of.error, of.place)


def _handles(results, nets):
    def handle(color, marker, label, line="none"):
        style = {"linestyle": line, "markersize": 4, "marker": marker, "label": label}
        return Line2D([], [], color=COLOURS[color], **style)

    fractions = np.unique(results.shuffled.values)
    labels = zip(fractions, LABEL_COLOURS, strict=False)
    estimators = zip(ESTIMATORS.values(), ESTIMATOR_COLOURS, strict=True)
    return [
        *(handle(color, "o", f"shuffled {fraction:g}") for fraction, color in labels),
        *(handle("grey", marker, net) for net, marker in zip(nets, MARKERS, strict=False)),
        *(handle(color, "o", label, "-") for label, color in estimators),
    ]
