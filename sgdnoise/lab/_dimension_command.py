"""The command `sgdnoise dimension`: the dimension of a file of points."""

import warnings
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from typer import Option

from sgdnoise.data._read import read_table
from sgdnoise.dimension._catalogue import ESTIMATORS
from sgdnoise.dimension._metric import in_metric
from sgdnoise.dimension._serial import check_window
from sgdnoise.lab._profile import profile_of
from sgdnoise.lab._survey import (
    BALLS,
    FIRST,
    MIN_POINTS,
    SHOWN,
    Row,
    Settings,
    calibrate_on_balls,
    measure,
    neighbours,
    recommend,
    shell_words,
)
from sgdnoise.lab._survey_report import (
    CREATOR,
    errors_as_json,
    json_text,
    show_rows,
)
from sgdnoise.lab._terminal import exit_on_error, progress, say, writable

OUT = Path("out/dimension")
MAX_POINTS = 5_000  # points that are used unless more are asked for
WIDE = 2  # columns for each row from which the two may have been exchanged
FORMATS = (
    ".npy, .npz, .mat, .h5, .nwb, .csv, .tsv or .txt (also .gz), .parquet, .pt, .pth, .safetensors"
)


class Repeated(StrEnum):
    """What to do with points that repeat others."""

    merge = "merge"
    refuse = "refuse"


class Metric(StrEnum):
    """The distance between two points."""

    euclidean = "euclidean"
    cosine = "cosine"
    correlation = "correlation"


class Reading(NamedTuple):
    """How to read the points of a file."""

    key: str | None
    flatten: bool
    transpose: bool
    columns: list[str] | None
    drop: list[str] | None
    header: bool | None


def dimension(
    file: Annotated[Path, typer.Argument(help=f"points, one a row: {FORMATS}")],
    key: Annotated[
        str | None, Option(help="which array of the file, by name or path, if it has several")
    ] = None,
    columns: Annotated[
        list[str] | None,
        Option(
            help="columns of the file to take: names, places from 0, or ranges 2:5",
            show_default="all",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        Option(
            help="columns of the file to leave out, such as an index or a time", show_default="none"
        ),
    ] = None,
    transpose: Annotated[
        bool, Option("--transpose", help="points are the columns of the array, not its rows")
    ] = False,
    flatten: Annotated[bool, Option("--flatten", help="make a row of each image or array")] = False,
    header: Annotated[
        bool, Option("--header", help="the first line of a text is a header: do not guess")
    ] = False,
    no_header: Annotated[
        bool, Option("--no-header", help="the first line of a text is a point: do not guess")
    ] = False,
    all_estimators: Annotated[
        bool, Option("--all", help="show all estimators, with a line on each")
    ] = False,
    estimator: Annotated[
        list[str] | None,
        Option(help="one to show; repeat for more", show_default=", ".join(SHOWN)),
    ] = None,
    noisy: Annotated[
        bool, Option("--noisy", help="the points have noise: estimate what is below it")
    ] = False,
    exclude: Annotated[
        str,
        Option(help="rows are moments in time: rows within as many are no neighbours, or auto"),
    ] = "0",
    metric: Annotated[
        Metric,
        Option(help="euclidean, cosine (for embeddings) or correlation", metavar="<str>"),
    ] = Metric.euclidean,
    calibrate: Annotated[
        bool,
        Option(
            "--calibrate",
            help="also correct values by simulated balls: minutes at first, then cached",
        ),
    ] = False,
    duplicates: Annotated[
        Repeated, Option(help="merge or refuse points that repeat others", metavar="<str>")
    ] = Repeated.merge,
    points: Annotated[
        int | None,
        Option(help="rows to take, at random", show_default=f"all, or {MAX_POINTS} of more"),
    ] = None,
    picture: Annotated[
        Path | None,
        Option(help="picture, .png, .pdf or .svg", show_default="FILE.png in --out"),
    ] = None,
    out: Annotated[Path, Option(help="folder of the picture")] = OUT,
    seed: Annotated[
        int, Option(min=0, help="seed of the rows that are taken, and of the picture")
    ] = 0,
    as_json: Annotated[bool, Option("--json", help="print one JSON object and no words")] = False,
) -> None:
    first_line = True if header else False if no_header else None
    reading = Reading(key, flatten, transpose, columns, drop, first_line)
    with exit_on_error("nothing was written"), errors_as_json(file, as_json):
        names = _names(estimator, all_estimators)
        target = _target(picture, out, file)
        told = Told(as_json)
        settings = Settings(noisy, _window(exclude))
        table = _read(file, reading, told)
        cloud = _taken(table.points, points, seed, settings, told)
        cloud = in_metric(np.asarray(cloud), metric.value)
        writable(target.parent)
        with told.warnings():
            settings = _in_rows(settings, cloud, told)
            refuse = duplicates is Repeated.refuse
            near, shared = neighbours(cloud, names, settings, refuse=refuse)
        rows = _survey(near, shared, names, calibrate, settings, told)
        profile, by = profile_of(near.points, settings, seed, told, shared)
        sentences = recommend(rows)
        from sgdnoise.lab._profile_figure import draw_profile  # matplotlib takes time to load

        drawn = profile and draw_profile(profile, by, rows, file.name, target)
        if as_json:
            print(json_text(file, table, near, rows, sentences, profile, told, drawn))
            return
        show_rows(rows, calibrate)
        for sentence in sentences:
            say(sentence)
        if not (estimator or all_estimators):
            say("--all shows all estimators")
        if drawn is not None:
            say(f"  {drawn}", soft_wrap=True)


dimension.__doc__ = "\n\n".join(
    (
        "Print the dimension of the points of a file, and draw it against scale.",
        f"The first row is the recommended estimate; it needs {MIN_POINTS} rows or more. The value "
        "of participation_ratio answers another question: how many dimensions the points span. "
        "Errors are standard errors.",
        "Example: sgdnoise dimension activations.npy",
    )
)


class Told:
    """What was said besides the results: printed at once, or kept for JSON."""

    def __init__(self, quiet: bool):
        self.quiet = quiet
        self.sentences: list[str] = []

    def say(self, sentence: str, *, warning: bool = False) -> None:
        """Print a sentence once."""
        if sentence in self.sentences:
            return
        self.sentences.append(sentence)
        if not self.quiet:
            say(f"warning: {sentence}" if warning else sentence)

    @contextmanager
    def warnings(self):
        """Print the warnings of the body as sentences."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            self.say(shell_words(str(warning.message)), warning=True)


def _names(requested, everything):
    """The estimators to show, in order; `learned`, the value of `estimate`, only on request."""
    known = [FIRST, *ESTIMATORS]
    for name in requested or ():
        if name not in known:
            raise ValueError(f"there is no estimator {name!r}; there are {', '.join(known)}")
    if requested:
        return [name for name in known if name in requested]
    return [name for name in known if name != "learned" and (everything or name in SHOWN)]


def _target(picture, out, file):
    """The file of the picture: a new one, or one that this command made."""
    path = out / f"{file.name.partition('.')[0] or 'dimension'}.png" if picture is None else picture
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"the name of a picture ends in .png, .pdf or .svg, unlike {path.name}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file for the picture")
    if path.exists() and CREATOR.encode() not in path.read_bytes():
        raise ValueError(f"{path} exists and is not from this command; give another --picture")
    return path


def _window(exclude):
    """The rows to exclude: a number, or auto."""
    if exclude != "auto" and not exclude.isdigit():
        raise ValueError(f"--exclude takes a number of rows, 0 or more, or auto, not {exclude!r}")
    return exclude if exclude == "auto" else int(exclude)


def _read(file, reading, told):
    """The points of the file, after it was printed what they are."""
    with told.warnings():
        table = read_table(file, **reading._asdict())
    n, width = table.points.shape
    size = f"{n} point{'s' * (n != 1)} in {width} dimension{'s' * (width != 1)}"
    told.say("; ".join([f"{file}: {size}", *table.notes]))
    if width >= WIDE * n:
        told.say(
            f"there are more columns, {width}, than rows, {n}; if rows are neurons or variables "
            "and columns are moments or samples, --transpose makes the columns the points",
            warning=True,
        )
    return table


def _taken(points, count, seed, settings, told):
    """The rows to use: all, some at random, or where time matters the first ones."""
    n = len(points)
    if count is not None and not 2 <= count <= n:
        raise ValueError(f"--points takes 2 to {n} of the {n} rows, not {count}")
    if (count := count or min(n, MAX_POINTS)) == n:
        return points
    if settings.exclude != 0:
        told.say(f"taking the first {count} rows (--points takes more or fewer)")
        return points[:count]
    told.say(f"taking {count} rows at random, by seed {seed} (--points takes more or fewer)")
    return points[np.sort(np.random.default_rng(seed).choice(n, count, replace=False))]


def _in_rows(settings, points, told):
    """The settings with the number of rows to exclude, which is printed if it was found here."""
    window = check_window(settings.exclude, points)
    if settings.exclude == "auto":
        told.say(f"rows within {window} of each other are no neighbours, by their autocorrelation")
    return settings._replace(exclude=window)


def _survey(near, shared, names, calibrate, settings, told):
    """A row for each estimator, with a progress bar."""
    fit = [name for name in names if name in BALLS] if calibrate else []
    if fit:
        told.say(
            f"calibrating on balls of {len(near.points)} points takes minutes, the first time only"
        )
    rows: dict[str, Row] = {}
    done: list[str] = []
    with progress("estimators", lambda: len(done), len(names) + len(fit), quiet=told.quiet):
        for name in names:
            rows[name] = measure(name, near, settings, told.sentences, shared)
            done.append(name)
        for name in fit:
            rows[name] = calibrate_on_balls(rows[name], near)
            done.append(name)
    return list(rows.values())
