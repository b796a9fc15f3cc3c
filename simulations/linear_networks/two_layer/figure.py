"""Participation ratio and eigenvalues of the hidden layer against the flow, and deviations."""

import matplotlib as mpl
from matplotlib.figure import Figure

from sgdnoise.lab import COLOURS, STYLE
from simulations.linear_networks import _panels as panels

CAPTION = (
    "Hidden layer of linear networks under label noise. Left and middle: participation ratio, and "
    "the two largest eigenvalues, against time over the time scale 2 B / (rate² σ² o); points are "
    "means over runs, lines the refined slow flow, dashes the base flow. Right: the deviation of "
    "each flow from descent at its worst time, with the standard error."
)
SETTINGS = {"plain": "black", "larger batch": "blue", "stronger": "vermilion", "narrow": "green"}
MARKERS = {"base": ("grey", "o"), "equation": ("sky", "s"), "refined": ("vermilion", "D")}


def figures(results) -> dict[str, tuple[str, Figure]]:
    """Stem -> caption and figure."""
    return {"figure": (CAPTION, draw(results))}


def draw(results) -> Figure:
    """Ratio and modes against time, and the largest deviations of every flow."""
    names = results.setting.values.tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9))
        ratio, modes, off = figure.subplots(1, 3)
        drawn = [name for name in SETTINGS if name in names]
        for name in drawn:
            setting, color = results.sel(setting=name), COLOURS[SETTINGS[name]]
            panels.ratio_curve(ratio, setting, color, name, line="refined", dashes="base")
        panels.ratio_axes(ratio)
        _modes(modes, results.sel(setting=drawn[0]))
        modes.set(xlabel="fraction of the time", ylabel="eigenvalue", title=drawn[0])
        modes.set_ylim(bottom=0)
        settings = {name: results.sel(setting=name) for name in names}
        moving = {name: setting for name, setting in settings.items() if float(setting.moving)}
        panels.worst_deviations(off, moving, "watch", MARKERS)
    return figure


def _modes(ax, setting):
    records, time = setting.isel(watch=slice(1, None, 4)), panels.relative_time(setting, setting)
    for mode, name in enumerate(("black", "orange")):
        style, points = {"color": COLOURS[name]}, records.modes.mean("run")[:, mode]
        ax.plot(panels.relative_time(records, setting), points, "o", markersize=3, **style)
        ax.plot(time, setting.modes_flow.sel(flow="refined")[:, mode], **style)
        ax.plot(time, setting.modes_flow.sel(flow="base")[:, mode], "--", linewidth=0.7, **style)
