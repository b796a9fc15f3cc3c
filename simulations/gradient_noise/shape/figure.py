"""Spectra of gradient noise and curvature, and their alignment, through training."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "One row for each network. Left: eigenvalues of the covariance C of gradients (lines) and of "
    "the Fisher information F (dots), before and after training, medians over seeds. Middle: "
    "cosine between F and the second moment of gradients under the labels of the data, labels "
    "drawn from the network, and random ones; bars two standard errors. Right: cosine of C and the "
    "Hessian, overlap of their ten leading eigenvectors, and the directions of C over ten."
)
LABELS = {"data": ("blue", "o"), "drawn": ("green", "s"), "random": ("vermilion", "^")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """One row a network: spectra, labels, Hessian."""
    nets = results.net.values.tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 0.5 + 2.1 * len(nets)))
        rows = figure.subplots(len(nets), 3, squeeze=False)
        for (spectra, labels, hessian), net in zip(rows, nets, strict=True):
            of_net = results.sel(net=net)
            _spectra(spectra, of_net)
            _labels(labels, of_net)
            _hessian(hessian, of_net)
            spectra.set_title(net, loc="left", fontsize=8)
    return figure


def _spectra(ax, of_net):
    ends = of_net.moment.values[[0, -1]]
    for moment, color in zip(ends, ("grey", "purple"), strict=True):
        at = of_net.sel(moment=moment).median("seed")
        ranks = np.arange(1, at.sizes["mode"] + 1)
        style = {"color": COLOURS[color], "linewidth": 0.9, "markersize": 2}
        for name, values, line in (
            ("C", at.noise_eigenvalues, "-"),
            ("F", at.fisher_eigenvalues, "."),
        ):
            ax.plot(ranks, values.where(values > 0), line, label=f"{name}, step {moment}", **style)
    ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="eigenvalue")
    ax.legend(fontsize=6)


def _labels(ax, of_net):
    for kind, (color, marker) in LABELS.items():
        _curve(ax, of_net.cosine.sel(kind=kind), COLOURS[color], marker, f"{kind} labels")
    _steps(ax, of_net)
    ax.set(ylabel="cosine with F", ylim=(0, 1.05))
    ax.legend(fontsize=6)


def _hessian(ax, of_net):
    _curve(ax, of_net.hessian_cosine, COLOURS["orange"], "D", "cosine(C, H)")
    _curve(ax, of_net.overlap, COLOURS["sky"], "v", "overlap of ten")
    _curve(ax, of_net.noise_participation / 10, "black", "x", "directions of C / 10")
    _steps(ax, of_net)
    ax.set(ylabel="C against H", ylim=(0, None))
    ax.legend(fontsize=6)


def _curve(ax, values, color, marker, label):
    error = 2 * values.std("seed", ddof=1) / values.sizes["seed"] ** 0.5
    style = {"color": color, "marker": marker, "markersize": 3, "linewidth": 0.9}
    ax.errorbar(np.arange(values.sizes["moment"]), values.mean("seed"), error, label=label, **style)


def _steps(ax, of_net):
    names = [str(moment) for moment in of_net.moment.values]
    ax.set_xticks(np.arange(len(names)), names)
    ax.set_xlabel("steps of training")
