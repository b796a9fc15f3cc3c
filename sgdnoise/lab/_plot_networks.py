"""Pictures of networks and of ensembles: dimension through depth, and processes in time."""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._estimate import mean
from sgdnoise.lab._plot import COLOURS, band

MARKERS = "osD^v"
LABELS = {
    "participation_ratio": "participation ratio",
    "twonn": "TwoNN",
    "surrogate_twonn": "TwoNN, Gaussian surrogate",
}


@checked
def plot_depth(ax, dimensions, names=None) -> None:
    """Draw dimension against depth, from the result of `nets.representation_dimensions`.

    dimensions: a Dataset along `layer`, or several of them by label, which differ by colour; the
    estimators then differ by marker.  Layers of the same name share a place.
    names: the variables to draw, or one of them, by default those of the estimators.  Errors are
    bars of two standard errors.  The surrogate is dashed.
    Raises ValueError for no Dataset, one that is not along `layer` alone, and unknown names.

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
    names = [names] if isinstance(names, str) else names
    layers = _layers(several, names)
    for k, (label, data) in enumerate(several.items()):
        places = [layers.index(name) for name in data.layer.values.tolist()]
        for j, name in enumerate(names or _estimators(data)):
            text = LABELS.get(name, name)
            error = data.get(f"{name}_stderr", 0 * data[name]).fillna(0)
            ax.errorbar(
                places,
                data[name],
                2 * error,
                color=_colour(k if len(several) > 1 else j),
                label=f"{label}, {text}" if label else text,
                marker=MARKERS[j % len(MARKERS)],
                linestyle="--" if name.startswith("surrogate") else "-",
                markersize=3,
                capsize=2,
            )
    ax.set_xticks(np.arange(len(layers)), layers, rotation=45, ha="right")
    ax.set(xlabel="layer", ylabel="dimension", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)


def _layers(several, names) -> list[str]:
    """The names of all layers, in order; raises ValueError for what cannot be drawn."""
    if not several:
        raise ValueError("there is nothing to draw: give a Dataset, or several by label")
    for data in several.values():
        if tuple(getattr(data, "sizes", ())) != ("layer",):
            raise ValueError(
                "dimensions must be a Dataset along layer alone; of a watch, choose a step with "
                "results.isel(step=-1)"
            )
        if unknown := [name for name in names or () if name not in data]:
            there = ", ".join(_estimators(data))
            raise ValueError(f"there is no {unknown[0]!r} in the dimensions; there are {there}")
    found = [data.layer.values.tolist() for data in several.values()]
    layers = max(found, key=len)
    return [*layers, *dict.fromkeys(n for names in found for n in names if n not in layers)]


@checked
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
    for k, (label, given) in enumerate(ensembles.items()):
        values, colour = np.asarray(given), _colour(k)
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


def _colour(k: int) -> str:
    colours = [colour for name, colour in COLOURS.items() if name != "grey"]
    return colours[k % len(colours)]
