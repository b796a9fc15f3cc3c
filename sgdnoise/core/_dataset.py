"""Records of a training as an xarray Dataset."""

import math

import numpy as np

from sgdnoise._extras import require
from sgdnoise.core._estimate import Estimate
from sgdnoise.core._ratio import Ratio


def as_dataset(records: dict[int, dict]):
    """Records of several steps as a Dataset along `step`, and along `layer` for layers.

    records: step -> name -> a number, an Estimate, or a dict layer -> number or Estimate.  The
    error of an Estimate becomes NAME_stderr, and the 95% interval of a Ratio becomes NAME_low and
    NAME_high; a ratio that is not resolved is inf, with a finite NAME_low.  What is missing at a
    step or for a layer is nan.
    """
    xr = require("xarray", "lab")
    rows = [as_numbers(records[step]) for step in sorted(records)]
    keys = dict.fromkeys(key for row in rows for key in row)
    layers = list(dict.fromkeys(layer for _, layer in keys if layer is not None))
    axes: dict[str, list] = {"step": sorted(records)} | ({"layer": layers} if layers else {})
    columns = {}
    for name in dict.fromkeys(name for name, _ in keys):
        of_net = (name, None) in keys
        names = [None] if of_net else layers
        values = np.asarray([[row.get((name, layer), math.nan) for layer in names] for row in rows])
        columns[name] = ("step", values[:, 0]) if of_net else (("step", "layer"), values)
    return xr.Dataset(columns, axes)


def as_numbers(record: dict) -> dict[tuple, float]:
    """One record as (name, layer) -> number; layer is None where there is none."""
    numbers: dict[tuple, float] = {}
    for name, value in record.items():
        for layer, number in value.items() if isinstance(value, dict) else [(None, value)]:
            error = number.stderr if isinstance(number, Estimate) else None
            numbers[name, layer] = float(number if error is None else number.value)
            if error is not None:
                numbers[f"{name}_stderr", layer] = float(error)
            if isinstance(number, Ratio):
                low, high = number.interval()
                numbers[f"{name}_low", layer], numbers[f"{name}_high", layer] = low, high
    return numbers
