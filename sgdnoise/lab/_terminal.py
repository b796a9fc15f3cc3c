"""What a person sees at the terminal: progress, verdicts, where the files are."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import rich.box
import rich.console
import rich.progress
import rich.table
import typer

from sgdnoise.lab._plot import save, svg
from sgdnoise.lab._report import Table, html
from sgdnoise.lab._store import atomic_write, code_hash, provenance, write
from sgdnoise.lab._sweep._conduct import Incomplete, sweep
from sgdnoise.lab._sweep._executors import workers
from sgdnoise.lab._sweep._keys import fingerprint
from sgdnoise.lab._sweep._storage import tally
from sgdnoise.lab._sweep._worker import Failure
from sgdnoise.lab._verdict import HEADINGS, Verdict, columns, exit_status, row, summary

# What every study may be told.
Small = Annotated[bool, typer.Option("--small", help="a few seconds, for a look")]
Jobs = Annotated[int, typer.Option(help="processes")]
Cluster = Annotated[
    str | None, typer.Option(help="address of a Dask scheduler, whose workers see the folder")
]
Out = Annotated[Path, typer.Option(help="folder for results; a stopped run goes on there")]

console = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 140)
WIDE = 116  # columns that the whole verdict table takes
MOST, LINES = 20, 6  # failures that are listed, and lines of the first one's traceback
COLOUR = {"holds": "green", "fails": "bold red", "undecided": "yellow"}


def fail(sentence: str) -> NoReturn:
    """Say what is wrong in one sentence and end with status 2: bad input."""
    rich.console.Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"error: {sentence}", markup=False
    )
    raise SystemExit(2)


@contextmanager
def exit_on_error(again: str):
    """Bad input ends in a sentence and status 2, Ctrl-C in `again` and 130.

    Points of a sweep that failed end in a list of them and status 3, as do processes that are gone.
    """
    try:
        yield
    except Incomplete as some:
        _listed(some.failures)
        console.print(f"all others are kept; {again}", markup=False)
        raise SystemExit(3) from None
    except BrokenExecutor as error:
        text = f"\na process that did the work is gone ({error}); {again}"
        console.print(text, markup=False, soft_wrap=True)
        raise SystemExit(3) from None
    except ValueError as error:
        fail(str(error))
    except KeyboardInterrupt:
        console.print(f"\nstopped; {again}", markup=False)
        raise SystemExit(130) from None


def _listed(failures):
    """What failed, a line each, and the last lines of the first traceback."""
    count = "1 point" if len(failures) == 1 else f"{len(failures)} points"
    console.print(f"\n{count} failed:", markup=False)
    for failure in failures[:MOST]:
        at = ", ".join(f"{name} {value}" for name, value in failure.point.items())
        console.print(f"  {at}: {failure.error}", markup=False, soft_wrap=True)
    if len(failures) > MOST:
        console.print(f"  and {len(failures) - MOST} more")
    for line in failures[0].traceback.splitlines()[-LINES:]:
        console.print(f"    {line}", markup=False, soft_wrap=True)


def writable(folder) -> Path:
    """The folder, made if need be.  Raises ValueError where nothing can be written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".writable-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to the folder {folder}: {error.strerror}") from None
    return folder


@contextmanager
def progress(what: str, count: Callable[[], int | tuple[int, int]], total: int):
    """How many are done, how fast, the time left and what failed, while the body runs.

    count: () -> done, or (done, failed).  A bar, or plain lines where there is no terminal.
    """
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("elapsed"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.fields[rest]}"),
    )
    over, began, first = threading.Event(), time.monotonic(), sum(_counted(count))
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=first, rest="")

        def look():
            said = began
            while not over.wait(0.5):
                (done, failed), now = _counted(count), time.monotonic()
                rest = pace(done + failed - first, total - done - failed, now - began, failed)
                bar.update(task, completed=done, rest=rest)
                if not console.is_terminal and now - said > 15:
                    console.print(f"{what}: {done} of {total}, {rest}")
                    said = now

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
            bar.update(task, completed=total, rest="")
        finally:
            over.set()
            thread.join()


def _counted(count):
    found = count()
    return found if isinstance(found, tuple) else (found, 0)


def pace(done: int, left: int, seconds: float, failed: int = 0) -> str:
    """How fast it goes, the time left at that rate, and how many failed."""
    rate = done / seconds if seconds > 0 else 0
    speed = f"{rate:.3g} a second, " if rate >= 1 else f"{60 * rate:.3g} a minute, "
    return f"{speed if done else ''}{time_left(done, left, seconds)} left" + (
        f", {failed} failed" if failed else ""
    )


def time_left(done: int, left: int, seconds: float) -> str:
    """Minutes and seconds at the rate so far; `...` before anything is done."""
    if not done:
        return "..."
    guess = round(left * seconds / done)
    return f"{guess // 60}:{guess % 60:02d}"


def show(title: str, verdicts: list[Verdict]) -> None:
    """The verdict table on the terminal; a narrow one leaves out what the others imply."""
    left_out = set() if console.width >= WIDE else {"deviation", "allowed", "regime"}
    shown = [place for place, heading in enumerate(HEADINGS) if heading not in left_out]
    table = rich.table.Table(
        title=title, title_justify="left", title_style="bold", box=rich.box.SIMPLE_HEAD
    )
    for heading in (HEADINGS[place] for place in shown):
        words = heading in ("claim", "verdict")
        table.add_column(heading, justify="left" if words else "right", no_wrap=heading != "claim")
    for verdict in verdicts:
        style = COLOUR[verdict.outcome] if verdict.claimed else "dim"
        cells = row(verdict)
        outcome = cells[-1] if verdict.claimed else f"({cells[-1]})"
        table.add_row(*(cells[place] for place in shown[:-1]), f"[{style}]{outcome}[/]")
    console.print(table)


def command(main: Callable[..., None]) -> None:
    """Run the main function of a study with what the shell has given it."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()


def sweep_one(run: Callable[..., Any], grid: dict, folder: Path, *, jobs: int, cluster=None):
    """The `sweep` of one grid: see `all_swept`."""
    return sweep_all({"points": (run, grid)}, folder, jobs=jobs, cluster=cluster)["points"]


def sweep_all(
    parts: Mapping[str, tuple[Callable[..., Any], dict]], folder: Path, *, jobs: int, cluster=None
) -> dict[str, Any]:
    """The `sweep` of each part, (run, grid), kept in a folder of its name, behind one bar.

    A point that fails stops no part: Incomplete is raised at the end, with the failures of all.
    """
    total = sum(math.prod(map(len, grid.values())) for _, grid in parts.values())
    found: dict[str, Any] = {}
    failures: list[Failure] = []
    with workers(jobs, cluster) as pool, progress("points", partial(tally, folder), total):
        for name, (run, grid) in parts.items():
            try:
                found[name] = sweep(run, grid, pool, folder / name)
            except Incomplete as some:
                failures += some.failures
    if failures:
        raise Incomplete(failures)
    return found


def run_study(
    study: Callable[..., Any],
    arguments: dict,
    claims: Any,
    picture: Any,
    out: Path,
    *,
    device: str = "cpu",
    lead: Iterable[str] = (),
) -> NoReturn:
    """Run a study, judge, draw and write, and end with its exit status.

    study: (folder=) -> Dataset; the folder, inside `out`, is that of these arguments and this code,
    so that a stopped study goes on.  claims: a module with verdicts, tables, TITLE and LEAD, which
    `lead` replaces; picture: one with figures.  device: its name, as results tell of it.
    Provenance is taken before the run: of the code that runs.
    """
    began = time.monotonic()
    folder = writable(out / f"work-{fingerprint(source=code_hash(), **arguments)}")
    origin = provenance(arguments, device, seed=arguments.get("seed"))
    results = study(folder=folder)
    origin |= {"seconds": round(time.monotonic() - began, 1)} | cpu_seconds(results)
    drawn, tables = picture.figures(results), claims.tables(results)
    told = {"title": claims.TITLE, "lead": lead or claims.LEAD, "origin": origin, "out": out}
    raise SystemExit(publish(results, claims.verdicts(results), drawn, tables, **told))


def cpu_seconds(results) -> dict:
    """The CPU seconds of all points, whenever and wherever they ran, where a sweep knows them."""
    known = "cpu_seconds" in results.attrs
    return {"cpu_seconds": round(results.attrs["cpu_seconds"], 1)} if known else {}


def publish(
    results,
    verdicts: list[Verdict],
    figures: dict[str, tuple[str, Any]],
    tables: list[Table],
    *,
    title: str,
    lead: Iterable[str],
    origin: dict,
    out: Path,
) -> int:
    """Print the verdicts, write what is to be kept into `out`, print the paths: exit status.

    figures: stem -> (caption, figure), each a PDF and a PNG; beside them report.html, results.nc.
    """
    show(title, verdicts)
    console.print(summary(verdicts))
    write(results.assign(columns(verdicts)), out / "results.nc", **origin)
    paths = [path for stem, (_, drawn) in figures.items() for path in save(drawn, out / stem)]
    drawings = [(caption, svg(drawn)) for caption, drawn in figures.values()]
    with atomic_write(out / "report.html") as new:
        new.write_text(html(title, lead, verdicts, drawings, tables, origin), encoding="utf-8")
    for path in (*paths, out / "report.html", out / "results.nc"):
        console.print(f"  {path}", markup=False, soft_wrap=True)
    return exit_status(verdicts)
