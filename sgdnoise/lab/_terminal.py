"""What a person sees at the terminal: progress, verdicts, where the files are."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import rich.box
import rich.console
import rich.progress
import rich.table

from sgdnoise.lab._sweep._conduct import Incomplete
from sgdnoise.lab._verdict import HEADINGS, Verdict, row

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
