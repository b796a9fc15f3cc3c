"""Records of a walk: probes are functions of theta, the record is a Dataset."""

import math
from itertools import islice

import numpy as np
import xarray as xr

from sgdnoise.core._estimate import Estimate


def track(walk, probes, *, steps: int, every: int) -> xr.Dataset:
    """Call each probe on every `every`-th theta of `walk`, for a Dataset along `step`.

    probes: name -> function of theta that returns a number or an Estimate, whose error becomes
    NAME_stderr.  Steps are counted from 1.  Raises ValueError unless 1 <= every <= steps.
    """
    if not 1 <= every <= steps:
        raise ValueError(f"a record every {every} of {steps} steps would be empty")
    thetas = islice(walk, every - 1, steps, every)
    records = [{name: probe(theta) for name, probe in probes.items()} for theta in thetas]
    return as_dataset(dict(zip(range(every, steps + 1, every), records, strict=True)))


def as_dataset(records: dict[int, dict]) -> xr.Dataset:
    """The records of some steps along `step`, and those of layers along `layer`.

    records: step -> name -> a number, an Estimate, whose error becomes NAME_stderr, or layer ->
    these.  What is missing at a step or for a layer is nan.
    """
    rows = [as_numbers(records[step]) for step in sorted(records)]
    keys = dict.fromkeys(key for row in rows for key in row)
    layers = list(dict.fromkeys(layer for _, layer in keys if layer is not None))
    axes: dict[str, list] = {"step": sorted(records)} | ({"layer": layers} if layers else {})
    columns = {}
    for name in dict.fromkeys(name for name, _ in keys):
        of_network = (name, None) in keys
        of_layers = [None] if of_network else layers
        values = np.asarray(
            [[row.get((name, layer), math.nan) for layer in of_layers] for row in rows]
        )
        columns[name] = ("step", values[:, 0]) if of_network else (("step", "layer"), values)
    return xr.Dataset(columns, axes)


def as_numbers(record: dict) -> dict[tuple, float]:
    """(name, layer) -> number, with layer None for the network, and errors as NAME_stderr."""
    numbers: dict[tuple, float] = {}
    for name, value in record.items():
        for layer, number in value.items() if isinstance(value, dict) else [(None, value)]:
            error = number.stderr if isinstance(number, Estimate) else None
            numbers[name, layer] = float(number if error is None else number.value)
            if error is not None:
                numbers[f"{name}_stderr", layer] = float(error)
    return numbers
