"""What is claimed of the equations of SGD: their weak orders and their stationary variance."""

from functools import partial

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, mean_of, rivals_of_effect
from sgdnoise.theory import observed_orders, stationary_variance_ratio
from simulations.sde_and_scaling.weak_order._regression import (
    CURVATURE,
    RATE,
    TIME,
    WEAK_ORDERS,
)

TITLE = "Which stochastic equation descent follows, and how closely"
LEAD = (
    "Slopes are between the two smallest rates, from exact second moments: the tolerance is twice "
    "the change from the slope before it, which the next order of the rate makes.",
    "Stationary variances are those of many chains over that of the first-order equation.  Theory "
    "is exact: the tolerance is a tenth of what finite steps add, at most 2% of the variance.",
)


def slopes(results: xr.Dataset, approximation: str) -> np.ndarray:
    """Observed orders between neighbouring rates."""
    return observed_orders(results.distance.sel(way=approximation), results.rate)


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Orders, and stationary variances over the equation's, which no correction leaves at 1."""
    judged = []
    for approximation, order in WEAK_ORDERS.items():
        observed = slopes(results, approximation)
        text, tolerance = (
            f"{approximation}: weak order",
            2 * abs(float(observed[-1] - observed[-2])),
        )
        measured = Estimate(float(observed[-1]), 0.0)
        others = tuple((f"order {n}", float(n)) for n in (1, 2, 3) if n != order)
        rivals = (("no convergence", 0.0), *others)
        judged.append(Verdict(text, order, measured, "prediction", tolerance, rivals))
    for stretch in results.stretch.values.tolist():
        ratio = stationary_variance_ratio(RATE, CURVATURE, stretch=stretch)
        name = "descent" if stretch == 1 else f"SVAG({stretch})"
        measured = mean_of(results.square.sel(stretch=stretch))
        text = f"{name}: variance at rest, over the equation's"
        rivals = rivals_of_effect(partial(_variance, ratio), "rate")
        tolerance = min(0.02 * ratio, 0.1 * (ratio - 1))
        judged.append(Verdict(text, ratio, measured, "prediction", tolerance, rivals))
        text = f"{name}: as if it were the equation"
        judged.append(Verdict(text, 1.0, measured, "contrast", 0.02))
    return judged


def _variance(ratio, factor):
    """The variance over the equation's if what finite steps add were times a factor."""
    return 1 + factor * (ratio - 1)


def tables(results: xr.Dataset) -> list[Table]:
    """Distances and slopes at every rate."""
    rows = []
    for approximation in results.way.values.tolist():
        distance = results.distance.sel(way=approximation).values
        with np.errstate(divide="ignore", invalid="ignore"):
            observed = observed_orders(distance, results.rate)
        slope = f"{observed[-1]:.3f}" if approximation in WEAK_ORDERS else "-"
        rows.append((approximation, *(f"{d:.1e}" for d in distance), slope))
    headings = ("equation", *(f"{rate:.2g}" for rate in results.rate.values), "last slope")
    caption = f"distance of moments from those of descent at time {TIME:g}, by rate"
    return [Table(caption, headings, rows)]
