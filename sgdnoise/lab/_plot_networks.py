"""Pictures of networks and of ensembles: dimension through depth, and processes in time."""

import numpy as np

from sgdnoise.core._estimate import mean
from sgdnoise.lab._plot import COLOURS, band

LABELS = {
    "participation_ratio": "participation ratio",
    "twonn": "TwoNN",
    "surrogate_twonn": "TwoNN, Gaussian surrogate",
}


def plot_depth(ax, dimensions, names=None) -> None:
    """Draw dimension against depth, from the result of `nets.representation_dimensions`.

    dimensions: a Dataset along `layer`; several of them, by label, are told apart by colour.
    names: the variables to draw, by default those of the estimators.  Errors are bars of two
    standard errors.  The surrogate is dashed.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from sgdnoise.nets import models, representation_dimensions
        >>> net = models.mlp([5, 20, 3], seed=0)
        >>> ax = Figure().subplots()
        >>> plot_depth(ax, representation_dimensions(net, torch.randn(100, 5)))
        >>> ax.get_xlabel()
        'layer'
    """
    several = dimensions if isinstance(dimensions, dict) else {"": dimensions}
    colours = [colour for name, colour in COLOURS.items() if name != "grey"]
    drawn = 0
    for label, data in several.items():
        for name in names or _estimators(data):
            alone = len(several) == 1
            colour = colours[(drawn if alone else [*several].index(label)) % len(colours)]
            text = LABELS.get(name, name) if alone else f"{label}, {LABELS.get(name, name)}"
            error = data.get(f"{name}_stderr", 0 * data[name]).fillna(0)
            dashed = name.startswith("surrogate")
            style = {"fmt": "s--" if dashed else "o-", "markersize": 3, "capsize": 2}
            places = np.arange(data.sizes["layer"])
            ax.errorbar(places, data[name], 2 * error, color=colour, label=text, **style)
            drawn += 1
    first = next(iter(several.values())).layer.values
    ax.set_xticks(np.arange(len(first)), first, rotation=45, ha="right")
    ax.set(xlabel="layer", ylabel="dimension", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)


def plot_ensembles(ax, times, ensembles: dict, *, width=2) -> None:
    """Draw the means of ensembles in time, such as SGD and its equations, with bands of errors.

    times (t,).  ensembles: label -> values (chains, t) of one observable, independent by chain; an
    array (t,) is a prediction without chains, and is drawn as a dashed line.
    width: of the bands, in standard errors on either side.
    Raises ValueError for values of another length than times.

    Example:
        >>> from matplotlib.figure import Figure
        >>> rng, times, ax = np.random.default_rng(0), np.arange(4), Figure().subplots()
        >>> plot_ensembles(ax, times, {"SGD": rng.normal(size=(9, 4)), "theory": np.zeros(4)})
        >>> [line.get_label() for line in ax.get_lines()]
        ['SGD', 'theory']
    """
    times = np.asarray(times)
    for (label, given), colour in zip(ensembles.items(), _cycled(len(ensembles)), strict=True):
        values = np.asarray(given)
        if values.ndim not in (1, 2) or values.shape[-1] != len(times):
            raise ValueError(
                f"{label!r} must be (chains, {len(times)}) or ({len(times)},), as long as times, "
                f"not {values.shape}"
            )
        if values.ndim == 1:
            ax.plot(times, values, "--", color=colour, label=label, zorder=3)
        else:
            band(ax, times, mean(values), width=width, color=colour, label=label, marker="")
    ax.set_xlabel("step")
    ax.legend()


def _estimators(data) -> list[str]:
    return [
        name for name in data if not str(name).endswith("_stderr") and str(name) not in ("units",)
    ]


def _cycled(n):
    colours = [colour for name, colour in COLOURS.items() if name != "grey"]
    return [colours[k % len(colours)] for k in range(n)]
