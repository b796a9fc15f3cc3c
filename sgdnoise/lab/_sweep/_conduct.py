"""The process that conducts a sweep submits the points, and again those that were lost."""

import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

from sgdnoise.core._arguments import checked
from sgdnoise.core._files import atomic_write
from sgdnoise.lab._store import checksum_ok
from sgdnoise.lab._sweep._keys import canonical_text, points, study_key
from sgdnoise.lab._sweep._storage import BEAT, collect, plan, remove_stale, stored_keys
from sgdnoise.lab._sweep._worker import CONDUCTORS, Failure, Job, last_begun, timed_out, work

ATTEMPTS = 3  # processes that may end while they run a point; in the last it is alone
MAX_IDLE = 2  # times that the executor may fail before any point has begun


class Incomplete(RuntimeError):
    """Some points of a sweep failed: `failures` lists them; all others are finished and stored.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import xarray as xr
        >>> from sgdnoise.lab import sweep
        >>> def inverse(n):
        ...     return xr.Dataset({"value": 1 / n})
        >>> with ThreadPoolExecutor(1) as executor:
        ...     try:
        ...         sweep(inverse, {"n": [0, 1, 2]}, executor)
        ...     except Incomplete as error:
        ...         print(len(error.failures))
        1
    """

    @property
    def failures(self) -> list[Failure]:
        return self.args[0]

    def __str__(self):
        first = self.failures[0]
        return f"{len(self.failures)} points failed, the first {first.point}: {first.error}"


class RenewableExecutor(Executor):
    """An executor that can be replaced: `start()` returns a context that yields one."""

    def __init__(self, start: Callable[[], Any]):
        self._start, self._open = start, ExitStack()
        self._pool = self._open.enter_context(start())

    def renew(self) -> None:
        """End the executor and start another.  Raises BrokenExecutor if none can be started."""
        self._open.close()
        try:
            self._pool = self._open.enter_context(self._start())
        except Exception as error:
            raise BrokenExecutor(f"it cannot be started again: {error}") from error

    def alive(self) -> bool:
        """Whether submitted tasks may still return; some executors have a function `alive`."""
        return getattr(self._pool, "alive", lambda: True)()

    def submit(self, run, /, *args, **kwargs):
        return self._pool.submit(run, *args, **kwargs)

    def shutdown(self, wait=True, *, cancel_futures=False):  # noqa: ARG002
        self._open.close()

    def __exit__(self, *error):
        return self._open.__exit__(*error)


@checked
def sweep(
    run: Callable[..., Any],
    grid: dict,
    executor: Executor | Callable[[], Any],
    folder=None,
    *,
    seed: int | None = None,
    chunk: int = 1,
    limit: float | None = None,
) -> Any:
    """Call `run(**point)` at every point of `grid` and combine the Datasets along its axes.

    grid: axis -> values.  executor: an Executor, or a function that returns one as a context, so
    that a lost executor can be replaced.
    folder: each worker writes its finished points there, so that all workers must see it.  A sweep
    that is started again on the folder runs only the points that are missing, damaged, or of other
    code; two sweeps may share a folder.
    seed: each run gets `rng=`, a generator that is spawned from this seed by the point, whatever
    the order.  chunk: the number of points in a task and file, for points of milliseconds.
    limit: the seconds that a point may take.
    A point that raises does not stop the others: Incomplete is raised at the end, with all
    failures.  Raises BrokenExecutor if the executor is lost for good, and ValueError for a bad
    argument.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import xarray as xr
        >>> def power(base, exponent):
        ...     return xr.Dataset({"value": base**exponent})
        >>> with ThreadPoolExecutor(1) as executor:
        ...     result = sweep(power, {"base": [2, 3], "exponent": [1, 2]}, executor)
        >>> result.value.values.tolist()
        [[2, 4], [3, 9]]
    """
    if chunk < 1:
        raise ValueError(f"a task needs at least one point, not {chunk}")
    if limit is not None and not limit > 0:
        raise ValueError(f"the time limit of a point must be positive, not {limit} seconds")
    if folder is None:
        with TemporaryDirectory(prefix="sweep-") as temporary:
            return sweep(run, grid, executor, temporary, seed=seed, chunk=chunk, limit=limit)
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
    study = study_key(run, seed)
    job = Job(run, study, seed, limit, folder, uuid.uuid4().hex[:12])
    wanted = plan(folder, study, grid)
    missing = _missing_points(folder, wanted)
    renewable = None
    if missing and not isinstance(executor, Executor):
        renewable = RenewableExecutor(executor)
    alive = _sign_of_life(job, len(set(wanted.keys)), len(missing))
    with renewable or nullcontext(executor) as pool, alive as beat:
        failures = _conduct(pool, job, missing, chunk, beat) if missing else []
    if failures:
        raise Incomplete(failures)
    return collect(folder, wanted)


def _missing_points(folder, wanted):
    """The points without a file; the records of their earlier failures are removed."""
    known, grid_points = stored_keys(folder), points(wanted.grid)
    pairs = zip(wanted.keys, grid_points, strict=True)
    missing = {key: point for key, point in pairs if key not in known}
    for old in folder.glob("failed-*.json"):
        if old.stem.removeprefix("failed-") in missing:
            old.unlink(missing_ok=True)
    return list(missing.values())


@contextmanager
def _sign_of_life(job, total, left):
    """A file that shows other processes that this sweep runs; the yielded function renews it."""
    sign, touched = job.folder / f"alive-{job.sweep}.json", time.monotonic()
    sign.write_text(json.dumps({"began": time.time(), "before": total - left}))

    def beat():
        nonlocal touched
        if time.monotonic() - touched > BEAT:
            touched = time.monotonic()
            with suppress(OSError):
                sign.touch()

    CONDUCTORS[job.sweep] = os.getpid()
    try:
        yield beat
    finally:
        del CONDUCTORS[job.sweep]
        for file in (sign, *job.folder.glob(f"running-{job.sweep}-*")):
            file.unlink(missing_ok=True)


def _conduct(pool, job, todo, chunk, beat) -> list[Failure]:
    """Submit until every point is finished or has failed.  Raises BrokenExecutor."""
    queue = [todo[i : i + chunk] for i in range(0, len(todo), chunk)]
    lost: Counter = Counter()
    failures: list[Failure] = []
    round_number = idle = 0
    while queue:
        submitted, queue = _next_round(queue, lost, job)
        broken, moved = None, False
        for chunk_points, answer in _answers(pool, job, submitted, round_number, beat):
            if not isinstance(answer, BaseException):
                failures += _recorded(job, answer)
                moved = True
                continue
            broken = answer
            begun, failed, resubmitted = _after_loss(job, chunk_points, answer, lost)
            failures += _recorded(job, failed)
            queue += resubmitted
            moved = moved or begun
        round_number, idle = round_number + 1, 0 if moved else idle + 1
        if idle == MAX_IDLE:
            raise BrokenExecutor(f"no point can begin: {type(broken).__name__}: {broken}")
        if broken is not None and isinstance(pool, RenewableExecutor):
            pool.renew()
    return failures


def _next_round(queue, lost, job):
    """The chunks to submit now, and those that wait.

    A point that was lost twice waits until it can be alone: then its end harms no other.
    """
    by_last_try: dict[bool, list] = {False: [], True: []}
    for chunk_points in queue:
        last_try = bool(lost) and lost[job.key(chunk_points[0])] >= ATTEMPTS - 1
        by_last_try[last_try].append(chunk_points)
    ordinary, alone = by_last_try.values()
    return (ordinary, alone) if ordinary else (alone[:1], alone[1:])


def _answers(pool, job, chunks, round_number, beat):
    """Each chunk with its failures, or with the exception of the executor, as they return."""
    inbox: SimpleQueue = SimpleQueue()
    waiting = {}
    try:
        for chunk_points in chunks:
            try:
                future = pool.submit(work, job, chunk_points, round_number)
            except Exception as error:
                yield chunk_points, error
                continue
            waiting[future] = chunk_points
            future.add_done_callback(inbox.put)
        while waiting:
            beat()
            try:
                future = inbox.get(timeout=BEAT)
            except Empty:
                if isinstance(pool, RenewableExecutor) and not pool.alive():
                    broken = BrokenExecutor("the workers that had the points are gone")
                    lost = list(waiting.values())
                    waiting.clear()
                    yield from ((chunk_points, broken) for chunk_points in lost)
                continue
            chunk_points = waiting.pop(future)
            exception = CancelledError("cancelled") if future.cancelled() else future.exception()
            yield chunk_points, future.result() if exception is None else exception
    finally:
        for future in waiting:
            future.cancel()


def _after_loss(job, chunk_points, error, lost):
    """Whether a worker had begun, what failed for good, and what to submit again, one by one."""
    if checksum_ok(job.path(chunk_points)):  # it was finished, and lost on the way back
        return True, [], []
    place, _ = last_begun(job.log(chunk_points))
    if place is None:
        return False, [], [chunk_points]
    failed = timed_out(job, chunk_points)
    job.log(chunk_points).unlink(missing_ok=True)
    lost[job.key(chunk_points[place])] += 1
    if failed is None and lost[job.key(chunk_points[place])] >= ATTEMPTS:
        sentence = f"lost with its process {ATTEMPTS} times: {type(error).__name__}: {error}"
        failed = Failure(chunk_points[place], sentence, "")
    resubmitted = [[p] for i, p in enumerate(chunk_points) if i != place or failed is None]
    return True, [] if failed is None else [failed], resubmitted


def _recorded(job, failures):
    """The failures, after each was written into the folder for other processes."""
    for failure in failures:
        with (
            suppress(OSError),
            atomic_write(job.folder / f"failed-{job.key(failure.point)}.json") as new,
        ):
            new.write_text(canonical_text(failure._asdict()))
    return failures
