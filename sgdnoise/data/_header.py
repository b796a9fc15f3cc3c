"""Whether the first line of a table is a header, also if it has numbers only."""

import math
from itertools import pairwise

MIN_PROGRESSION = 5  # columns from which evenly spaced numbers are not a point by chance
MOST = 0.9  # fraction of cells with decimals that makes a column one of fractions
YEARS = (1500, 2200)
EMPTY = ("", "na", "nan")


def is_header(first: list[str], rows: list[list[str]], decimal: str = ".") -> bool:
    """Whether the cells of a first line are names, given those of the next lines.

    They are if one is a word; if they count 0, 1, 2 ... or 1, 2, 3 ... as names that a program
    gives, and the next line does not go on counting; if they are years in order, and no number
    below is a year; if they are whole numbers in order above columns of fractions; and if they are
    5 or more evenly spaced numbers, such as times or wavelengths, and no line below is.
    """
    values = [number(cell, decimal) for cell in first]
    rows = [row for row in rows if len(row) == len(first)]
    if any(v is None and cell.lower() not in EMPTY for v, cell in zip(values, first, strict=True)):
        return True
    if len(first) < 2 or None in values:  # an index column has no name, but values below
        return len(first) > 1 and first[0] == "" and bool(rows) and all(row[0] for row in rows)
    whole = all(cell.lstrip("+-").isdigit() for cell in first)
    if whole and _counts(values) and not _goes_on(values, rows, decimal):
        return True
    if not rows:
        return False
    if whole and _in_order(values) and _only_years(values, rows, decimal):
        return True
    columns = zip(*rows, strict=True)
    if whole and _in_order(values) and all(_has_fractions(column, decimal) for column in columns):
        return True
    return (
        len(first) >= MIN_PROGRESSION
        and _even(values)
        and not any(_even([number(cell, decimal) for cell in row]) for row in rows)
    )


def may_be_header(first: list[str], rows: list[list[str]], decimal: str = ".") -> bool:
    """Whether a first line that is taken for a point could be a header: it counts, or has years."""
    if len(first) < 2 or not all(cell.isdigit() for cell in first):
        return False
    values = [float(cell) for cell in first]
    counts = values[0] in (0, 1) and all(b - a == 1 for a, b in pairwise(values))
    years = all(map(_is_year, values)) and _in_order(values)
    return (counts or years) and not _goes_on(values, rows, decimal)


def number(cell: str, decimal: str = ".") -> float | None:
    """The number in a cell, or None; with decimal commas a point is not part of a number."""
    if decimal == ",":
        if "." in cell:
            return None
        cell = cell.replace(",", ".")
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _counts(values):
    """Whether they are 0, 1, 2 ..., or of 3 and more 1, 2, 3 ..."""
    return all(b - a == 1 for a, b in pairwise(values)) and (
        values[0] == 0 or (values[0] == 1 and len(values) > 2)
    )


def _goes_on(values, rows, decimal):
    """Whether the next line counts on from the first, as the rows of a counted matrix do."""
    following = [number(cell, decimal) for cell in rows[0]] if rows else [None]
    return following == [value + len(values) for value in values]


def _only_years(values, rows, decimal):
    """Whether all are years, and no number below is."""
    below = [number(cell, decimal) for row in rows for cell in row]
    return all(map(_is_year, values)) and not any(map(_is_year, below))


def _is_year(value):
    return value is not None and YEARS[0] <= value <= YEARS[1]


def _in_order(values):
    steps = [b - a for a, b in pairwise(values)]
    return all(step > 0 for step in steps) or all(step < 0 for step in steps)


def _has_fractions(cells, decimal):
    marked = [decimal in cell or "e" in cell.lower() for cell in cells]
    return sum(marked) >= MOST * len(marked)


def _even(values):
    """Whether numbers are evenly spaced, and not all equal."""
    if None in values or len(values) < 2 or not all(map(math.isfinite, values)):
        return False
    step = (values[-1] - values[0]) / (len(values) - 1)
    size = max(map(abs, values))
    return step != 0 and all(
        abs(value - values[0] - i * step) <= 1e-6 * abs(step) + 1e-12 * size
        for i, value in enumerate(values)
    )
