"""The table of estimators of dimension, and its JSON."""

import json
import math
from contextlib import contextmanager

import rich.box
import rich.table

from sgdnoise.dimension._catalogue import LINEAR
from sgdnoise.lab._estimator_lines import LINES
from sgdnoise.lab._survey import FIRST, Row
from sgdnoise.lab._terminal import console, say

MIN_NOTE_WIDTH = 16  # columns of a note beside the table; with fewer it stands below only
CREATOR = "sgdnoise dimension"  # in the metadata of each picture, which may then be replaced
LARGE = 1e5  # from which numbers are powers of ten


def show_rows(rows: list[Row], calibrate: bool) -> None:
    """Print the table, in sections for manifold and linear estimators, lines and notes below."""
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
    for row in rows:
        say(f"{row.name}: {LINES[row.name]}", style="dim")
    for note in dict.fromkeys(n for row in rows for n in row.notes if n != row.doubt):
        say(f"{', '.join(row.name for row in rows if note in row.notes)}: {note}")


def json_text(file, table, near, rows, sentences, profile, told, picture) -> str:
    """All results as one JSON object; numbers that are not finite are null."""
    first = next((row for row in rows if row.name == FIRST), None)
    values = {
        "file": str(file),
        "points": len(near.points),
        "coordinates": near.points.shape[1],
        "columns": table.names,
        "messages": told.sentences,
        "estimators": [_of_row(row) for row in rows],
        "recommended": None if first is None or first.doubt else _of_row(first),
        "sentences": sentences,
        "scales": [] if profile is None else _of_profile(profile),
        "picture": None if picture is None else str(picture),
    }
    return json.dumps(_finite(values), ensure_ascii=False, indent=2)


@contextmanager
def errors_as_json(file, as_json: bool):
    """With `as_json`, print an error as an object with the sentence, and end with status 2."""
    try:
        yield
    except (ValueError, ImportError) as error:
        if not as_json:
            raise
        print(json.dumps({"file": str(file), "error": str(error)}, ensure_ascii=False, indent=2))
        raise SystemExit(2) from None


def _of_row(row):
    low, high = row.interval
    return {
        "name": row.name,
        "what": LINES[row.name],
        "dimension": row.value,
        "stderr": row.stderr,
        "interval": [low, high],
        "calibrated": row.ball,
        "seconds": round(row.seconds, 3),
        "notes": list(row.notes),
        "doubt": row.doubt or None,
        "scales": [list(scale) for scale in row.scales],
    }


def _of_profile(profile):
    columns = profile.scale, profile.dimension.value, profile.dimension.stderr
    keys = ("distance", "dimension", "stderr")
    return [dict(zip(keys, map(float, row), strict=True)) for row in zip(*columns, strict=True)]


def _finite(value):
    """The same values, with None for nan and infinity, which JSON has not."""
    match value:
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
    return value


def _short(text, room):
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _is(names, row):
    return row.name in names


def _number(value):
    if not math.isfinite(value):
        return "-"
    return f"{value:.2f}" if abs(value) < LARGE else f"{value:.1e}"
