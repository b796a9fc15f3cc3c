"""Growth of channels close to their invariant set, exponents, and which channels die."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE, settings_of
from simulations.channel_collapse.claims import live, newly_dead

CAPTION = (
    "Channels of a public ResNet-20 in SGD. Left: growth per step of the weights of channels that "
    "are put close to their invariant set, against theory; filled, all other weights are fixed; "
    "hollow, all weights move; the line is equality. Middle: exponents of all channels that are "
    "alive, in order, mean over samples of photographs; below the grey line a channel should "
    "collapse. Right: exponent against the fraction of the channels of a block that die, one point "
    "a block, in settings where channels die. One colour a setting."
)


def figures(results) -> dict[str, tuple[str, Figure]]:
    """The only figure of the study."""
    return {"figure": (CAPTION, draw(results))}


@mpl.rc_context(STYLE)
def draw(results) -> Figure:
    """Three panels."""
    figure = Figure(figsize=(7.4, 2.7))
    near, order, blocks = figure.subplots(1, 3)
    colours = [COLOURS[name] for name in ("blue", "vermilion", "green", "purple", "orange")]
    for (name, data), colour in zip(settings_of(results, "setting"), colours, strict=False):
        _near(near, data, colour)
        values = data.exponent.where(live(data)).mean("seed").values
        values = np.sort(values[np.isfinite(values)])
        order.plot(np.arange(1, 1 + len(values)), values, color=colour, label=name)
        _blocks(blocks, data, colour)
    theory = results.near.sel(way="theory")
    ends = np.asarray([np.nanmin(theory), np.nanmax(theory)])
    near.plot(ends, ends, color=COLOURS["grey"], linewidth=0.8)
    near.set(xlabel="predicted growth per step", ylabel="growth per step in SGD")
    order.axhline(0, color=COLOURS["grey"], linewidth=0.8)
    order.set_yscale("symlog", linthresh=1e-5)
    order.set(xlabel="rank of the channel", ylabel="exponent per step")
    order.legend(fontsize=6)
    blocks.set(xscale="log", xlabel="mean exponent of the block", ylabel="fraction that dies")
    blocks.set_ylim(-0.05, 1.05)
    return figure


def _near(ax, data, colour):
    for way, face in (("others fixed", colour), ("all move", "none")):
        theory, measured = (data.near.sel(way=w).values.ravel() for w in ("theory", way))
        ax.plot(theory, measured, "o", color=colour, markersize=3, mfc=face, mew=0.6)


def _blocks(ax, data, colour):
    dead = newly_dead(data)
    if not float(dead.sum()):
        return
    for block in np.unique(data.block.values[np.isfinite(data.block.values)]):
        at = (data.block == block) & live(data)
        exponent = float(data.exponent.where(at).mean())
        ax.plot(exponent, float(dead.where(at).mean()), "o", color=colour, markersize=4)
