"""Spectra of gradient noise and curvature, and how alike they are, through training."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Rows: a network each. Left: eigenvalues of the covariance C of the gradients (lines) and of "
    "the Fisher information F (dots), before and after training, medians over seeds. Middle: "
    "cosine between F and the second moment of gradients under the labels of the data, labels "
    "drawn from the network, and random ones; bars two standard errors. Right: cosine of C and the "
    "Hessian, overlap of their ten leading eigenvectors, and the directions of C over ten."
)
LABELS = {"data": ("blue", "o"), "drawn": ("green", "s"), "random": ("vermilion", "^")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"noise_shape": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """One row a network: spectra, labels, Hessian."""
    nets = results.net.values.tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 0.5 + 2.1 * len(nets)))
        rows = figure.subplots(len(nets), 3, squeeze=False)
        for (spectra, labels, hessian), net in zip(rows, nets, strict=True):
            part = results.sel(net=net)
            _spectra(spectra, part)
            _labels(labels, part)
            _hessian(hessian, part)
            spectra.set_title(net, loc="left", fontsize=8)
    return figure


def _spectra(ax, part):
    ends = part.moment.values[[0, -1]]
    for moment, color in zip(ends, ("grey", "purple"), strict=True):
        at = part.sel(moment=moment).median("seed")
        ranks = np.arange(1, at.sizes["mode"] + 1)
        look = {"color": COLOURS[color], "linewidth": 0.9, "markersize": 2}
        ax.plot(
            ranks,
            at.noise_eigenvalues.where(at.noise_eigenvalues > 0),
            label=f"C, step {moment}",
            **look,
        )
        ax.plot(
            ranks,
            at.fisher_eigenvalues.where(at.fisher_eigenvalues > 0),
            ".",
            label=f"F, step {moment}",
            **look,
        )
    ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="eigenvalue")
    ax.legend(fontsize=6)


def _labels(ax, part):
    for kind, (color, marker) in LABELS.items():
        _curve(ax, part.cosine.sel(kind=kind), COLOURS[color], marker, f"{kind} labels")
    _steps(ax, part)
    ax.set(ylabel="cosine with F", ylim=(0, 1.05))
    ax.legend(fontsize=6)


def _hessian(ax, part):
    _curve(ax, part.hessian_cosine, COLOURS["orange"], "D", "cosine(C, H)")
    _curve(ax, part.overlap, COLOURS["sky"], "v", "overlap of ten")
    _curve(ax, part.noise_participation / 10, "black", "x", "directions of C / 10")
    _steps(ax, part)
    ax.set(ylabel="C against H", ylim=(0, None))
    ax.legend(fontsize=6)


def _curve(ax, values, color, marker, label):
    error = 2 * values.std("seed", ddof=1) / values.sizes["seed"] ** 0.5
    look = {"color": color, "marker": marker, "markersize": 3, "linewidth": 0.9}
    ax.errorbar(np.arange(values.sizes["moment"]), values.mean("seed"), error, label=label, **look)


def _steps(ax, part):
    names = [str(moment) for moment in part.moment.values]
    ax.set_xticks(np.arange(len(names)), names)
    ax.set_xlabel("steps of training")
