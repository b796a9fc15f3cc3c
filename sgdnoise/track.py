"""Watching a walk: probes are functions of theta, the record is a Dataset."""

from itertools import islice

import numpy as np
import xarray as xr

from sgdnoise.estimate import Estimate

__all__ = ["track"]


def track(walk, probes, *, steps: int, every: int) -> xr.Dataset:
    """Call each probe on every `every`-th theta of `walk`; axis `step`, counted from 1.

    probes: name -> function of theta, to a number or an Estimate, whose error becomes NAME_stderr.
    Raises ValueError unless 1 <= every <= steps.
    """
    if not 1 <= every <= steps:
        raise ValueError(f"watching every {every} of {steps} steps sees nothing")
    seen: dict[str, list] = {name: [] for name in probes}
    for theta in islice(walk, every - 1, steps, every):
        for name, probe in probes.items():
            found = probe(theta)
            if isinstance(found, Estimate):
                seen.setdefault(f"{name}_stderr", []).append(float(found.stderr))
                found = found.value
            seen[name].append(float(found))
    columns = {name: ("step", np.asarray(values)) for name, values in seen.items()}
    return xr.Dataset(columns, {"step": np.arange(every, steps + 1, every)})
