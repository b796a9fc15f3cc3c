"""Points of a grid, and names for them that every process and machine would give."""

import hashlib
import inspect
import json
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from sgdnoise import __version__
from sgdnoise.lab._store import code_hash


def points(grid: dict) -> Iterator[dict]:
    """The points of a grid, name -> values, in the order of its axes."""
    return (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))


def fingerprint(**arguments) -> str:
    """A short name for arguments and package version: equal names mean equal runs.

    Raises ValueError for what has no lasting name, as a bare object.
    """
    whole = canonical_text({"version": __version__, **arguments})
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def spawn_generator(seed: int, point: dict) -> np.random.Generator:
    """The generator of a point, spawned from one root by what the point is, not by its place."""
    words = np.frombuffer(hashlib.sha256(canonical_text(point).encode()).digest(), "<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def study_key(run, seed: int | None) -> str:
    """A name for a function, for what is bound in it, its code, the package's code, and a seed."""
    inner = run
    while isinstance(inner, partial):
        inner = inner.func
    inside = [cell.cell_contents for cell in getattr(inner, "__closure__", None) or ()]
    try:
        code = Path(inspect.getsourcefile(inner) or "").read_bytes()
    except (TypeError, OSError):  # it was typed in
        code = b""
    own = hashlib.sha256(code).hexdigest()
    return fingerprint(run=run, inside=inside, code=own, source=code_hash(), seed=seed)


def canonical_text(value) -> str:
    """Any value as JSON, whatever the order of its names.  Raises ValueError as `fingerprint`."""
    return json.dumps(value, sort_keys=True, default=_named)


def _named(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if inspect.isroutine(value) or inspect.isclass(value):
        return f"{value.__module__}.{value.__qualname__}"
    if " at 0x" in (found := str(value)):
        raise ValueError(f"a {type(value).__name__} has no name that another process would know")
    return found
