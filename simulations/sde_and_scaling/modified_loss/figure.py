"""How fast means of descent leave the flows of modified losses, and where they rest."""

import matplotlib as mpl
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE

CAPTION = (
    "What a finite rate adds to the loss. Left: distance of the mean of a step, or over all orders "
    "or all sequences of an epoch, from the flow of a loss, against the rate; full symbols are the "
    "loss that belongs to it, which they leave at order 3 (line), open ones another, at order 2 "
    "(dashes). Right: how far the mean of linear regression rests from least squares, over the "
    "rate, with two standard errors; lines are exact, dots the first order, and independent "
    "batches stay at zero."
)
WAYS = {
    "a step": ("black", "o"),
    "all orders": ("blue", "s"),
    "all sequences": ("vermilion", "D"),
}
PALETTE = ("blue", "green", "orange")


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"modified_loss": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Gaps against the rate, and means at rest."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.9))
        gaps, rests = figure.subplots(1, 2)
        for way, look in WAYS.items():
            _gaps(gaps, results, way, *look)
        gaps.set(xscale="log", yscale="log", xlabel="rate", ylabel="distance from the flow")
        gaps.set_xticks(results.halved.values, [f"{r:g}" for r in results.halved.values])
        gaps.minorticks_off()
        gaps.legend(fontsize=7)
        for color, batch in zip(PALETTE, results.batch.values.tolist(), strict=False):
            _rests(rests, results.sel(batch=batch).sortby("rate"), COLOURS[color], batch)
        rests.axhline(0, color=COLOURS["grey"], linewidth=0.6)
        rests.set(xlabel="rate", ylabel="shift of the mean / rate", xlim=(0, None))
        rests.legend(fontsize=7, loc="center left", bbox_to_anchor=(0, 0.6))
    return figure


def _gaps(ax, results, way, color, marker):
    for case in results.case.values.tolist():
        if case.startswith(way):
            part = results.sel(case=case)
            own = int(part.order) == 3
            style = "-" if own else "--"
            look = {"color": COLOURS[color], "markerfacecolor": None if own else "white"}
            ax.plot(part.halved, part.gap, marker, markersize=4, label=way if own else None, **look)
            straight = part.gap[-1] * (part.halved / part.halved[-1]) ** part.order
            ax.plot(part.halved, straight, style, color=COLOURS[color], linewidth=0.7, zorder=0)


def _rests(ax, part, color, batch):
    rate = part.rate
    for law, marker, face in (("reshuffled", "o", color), ("independent", "s", "white")):
        value, bars = part.rest.sel(law=law) / rate, 2 * part.rest_stderr.sel(law=law) / rate
        look = {"color": color, "markerfacecolor": face, "markersize": 4, "linestyle": "none"}
        ax.errorbar(rate, value, bars, marker=marker, label=f"{law}, batch {batch}", **look)
    ax.plot(rate, part.exact / rate, color=color)
    ax.plot(rate, part["first"] / rate, ":", color=color)
