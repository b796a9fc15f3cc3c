"""Which equation SGD follows: weak orders from exact moments, and stationary variances measured.

The second moments of linear regression are linear maps, so that the distance between SGD and an
equation needs no sampling; its slope against the rate is the weak order.  Chains of SGD and of SVAG
show how far their stationary variance is from that of the equation.
"""

import xarray as xr

from sgdnoise.core import batch_means
from sgdnoise.lab import Study, option
from simulations.sde_and_scaling.weak_order import claims, figure
from simulations.sde_and_scaling.weak_order._regression import (
    RATES,
    STRETCHES,
    chains,
    distances,
)


def run(task: str, *, rates: list, count: int) -> xr.Dataset:
    """The exact distances, for the task "orders", or the chains of one stretch."""
    if task != "orders":
        return xr.Dataset({"square": ("batch", batch_means(chains(int(task), count)))})
    by_rate = [distances(rate) for rate in rates]
    values = [[row[name] for name in by_rate[0]] for row in by_rate]
    axes = {"rate": rates, "way": list(by_rate[0])}
    return xr.Dataset({"distance": (("rate", "way"), values)}, axes)


def arrange(dataset: xr.Dataset) -> xr.Dataset:
    """Distances along rates, and squares along stretches."""
    stretches = [task for task in dataset.task.values.tolist() if task != "orders"]
    squares = dataset.square.sel(task=stretches).rename(task="stretch")
    distance = dataset.distance.sel(task="orders", drop=True)
    squares = squares.assign_coords(stretch=[*map(int, stretches)])
    return xr.Dataset({"distance": distance, "square": squares}, attrs=dataset.attrs)


study = Study(
    run,
    grid={"task": lambda parameters: ["orders", *map(str, parameters["stretches"])]},
    sizes={
        "full": {"rates": [*RATES], "stretches": [*STRETCHES], "count": 200_000},
        "small": {"rates": [*RATES[:5]], "stretches": [1, 4], "count": 4000},
    },
    options={"count": option(int, "stationary chains of each stretch", least=2)},
    claims=claims,
    figure=figure,
    arrange=arrange,
)

if __name__ == "__main__":
    study.main()
