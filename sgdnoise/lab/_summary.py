"""Numbers of a study: means over runs, and estimates as variables of a Dataset."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from sgdnoise.core import Estimate, mean, nanmean
from sgdnoise.core._arguments import checked


@checked
def mean_of(values, *, skip_missing: bool = False) -> Estimate:
    """Mean of independent values (n,) with its standard error, as Python floats.

    skip_missing: leave out values that are not finite; nan where fewer than 2 are left.
    Raises ValueError for fewer than 2 values.
    """
    estimate = (nanmean if skip_missing else mean)(np.asarray(values, float))
    return Estimate(float(estimate.value), float(estimate.stderr), estimate.dof)


@checked
def estimate_in(dataset, name: str) -> Estimate:
    """The scalar variable `name` of a Dataset with the standard error stored as `name`_stderr."""
    return Estimate(float(dataset[name]), float(dataset[f"{name}_stderr"]))


@checked
def estimate_variables(name: str, estimates, *axes: str) -> dict[str, Any]:
    """Variables `name` and `name`_stderr of one Estimate, or of a list of them along an axis."""
    if isinstance(estimates, Estimate):
        values, errors = estimates.value, estimates.stderr
    else:
        values, errors = ([getattr(e, key) for e in estimates] for key in ("value", "stderr"))
    return {
        name: (axes, np.asarray(values, float)),
        f"{name}_stderr": (axes, np.asarray(errors, float)),
    }


@checked
def settings_of(dataset, *axes: str) -> Iterator[tuple[Any, Any]]:
    """Each combination of the coordinates of some axes with its part of the Dataset.

    Yields (value, part) for one axis and ((value, ...), part) for several; the last axis varies
    fastest.
    """
    for values in product(*(dataset[axis].values.tolist() for axis in axes)):
        selection = dataset.sel(dict(zip(axes, values, strict=True)))
        yield (values if len(axes) > 1 else values[0]), selection


@checked
def merge_sweeps(parts: dict[str, Any]) -> Any:
    """One Dataset of the sweeps of a study, which may have different axes."""
    import xarray as xr

    return xr.merge(parts.values(), join="outer", compat="no_conflicts")


@checked
def size_table(table: dict[str, tuple]) -> list[dict[str, Any]]:
    """The parameters of each size, from parameter -> its value at each size.

    Example:
        >>> size_table({"chains": (40_000, 400), "batches": ((1, 4), (1,))})
        [{'chains': 40000, 'batches': (1, 4)}, {'chains': 400, 'batches': (1,)}]
    """
    return [dict(zip(table, column, strict=True)) for column in zip(*table.values(), strict=True)]
