"""Calls of the tables of commands: processes from their start to their end, and a sweep."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xarray as xr

from benchmarks.rows import Row, Task
from sgdnoise.lab import sweep

ROOT = Path(__file__).parents[1]
IMPORTS = ("core", "dimension", "noise", "theory", "dynamics", "nets", "lab")


def process(*arguments: str, allowed: int = 0) -> None:
    """Run python with arguments to its end; RuntimeError if its exit status is not as allowed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, allowed):
        raise RuntimeError(done.stderr[-500:])


def commands() -> Task:
    """What users type, each as a new process."""

    def ours():
        yield Row("sgdnoise --help", partial(process, "-m", "sgdnoise", "--help"))
        study = "-m", "simulations", "run", "compression", "--help"
        yield Row("simulations run NAME --help", partial(process, *study))
        for name in IMPORTS:
            yield Row(f"import sgdnoise.{name}", partial(process, "-c", f"import sgdnoise.{name}"))

    return _beside_an_import(ours)


def long_commands() -> Task:
    """The same for commands that compute."""
    folder = TemporaryDirectory(prefix="sgdnoise-bench-")
    file = Path(folder.name) / "points.npy"
    np.save(file, np.random.default_rng(0).normal(size=(2000, 784)))

    def ours():
        yield Row("sgdnoise verdicts", partial(process, "-m", "sgdnoise", "verdicts", allowed=1))
        measured = "-m", "sgdnoise", "dimension", str(file)
        yield Row("sgdnoise dimension, 2000 x 784", partial(_in_folder, folder, measured))

    return _beside_an_import(ours)


def _beside_an_import(ours):
    return Task(partial(process, "-c", "import numpy, scipy"), {"sgdnoise": ours})


def _in_folder(folder, arguments):  # the folder lives as long as this call can be made
    process(*arguments, "--out", folder.name)


# --- what a sweep costs beside its points ---


def point(a: int, b: int) -> xr.Dataset:
    """A millisecond of computing, and one number."""
    until = time.thread_time() + 1e-3
    while time.thread_time() < until:
        pass
    return xr.Dataset({"value": float(a + b)})


def run_task(points) -> int:
    """Run the points of one task of the bare pool; their number."""
    return len([point(**value) for value in points])


def sweeping(points: int = 200, chunk: int = 20) -> Task:
    """Points of a grid in a pool of one thread: bare, and by a sweep that stores every one."""
    grid = {"a": list(range(points // 10)), "b": list(range(10))}
    values = [dict(zip(grid, pair, strict=True)) for pair in product(*grid.values())]
    tasks = [values[i : i + chunk] for i in range(0, len(values), chunk)]
    pool = ThreadPoolExecutor(1)
    stored = TemporaryDirectory(prefix="sgdnoise-bench-")

    def bare():
        return sum(pool.map(run_task, tasks))

    def anew():
        with TemporaryDirectory(prefix="sgdnoise-bench-") as folder:
            return sweep(point, grid, pool, folder, chunk=chunk)

    def again():
        return sweep(point, grid, pool, stored.name, chunk=chunk)

    def ours():
        return [
            Row("sweep, every point stored", anew),
            Row("sweep, all points stored before", again),
        ]

    return Task(bare, {"sgdnoise": ours})
