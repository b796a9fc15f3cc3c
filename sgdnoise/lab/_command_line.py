"""The command `sgdnoise`: dimensions of a file of points, and verdicts of the studies."""

import warnings
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import rich.box
import rich.table
import typer
from typer import Option

from sgdnoise import __version__
from sgdnoise.lab._survey import (
    BALLS,
    FIRST,
    Row,
    calibrate_on_balls,
    measure,
    neighbours,
    recommend,
)
from sgdnoise.lab._survey_report import CREATOR, draw_profile, show_rows
from sgdnoise.lab._terminal import console, exit_on_error, progress, say, show, writable

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__
)
STUDIES = Path("simulations")
OUT = Path("out/dimension")
MAX_POINTS = 5_000  # points that are used unless more are asked for


def _print_version(requested: bool) -> bool:
    if requested:
        say(f"sgdnoise {__version__}")
        raise typer.Exit
    return requested


@app.callback()
def options(
    version: Annotated[
        bool,
        Option("--version", is_eager=True, callback=_print_version, help="print the version"),
    ] = False,
) -> None:
    """Estimate dimensions, and judge studies."""


class Repeated(StrEnum):
    """What to do with points that repeat others."""

    merge = "merge"
    refuse = "refuse"


@app.command()
def dimension(
    file: Annotated[
        Path,
        typer.Argument(help="points, one a row: .npy, .npz, .csv, .parquet, .pt or .safetensors"),
    ],
    key: Annotated[str | None, Option(help="which array of the file, if it has several")] = None,
    flatten: Annotated[bool, Option("--flatten", help="make a row of each image or array")] = False,
    estimator: Annotated[
        list[str] | None, Option(help="one to show; repeat for more", show_default="all")
    ] = None,
    calibrate: Annotated[
        bool,
        Option(
            help="also correct each value by simulated balls: minutes the first time, then cached"
        ),
    ] = False,
    duplicates: Annotated[
        Repeated, Option(help="what to do with points that repeat others")
    ] = Repeated.merge,
    points: Annotated[
        int | None,
        Option(help="rows to take, at random", show_default=f"all, or {MAX_POINTS} of more"),
    ] = None,
    picture: Annotated[
        Path | None,
        Option(
            help="file of the picture: .png, .pdf or .svg", show_default="dimension.png in --out"
        ),
    ] = None,
    out: Annotated[Path, Option(help="folder of the picture")] = OUT,
    seed: Annotated[
        int, Option(min=0, help="seed of the rows that are taken, and of the picture")
    ] = 0,
) -> None:
    """Print the dimension of the points of a file, by each estimator, with its error.

    Take the value of the first row. Standard errors come from 5 partitions into 5 groups.

    The picture shows how the dimension changes with scale.
    """
    from sgdnoise.dimension._points import Ties, unique_points

    with exit_on_error("nothing was written"):
        names = _names(estimator)
        target = _target(picture, out)
        cloud = _rows(file, key, flatten, points, seed)
        writable(target.parent)
        with _printed_warnings():
            cloud = unique_points(cloud, refuse=duplicates is Repeated.refuse)
        with _printed_warnings():
            near = neighbours(cloud)
        rows = _survey(near, names, calibrate)
        show_rows(rows, calibrate)
        say(recommend(rows))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Ties)  # they were printed already
            draw_profile(cloud, file.name, target, seed)


@app.command()
def verdicts(
    folder: Annotated[Path, typer.Argument(help="folder of studies, in a checkout")] = STUDIES,
    study: Annotated[
        list[str] | None, Option(help="show each claim of this one; repeat for more")
    ] = None,
) -> None:
    """Judge the committed results of all studies: exit status 1 if a claim in its regime fails."""
    from sgdnoise.lab._commands import load_study, study_names
    from sgdnoise.lab._verdict import exit_status, summary

    with exit_on_error("nothing was written"):
        if not (names := study_names(folder)):
            raise ValueError(
                f"there are no studies in {folder}: verdicts needs a checkout of the repository"
            )
        if unknown := set(study or ()) - set(names):
            raise ValueError(f"there is no study {unknown.pop()!r}; there are {', '.join(names)}")
        origins, judged = {}, {}
        for name in names:
            loaded = load_study(folder, name)
            for label_of_part, dataset in loaded.read().items() if loaded.stored.exists() else ():
                label = f"{name}/{label_of_part}" if label_of_part else name
                origins[label] = dataset.attrs
                judged[label] = loaded.parts[label_of_part].judge(dataset)
                if name in (study or ()):
                    show(label, judged[label])
        _overview(origins, judged)
        everything = [v._replace(name=f"{k}, {v.name}") for k, vs in judged.items() for v in vs]
        if failing := [v for v in everything if v.claimed and v.outcome == "fails"]:
            show("Claims that fail in their regime", failing)
        say(summary(everything))
    raise SystemExit(exit_status(everything))


@app.command()
def sweep(folder: Annotated[Path, typer.Argument(help="folder of a sweep")]) -> None:
    """Print how many points of a sweep are finished, running, failed and left."""
    from sgdnoise.lab._sweep._status import progress_text

    with exit_on_error("nothing was written"):
        say(progress_text(folder))


def _overview(origins, judged):
    """A line for each study: where and when it ran, and the outcomes of its claims."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column("study")
    for heading in ("device", "date"):
        table.add_column(heading, no_wrap=heading == "date")
    outcomes = ("holds", "fails", "undecided")
    for heading in (*outcomes, "outside"):
        table.add_column(heading, justify="right")
    for name, verdicts in judged.items():
        inside = [v.outcome for v in verdicts if v.claimed]
        counts = [*map(inside.count, outcomes), len(verdicts) - len(inside)]
        device, day = (origins[name].get(key, "?") for key in ("device", "date"))
        table.add_row(name, device, day[:10], *(f"{n}" if n else "-" for n in counts))
    console.print(table)


def _names(requested):
    """The estimators to show, in order; `learned`, the value of `estimate`, only on request."""
    from sgdnoise.dimension._catalogue import ESTIMATORS

    known = [FIRST, *ESTIMATORS]
    for name in requested or ():
        if name not in known:
            raise ValueError(f"there is no estimator {name!r}; there are {', '.join(known)}")
    return [name for name in known if (name in requested if requested else name != "learned")]


def _target(picture, out):
    """The file of the picture: a new one, or one that this command made."""
    path = out / "dimension.png" if picture is None else picture
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"the name of a picture ends in .png, .pdf or .svg, unlike {path.name}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file for the picture")
    if path.exists() and CREATOR.encode() not in path.read_bytes():
        raise ValueError(f"{path} exists and is not from this command; give another --picture")
    return path


def _rows(file, key, flatten, count, seed):
    """The rows of the file to use, after it was printed how many they are."""
    from sgdnoise.data._read import has_header, read_points

    points = read_points(file, key=key, flatten=flatten)
    n, width = points.shape
    first = has_header(file) if file.suffix.lower() == ".csv" else None
    names = "" if first is None else f"; its first line is a header, {', '.join(first)}"[:60]
    say(f"{file}: {n} points in {width} dimensions{names}", soft_wrap=True)
    if count is not None and not 2 <= count <= n:
        raise ValueError(f"--points takes 2 to {n} of the {n} rows, not {count}")
    if (count := count or min(n, MAX_POINTS)) == n:
        return np.asarray(points)
    say(f"taking {count} rows at random, by seed {seed} (--points takes more or fewer)")
    return points[np.sort(np.random.default_rng(seed).choice(n, count, replace=False))]


@contextmanager
def _printed_warnings():
    """Print the warnings of the body as sentences."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        say(str(warning.message))


def _survey(near, names, calibrate):
    """A row for each estimator, with a progress bar."""
    fit = [name for name in names if name in BALLS] if calibrate else []
    if fit:
        say(f"calibrating on balls of {len(near.points)} points takes minutes, the first time only")
    rows: dict[str, Row] = {}
    done: list[str] = []
    with progress("estimators", lambda: len(done), len(names) + len(fit)):
        for name in names:
            rows[name] = measure(name, near)
            done.append(name)
        for name in fit:
            rows[name] = calibrate_on_balls(rows[name], near)
            done.append(name)
    return list(rows.values())
