"""What a worker does: it runs some points and keeps what they find, each file whole or absent.

No more than failures go back, as values: an exception of a future means that the engine failed.
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

DRIVEN: dict[str, int] = {}  # sweep -> the process that conducts it


class Failure(NamedTuple):
    """A point that raised, took too long, or took its process with it again and again."""

    point: dict
    error: str
    traceback: str


class Job(NamedTuple):
    """What a worker must know."""

    run: Callable[..., Any]
    study: str
    seed: int | None
    limit: float | None
    folder: Path
    sweep: str

    def key(self, point: dict) -> str:
        return fingerprint(study=self.study, point=point)

    def name(self, some: list[dict]) -> str:
        """point-KEY for one point, points-HASH-COUNT for several."""
        keys = [self.key(point) for point in some]
        one = len(keys) == 1
        return f"point-{keys[0]}" if one else f"points-{fingerprint(keys=keys)}-{len(keys)}"

    def path(self, some: list[dict]) -> Path:
        return self.folder / f"{self.name(some)}.nc"

    def log(self, some: list[dict]) -> Path:
        """The file that says, while they run, at which of these points a worker is."""
        return self.folder / f"running-{self.sweep}-{self.name(some)}"


def work(job: Job, some: list[dict], _attempt: int) -> list[Failure]:
    """Run some points, keep what they find, and return what failed.

    The attempt is there so that no engine takes this for what it has run before.
    """
    if job.limit is not None and DRIVEN.get(job.sweep) == os.getpid():
        sentence = "ValueError: a time limit needs an executor of other processes"
        return [Failure(point, sentence, "") for point in some]
    if (known := late(job, some)) is not None:  # an engine that tried again by itself
        return [known, *work(job, [p for p in some if p != known.point], _attempt)]
    found, failures = [], []
    with open(job.log(some), "wb", buffering=0) as log:
        for place, point in enumerate(some):
            with suppress(OSError):
                log.write(b"%d\n" % place)
            try:
                with _within(job.limit, log):
                    found.append(_found(job, point))
            except (Exception, SystemExit) as error:
                failures.append(_failure(point, error))
    for _, alike in groupby(found, lambda each: signature(each[1])):
        failures += _keep(job, list(alike))
    job.log(some).unlink(missing_ok=True)
    return failures


def _found(job, point):
    """The point, its Dataset, and the wall and CPU seconds that it took."""
    drawn = {} if job.seed is None else {"rng": spawn_generator(job.seed, point)}
    began, cpu = time.perf_counter(), time.process_time()
    dataset = job.run(**point, **drawn)
    if not hasattr(dataset, "data_vars"):
        raise TypeError(f"a run returns a Dataset, not a {type(dataset).__name__}")
    return point, dataset, time.perf_counter() - began, time.process_time() - cpu


def _keep(job, found):
    """Write alike Datasets as one file; the failures where that cannot be, as on a full disk."""
    some, datasets, seconds, cpu = map(list, zip(*found, strict=True))
    try:
        keys = np.asarray([int(job.key(point), 16) for point in some], np.uint64)
        whole = stacked(datasets, keys, [canonical_text(point) for point in some])
        device = whole.attrs.get("device", "")
        origin = provenance({"points": len(some)}, device, seed=job.seed)
        spent = {"seconds": sum(seconds), "cpu_seconds": sum(cpu)}
        write_result(whole, job.path(some), **origin, **spent, study=job.study)
    except Exception as error:
        return [_failure(point, error) for point in some]
    return []


def _failure(point, error) -> Failure:
    lines = traceback.format_exception(error)
    return Failure(point, f"{type(error).__name__}: {error}", "".join(lines))


@contextmanager
def _within(limit, log):
    """End this process if the body takes too long, where it is written to `log`."""
    if limit is not None:
        faulthandler.dump_traceback_later(limit, exit=True, file=log)
    try:
        yield
    finally:
        if limit is not None:
            faulthandler.cancel_dump_traceback_later()


def late(job: Job, some: list[dict]) -> Failure | None:
    """The point at which a process was ended by the time limit, as its log says."""
    place, dump = last(job.log(some))
    if place is None or "Timeout" not in dump:
        return None
    return Failure(some[place], f"TimeoutError: not done in {job.limit:g} seconds", dump)


def last(log: Path) -> tuple[int | None, str]:
    """The place of the point begun last, and what the log says of it; None where none was."""
    try:
        lines = log.read_text().splitlines()
    except FileNotFoundError:
        return None, ""
    begun = max((i for i, line in enumerate(lines) if line.isdigit()), default=None)
    if begun is None:
        return 0, "\n".join(lines)
    return int(lines[begun]), "\n".join(lines[begun + 1 :])
