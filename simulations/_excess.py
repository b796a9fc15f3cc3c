"""The mean of a predicted path beside a mean loss, for claims on the excess loss."""

import xarray as xr


def between(path: xr.DataArray, first: int, axis: str = "watch") -> xr.DataArray:
    """The mean of a path over the intervals between its records from the record `first` on."""
    later = path.isel({axis: slice(first, None)})
    ends = later.isel({axis: [0, -1]}).sum(axis, skipna=False)
    return (later.sum(axis, skipna=False) - ends / 2) / (later.sizes[axis] - 1)
