"""Tail indices at rest against Kesten's equation, the law of driven descent, and faked tails."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "Theta at rest; bars are two standard errors. a: Hill's index against the predicted one, "
    "regression on fresh batches; left of the dots it is claimed, and open where inputs are unlike "
    "and nothing is. b: second moment over its exact value, against the predicted index: below "
    "four (dots) its variance is infinite, below two (line) itself. c: scale of theta in a bowl "
    "driven by stable noise; lines are exact, dashes the stochastic equation. d: the index read "
    "from layers of unlike scales, pooled (open) and apart (filled)."
)
CLAIMED = 3.5  # the largest index that Hill's estimate is claimed for
LINES = ("blue", "vermilion", "green", "orange", "purple", "sky")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"tails": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Indices, second moments, scales and mixtures."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 5.4))
        index, square, scale, layers = figure.subplots(2, 2).ravel()
        _index(index, results)
        _square(square, results)
        _scale(scale, results)
        _layers(layers, results)
    return figure


def _index(ax, results):
    values = np.concatenate([np.ravel(results[n]) for n in ("line_kesten", "plane_kesten")])
    line = [0.9 * values.min(), 1.1 * values.max()]
    ax.plot(line, line, color="black", linewidth=0.7)
    colors = iter(LINES)
    for batch in results.batch.values.tolist():
        part = results.sel(batch=batch)
        _points(ax, part, "line", next(colors), "o", f"one input, batch {batch}")
    for d in results.dimension.values.tolist():
        color = next(colors)
        for even, marker in ((1, "s"), (0, "D")):
            part = results.sel(dimension=d, even=even)
            label = f"{d} inputs, {'alike' if even else 'unlike'}"
            _points(ax, part, "plane", color, marker, label, face=None if even else "white")
    ax.axvline(CLAIMED, color=COLOURS["grey"], linewidth=0.7, linestyle=":")
    ax.set(xlabel="index predicted", ylabel="Hill's index", title="a  regression")
    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks([1, 2, 3, 5, 10], ["1", "2", "3", "5", "10"])
    ax.minorticks_off()
    ax.legend(fontsize=6.5)


def _points(ax, part, name, color, marker, label, face=None):
    x, y, e = (np.ravel(part[n]) for n in (f"{name}_kesten", name, f"{name}_stderr"))
    look: dict = {"color": COLOURS[color], "markerfacecolor": face or COLOURS[color]}
    ax.errorbar(x, y, 2 * e, fmt=marker, markersize=4, label=label, **look)


def _square(ax, results):
    ax.axhline(1, color="black", linewidth=0.7)
    for color, batch in zip(LINES, results.batch.values.tolist(), strict=False):
        part = results.sel(batch=batch)
        exact = np.ravel(part.square_exact)
        kept = np.isfinite(exact) & (np.ravel(part.line_kesten) > 2.001)
        x, y, e = (np.ravel(part[n])[kept] for n in ("line_kesten", "square", "square_stderr"))
        y, e = y / exact[kept], e / exact[kept]
        look: dict = {"color": COLOURS[color], "label": f"batch {batch}"}
        ax.errorbar(x, y, 2 * e, fmt="o", markersize=4, **look)
    ax.axvline(4, color=COLOURS["grey"], linewidth=0.7, linestyle=":")
    ax.axvline(2, color=COLOURS["grey"], linewidth=0.7)
    ax.set(xlabel="index predicted", ylabel="mean square / exact", title="b  second moment")
    ax.legend(fontsize=6.5)


def _scale(ax, results):
    for color, alpha in zip(LINES, results.alpha.values.tolist(), strict=False):
        part, look = results.sel(alpha=alpha), {"color": COLOURS[color]}
        wave = part.wave.sel(wave_at=1.0)
        power = -np.log(wave)
        value = part.scale * power ** (1 / alpha)
        error = value * part.wave_stderr.sel(wave_at=1.0) / wave / power / alpha
        ax.errorbar(
            part.pull, value, 2 * error, fmt="o", markersize=3.5, label=f"alpha {alpha:g}", **look
        )
        ax.plot(part.pull, part.scale, **look)
        ax.plot(part.pull, part.scale_flow, "--", linewidth=0.8, **look)
    ax.set(xlabel="rate × curvature", ylabel="scale of theta", title="c  driven by jumps")
    ax.legend(fontsize=6.5)


def _layers(ax, results):
    alpha = results.alpha.values
    line = [alpha.min() - 0.1, alpha.max() + 0.1]
    ax.plot(line, line, color="black", linewidth=0.7)
    for place, (color, method, marker) in enumerate(
        (("blue", "stable", "o"), ("vermilion", "blocks", "s"))
    ):
        for kind, face in (("apart", COLOURS[color]), ("pooled", "white")):
            value, error = results[f"{method}_{kind}"], 2 * results[f"{method}_{kind}_stderr"]
            look: dict = {"color": COLOURS[color], "markerfacecolor": face, "markersize": 4}
            at = alpha + 0.02 * place
            ax.errorbar(at, value, error, fmt=marker, label=f"{method}, {kind}", **look)
    ax.set_xticks(alpha, [f"{a:g}" for a in alpha])
    ax.set(xlabel="alpha of the noise", ylabel="alpha read", title="d  layers of unlike scales")
    ax.legend(fontsize=6.5)
