"""How fast means of SGD leave the flows of modified losses, and their stationary values."""

import matplotlib as mpl
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "What a finite rate adds to the loss. Left: distance of the mean of a step, or over all orders "
    "or all sequences of an epoch, from the flow of a loss, against the rate; full symbols are the "
    "loss that belongs to it, which they leave at order 3 (line), open ones another, at order 2 "
    "(dashes). Right: stationary distance of the mean of linear regression from least squares, "
    "over the rate, with two standard errors; lines are exact, dots the first order, and "
    "independent batches stay at zero."
)
ENSEMBLES = {
    "a step": ("black", "o"),
    "all orders": ("blue", "s"),
    "all sequences": ("vermilion", "D"),
}
PALETTE = ("blue", "green", "orange")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Distances against the rate, and stationary means."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.9))
        gaps, shifts = figure.subplots(1, 2)
        for ensemble, style in ENSEMBLES.items():
            _gaps(gaps, results, ensemble, *style)
        gaps.set(xscale="log", yscale="log", xlabel="rate", ylabel="distance from the flow")
        gaps.set_xticks(results.halved.values, [f"{r:g}" for r in results.halved.values])
        gaps.minorticks_off()
        gaps.legend(fontsize=7)
        for color, batch in zip(PALETTE, results.batch.values.tolist(), strict=False):
            _shifts(shifts, results.sel(batch=batch).sortby("rate"), COLOURS[color], batch)
        shifts.axhline(0, color=COLOURS["grey"], linewidth=0.6)
        shifts.set(xlabel="rate", ylabel="shift of the mean / rate", xlim=(0, None))
        shifts.legend(fontsize=7, loc="center left", bbox_to_anchor=(0, 0.6))
    return figure


def _gaps(ax, results, ensemble, color, marker):
    for case in (c for c in results.case.values.tolist() if c.startswith(ensemble)):
        at, color_code = results.sel(case=case), COLOURS[color]
        matching = int(at.order) == 3
        style = {"color": color_code, "markerfacecolor": None if matching else "white"}
        label = ensemble if matching else None
        ax.plot(at.halved, at.gap, marker, markersize=4, label=label, **style)
        power, line = (
            at.gap[-1] * (at.halved / at.halved[-1]) ** at.order,
            "-" if matching else "--",
        )
        ax.plot(at.halved, power, line, color=color_code, linewidth=0.7, zorder=0)


def _shifts(ax, of_batch, color, batch):
    rate = of_batch.rate
    for law, marker, face in (("reshuffled", "o", color), ("independent", "s", "white")):
        at = of_batch.sel(law=law)
        style = {"color": color, "markerfacecolor": face, "markersize": 4, "linestyle": "none"}
        label = f"{law}, batch {batch}"
        ax.errorbar(
            rate, at.rest / rate, 2 * at.rest_stderr / rate, marker=marker, label=label, **style
        )
    ax.plot(rate, of_batch.exact / rate, color=color)
    ax.plot(rate, of_batch["first"] / rate, ":", color=color)
