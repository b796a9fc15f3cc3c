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

    Example:
        >>> print(mean_of([1.0, 3.0]), mean_of([1.0, 3.0, float("nan")], skip_missing=True))
        2.0 ± 1.0 2.0 ± 1.0
    """
    estimate = (nanmean if skip_missing else mean)(np.asarray(values, float))
    return Estimate(float(estimate.value), float(estimate.stderr), estimate.dof)


@checked
def estimate_in(dataset, name: str) -> Estimate:
    """The scalar variable `name` of a Dataset with the standard error stored as `name`_stderr.

    Example:
        >>> import xarray as xr
        >>> print(estimate_in(xr.Dataset({"loss": 1.5, "loss_stderr": 0.1}), "loss"))
        1.50 ± 0.10
    """
    return Estimate(float(dataset[name]), float(dataset[f"{name}_stderr"]))


@checked
def estimate_variables(name: str, estimates, *axes: str) -> dict[str, Any]:
    """Variables `name` and `name`_stderr of one Estimate, or of a list of them along an axis.

    Example:
        >>> from sgdnoise.core import Estimate
        >>> import xarray as xr
        >>> losses = [Estimate(1.0, 0.1), Estimate(2.0, 0.2)]
        >>> dataset = xr.Dataset(estimate_variables("loss", losses, "rate"))
        >>> dataset.loss.values.tolist(), dataset.loss_stderr.values.tolist()
        ([1.0, 2.0], [0.1, 0.2])
    """
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

    Example:
        >>> import xarray as xr
        >>> dataset = xr.Dataset({"loss": ("rate", [3.0, 4.0])}, {"rate": [0.1, 0.2]})
        >>> [(rate, part.loss.item()) for rate, part in settings_of(dataset, "rate")]
        [(0.1, 3.0), (0.2, 4.0)]
    """
    for values in product(*(dataset[axis].values.tolist() for axis in axes)):
        selection = dataset.sel(dict(zip(axes, values, strict=True)))
        yield (values if len(axes) > 1 else values[0]), selection


@checked
def merge_sweeps(parts: dict[str, Any]) -> Any:
    """One Dataset of the sweeps of a study, which may have different axes.

    Example:
        >>> import xarray as xr
        >>> first = xr.Dataset({"a": ("n", [1.0, 2.0])}, {"n": [1, 2]})
        >>> second = xr.Dataset({"b": ("m", [3.0])}, {"m": [5]})
        >>> dict(merge_sweeps({"first": first, "second": second}).sizes)
        {'n': 2, 'm': 1}
    """
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
