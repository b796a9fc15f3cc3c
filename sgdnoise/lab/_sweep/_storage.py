"""The folder of a sweep: points that are finished, points that failed, and the progress.

sweep-HASH.json is the plan of a sweep; point-KEY.nc and points-HASH-COUNT.nc are finished points;
failed-KEY.json are failures; alive-ID.json and running-ID-NAME are signs of life of a sweep and of
its workers.
"""

import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

from sgdnoise.core._arguments import checked
from sgdnoise.core._files import atomic_write
from sgdnoise.lab._store import checksum_ok, on_grid, read_result
from sgdnoise.lab._sweep._keys import canonical_text, fingerprint, points
from sgdnoise.lab._sweep._worker import Failure

BEAT, STALE = 5.0, 60.0  # seconds between signs of life, and after which a sweep is dead


class SweepStatus(NamedTuple):
    """The progress of a sweep, in points.

    seconds: the time left at the present speed, or nan if nothing runs.

    Example:
        >>> status = SweepStatus(total=10, done=4, running=1, failed=2, left=3, seconds=30.0)
        >>> status.total == status.done + status.running + status.failed + status.left
        True
    """

    total: int
    done: int
    running: int
    failed: int
    left: int
    seconds: float


class Plan(NamedTuple):
    """The points of a grid, by the keys that their study gives them."""

    grid: dict
    keys: list[str]


def plan(folder: Path, study: str, grid: dict) -> Plan:
    """The plan of a sweep, after it was written into the folder."""
    wanted = {"study": study, "grid": list(grid.items())}
    with atomic_write(folder / f"sweep-{fingerprint(**wanted)}.json") as new:
        new.write_text(canonical_text(wanted))
    return _plan(study, grid)


def _plan(study, grid):
    return Plan(grid, [fingerprint(study=study, point=point) for point in points(grid)])


def _latest(folder):
    """The newest plan of a folder."""
    newest = max(folder.glob("sweep-*.json"), key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise ValueError(f"there is no sweep in the folder {folder}")
    wanted = json.loads(newest.read_text())
    return _plan(wanted["study"], dict(wanted["grid"]))


@checked
def collect(folder, wanted: Plan | None = None, *, missing: str = "raise") -> Any:
    """Read the Dataset of a sweep from its folder, along the axes of its grid.

    It is the sweep that was started last.  missing: "nan" gives nan for points that are not
    finished; otherwise they raise ValueError.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import tempfile
        >>> import xarray as xr
        >>> from sgdnoise.lab import sweep
        >>> def square(n):
        ...     return xr.Dataset({"value": n**2})
        >>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as executor:
        ...     _ = sweep(square, {"n": [1, 2, 3]}, executor, folder)
        ...     collect(folder).value.values.tolist()
        [1, 4, 9]
    """
    folder = Path(folder)
    wanted = wanted or _latest(folder)
    blocks = [
        block for path in _files(folder, wanted.keys) if (block := _complete(path)) is not None
    ]
    stored = {key for block in blocks for key in _keys(block)}
    n, n_missing = len(wanted.keys), sum(key not in stored for key in wanted.keys)
    if n_missing == n or (n_missing and missing != "nan"):
        raise ValueError(
            f"{n_missing} of {n} points are not in {folder}, a folder that all workers must see; "
            "the sweep started again computes them"
        )
    return on_grid(blocks, [int(key, 16) for key in wanted.keys], wanted.grid)


def stored_keys(folder: Path) -> set[str]:
    """The keys of all points with a complete file."""
    single = {
        path.stem.removeprefix("point-") for path in folder.glob("point-*.nc") if checksum_ok(path)
    }
    blocks = (_complete(path) for path in folder.glob("points-*.nc"))
    return single | {key for block in blocks if block is not None for key in _keys(block)}


@checked
def sweep_status(folder) -> SweepStatus:
    """The progress of the newest sweep of a folder.  Raises ValueError if there is none.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> import tempfile
        >>> import xarray as xr
        >>> from sgdnoise.lab import sweep
        >>> def square(n):
        ...     return xr.Dataset({"value": n**2})
        >>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as executor:
        ...     _ = sweep(square, {"n": [1, 2, 3]}, executor, folder)
        ...     status = sweep_status(folder)
        >>> status.total, status.done, status.failed
        (3, 3, 0)
    """
    folder = Path(folder)
    keys = set(_latest(folder).keys)
    done = keys & stored_keys(folder)
    failed = keys & {path.stem.removeprefix("failed-") for path in folder.glob("failed-*.json")}
    failed -= done
    alive = _alive(folder)
    logs = [log for log in folder.glob("running-*") if log.name.split("-")[1] in alive]
    unfinished = len(keys) - len(done) - len(failed)
    running = min(unfinished, sum(_count(log.name) for log in logs))
    speed = sum((len(done) - s["before"]) / (time.time() - s["began"]) for s in alive.values())
    seconds = unfinished / speed if speed > 0 else math.nan
    return SweepStatus(len(keys), len(done), running, len(failed), unfinished - running, seconds)


def tally(folder) -> tuple[int, int]:
    """The numbers of finished and failed points of a folder and its subfolders, by file names."""
    folder = Path(folder)
    done = sum(_count(path.stem) for path in folder.rglob("point*.nc"))
    return done, sum(1 for _ in folder.rglob("failed-*.json"))


def failures(folder) -> list[Failure]:
    """The failures that are recorded in a folder, in no order."""
    return [Failure(**json.loads(file.read_text())) for file in Path(folder).glob("failed-*.json")]


def remove_stale(folder: Path) -> None:
    """Remove the signs of life of sweeps that have ended."""
    alive = _alive(folder)
    for file in (*folder.glob("alive-*.json"), *folder.glob("running-*")):
        if file.stem.split("-")[1] not in alive:
            file.unlink(missing_ok=True)


def _alive(folder):
    """Sweep -> its record of the start, for sweeps that run now."""
    alive = {}
    for file in folder.glob("alive-*.json"):
        try:
            if time.time() - file.stat().st_mtime < STALE:
                alive[file.stem.removeprefix("alive-")] = json.loads(file.read_text())
        except (FileNotFoundError, ValueError):  # it ended, or begins, at this moment
            continue
    return alive


def _count(name):
    """The number of points of a file, from its name."""
    return int(name.rsplit("-", 1)[1]) if "points-" in name else 1


def _files(folder, keys):
    known = set(keys)
    single = (p for p in folder.glob("point-*.nc") if p.stem.removeprefix("point-") in known)
    return [*sorted(single), *sorted(folder.glob("points-*.nc"))]


def _complete(path):
    """The Dataset of a complete file, else None."""
    try:
        return read_result(path, sealed=True)
    except (FileNotFoundError, ValueError):
        return None


def _keys(part):
    return [f"{int(key):016x}" for key in part["sweep_key"].values]
