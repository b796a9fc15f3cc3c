"""The tables as Markdown, from the file of all rounds."""

import math
from collections.abc import Iterable
from statistics import median

import numpy as np

from benchmarks.record import Record
from benchmarks.tables import TABLES, Table

__all__ = ["comparisons", "exponents", "page", "ratios"]

OURS = "sgdnoise"
NOTABLE = 1.05  # times as slow
# what -> who computes the same as the unit of its table
SAME_AS_UNIT = {
    "search for 20 neighbours": "scikit-learn",
    "a step": "numpy by hand",
    "walk, a step": "torch by hand",
}


def page(record: Record) -> str:
    """The whole page."""
    tables = [
        "\n".join(_table(name, table, record.of(name)))
        for name, table in TABLES.items()
        if record.of(name)
    ]
    return "\n\n".join([*_head(record), _slower(record), *tables]) + "\n"


def ratios(rounds: Iterable[dict]) -> dict[tuple, list[float] | str]:
    """(package, what, size) -> the ratio to the unit in each round, or why there is none."""
    result: dict = {}
    for one in rounds:
        for cell in one["cells"]:
            key = cell["package"], cell["what"], cell["size"]
            if "failed" in cell:
                result[key] = cell["failed"]
            elif not isinstance(result.get(key), str):
                result.setdefault(key, []).append(cell["seconds"] / cell["unit"])
    return result


def exponents(rounds: Iterable[dict]) -> dict[tuple, tuple[float, float]]:
    """(package, what) -> slope of log time against log size by least squares, and its error."""
    points: dict = {}
    for (package, what, size), values in ratios(rounds).items():
        if size is not None and not isinstance(values, str):
            points.setdefault((package, what), []).extend((size, value) for value in values)
    return {key: _slope(np.log(values)) for key, values in points.items()}


def _slope(points):
    """Slope and standard error of a line through points (n, 2), of which three differ."""
    x, y = points.T
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    residual = y - slope * x
    if len(x) < 3:
        return slope, math.nan
    return slope, float(np.sqrt(residual @ residual / (len(x) - 2) / (x @ x)))


def comparisons(rounds: list[dict]) -> list[tuple[str, str, float, bool]]:
    """Of each row that others have too: what, package, our time over theirs, whether it is clear.

    It is clear if the rounds of the two do not overlap.
    """
    measured, result = ratios(rounds), []
    for (package, what, size), values in measured.items():
        ours = measured.get((OURS, what, size))
        if package.startswith(OURS) or isinstance(values, str) or not isinstance(ours, list):
            continue
        apart = min(ours) > max(values) or max(ours) < min(values)
        result.append((what, package, median(ours) / median(values), apart))
    return result


def _slower(record):
    """A list of what is slower than anything that it was measured beside."""
    lines = []
    for name, table in TABLES.items():
        rounds = record.of(name)
        slower = [*comparisons(rounds), *_against_the_unit(rounds)]
        lines += [
            f"- {table.title}: {what}, {ratio:.2f} times {package}{_doubt(rounds, clear)}"
            for what, package, ratio, clear in slower
            if ratio > NOTABLE
        ]
    heading = "## Where this package is slower"
    return "\n".join([heading, "", *(lines or ["Nowhere among what was measured."])])


def _doubt(rounds, clear):
    """What the rounds leave open on a comparison."""
    if sum(not one["python"] for one in rounds) < 2:
        return " (one round)"
    return "" if clear else " (within the spread)"


def _against_the_unit(rounds):
    """The same for our rows whose unit computes what they do."""
    for (package, what, size), values in ratios(rounds).items():
        if package == OURS and what in SAME_AS_UNIT and size is None and isinstance(values, list):
            apart = min(values) > 1 or max(values) < 1
            yield what, SAME_AS_UNIT[what], median(values), apart


def _head(record):
    """Machine, versions, dates, commits and load."""
    shown = [one for name in TABLES for one in record.of(name)]
    first, last = min(one["date"] for one in shown), max(one["date"] for one in shown)
    load = [one["load"] for one in shown]
    numbers = {k: v for one in shown for k, v in one["versions"].items() if not one["python"]}
    elsewhere = {item for one in shown if one["python"] for item in one["versions"].items()}
    others = {f"{name} {number}" for name, number in elsewhere - set(numbers.items())}
    named = ", ".join(f"{name} {number}" for name, number in numbers.items())
    apart = f"; in another environment {', '.join(sorted(others))}" if others else ""
    computer = record.machine
    missing = f"Not measured, since not installed or not asked for: {', '.join(record.missing)}."
    return [
        "# Speed against other packages, and by hand",
        f"Measured by `python -m benchmarks` from {first[:16]} to {last[:16]} (UTC) on "
        f"{computer['cpu']} ({computer['cores']} cores, {computer['system']}, "
        f"{computer['blas']}), with a load of {min(load):.1f} to {max(load):.1f}. {named}{apart}."
        + (f" {missing}" if record.missing else ""),
        "CPU time on one thread. Each number is a multiple of the unit of its table, timed "
        "in the same process just before it, so that other work on the machine meets both: the "
        "median of the rounds, and in brackets the least and the largest. What takes over 5 s is "
        "measured once, and what takes over 15 s is stopped. MiB: how far the memory "
        "of the process rises. `-`: the package does not have it.",
    ]


def _table(name: str, table: Table, rounds: list[dict]) -> list[str]:
    """The lines of one table."""
    unit = median(cell["unit"] for one in rounds for cell in one["cells"] if "unit" in cell)
    count = len([one for one in rounds if not one["python"]])
    lines = [f"## {table.title}", ""]
    number = f"{count} {'round' if count == 1 else 'rounds'}"
    origin = f"`{name}`, {number} of commit {rounds[-1]['commit']}."
    lines += [f"{origin} The unit is {table.unit}; it takes {_time(unit)}.", ""]
    lines += [" ".join(table.note.split()), ""] if table.note else []
    if slopes := exponents(rounds):
        return lines + _exponent_lines(slopes, ratios(rounds))
    return lines + _ratio_lines(ratios(rounds), _mebibytes(rounds))


def _time(seconds):
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _exponent_lines(slopes, measured):
    lines = ["| what | exponent | sizes | units at these sizes |", "|---|---:|---|---|"]
    for (package, what), (slope, error) in slopes.items():
        mine = {s: v for (p, w, s), v in measured.items() if (p, w) == (package, what)}
        sizes = ", ".join(f"{size:,}" for size in mine)
        values = ", ".join(v if isinstance(v, str) else f"{median(v):.3g}" for v in mine.values())
        lines.append(f"| {what} | {slope:.2f} ± {error:.2f} | {sizes} | {values} |")
    return lines


def _ratio_lines(measured, mebibytes):
    packages = list(dict.fromkeys(package for package, _, _ in measured))
    headings = ["", *packages, "MiB"] if mebibytes else ["", *packages]
    lines = [f"| {' | '.join(headings).strip()} |", "|---|" + "---:|" * (len(headings) - 1)]
    for what in dict.fromkeys(what for _, what, _ in measured):
        cells = [_cell(measured.get((package, what, None))) for package in packages]
        memory = [f"{mebibytes[what]:.0f}" if what in mebibytes else "-"] if mebibytes else []
        lines.append(f"| {' | '.join([what, *cells, *memory])} |")
    return lines


def _mebibytes(rounds):
    """What -> the most MiB by which our calls raise the memory; empty where none raises it."""
    result: dict[str, float] = {}
    for one in rounds:
        for cell in one["cells"]:
            if cell["package"] == OURS and "mebibytes" in cell:
                result[cell["what"]] = max(cell["mebibytes"], result.get(cell["what"], 0.0))
    return result if any(value >= 1 for value in result.values()) else {}


def _cell(values):
    if values is None:
        return "-"
    if isinstance(values, str):
        return values
    spread = f" ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else ""
    return f"{median(values):.3g}{spread}"
