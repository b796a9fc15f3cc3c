"""Growth of channels close to their invariant set, exponents, and what ranks those that die."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, mean_of, settings_of
from simulations.channel_collapse.claims import CHANCE, SCORES, live, rank, with_deaths

CAPTION = (
    "Channels of a public ResNet-20 in SGD, one colour a setting. Left: growth per step of the "
    "weights of channels that are put close to their invariant set, against theory; filled, all "
    "other weights are fixed; hollow, all weights move (not drawn with one example, where SGD may "
    "diverge); the line is equality. Middle: exponents of all channels that are alive, in order, "
    "mean over samples of photographs; dashed, of their own direction alone; below the grey line a "
    "channel should collapse. Right: area under the curve (AUC) of scores of channels, where "
    "channels die: the probability that one that dies has the lower score; the grey line is "
    "chance, bars are two standard errors over seeds."
)


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Three panels."""
    figure = Figure(figsize=(8.0, 2.9))
    near, order, ranks = figure.subplots(1, 3, width_ratios=[1, 1, 0.8])
    names = ("blue", "vermilion", "green", "purple", "orange")
    for (setting, data), name in zip(settings_of(results, "setting"), names, strict=False):
        colour = COLOURS[name]
        _near(near, data, colour, setting)
        for key, style in (("exponent", "-"), ("own_exponent", "--")):
            values = np.sort(data[key].where(live(data)).mean("seed").values)
            values = values[np.isfinite(values)]
            label = setting if style == "-" else None
            order.plot(np.arange(1, 1 + len(values)), values, style, color=colour, label=label)
        _ranks(ranks, data, colour)
    theory = results.near.sel(way="theory")
    ends = np.asarray([np.nanmin(theory), np.nanmax(theory)])
    near.plot(ends, ends, color=COLOURS["grey"], linewidth=0.8)
    near.set(xlabel="predicted growth per step", ylabel="growth per step in SGD")
    near.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
    order.axhline(0, color=COLOURS["grey"], linewidth=0.8)
    order.set_yscale("symlog", linthresh=1e-4)
    order.set(xlabel="rank of the channel", ylabel="exponent per step")
    handles = order.get_legend_handles_labels()
    figure.legend(*handles, fontsize=6.5, ncols=5, loc="outside upper center")
    ranks.axvline(CHANCE, color=COLOURS["grey"], linewidth=0.8)
    ranks.set_yticks(range(len(SCORES)), list(SCORES.values()), fontsize=6)
    ranks.set(xlabel="AUC", xlim=(0, 1), ylim=(len(SCORES) - 0.5, -0.5))
    return figure


def _near(ax, data, colour, setting):
    for way, face in (("others fixed", colour), ("all move", "none")):
        if way == "all move" and setting == "one example":
            continue
        theory, measured = (data.near.sel(way=w).values.ravel() for w in ("theory", way))
        ax.plot(theory, measured, "o", color=colour, markersize=3, mfc=face, mew=0.6)


def _ranks(ax, data, colour):
    if with_deaths(data).sizes["seed"] < 2:
        return
    for place, score in enumerate(SCORES):
        value = mean_of(rank(with_deaths(data), score))
        error = 2 * float(value.stderr)
        ax.errorbar(float(value.value), place, xerr=error, fmt="o", color=colour, markersize=4)
