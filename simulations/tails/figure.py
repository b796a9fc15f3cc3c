"""Tail indices against Kesten's equation, the law of SGD with stable noise, and apparent tails."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of

CAPTION = (
    "Stationary theta; bars are two standard errors. a: Hill's index against the predicted one, "
    "regression on fresh batches; it is claimed left of the dotted line, and open symbols have "
    "unequal inputs, for which nothing is claimed. b: second moment over its exact value, against "
    "the predicted index: below four (dotted) its variance is infinite, below two (line) the "
    "moment itself. c: scale of theta on a quadratic loss driven by stable noise; lines are exact, "
    "dashes the stochastic equation. d: the index estimated from layers of different scales, "
    "pooled (open) and separate (filled)."
)
MAX_INDEX = 3.5  # the largest index for which Hill's estimate is claimed
LINES = ("blue", "vermilion", "green", "orange", "purple", "sky")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Indices, second moments, scales and mixtures."""
    figure = Figure(figsize=(7.6, 5.4))
    for ax, panel in zip(
        figure.subplots(2, 2).ravel(), (_index, _square, _scale, _layers), strict=True
    ):
        panel(ax, results)
        ax.legend(fontsize=6.5)
    return figure


def _index(ax, results):
    values = np.concatenate([np.ravel(results[n]) for n in ("line_kesten", "plane_kesten")])
    line = [0.9 * values.min(), 1.1 * values.max()]
    ax.plot(line, line, color="black", linewidth=0.7)
    colors = iter(LINES)
    for batch, data in settings_of(results, "batch"):
        _points(ax, data, "line", next(colors), "o", f"one input, batch {batch}")
    for d in results.dimension.values.tolist():
        color = next(colors)
        for even, marker in ((1, "s"), (0, "D")):
            data = results.sel(dimension=d, even=even)
            label = f"{d} inputs, {'equal' if even else 'unequal'}"
            _points(ax, data, "plane", color, marker, label, face=None if even else "white")
    ax.axvline(MAX_INDEX, color=COLOURS["grey"], linewidth=0.7, linestyle=":")
    ax.set(xlabel="index predicted", ylabel="Hill's index", title="a  regression")
    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks([1, 2, 3, 5, 10], ["1", "2", "3", "5", "10"])
    ax.minorticks_off()


def _points(ax, data, name, color, marker, label, face=None):
    x, y, e = (np.ravel(data[n]) for n in (f"{name}_kesten", name, f"{name}_stderr"))
    style: dict = {"color": COLOURS[color], "markerfacecolor": face or COLOURS[color]}
    ax.errorbar(x, y, 2 * e, fmt=marker, markersize=4, label=label, **style)


def _square(ax, results):
    ax.axhline(1, color="black", linewidth=0.7)
    for color, (batch, data) in zip(LINES, settings_of(results, "batch"), strict=False):
        names = ("line_kesten", "square", "square_stderr", "square_exact")
        x, y, e, exact = (np.ravel(data[n]) for n in names)
        finite = np.isfinite(exact) & (x > 2.001)
        y, e = (v[finite] / exact[finite] for v in (y, e))
        style: dict = {"color": COLOURS[color], "label": f"batch {batch}"}
        ax.errorbar(x[finite], y, 2 * e, fmt="o", markersize=4, **style)
    ax.axvline(4, color=COLOURS["grey"], linewidth=0.7, linestyle=":")
    ax.axvline(2, color=COLOURS["grey"], linewidth=0.7)
    ax.set(xlabel="index predicted", ylabel="mean square / exact", title="b  second moment")


def _scale(ax, results):
    for color, (alpha, data) in zip(LINES, settings_of(results, "alpha"), strict=False):
        wave, style = data.wave.sel(wave_at=1.0), {"color": COLOURS[color]}
        power = -np.log(wave)
        value = data.scale * power ** (1 / alpha)
        error = value * data.wave_stderr.sel(wave_at=1.0) / wave / power / alpha
        label = f"alpha {alpha:g}"
        ax.errorbar(data.pull, value, 2 * error, fmt="o", markersize=3.5, label=label, **style)
        ax.plot(data.pull, data.scale, **style)
        ax.plot(data.pull, data.scale_flow, "--", linewidth=0.8, **style)
    ax.set(xlabel="rate × curvature", ylabel="scale of theta", title="c  driven by stable noise")


def _layers(ax, results):
    alpha = results.alpha.values
    line = [alpha.min() - 0.1, alpha.max() + 0.1]
    ax.plot(line, line, color="black", linewidth=0.7)
    for shift, color, method, marker in (
        (0, "blue", "stable", "o"),
        (0.02, "vermilion", "blocks", "s"),
    ):
        for kind, label, face in (
            ("apart", "separate", COLOURS[color]),
            ("pooled", "pooled", "white"),
        ):
            value, error = results[f"{method}_{kind}"], 2 * results[f"{method}_{kind}_stderr"]
            style: dict = {"color": COLOURS[color], "markerfacecolor": face, "markersize": 4}
            label = f"{method}, {label}"
            ax.errorbar(alpha + shift, value, error, fmt=marker, label=label, **style)
    ax.set_xticks(alpha, [f"{a:g}" for a in alpha])
    ax.set(xlabel="alpha of the noise", ylabel="alpha estimated", title="d  layers")
