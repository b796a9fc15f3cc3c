"""Panels that the figures of linear networks share."""

import numpy as np

from sgdnoise.lab import COLOURS

TICKS = [1.5, 2, 3, 4, 6]


def relative_time(records, setting):
    """The steps of some records over those of the run."""
    return records.step / float(setting.step[-1])


def ratio_curve(ax, setting, color, label, *, line: str, dashes: str):
    """Participation ratio against time: means over runs as points, two flows as lines."""
    records = setting.isel(watch=slice(1, None, 4))
    time, style = relative_time(setting, setting), {"markersize": 3, "label": label}
    points = records.ratio.mean("run")
    ax.plot(relative_time(records, setting), points, "o", color=color, **style)
    ax.plot(time, setting.ratio_flow.sel(flow=line), color=color)
    ax.plot(time, setting.ratio_flow.sel(flow=dashes), "--", color=color, linewidth=0.7)


def ratio_axes(ax):
    """Labels and ticks of a panel of `ratio_curve`."""
    ax.set(xlabel="fraction of the time", ylabel="participation ratio", yscale="log")
    ax.set_yticks(TICKS, [str(t) for t in TICKS], minor=False)
    ax.minorticks_off()
    ax.legend(fontsize=7)


def worst_deviations(ax, settings: dict, axes, markers: dict):
    """The largest deviation of each flow from the mean ratio, with the largest standard error."""
    for place, setting in enumerate(settings.values()):
        mean = setting.ratio.mean("run")
        off = 100 * abs(mean / setting.ratio_flow - 1).max(axes)
        error = setting.ratio.std("run", ddof=1) / mean / setting.sizes["run"] ** 0.5
        for flow, (color, marker) in markers.items():
            label = flow if place == 0 else None
            value = float(off.sel(flow=flow))
            ax.plot(value, place, marker, color=COLOURS[color], markersize=4, label=label)
        ax.barh(place, 100 * float(error.max()), color=COLOURS["grey"], alpha=0.3, height=0.7)
    ax.set_yticks(np.arange(len(settings)), [*settings])
    ax.invert_yaxis()
    ax.set(xlabel="PR off by, %", xlim=(0, None))
    ax.legend(fontsize=7)
