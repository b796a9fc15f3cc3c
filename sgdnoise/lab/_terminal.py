"""Output on the terminal: progress, verdicts, and errors in one sentence."""

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
from rich.text import Text

from sgdnoise.core._arguments import checked
from sgdnoise.lab._sweep._conduct import Incomplete
from sgdnoise.lab._verdict import HEADINGS, Verdict, row

console = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 140)
WIDE = 116  # columns of the complete verdict table
MAX_FAILURES, MAX_LINES = 20, 6  # failures that are listed, and lines of the first traceback
COLOUR = {
    **{"holds": "green", "fails": "bold red", "undecided": "yellow"},
    **{"differs": "green", "agrees": "bold red"},
}


def say(text: str, **options) -> None:
    """Print a text without markup and control characters."""
    console.print(printable(text), markup=False, **options)


def printable(text: str) -> str:
    """The text with control characters and bytes that are not UTF-8 as escapes, such as \\x1b."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def fail(sentence: str) -> NoReturn:
    """Print an error in one sentence and end with status 2, for bad input."""
    rich.console.Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"error: {printable(sentence)}", markup=False
    )
    raise SystemExit(2)


@contextmanager
def exit_on_error(again: str):
    """End with a sentence and status 2 for bad input, and with `again` and 130 for Ctrl-C.

    Failed points of a sweep end with a list of them and status 3, as do lost processes.
    """
    try:
        yield
    except Incomplete as error:
        _list(error.failures)
        console.print(f"all others are stored; {again}", markup=False)
        raise SystemExit(3) from None
    except BrokenExecutor as error:
        text = f"\na worker process is lost ({error}); {again}"
        console.print(text, markup=False, soft_wrap=True)
        raise SystemExit(3) from None
    except ValueError as error:
        fail(str(error))
    except ImportError as error:
        if "pip install" not in str(error):  # it does not name an extra, and is a mistake
            raise
        fail(str(error))
    except KeyboardInterrupt:
        console.print(f"\nstopped; {again}", markup=False)
        raise SystemExit(130) from None


def _list(failures):
    """Print the failures, a line each, and the last lines of the first traceback."""
    count = "1 point" if len(failures) == 1 else f"{len(failures)} points"
    console.print(f"\n{count} failed:", markup=False)
    for failure in failures[:MAX_FAILURES]:
        at = ", ".join(f"{name} {value}" for name, value in failure.point.items())
        console.print(f"  {at}: {failure.error}", markup=False, soft_wrap=True)
    if len(failures) > MAX_FAILURES:
        console.print(f"  and {len(failures) - MAX_FAILURES} more")
    for line in failures[0].traceback.splitlines()[-MAX_LINES:]:
        console.print(f"    {line}", markup=False, soft_wrap=True)


def writable(folder) -> Path:
    """The folder, after it was made if necessary.  Raises ValueError if it cannot be written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".writable-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to the folder {folder}: {error.strerror}") from None
    return folder


@checked
@contextmanager
def progress(
    what: str, count: Callable[[], int | tuple[int, int]], total: int, *, quiet: bool = False
):
    """Show how many are done, how fast, the time left and the failures, while the body runs.

    what: the name of what is counted.  count: () -> done, or (done, failed).
    It is a bar on a terminal, and otherwise plain lines; nothing if `quiet`.

    Example:
        >>> done = []
        >>> with progress("points", lambda: len(done), 3, quiet=True):
        ...     done += [1, 2, 3]
        >>> len(done)
        3
    """
    if quiet:
        yield
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("elapsed"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.fields[rest]}"),
    )
    finished, start, before = threading.Event(), time.monotonic(), sum(_counted(count))
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=before, rest="")

        def update():
            last_line = start
            while not finished.wait(0.5):
                (done, failed), now = _counted(count), time.monotonic()
                remaining = pace(done + failed - before, total - done - failed, now - start, failed)
                bar.update(task, completed=done, rest=remaining)
                if not console.is_terminal and now - last_line > 15:
                    console.print(f"{what}: {done} of {total}, {remaining}")
                    last_line = now

        thread = threading.Thread(target=update, daemon=True)
        thread.start()
        try:
            yield
            bar.update(task, completed=total, rest="")
        finally:
            finished.set()
            thread.join()


def _counted(count):
    counts = count()
    return counts if isinstance(counts, tuple) else (counts, 0)


def pace(done: int, left: int, seconds: float, failed: int = 0) -> str:
    """The speed, the time left at that speed, and how many failed, in words."""
    rate = done / seconds if seconds > 0 else 0
    speed = f"{rate:.3g} a second, " if rate >= 1 else f"{60 * rate:.3g} a minute, "
    return f"{speed if done else ''}{time_left(done, left, seconds)} left" + (
        f", {failed} failed" if failed else ""
    )


def time_left(done: int, left: int, seconds: float) -> str:
    """Minutes and seconds left at the present speed; `...` before anything is done."""
    if not done:
        return "..."
    guess = round(left * seconds / done)
    return f"{guess // 60}:{guess % 60:02d}"


def show(title: str, verdicts: list[Verdict]) -> None:
    """Print the verdict table; a narrow terminal omits the columns that others imply."""
    left_out = set() if console.width >= WIDE else {"deviation", "allowed", "kind"}
    shown = [place for place, heading in enumerate(HEADINGS) if heading not in left_out]
    table = rich.table.Table(
        title=Text(printable(title)),
        title_justify="left",
        title_style="bold",
        box=rich.box.SIMPLE_HEAD,
    )
    for heading in (HEADINGS[place] for place in shown):
        words = heading in ("claim", "verdict")
        table.add_column(heading, justify="left" if words else "right", no_wrap=heading != "claim")
    for verdict in verdicts:
        style, cells = COLOUR.get(verdict.outcome, "dim"), row(verdict)
        outcome = cells[-1] if verdict.outcome in COLOUR else verdict.kind
        plain = [Text(printable(cells[place])) for place in shown[:-1]]
        table.add_row(*plain, Text(outcome, style=style))
    console.print(table)
