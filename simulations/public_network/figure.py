"""Changes of the dimension of every block and of Tr H, predicted and measured."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.public_network.claims import changes, paths_of, slopes

CAPTION = (
    "A public ResNet-20 that others trained on a GPU, under label noise on its own outputs for 32 "
    "photographs of CIFAR-10. Top: change of the participation ratio (PR) of the pooled output of "
    "every block, and of the outputs, at the end. Bottom: change of Tr H against the number of "
    "steps. Points: SGD, with two standard errors over seeds of noise. Lines: theory, without a "
    "fitted number. Dotted: the initial slope by autograd, which does not see the corners of "
    "relus. Label noise in batches of 4 is 1.5 for relu and 3 for smooth. Smooth: every relu "
    "replaced by its mean over Gaussian jitter of its input."
)
DEEPER = (
    "Public ResNet-32, 44 and 56 with smoothed relus under label noise on their own outputs. Top: "
    "change of the participation ratio (PR) of the pooled output of every block, and of the "
    "outputs, at the end. Bottom: change of Tr H. Points: SGD, with two standard errors over "
    "seeds. Lines: theory, without a fitted number. Dotted: the initial slope by autograd."
)


def figures(results) -> dict[str, tuple[str, Figure]]:
    """ResNet-20 under all noises, and deeper networks if they were run."""
    cases = settings_of(results, "case")
    names = [name for name, data in cases if paths_of(data, "sgd").sizes["path"]]
    deeper = [name for name in names if "layers" in name]
    main = [name for name in names if name not in deeper]
    drawn = {"figure": (CAPTION, draw(results, main or deeper))}
    return drawn | ({"deeper": (DEEPER, draw(results, deeper))} if deeper and main else {})


@mpl.rc_context(STYLE)
def draw(results, names) -> Figure:
    """A column for each of some cases."""
    cases = [(name, results.sel(case=name)) for name in names]
    figure = Figure(figsize=(2.0 * max(2, len(cases)), 3.9), layout="constrained")
    axes = figure.subplots(2, len(cases), squeeze=False)
    for column, (name, data) in enumerate(cases):
        _profile(axes[0, column], data)
        _course(axes[1, column], data)
        axes[0, column].set_title(name, fontsize=7)
        axes[0, column].set_xlabel("block")
        axes[1, column].set_xlabel("thousand steps")
    axes[0, 0].set_ylabel("change of PR in %")
    axes[1, 0].set_ylabel("change of Tr H in %")
    axes[1, 0].legend(fontsize=6)
    return figure


def _profile(ax, data):
    theory, measured = (100 * changes(paths_of(data, w))[:, :-1, -1] for w in ("theory", "sgd"))
    places = np.arange(1, theory.shape[1] + 1)
    ax.axhline(0, color="0.8", linewidth=0.6)
    line = 100 * slopes(data)[:-1] * float(data.step.isel(path=0, watch=-1))
    ax.plot(places, theory.mean(0), color=COLOURS["blue"])
    ax.plot(places, line, ":", color=COLOURS["vermilion"])
    ax.errorbar(places, measured.mean(0), _errors(measured), fmt="o", markersize=2.5, color="black")
    last = len(places)
    ax.set_xticks([1, (last - 1) // 2, last], ["1", str((last - 1) // 2), "out"])


def _course(ax, data):
    steps = data.step.isel(path=0).values / 1000
    theory, measured = (100 * changes(paths_of(data, w))[:, -1] for w in ("theory", "sgd"))
    line = 100 * slopes(data)[-1] * 1000 * steps
    ax.axhline(0, color="0.8", linewidth=0.6)
    ax.plot(steps, theory.mean(0), color=COLOURS["blue"], label="theory")
    ax.plot(steps, line, ":", color=COLOURS["vermilion"], label="autograd")
    errors = _errors(measured)
    ax.errorbar(
        steps, measured.mean(0), errors, fmt="o", markersize=2.5, color="black", label="SGD"
    )


def _errors(measured):
    """Two standard errors over seeds; None for one seed."""
    if len(measured) < 2:
        return None
    return 2 * measured.std(0, ddof=1) / len(measured) ** 0.5
