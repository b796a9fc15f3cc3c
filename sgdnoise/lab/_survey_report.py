"""The table of estimators of dimension and the picture of a scale profile, on the terminal."""

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import rich.box
import rich.table
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from sgdnoise.core._files import atomic_write
from sgdnoise.dimension._catalogue import LINEAR
from sgdnoise.dimension._distance_ratios import twonn
from sgdnoise.dimension._scale import scale_profile
from sgdnoise.lab._plot import COLOURS, STYLE, plot_scale_profile
from sgdnoise.lab._survey import FIRST, Row
from sgdnoise.lab._terminal import console, say

MIN_NOTE_WIDTH = 16  # columns of a note beside the table; with fewer it stands below only
CREATOR = "sgdnoise dimension"  # in the metadata of each picture, which may then be replaced


def show_rows(rows: list[Row], calibrate: bool) -> None:
    """Print the table, in sections for manifold and linear estimators, and the notes below."""
    headings = ["dimension", "± error", *(["calibrated"] if calibrate else []), "seconds"]
    room = (
        console.width - 4 - max(len(row.name) for row in rows) - sum(3 + len(h) for h in headings)
    )
    noted = any(row.notes for row in rows) and room >= MIN_NOTE_WIDTH
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("estimator", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    if noted:
        table.add_column("note", no_wrap=True, style="dim")
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        numbers = [row.value, row.stderr, *([row.ball] if calibrate else [])]
        cells = [*map(_number, numbers), f"{row.seconds:.1f}"]
        cells += [_short("; ".join(row.notes), room - 3)] if noted else []
        ends = after is not None and (row.name == FIRST or _is(LINEAR, after) > _is(LINEAR, row))
        style = "bold" if row.name == FIRST else None
        table.add_row(row.name, *cells, style=style, end_section=ends)
    console.print(table)
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        say(f"{', '.join(row.name for row in rows if note in row.notes)}: {note}")


def _short(text, room):
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _is(names, row):
    return row.name in names


def _number(value):
    return "-" if not math.isfinite(value) else f"{value:.2f}"


def draw_profile(points, name: str, path: Path, seed: int) -> None:
    """Draw the dimension by twonn against scale; nothing if there are too few points."""
    try:
        profile = scale_profile(twonn, points, rng=np.random.default_rng(seed))
    except ValueError as error:
        say(f"no picture: {error}")
        return
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.7))
        ax = figure.add_subplot()
        plot_scale_profile(ax, profile)
        wide = profile.scale.max() > 10 * profile.scale.min()
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        figure.supxlabel(f"twonn on {name}, thinned", fontsize=7, color=COLOURS["grey"])
        metadata = {"Software" if path.suffix == ".png" else "Creator": CREATOR}
        with atomic_write(path) as new:
            figure.savefig(new, format=path.suffix[1:], dpi=200, metadata=metadata)
    say(f"  {path}", soft_wrap=True)
