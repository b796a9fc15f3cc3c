"""What the folder of a sweep holds: the points that are done, those that failed, and how far it is.

sweep-HASH.json is what was asked for, point-KEY.nc and points-HASH-COUNT.nc what was found,
failed-KEY.json what was not, alive-ID.json the sign of life of a sweep, running-ID-NAME a worker's.
"""

import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

from sgdnoise.lab._store import atomic_write, checksum_ok, on_grid, read_result
from sgdnoise.lab._sweep._keys import canonical_text, fingerprint, points
from sgdnoise.lab._sweep._worker import Failure

BEAT, STALE = 5.0, 60.0  # seconds between signs of life, and after which a sweep is dead


class Status(NamedTuple):
    """How far a sweep is, in points; `seconds` to go at the present speed, nan where none runs."""

    total: int
    done: int
    running: int
    failed: int
    left: int
    seconds: float


class Plan(NamedTuple):
    """What is asked of a folder: the points of a grid, by the keys that a study gives them."""

    grid: dict
    keys: list[str]


def plan(folder: Path, study: str, grid: dict) -> Plan:
    """The plan of a sweep, written into its folder for others to read."""
    asked = {"study": study, "grid": list(grid.items())}
    with atomic_write(folder / f"sweep-{fingerprint(**asked)}.json") as new:
        new.write_text(canonical_text(asked))
    return _plan(study, grid)


def _plan(study, grid):
    return Plan(grid, [fingerprint(study=study, point=point) for point in points(grid)])


def _latest(folder):
    """The plan written last."""
    found = max(folder.glob("sweep-*.json"), key=lambda file: file.stat().st_mtime, default=None)
    if found is None:
        raise ValueError(f"there is no sweep in the folder {folder}")
    asked = json.loads(found.read_text())
    return _plan(asked["study"], dict(asked["grid"]))


def collect(folder, asked: Plan | None = None, *, missing: str = "raise") -> Any:
    """The Dataset of a sweep along the axes of its grid, from its folder; the last plan's if many.

    missing: "nan" gives nan for points that are not there, where otherwise ValueError is raised.
    """
    folder = Path(folder)
    asked = asked or _latest(folder)
    found = [part for path in _files(folder, asked.keys) if (part := _whole(path)) is not None]
    there = {key for part in found for key in _keys(part)}
    gone = sum(key not in there for key in asked.keys)
    if gone == len(asked.keys) or (gone and missing != "nan"):
        raise ValueError(
            f"{gone} of {len(asked.keys)} points are not in {folder}, a folder that all workers "
            "must see; the sweep started again computes them"
        )
    return on_grid(found, [int(key, 16) for key in asked.keys], asked.grid)


def stored_keys(folder: Path) -> set[str]:
    """The keys of all points whose files are there, whole and undamaged."""
    ones = {
        path.stem.removeprefix("point-") for path in folder.glob("point-*.nc") if checksum_ok(path)
    }
    several = (_whole(path) for path in folder.glob("points-*.nc"))
    return ones | {key for part in several if part is not None for key in _keys(part)}


def status(folder) -> Status:
    """How far the last sweep of a folder is, whoever runs it.  Raises ValueError where none is."""
    folder = Path(folder)
    keys = set(_latest(folder).keys)
    done = keys & stored_keys(folder)
    failed = keys & {path.stem.removeprefix("failed-") for path in folder.glob("failed-*.json")}
    failed -= done
    alive = _alive(folder)
    logs = [log for log in folder.glob("running-*") if log.name.split("-")[1] in alive]
    open_ = len(keys) - len(done) - len(failed)
    running = min(open_, sum(_count(log.name) for log in logs))
    speed = sum((len(done) - s["before"]) / (time.time() - s["began"]) for s in alive.values())
    seconds = open_ / speed if speed > 0 else math.nan
    return Status(len(keys), len(done), running, len(failed), open_ - running, seconds)


def tally(folder) -> tuple[int, int]:
    """How many points are done, and how many failed, in a folder and those in it: by file names."""
    folder = Path(folder)
    done = sum(_count(path.stem) for path in folder.rglob("point*.nc"))
    return done, sum(1 for _ in folder.rglob("failed-*.json"))


def failures(folder) -> list[Failure]:
    """The points that failed, as the folder has them, in no order."""
    return [Failure(**json.loads(file.read_text())) for file in Path(folder).glob("failed-*.json")]


def remove_stale(folder: Path) -> None:
    """Take away the signs of life of sweeps that are dead."""
    alive = _alive(folder)
    for file in (*folder.glob("alive-*.json"), *folder.glob("running-*")):
        if file.stem.split("-")[1] not in alive:
            file.unlink(missing_ok=True)


def _alive(folder):
    """Sweep -> what it wrote when it began, of those that give signs of life."""
    found = {}
    for file in folder.glob("alive-*.json"):
        try:
            if time.time() - file.stat().st_mtime < STALE:
                found[file.stem.removeprefix("alive-")] = json.loads(file.read_text())
        except (FileNotFoundError, ValueError):  # it ended, or begins, at this moment
            continue
    return found


def _count(name):
    """Of how many points a file is, by its name."""
    return int(name.rsplit("-", 1)[1]) if "points-" in name else 1


def _files(folder, keys):
    known = set(keys)
    ones = (p for p in folder.glob("point-*.nc") if p.stem.removeprefix("point-") in known)
    return [*sorted(ones), *sorted(folder.glob("points-*.nc"))]


def _whole(path):
    """The Dataset of a file that is there and undamaged, else None."""
    try:
        return read_result(path, sealed=True)
    except (FileNotFoundError, ValueError):
        return None


def _keys(part):
    return [f"{int(key):016x}" for key in part["sweep_key"].values]
