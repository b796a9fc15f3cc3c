"""Points of a grid, and keys for them that are the same in every process and on every machine."""

import hashlib
import inspect
import json
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from sgdnoise import __version__
from sgdnoise.core._arguments import checked
from sgdnoise.lab._sweep._code import code_hash


def points(grid: dict) -> Iterator[dict]:
    """The points of a grid, name -> values, in the order of its axes."""
    return (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))


def fingerprint(**arguments) -> str:
    """A hash of arguments and of the package version: equal hashes mean equal runs.

    Raises ValueError for objects without a text that another process would give them.
    """
    text = canonical_text({"version": __version__, **arguments})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@checked
def spawn_generator(seed: int, point: dict) -> np.random.Generator:
    """The generator of a point, which depends on the point and on the seed, not on the order.

    Example:
        >>> first, again = (spawn_generator(0, {"n": 3}).random() for _ in range(2))
        >>> first == again, first == spawn_generator(0, {"n": 4}).random()
        (True, False)
    """
    words = np.frombuffer(hashlib.sha256(canonical_text(point).encode()).digest(), "<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def source_file(run) -> Path:
    """The file of the module that defines a function, also of a partial one; `.` where none is."""
    while isinstance(run, partial):
        run = run.func
    try:
        return Path(inspect.getsourcefile(run) or "")
    except (TypeError, OSError):  # it was typed in
        return Path()


def study_key(run, seed: int | None) -> str:
    """A hash of a function, of the values bound in it, of the code that it runs, and of a seed."""
    function = run
    while isinstance(function, partial):
        function = function.func
    bound = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return fingerprint(run=run, bound=bound, code=code_hash(source_file(run)), seed=seed)


def canonical_text(value) -> str:
    """A value as JSON with sorted names.  Raises ValueError as `fingerprint` does."""
    return json.dumps(value, sort_keys=True, default=_named)


def _named(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if inspect.isroutine(value) or inspect.isclass(value):
        return f"{value.__module__}.{value.__qualname__}"
    if " at 0x" in (text := str(value)):
        raise ValueError(f"a {type(value).__name__} has no name that another process would know")
    return text
