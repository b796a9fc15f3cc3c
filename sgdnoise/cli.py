"""What a person sees at the terminal: progress, verdicts, where the files are."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

import rich.box
import rich.console
import rich.progress
import rich.table

from sgdnoise.plot import save, svg
from sgdnoise.report import Table, html
from sgdnoise.store import provenance, source, whole, write
from sgdnoise.sweep import fingerprint
from sgdnoise.verdict import HEADINGS, Verdict, columns, row, status, summary

__all__ = [
    "conduct",
    "console",
    "fail",
    "finish",
    "guarded",
    "progress",
    "show",
    "workers",
    "writable",
]

console = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 140)
WIDE = 116  # columns that the whole verdict table takes
COLOUR = {"holds": "green", "fails": "bold red", "undecided": "yellow"}
THREADS = {
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def fail(sentence: str) -> NoReturn:
    """Say what is wrong in one sentence and end with status 2: bad input."""
    rich.console.Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"error: {sentence}", markup=False
    )
    raise SystemExit(2)


@contextmanager
def guarded(again: str):
    """Bad input ends in a sentence and status 2, a lost process in `again` and 3, Ctrl-C in 130."""
    try:
        yield
    except BrokenExecutor:
        console.print(f"\na process that did the work is gone; {again}", markup=False)
        raise SystemExit(3) from None
    except ValueError as error:
        fail(str(error))
    except KeyboardInterrupt:
        console.print(f"\nstopped; {again}", markup=False)
        raise SystemExit(130) from None


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
def workers(jobs: int):
    """Processes of one thread each, which end with this one however it ends."""
    if jobs < 1:
        raise ValueError(f"at least one process must do the work, not {jobs}")
    os.environ.update({k: os.environ.get(k, v) for k, v in THREADS.items()})
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_follow, initargs=(os.getpid(),)
    )
    try:
        with _deaf():
            for _ in range(jobs):
                pool.submit(int)  # starts a process
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf():
    """Processes started in here do not hear Ctrl-C, which is their parent's to answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(parent):
    """End this process when its parent is gone: kill -9 leaves nobody behind."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def progress(what: str, count: Callable[[], int], total: int):
    """A bar with the time left while the body runs; plain lines where there is no terminal."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("elapsed"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TextColumn("{task.fields[left]}"),
    )
    over, began, first = threading.Event(), time.monotonic(), count()
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=first, left="...")

        def look():
            said = began
            while not over.wait(0.5):
                done, now = count(), time.monotonic()
                left = time_left(done - first, total - done, now - began)
                bar.update(task, completed=done, left=left)
                if not console.is_terminal and now - said > 15:
                    rest = f", {left} left" if done > first else ""
                    console.print(f"{what}: {done} of {total}{rest}")
                    said = now

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
            bar.update(task, completed=total, left="0:00")
        finally:
            over.set()
            thread.join()


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


def conduct(
    study: Callable[[Path], Any],
    arguments: dict,
    *,
    verdicts: Callable[[Any], list[Verdict]],
    figures: Callable[[Any], dict],
    tables: Callable[[Any], list[Table]],
    title: str,
    lead: Iterable[str],
    out: Path,
) -> int:
    """Run a study, judge, draw and write: exit status.

    study: folder -> Dataset; the folder, inside `out`, is that of these arguments and this code, so
    that a stopped study goes on.  Provenance is taken before the run: of the code that runs.
    """
    began = time.monotonic()
    folder = writable(out / f"work-{fingerprint(source=source(), **arguments)}")
    origin = provenance(arguments)
    results = study(folder)
    return finish(
        results,
        verdicts(results),
        figures(results),
        tables(results),
        title=title,
        lead=lead,
        origin=origin | {"seconds": round(time.monotonic() - began, 1)},
        out=out,
    )


def finish(
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
    with whole(out / "report.html") as new:
        new.write_text(html(title, lead, verdicts, drawings, tables, origin), encoding="utf-8")
    for path in (*paths, out / "report.html", out / "results.nc"):
        console.print(f"  {path}", markup=False, soft_wrap=True)
    return status(verdicts)
