"""Tables of numbers in text files: delimiter, decimal mark, header and comments are recognised."""

import bz2
import codecs
import csv
import gzip
import lzma
import re
from typing import NamedTuple

import numpy as np

from sgdnoise.data._columns import Choice, ReadError, Table, names_of
from sgdnoise.data._header import is_header, may_be_header, number

PACKED = (".gz", ".bz2", ".xz")
COMMENTS = ("#", "%")
EXCEL = re.compile(r"sep=.", re.IGNORECASE)  # a first line that tells Excel the delimiter
# Delimiter and decimal mark, the likelier ones first; None is any white space.
FORMS: list[tuple[str | None, str]] = [
    *((";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", "."), (",", "."), (",", ",")),
    *((None, "."), (None, ",")),
]
NAMES = {";": "semicolons", "\t": "tabs", "|": "bars", None: "spaces"}
FRACTION = re.compile(r"[+-]?\d+,(\d+)")  # a number with a decimal comma, or two whole ones
SAMPLE = 100  # lines from which the form of a file is recognised
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}
TRUTH = {"true": 1.0, "false": 0.0}


class Form(NamedTuple):
    """Delimiter, decimal mark, and the number of cells in a line."""

    delimiter: str | None
    decimal: str
    width: int


def read_text(file, choice: Choice, header: bool | None = None) -> Table:
    """The columns of a text file that were chosen.

    Lines that begin with # or % are comments; the last one before the points names the columns if
    it has as many words.  header: whether the first line is one; by default that is recognised.
    Raises ReadError, with the line, for a header of fewer names than columns, for lines of
    different lengths, for words in a chosen column, and for an index column that was not dropped.
    """
    lines, comment = _lines(_text(file))
    if not lines:
        raise ReadError(f"{file.name} holds no points: it has no lines, or only comments")
    form = _form([line for _, line in lines])
    if _is_one_column([line for _, line in lines], form):
        form = Form(None, ",", 1)
    first = cells(lines[0][1], form)
    unnamed_end = len(first) < form.width or not first[-1]
    ends_empty = unnamed_end and _ends_empty([line for _, line in lines[1:]], form)
    width = form.width - ends_empty
    rows = [cells(line, form)[:width] for _, line in lines[1 : SAMPLE + 1]]
    headed = _headed(header, first[:width], rows, form, file)
    names = [cell.strip() for cell in first] if headed else _named_by(comment, form, width)
    if names is not None:
        names = names[:width] if ends_empty and not names[-1] else names
        _check_names(names, width, lines[0][0], file)
    lines = lines[headed:]
    if not lines:
        raise ReadError(f"{file.name} holds no points: it has no lines below its header")
    places = choice.places(names, width, file.name)
    _refuse_index(names, places, choice, file)
    points = _numbers(lines, form, places, names, file)
    notes = _notes(form, names, places, headed, ends_empty)
    if not headed and header is None and may_be_header(first, rows, form.decimal):
        listed = ", ".join(first[:6]) + (", ..." if width > 6 else "")
        notes += (f"its first line, {listed}, is a point (--header if it is a header)",)
    if form == (",", ".", 2) and FRACTION.fullmatch(lines[0][1]):
        notes += ("commas separate its two columns, and are no decimal marks",)
    return Table(points, None if names is None else [names[i] for i in places], notes)


def cells(line: str, form: Form) -> list[str]:
    """The cells of a line, without quotes and without white space about them."""
    if '"' in line:
        words = next(csv.reader([line], delimiter=form.delimiter or " ", skipinitialspace=True))
    else:
        words = line.split(form.delimiter)
    return [word.strip() for word in words]


def _text(file):
    """The text of a file, packed or not, in UTF-8, UTF-16 or Latin-1."""
    with _opened(file) as stream:
        content = stream.read()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16")
        if "\n" not in text:
            raise ValueError("it is no text")
        return text
    if b"\0" in content:
        raise ValueError("it is no text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _opened(file):
    match file.suffix.lower():
        case ".gz":
            return gzip.open(file)
        case ".bz2":
            return bz2.open(file)
        case ".xz":
            return lzma.open(file)
    return open(file, "rb")


def _lines(text):
    """The numbers, from 1, and the texts of lines that are neither blank nor comments.

    Also the last comment before the first of them, or None.
    """
    lines: list[tuple[int, str]] = []
    comment = None
    for i, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        stripped = line.strip(" ")
        if not lines and EXCEL.fullmatch(stripped.strip()):
            continue
        if stripped.startswith(COMMENTS):
            comment = comment if lines else stripped.lstrip("".join(COMMENTS)).strip()
        elif stripped.strip():
            lines.append((i, stripped))
    return lines, comment


def _form(lines):
    """The form under which most cells below the first line are numbers."""
    body = lines[1:] or lines
    sample = body[: SAMPLE // 2] + body[SAMPLE // 2 :][-SAMPLE // 2 :]
    return max((_scored(sample, *form) for form in FORMS), key=lambda item: item[0])[1]


def _is_one_column(lines, form):
    """Whether all commas are decimal marks: of numbers such as 0,07 or -0,5 in a single column.

    Two columns of whole numbers look alike but for zeros that no whole number begins with, and a
    header of two names.
    """
    matches = [m for line in lines[1:] if (m := FRACTION.fullmatch(line))]
    if form[:2] != (",", ".") or len(matches) != len(lines) - 1 or not matches:
        return False
    one_name = re.fullmatch(r'[^\W\d]\w*|"[^",]*"', lines[0].strip()) is not None
    zeros = any((m[1].startswith("0") and len(m[1]) > 1) or m[0].startswith("-0,") for m in matches)
    return one_name or zeros


def _scored(sample, delimiter, decimal):
    """How well a delimiter and a decimal mark explain lines, and the form."""
    form = Form(delimiter, decimal, 0)
    rows = [cells(line, form) for line in sample]
    widths = [len(row) for row in rows]
    width = max(set(widths), key=widths.count)
    regular = widths.count(width) / len(rows)
    words = [word for row in rows for word in row]
    numbers = sum(number(word, decimal) is not None for word in words)
    known = numbers + sum(word.lower() in MISSING for word in words)
    return (round(regular * known / len(words), 3), numbers > 0, width), form._replace(width=width)


def _ends_empty(lines, form):
    """Whether every line ends with a delimiter, after which there is an empty column."""
    delimited = form.delimiter is not None and form.width > 1 and bool(lines)
    return delimited and all(line.endswith(form.delimiter) for line in lines)


def _headed(header, first, rows, form, file):
    if header is not None:
        return header
    if not rows:  # a single line
        return not any(number(cell, form.decimal) is not None for cell in first)
    if len(first) != form.width and all(number(c, form.decimal) is not None for c in first):
        if len(first) == len(rows[0]):
            return is_header(first, rows, form.decimal)
        raise ReadError(
            f"{file.name} holds no array of numbers: its first line has {len(first)} numbers "
            f"and the next has {len(rows[0])}"
        )
    return is_header(first, rows, form.decimal)


def _named_by(comment, form, width):
    """The names in a comment, as numpy.savetxt writes them, or None."""
    if not comment:
        return None
    words = cells(comment, form)
    named = len(words) == width and not all(number(w, form.decimal) is not None for w in words)
    return words if named and all(words) else None


def _check_names(names, width, line, file):
    if len(names) != width:
        listed = ", ".join(names)[:60]
        raise ReadError(
            f"line {line} of {file.name} names {len(names)} columns ({listed}) and the lines below "
            f"have {width}; name every column, or begin the line with # if it is a comment"
        )


def _refuse_index(names, places, choice, file):
    """Raise ReadError for a first column as pandas writes an index, unless it was asked for."""
    asked = not names or len(names) < 2 or 0 not in places or choice.columns
    if not asked and (names[0] == "" or names[0].lower().startswith("unnamed: ")):
        raise ReadError(
            f"the first column of {file.name} has no name and is probably an index; omit it, "
            "in pandas by index=False, or here by --drop 0"
        )


def _numbers(lines, form, places, names, file):
    """The chosen columns as numbers, fast if all cells are plain, otherwise cell by cell."""
    texts = [line for _, line in lines]
    plain = form.decimal == "." or form.delimiter != ","  # else all cells are in quotes
    if form.decimal == ",":
        texts = [line.replace(",", ".") for line in texts]
    if plain and not any("_" in line for line in texts):
        try:
            points = np.loadtxt(
                texts,
                delimiter=form.delimiter,
                usecols=places,
                ndmin=2,
                comments=None,
                quotechar='"',
            )
        except ValueError:
            return _slowly(lines, form, places, names, file)
        if form.width == 1 or form.delimiter is None or _all_of_width(texts, form):
            return points
    return _slowly(lines, form, places, names, file)


def _all_of_width(texts, form):
    """Whether no line has more cells than the others; loadtxt ignores surplus cells."""
    return all(line.count(form.delimiter) == form.width - 1 or '"' in line for line in texts)


def _slowly(lines, form, places, names, file):
    points = np.empty((len(lines), len(places)))
    words: dict[int, str] = {}
    for row, (line, text) in enumerate(lines):
        found = cells(text, form)
        if len(found) != form.width:
            raise ReadError(
                f"{file.name} holds no array of numbers: line {line} has {len(found)} cells and "
                f"the others have {form.width}"
            )
        for column, place in enumerate(places):
            value = _value(found[place], form.decimal)
            if value is None:
                words.setdefault(place, f"{found[place]!r} in line {line}")
            points[row, column] = np.nan if value is None else value
    if words and len(words) == len(places) and _are_in_line(words, lines[0][0]):
        raise ReadError(
            f"line {lines[0][0]} of {file.name} is not of numbers, as a second header; delete it, "
            "or begin it with #"
        )
    if words:
        listed = [f"{names_of(names, place)} ({cell[:40]})" for place, cell in words.items()]
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        raise ReadError(
            f"{file.name} has columns that are not of numbers: {', '.join(listed[:3])}{more}; "
            "--drop leaves columns out"
        )
    return points


def _are_in_line(words, line):
    return all(cell.endswith(f" in line {line}") for cell in words.values())


def _value(cell, decimal):
    value = number(cell, decimal)
    if value is not None:
        return value
    low = cell.lower()
    return np.nan if low in MISSING else TRUTH.get(low)


def _notes(form, names, places, headed, ends_empty):
    """What was recognised, in a few words each."""
    notes = []
    if names is not None:
        listed = ", ".join(names[i] for i in places[:6]) + (", ..." if len(places) > 6 else "")
        origin = "its first line is a header" if headed else "a comment names its columns"
        notes.append(f"{origin}, {listed}")
    if form.delimiter in NAMES and form.width > 1:
        notes.append(f"{NAMES[form.delimiter]} separate its columns")
    if form.decimal == ",":
        notes.append("commas are decimal marks")
    if ends_empty:
        notes.append("the last column is empty and was left out")
    return tuple(notes)
