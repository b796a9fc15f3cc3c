"""Watching a walk: probes are functions of theta, the record is a Dataset."""

import math
from itertools import islice

import numpy as np
import xarray as xr

from sgdnoise.core._estimate import Estimate


def track(walk, probes, *, steps: int, every: int) -> xr.Dataset:
    """Call each probe on every `every`-th theta of `walk`; axis `step`, counted from 1.

    probes: name -> function of theta, to a number or an Estimate, whose error becomes NAME_stderr.
    Raises ValueError unless 1 <= every <= steps.
    """
    if not 1 <= every <= steps:
        raise ValueError(f"watching every {every} of {steps} steps sees nothing")
    thetas = islice(walk, every - 1, steps, every)
    seen = [{name: probe(theta) for name, probe in probes.items()} for theta in thetas]
    return as_dataset(dict(zip(range(every, steps + 1, every), seen, strict=True)))


def as_dataset(seen: dict[int, dict]) -> xr.Dataset:
    """What was seen at each step, along `step`, and along `layer` what was seen of layers.

    seen: step -> name -> a number, an Estimate, whose error becomes NAME_stderr, or layer -> these.
    What was not seen at a step, or of a layer, is nan.
    """
    rows = [as_numbers(seen[step]) for step in sorted(seen)]
    keys = dict.fromkeys(key for row in rows for key in row)
    layers = list(dict.fromkeys(layer for _, layer in keys if layer is not None))
    axes: dict[str, list] = {"step": sorted(seen)} | ({"layer": layers} if layers else {})
    columns = {}
    for name in dict.fromkeys(name for name, _ in keys):
        whole = (name, None) in keys
        of = [None] if whole else layers
        values = np.asarray([[row.get((name, layer), math.nan) for layer in of] for row in rows])
        columns[name] = ("step", values[:, 0]) if whole else (("step", "layer"), values)
    return xr.Dataset(columns, axes)


def as_numbers(record: dict) -> dict[tuple, float]:
    """(name, layer) -> number, the layer None of what has none, with each error as NAME_stderr."""
    found: dict[tuple, float] = {}
    for name, value in record.items():
        for layer, number in value.items() if isinstance(value, dict) else [(None, value)]:
            error = number.stderr if isinstance(number, Estimate) else None
            found[name, layer] = float(number if error is None else number.value)
            if error is not None:
                found[f"{name}_stderr", layer] = float(error)
    return found
