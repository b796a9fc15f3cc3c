"""Records of a walk: probes are functions of theta, the record is a Dataset."""

from itertools import islice

import xarray as xr

from sgdnoise.core._arguments import checked
from sgdnoise.core._dataset import as_dataset


@checked
def track(walk, probes, *, steps: int, every: int) -> xr.Dataset:
    """Call each probe on every `every`-th theta of `walk`, for a Dataset along `step`.

    probes: name -> function of theta that returns a number or an Estimate, whose error becomes
    NAME_stderr.  Steps are counted from 1.  Raises ValueError unless 1 <= every <= steps.

    Example:
        >>> probes = {"theta": lambda theta: theta, "square": lambda theta: theta**2}
        >>> track(iter([1.0, 2.0, 3.0, 4.0]), probes, steps=4, every=2).square.values.tolist()
        [4.0, 16.0]
    """
    if not 1 <= every <= steps:
        raise ValueError(f"a record every {every} of {steps} steps would be empty")
    thetas = islice(walk, every - 1, steps, every)
    records = [{name: probe(theta) for name, probe in probes.items()} for theta in thetas]
    return as_dataset(dict(zip(range(every, steps + 1, every), records, strict=True)))
