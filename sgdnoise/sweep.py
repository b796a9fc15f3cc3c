"""One run for each point of a grid, on any executor, as one Dataset."""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, as_completed
from itertools import product
from pathlib import Path

import xarray as xr

from sgdnoise import __version__
from sgdnoise.store import read, write

__all__ = ["fingerprint", "points", "sweep"]


def points(grid: dict) -> Iterator[dict]:
    """The points of a grid, name -> values, in the order of its axes."""
    return (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))


def fingerprint(**arguments) -> str:
    """A short name for arguments and package version: equal names mean equal runs."""
    text = json.dumps({"version": __version__, **arguments}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sweep(
    run: Callable[..., xr.Dataset], grid: dict, executor: Executor, folder=None
) -> xr.Dataset:
    """Call `run(**point)` at every point of `grid`, and lay the Datasets out along its axes.

    With a folder each finished point is written there at once, whole; started again on it, only
    what is missing or damaged runs.  The first exception of a run cancels what has not begun;
    what had begun is finished and written, and then the exception is raised.
    """
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    results, running = {}, {}
    for index, point in enumerate(points(grid)):
        path = Path(folder) / f"point-{fingerprint(**point)}.nc" if folder is not None else None
        known = None if path is None else _finished(path)
        if known is not None:
            results[index] = known
        else:
            running[executor.submit(run, **point)] = index, path
    failed = None
    for future in as_completed(running):
        index, path = running[future]
        if future.cancelled():
            continue
        if (error := future.exception()) is not None:
            failed = failed or error
            for other in running:
                other.cancel()
            continue
        results[index] = future.result()
        if path is not None:
            write(results[index], path)
    if failed is not None:
        raise failed
    return _laid_out([results[i] for i in range(len(results))], grid)


def _laid_out(found: list[xr.Dataset], grid: dict) -> xr.Dataset:
    """Datasets in the order of `points`, along new axes; what one lacks and others have is nan."""
    nested: list = found
    for values in reversed(list(grid.values())[1:]):
        nested = [nested[i : i + len(values)] for i in range(0, len(nested), len(values))]
    whole = xr.combine_nested(
        nested, list(grid), data_vars="all", coords="minimal", compat="override", join="outer"
    )
    assert isinstance(whole, xr.Dataset)  # of Datasets it is one
    return whole.assign_coords(grid)


def _finished(path) -> xr.Dataset | None:
    """The Dataset of a point, if it is there and whole."""
    try:
        return read(path)
    except (FileNotFoundError, ValueError):
        return None
