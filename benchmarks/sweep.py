"""What a sweep costs beside the points themselves: `sweep` against a bare pool of processes.

`python -m benchmarks.sweep [--points 10000] [--chunk 100]` runs points of one millisecond, in the
same chunks, by a bare ProcessPoolExecutor that stores nothing, and by `sweep`, which stores
every point in a file of its chunk and arranges them along the grid; then `collect` is timed alone.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
import xarray as xr
from typer import Option

from sgdnoise.lab import collect, sweep

MILLISECOND = 1e-3


def point(a: int, b: int) -> xr.Dataset:
    """A millisecond of computing, and one number."""
    until = time.perf_counter() + MILLISECOND
    while time.perf_counter() < until:
        pass
    return xr.Dataset({"value": float(a + b)})


def run_task(points: list[dict]) -> int:
    """Run the points of one task of the bare pool; their number."""
    return len([point(**value) for value in points])


def main(
    count: Annotated[int, Option("--points", help="how many")] = 10_000,
    chunk: Annotated[int, Option(help="points to a task")] = 100,
    jobs: Annotated[int, Option(help="processes")] = 2,
    out: Annotated[Path | None, Option(help="markdown file to write")] = None,
) -> None:
    """Print the seconds of each, and ours as a multiple of the bare pool's."""
    lines = table(count, chunk, jobs)
    print("\n".join(lines))
    if out is not None:
        out.write_text("\n".join(["# What a sweep costs beside its points", "", *lines, ""]))


def table(count: int, chunk: int, jobs: int) -> list[str]:
    """The lines of a markdown table."""
    grid = {"a": list(range(count // 100)), "b": list(range(100))}
    points = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    chunks = [points[i : i + chunk] for i in range(0, len(points), chunk)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
        list(pool.map(run_task, [points[:1]] * jobs))  # the processes have started
        bare = _seconds(lambda: sum(pool.map(run_task, chunks)))
        with TemporaryDirectory() as folder:
            ours = _seconds(lambda: sweep(point, grid, pool, folder, chunk=chunk))
            again = _seconds(lambda: sweep(point, grid, pool, folder, chunk=chunk))
            collected = _seconds(lambda: collect(folder))
    rows = {"bare pool, nothing stored": bare, "sweep, every point stored": ours}
    rows |= {"the same again, all stored": again, "collect alone": collected}
    head = f"{len(points)} points of 1 ms, {chunk} to a task, {jobs} processes"
    lines = [head, "", "| | seconds | over the bare pool |", "|---|---|---|"]
    return lines + [f"| {label} | {s:.1f} | {s / bare:.2f} |" for label, s in rows.items()]


def _seconds(run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
