"""Which columns of a table to take, and columns that are an index or a time."""

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MIN_ROWS = 10  # in which a column of a random order does not grow by chance
SMALLEST_BLOCK = 0.1  # of the rows, that equal neither the first nor the last
INDEX_NAMES = {
    *("id", "ids", "idx", "index", "row", "rownumber", "time", "timestamp", "date", "frame"),
    *("trial", "subject", "label", "labels", "target", "class"),
}
RANGE = re.compile(r"(\d*):(\d*)")


class ReadError(ValueError):
    """An error whose message is complete."""


class IndexColumn(UserWarning):
    r"""A warning that a column of a file of points looks like an index or a time.

    Example:
        >>> import tempfile, warnings
        >>> from pathlib import Path
        >>> from sgdnoise.data import read_points
        >>> rows = "".join(f"{k},{k % 7},{k % 5}\n" for k in range(40))
        >>> with warnings.catch_warnings(record=True) as said, tempfile.TemporaryDirectory() as d:
        ...     warnings.simplefilter("always")
        ...     _ = Path(d, "points.csv").write_text("time,x,y\n" + rows)
        ...     _ = read_points(Path(d, "points.csv"))
        >>> [warning.category.__name__ for warning in said]
        ['IndexColumn']
    """


class Table(NamedTuple):
    """Points (n, D), the names of the columns if there are any, and how the file was read."""

    points: np.ndarray
    names: list[str] | None = None
    notes: tuple[str, ...] = ()


class Choice(NamedTuple):
    """Columns to take, all if there are none, and columns to leave out."""

    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def places(self, names: list[str] | None, width: int, file: str) -> list[int]:
        """The places of the chosen columns, in the order of the file.

        Raises ReadError for a column that is not there, and if none is left.
        """
        taken = _found(self.columns, names, width, file) if self.columns else set(range(width))
        left = sorted(taken - _found(self.drop, names, width, file))
        if not left:
            raise ReadError(f"no column of {file} is left of {width}; drop fewer")
        return left


def chosen(columns: Sequence[str | int] | str | int | None, drop) -> Choice:
    """The choice of columns, each a name, a place from 0, or a range such as 2:5, which omits 5."""
    return Choice(_words(columns), _words(drop))


def names_of(names: list[str] | None, place: int) -> str:
    """The name of a column, or its place."""
    return names[place] if names and names[place] else f"column {place}"


def warn_of_index(points: np.ndarray, names: list[str] | None, file: str) -> None:
    """Warn `IndexColumn` if one of several columns never falls, or never rises, over the rows.

    Row numbers, subjects in blocks and moments in time do so; the values of a random order do so
    with probability 2 / n!.  Whole numbers that count each row once, in any order, are row numbers.
    Nothing is warned of if half of the columns do so: then the rows are a path.  A column that is
    named as an index, a time or a label is warned of too.
    """
    n, width = points.shape
    if n < MIN_ROWS or width < 2:
        return
    ordered = _kept(points, _is_ordered)
    counted = [i for i in _kept(points, _is_distinct) if i not in ordered]
    counted = [i for i in counted if _counts_rows(points[:, i])]
    if 2 * len(ordered) > width:
        ordered = []
    for place in _named_as_index(names, {*ordered, *counted}):
        warnings.warn(
            f"{names_of(names, place)} of {file} counts as a coordinate, and has the name of an "
            f"index, a time or a label; leave it out by --drop {_flag(names, place)} unless it is "
            "one",
            IndexColumn,
            4,
        )
    for place in ordered[:3]:
        direction = "rises" if points[-1, place] > points[0, place] else "falls"
        warnings.warn(
            f"{names_of(names, place)} of {file} {direction} from row to row, as an index or a "
            f"time does, and counts as a coordinate; leave it out by --drop {_flag(names, place)} "
            "unless it is one",
            IndexColumn,
            4,
        )
    for place in counted[:3]:
        warnings.warn(
            f"{names_of(names, place)} of {file} holds {n} consecutive whole numbers, each once, "
            f"as row numbers do; leave it out by --drop {_flag(names, place)} unless it is a "
            "coordinate",
            IndexColumn,
            4,
        )


def _named_as_index(names, known):
    """The columns with the name of an index that are not known to be one."""
    words = [re.sub(r"\W+", "", name.lower()) for name in names or ()]
    return [
        place
        for place, word in enumerate(words)
        if (word in INDEX_NAMES or word.endswith("_id")) and place not in known
    ][:3]


def _flag(names, place):
    return f"'{names[place]}'" if names and names[place] and not names[place].isdigit() else place


def _words(columns):
    if columns is None:
        return ()
    items = [columns] if isinstance(columns, (str, int)) else columns
    return tuple(word.strip() for item in items for word in str(item).split(",") if word.strip())


def _found(words, names, width, file):
    """The places of columns by name, by place, or by a range of places."""
    places: set[int] = set()
    for word in words:
        if names and word in names:
            places |= {i for i, name in enumerate(names) if name == word}
        elif word.isdigit() and int(word) < width:
            places.add(int(word))
        elif (ends := RANGE.fullmatch(word)) and (ends[1] or ends[2]):
            start, stop = int(ends[1] or 0), int(ends[2] or width)
            _check_range(word, start, stop, width, file)
            places |= set(range(start, stop))
        else:
            known = f"named {', '.join(names)[:80]}, or " if names else ""
            raise ReadError(
                f"{file} has no column {word!r}; it has columns {known}0 to {width - 1}"
            )
    return places


def _check_range(word, start, stop, width, file):
    if not start < stop <= width:
        raise ReadError(f"the range {word!r} is not within columns 0:{width} of {file}")


def _kept(points, property_of):
    """The columns that have a property in the first rows, in more of them, and in all."""
    n, places = len(points), np.arange(points.shape[1])
    for count in (MIN_ROWS, 30 * MIN_ROWS, n):
        block = np.asarray(points[: min(count, n)][:, places], dtype=float)
        places = places[property_of(block, count >= n)]
    return places.tolist()


def _is_ordered(block, complete):
    """Whether columns never fall or never rise; of all rows, whether two blocks are not tiny."""
    steps = np.diff(block, axis=0)
    ordered = (steps >= 0).all(axis=0) | (steps <= 0).all(axis=0)
    if not complete:
        return ordered
    apart = [(block != end).mean(axis=0) >= SMALLEST_BLOCK for end in (block[0], block[-1])]
    return ordered & apart[0] & apart[1]


def _is_distinct(block, complete):  # noqa: ARG001 - the signature of both properties
    """Whether columns hold whole numbers that differ from each other."""
    whole = (block == np.round(block)).all(axis=0)
    return whole & (np.diff(np.sort(block, axis=0), axis=0) >= 1).all(axis=0)


def _counts_rows(column):
    return bool((np.diff(np.sort(np.asarray(column, dtype=float))) == 1).all())
