"""The one process that conducts a sweep: it submits points, again where the engine failed."""

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

from sgdnoise.lab._store import atomic_write, checksum_ok
from sgdnoise.lab._sweep._keys import canonical_text, points, study_key
from sgdnoise.lab._sweep._storage import BEAT, collect, plan, remove_stale, stored_keys
from sgdnoise.lab._sweep._worker import DRIVEN, Failure, Job, last, late, work

ATTEMPTS = 3  # processes that a point may take with it; in the last it is alone
IDLE = 2  # times that an engine may fail before any point has begun


class Incomplete(RuntimeError):
    """Some points of a sweep failed: `failures`; all others are done and kept."""

    @property
    def failures(self) -> list[Failure]:
        return self.args[0]

    def __str__(self):
        first = self.failures[0]
        return f"{len(self.failures)} points failed, the first {first.point}: {first.error}"


class Lasting(Executor):
    """An executor that can be started anew: made by `start`, whose result is a context."""

    def __init__(self, start: Callable[[], Any]):
        self._start, self._open = start, ExitStack()
        self._pool = self._open.enter_context(start())

    def renew(self) -> None:
        """End what is left of the executor and start another.  Raises BrokenExecutor."""
        self._open.close()
        try:
            self._pool = self._open.enter_context(self._start())
        except Exception as error:
            raise BrokenExecutor(f"it cannot be started again: {error}") from error

    def alive(self) -> bool:
        """Whether what was submitted may still come back; executors that can tell have `alive`."""
        return getattr(self._pool, "alive", lambda: True)()

    def submit(self, run, /, *args, **kwargs):
        return self._pool.submit(run, *args, **kwargs)

    def shutdown(self, wait=True, *, cancel_futures=False):  # noqa: ARG002
        self._open.close()

    def __exit__(self, *error):
        return self._open.__exit__(*error)


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
    """Call `run(**point)` at every point of `grid`, and lay the Datasets out along its axes.

    executor: an Executor, or what makes one as a context and so can replace it when it is lost.
    folder: where each worker writes what it has finished; all of them must see it.  Started again
    on it, only what is missing, damaged or of other code is run; two sweeps may share it.
    seed: each run is given `rng=`, spawned from this root by its point, whatever the order.
    chunk: points to a task and file, for those of milliseconds.  limit: seconds a point may take.
    A point that raises stops no other: at the end Incomplete is raised, with all that failed.
    Raises BrokenExecutor where the executor is lost for good, ValueError for a bad argument.
    """
    if chunk < 1:
        raise ValueError(f"a task needs at least one point, not {chunk}")
    if limit is not None and not limit > 0:
        raise ValueError(f"the time limit of a point must be positive, not {limit} seconds")
    if folder is None:
        with TemporaryDirectory(prefix="sweep-") as room:
            return sweep(run, grid, executor, room, seed=seed, chunk=chunk, limit=limit)
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
    study = study_key(run, seed)
    job = Job(run, study, seed, limit, folder, uuid.uuid4().hex[:12])
    asked = plan(folder, study, grid)
    todo = _to_do(folder, asked)
    own = Lasting(executor) if todo and not isinstance(executor, Executor) else None
    with own or nullcontext(executor) as pool, _alive(job, len(set(asked.keys)), len(todo)) as beat:
        failures = _conduct(pool, job, todo, chunk, beat) if todo else []
    if failures:
        raise Incomplete(failures)
    return collect(folder, asked)


def _to_do(folder, asked):
    """The points of which there is no file, whose earlier failures are forgotten."""
    known, every = stored_keys(folder), points(asked.grid)
    left = {k: point for k, point in zip(asked.keys, every, strict=True) if k not in known}
    for old in folder.glob("failed-*.json"):
        if old.stem.removeprefix("failed-") in left:
            old.unlink(missing_ok=True)
    return list(left.values())


@contextmanager
def _alive(job, total, left):
    """A sign of life for others to see, renewed by what is yielded."""
    sign, touched = job.folder / f"alive-{job.sweep}.json", time.monotonic()
    sign.write_text(json.dumps({"began": time.time(), "before": total - left}))

    def beat():
        nonlocal touched
        if time.monotonic() - touched > BEAT:
            touched = time.monotonic()
            with suppress(OSError):
                sign.touch()

    DRIVEN[job.sweep] = os.getpid()
    try:
        yield beat
    finally:
        del DRIVEN[job.sweep]
        for file in (sign, *job.folder.glob(f"running-{job.sweep}-*")):
            file.unlink(missing_ok=True)


def _conduct(pool, job, todo, chunk, beat) -> list[Failure]:
    """Submit until every point is done or has failed.  Raises BrokenExecutor."""
    queue = [todo[i : i + chunk] for i in range(0, len(todo), chunk)]
    lost: Counter = Counter()
    failures: list[Failure] = []
    turn = idle = 0
    while queue:
        now, queue = _turn(queue, lost, job)
        broken, moved = None, False
        for some, answer in _answers(pool, job, now, turn, beat):
            if not isinstance(answer, BaseException):
                failures += _told(job, answer)
                moved = True
                continue
            broken = answer
            begun, failed, again = _after_loss(job, some, answer, lost)
            failures += _told(job, failed)
            queue += again
            moved = moved or begun
        turn, idle = turn + 1, 0 if moved else idle + 1
        if idle == IDLE:
            raise BrokenExecutor(f"no point can begin: {type(broken).__name__}: {broken}")
        if broken is not None and isinstance(pool, Lasting):
            pool.renew()
    return failures


def _turn(queue, lost, job):
    """What to submit now, and what waits: a point that was lost twice, till it can be alone."""
    parts: dict[bool, list] = {False: [], True: []}
    for some in queue:
        parts[bool(lost) and lost[job.key(some[0])] >= ATTEMPTS - 1].append(some)
    fit, last_try = parts.values()
    return (fit, last_try) if fit else (last_try[:1], last_try[1:])


def _answers(pool, job, chunks, turn, beat):
    """Each chunk with its failures, or with the exception that the engine met, as they come."""
    inbox: SimpleQueue = SimpleQueue()
    waiting = {}
    try:
        for some in chunks:
            try:
                future = pool.submit(work, job, some, turn)
            except Exception as error:
                yield some, error
                continue
            waiting[future] = some
            future.add_done_callback(inbox.put)
        while waiting:
            beat()
            try:
                future = inbox.get(timeout=BEAT)
            except Empty:
                if isinstance(pool, Lasting) and not pool.alive():
                    gone = BrokenExecutor("whoever had the points is gone, and did not say so")
                    lost = list(waiting.values())
                    waiting.clear()
                    yield from ((some, gone) for some in lost)
                continue
            some = waiting.pop(future)
            trouble = CancelledError("cancelled") if future.cancelled() else future.exception()
            yield some, future.result() if trouble is None else trouble
    finally:
        for future in waiting:
            future.cancel()


def _after_loss(job, some, error, lost):
    """Whether a worker had begun; what failed for good, and what to submit again, one by one."""
    if checksum_ok(job.path(some)):  # done, and lost on the way back
        return True, [], []
    place, _ = last(job.log(some))
    if place is None:
        return False, [], [some]
    failed = late(job, some)
    job.log(some).unlink(missing_ok=True)
    lost[job.key(some[place])] += 1
    if failed is None and lost[job.key(some[place])] >= ATTEMPTS:
        sentence = f"lost with its process {ATTEMPTS} times: {type(error).__name__}: {error}"
        failed = Failure(some[place], sentence, "")
    again = [[p] for i, p in enumerate(some) if i != place or failed is None]
    return True, [] if failed is None else [failed], again


def _told(job, failures):
    """The failures, each written to the folder for others to see."""
    for failure in failures:
        with (
            suppress(OSError),
            atomic_write(job.folder / f"failed-{job.key(failure.point)}.json") as new,
        ):
            new.write_text(canonical_text(failure._asdict()))
    return failures
