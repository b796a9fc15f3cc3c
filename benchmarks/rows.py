"""Rows of the tables: how one is declared, and how its calls are timed in turn with the unit."""

import ctypes
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["Row", "Task", "cpu_seconds", "measure_rounds"]

LONG = 5.0  # CPU seconds from which on a row is measured in one round only
LIMIT = 15.0  # CPU seconds that a row may take in a round
CLEAR = 0.1  # CPU seconds that one measurement takes at least
STATUS = Path("/proc/self/status")


class Row(NamedTuple):
    """A call: what it computes, how many times it does so, and of which size, if sizes vary."""

    what: str
    run: Callable[[], object]
    times: int = 1
    size: int | None = None


class Task(NamedTuple):
    """What is timed in one process: the unit, and of each package a function that gives its rows.

    A function that raises ImportError belongs to a package that is not installed.
    """

    unit: Callable[[], object]
    packages: dict[str, Callable[[], Iterable[Row]]]
    times: int = 1


def cpu_seconds() -> float:
    """Seconds of CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure_rounds(task: Task, packages: Iterable[str], rounds: int, only=None) -> Iterator[dict]:
    """Yield of each round its cells: package, what, size, and seconds of the call and of the unit.

    The unit is timed before each row, so that a change of load meets both.  A cell of what fails,
    or takes longer than the limit, has the reason in place of the seconds.  It is not run again,
    and neither is what takes long.
    """
    rows = list(_rows(task, packages, only))
    unit = Row("unit", task.unit, task.times)
    done: set = set()
    task.unit()  # imports what it needs
    for k in range(rounds):
        cells: dict = {}  # of each call, which may be that of several rows
        for _, row in rows:
            if row.run not in cells and row.run not in done:
                cells[row.run] = cell = _cell(row, unit, warm=k > 0)
                if "failed" in cell or cell["seconds"] * row.times > LONG:
                    done.add(row.run)
        yield {
            "cells": [
                {"package": package, "what": row.what, "size": row.size} | cells[row.run]
                for package, row in rows
                if row.run in cells
            ]
        }


def _rows(task, packages, only):
    """The rows of the packages that can be imported."""
    for package in packages:
        try:
            rows = list(task.packages[package]())
        except ImportError:
            continue
        yield from ((package, row) for row in rows if only is None or row.what in only)


def _cell(row, unit, warm):
    """Seconds of a row and of the unit, and MiB; or why there are none."""
    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not warm:
                row.run()  # imports and compiles
            before = _seconds_of(unit, CLEAR)
            with _memory() as mebibytes:
                taken = _seconds_of(row, CLEAR)
            return {"seconds": taken, "unit": before, **mebibytes}
    except TimeoutError:
        return {"failed": f"over {LIMIT:.0f} s"}
    except (Exception, SystemExit) as error:  # what a package cannot do is a result
        return {"failed": type(error).__name__}


def _seconds_of(row, enough):
    """Mean CPU seconds of as many calls as take enough seconds for the clock, of one at least."""
    calls, taken, began = 0, 0.0, cpu_seconds()
    while not calls or taken < enough:
        row.run()
        calls, taken = calls + 1, cpu_seconds() - began
    return taken / (calls * row.times)


@contextmanager
def _limited():
    """A context that CPU time over the limit ends by a TimeoutError."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _memory():
    """A dict that holds, after the context, by how many MiB memory rose at most, where known."""
    result: dict[str, float] = {}
    if not STATUS.exists():
        yield result
        return
    ctypes.CDLL(None).malloc_trim(0)  # or what was freed before could be used again unseen
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = _in_status("VmRSS")
    yield result
    result["mebibytes"] = max(0.0, _in_status("VmHWM") - before)


def _in_status(field):
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024
