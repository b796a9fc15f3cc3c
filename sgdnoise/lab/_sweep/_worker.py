"""A worker runs some points and stores their Datasets; each file is complete or absent.

It returns failures as values, so that an exception of a future means that the executor failed.
"""

import faulthandler
import os
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.lab._store import provenance, signature, stacked, write_result
from sgdnoise.lab._sweep._keys import canonical_text, fingerprint, spawn_generator

CONDUCTORS: dict[str, int] = {}  # sweep -> the process that conducts it


class Failure(NamedTuple):
    """A point that raised an exception, took too long, or ended its process several times.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import xarray as xr
        >>> from sgdnoise.lab import Incomplete, sweep
        >>> def inverse(n):
        ...     return xr.Dataset({"value": 1 / n})
        >>> with ThreadPoolExecutor(1) as executor:
        ...     try:
        ...         sweep(inverse, {"n": [0, 1]}, executor)
        ...     except Incomplete as error:
        ...         print(error.failures[0].point, error.failures[0].error)
        {'n': 0} ZeroDivisionError: division by zero
    """

    point: dict
    error: str
    traceback: str


class Job(NamedTuple):
    """The work of a sweep, as a worker needs it."""

    run: Callable[..., Any]
    study: str
    seed: int | None
    limit: float | None
    folder: Path
    sweep: str

    def key(self, point: dict) -> str:
        return fingerprint(study=self.study, point=point)

    def name(self, points: list[dict]) -> str:
        """point-KEY for one point, points-HASH-COUNT for several."""
        keys = [self.key(point) for point in points]
        single = len(keys) == 1
        return f"point-{keys[0]}" if single else f"points-{fingerprint(keys=keys)}-{len(keys)}"

    def path(self, points: list[dict]) -> Path:
        return self.folder / f"{self.name(points)}.nc"

    def log(self, points: list[dict]) -> Path:
        """The file that tells, during the run, at which of these points a worker is."""
        return self.folder / f"running-{self.sweep}-{self.name(points)}"


def work(job: Job, points: list[dict], _attempt: int) -> list[Failure]:
    """Run some points, store their Datasets, and return the failures.

    The number of the attempt makes tasks distinct for executors that cache results.
    """
    if job.limit is not None and CONDUCTORS.get(job.sweep) == os.getpid():
        sentence = "ValueError: a time limit needs an executor of other processes"
        return [Failure(point, sentence, "") for point in points]
    if (failure := timed_out(job, points)) is not None:  # the executor itself tried again
        return [failure, *work(job, [p for p in points if p != failure.point], _attempt)]
    results, failures = [], []
    with open(job.log(points), "wb", buffering=0) as log:
        for place, point in enumerate(points):
            with suppress(OSError):
                log.write(b"%d\n" % place)
            try:
                with _with_limit(job.limit, log):
                    results.append(_result(job, point))
            except (Exception, SystemExit) as error:
                failures.append(_failure(point, error))
    for _, similar in groupby(results, lambda result: signature(result[1])):
        failures += _store(job, list(similar))
    job.log(points).unlink(missing_ok=True)
    return failures


def _result(job, point):
    """The point, its Dataset, and the wall and CPU seconds that it took."""
    generator = {} if job.seed is None else {"rng": spawn_generator(job.seed, point)}
    began, cpu = time.perf_counter(), time.process_time()
    dataset = job.run(**point, **generator)
    if not hasattr(dataset, "data_vars"):
        raise TypeError(f"a run returns a Dataset, not a {type(dataset).__name__}")
    return point, dataset, time.perf_counter() - began, time.process_time() - cpu


def _store(job, results):
    """Write Datasets of one signature as one file; the failures if that fails (a full disk)."""
    points, datasets, seconds, cpu = map(list, zip(*results, strict=True))
    try:
        keys = np.asarray([int(job.key(point), 16) for point in points], np.uint64)
        block = stacked(datasets, keys, [canonical_text(point) for point in points])
        device = block.attrs.get("device", "")
        origin = provenance({"points": len(points)}, device, seed=job.seed)
        spent = {"seconds": sum(seconds), "cpu_seconds": sum(cpu)}
        write_result(block, job.path(points), **origin, **spent, study=job.study)
    except Exception as error:
        return [_failure(point, error) for point in points]
    return []


def _failure(point, error) -> Failure:
    lines = traceback.format_exception(error)
    return Failure(point, f"{type(error).__name__}: {error}", "".join(lines))


@contextmanager
def _with_limit(limit, log):
    """End this process if the body takes too long; `log` then has its traceback."""
    if limit is not None:
        faulthandler.dump_traceback_later(limit, exit=True, file=log)
    try:
        yield
    finally:
        if limit is not None:
            faulthandler.cancel_dump_traceback_later()


def timed_out(job: Job, points: list[dict]) -> Failure | None:
    """The failure of the point at which the time limit ended a process, according to its log."""
    place, dump = last_begun(job.log(points))
    if place is None or "Timeout" not in dump:
        return None
    return Failure(points[place], f"TimeoutError: not done in {job.limit:g} seconds", dump)


def last_begun(log: Path) -> tuple[int | None, str]:
    """The place of the point that began last, or None, and the text after it in the log."""
    try:
        lines = log.read_text().splitlines()
    except FileNotFoundError:
        return None, ""
    begun = max((i for i, line in enumerate(lines) if line.isdigit()), default=None)
    if begun is None:
        return 0, "\n".join(lines)
    return int(lines[begun]), "\n".join(lines[begun + 1 :])
