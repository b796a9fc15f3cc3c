"""Whether noise drives a network into a set that SGD never leaves: exponents without a fit.

A unit y = w2 w1 x under label noise, near zero and far from it; two units that become equal; and a
layer, which the same noise drives away from zero once it has more than two inputs and outputs.
"""

from functools import partial

import numpy as np
import xarray as xr

from sgdnoise.core import mean
from sgdnoise.lab import Study, estimate_variables, merge_sweeps, option, size_table
from sgdnoise.theory import (
    lyapunov_exponent,
    lyapunov_of_layer,
    lyapunov_of_unit,
    lyapunov_of_unit_small_rate,
    origin_exponent,
)
from simulations.collapse import _chains as units
from simulations.collapse import claims, figure

BLOCKS = 10  # of a run near a set; the first is discarded
RECORDS = 40  # moments at which a network is recorded


def unit(batch: int, *, rates, chains: int, steps: int, seed: int) -> xr.Dataset:
    """Growth of the distance to zero of units far below all that they could learn."""
    start = np.tile([units.TINY, 0.0, 0.0], (chains * len(rates), 1))
    step = partial(units.unit_step, batch=batch)
    growth = growth_rates(step, 2 * batch, start, rates, steps, (seed, 1, batch))
    exact, small = (
        [exponent(units.SLOPE, units.LABEL_NOISE, rate, batch) for rate in rates]
        for exponent in (lyapunov_of_unit, lyapunov_of_unit_small_rate)
    )
    theory = {"unit_exact": ("rate", exact), "unit_small": ("rate", small)}
    variables = estimate_variables("unit_growth", growth, "rate") | theory
    return xr.Dataset(variables, {"rate": [*rates]})


def networks(batch: int, *, rates, nets: int, net_steps: int, seed: int) -> xr.Dataset:
    """Units that start at weights of order one: their size, and how many diverged or collapsed."""
    every = max(1, net_steps // RECORDS)
    rng = np.random.default_rng([seed, batch])
    start = 0.3 * rng.normal(size=(nets * len(rates), 2))
    step, key = partial(units.unit_step, batch=batch), (seed, 2, batch)
    paths = units.simulate_chains(
        step, 2 * batch, start, rates, key, steps=RECORDS * every, every=every
    )
    weights = np.abs(paths).reshape(len(rates), nets, RECORDS, 2)
    finite = np.isfinite(weights).all(-1)
    collapsed = finite & (weights.max(-1) < units.COLLAPSED)
    with np.errstate(divide="ignore"):  # weights may be zero in double precision
        size = np.nanmedian(np.where(finite, np.log10(weights).sum(-1), np.nan), axis=1)
    return xr.Dataset(
        {
            "net_size": (("rate", "watch"), size),
            "net_gone": ("rate", collapsed[..., -1].sum(1)),
            "net_alive": ("rate", finite[..., -1].sum(1)),
            "net_step": ("watch", every * np.arange(1, RECORDS + 1)),
            "net_count": nets,
        },
        {"rate": [*rates]},
    )


def twins(batch: int, *, rates, chains: int, steps: int, seed: int) -> xr.Dataset:
    """Growth of the difference of two units, against curvatures on the path and at the minimum."""
    weight, n = units.stationary_weight(), len(rates)
    first = [weight - units.SEPARATION, weight + units.SEPARATION, 0.0, 0.0]
    start = np.tile(first, (chains // 5 * n, 1))
    step, key = partial(units.twins_step, batch=batch), (seed, 3, batch)
    setting = {"steps": steps, "every": 1, "observe": lambda theta: theta[2:]}
    paths = units.simulate_chains(step, 2 * batch, start, rates, key, **setting)[
        :, steps // BLOCKS :
    ]
    growth = [g.mean(1) for g in np.split(paths[..., 1], n)]
    predicted = [
        np.asarray([lyapunov_exponent(h, rate).value for h in curvature])
        for rate, curvature in zip(rates, np.split(paths[..., 0], n), strict=True)
    ]
    rng = np.random.default_rng([seed, 5, batch])
    stationary = units.curvatures(weight, rng.normal(size=(2, 100 * batch * chains)))
    at_minimum = [lyapunov_exponent(stationary, rate, batch) for rate in rates]
    differences = [mean(g - p) for g, p in zip(growth, predicted, strict=True)]
    return xr.Dataset(
        estimate_variables("twins_growth", [mean(g) for g in growth], "rate")
        | estimate_variables("twins_unlike", differences, "rate")
        | estimate_variables("twins_at_rest", at_minimum, "rate"),
        {"rate": [*rates]},
    )


def layer(width: int, *, strengths, chains: int, steps: int, seed: int) -> xr.Dataset:
    """Growth of small weights into and out of a hidden unit, label noise alone and no signal.

    There are `width` white inputs and as many outputs; weights start balanced, which they stay at
    a width of 1.
    """
    rates = [c * units.LAYER_BATCH**0.5 / units.LABEL_NOISE for c in strengths]
    start = np.zeros((chains * len(rates), 2 * width + 1))
    start[:, [0, width]] = units.TINY
    step, key = partial(units.layer_step, batch=units.LAYER_BATCH, width=width), (seed, 6, width)
    growth = growth_rates(step, 2 * units.LAYER_BATCH * width, start, rates, steps, key)
    base = [origin_exponent(width, units.LABEL_NOISE, rate, units.LAYER_BATCH) for rate in rates]
    refined = [lyapunov_of_layer(width, c, units.LAYER_BATCH) for c in strengths]
    theory = {"layer_base": ("strength", base), "layer_refined": ("strength", refined)}
    variables = estimate_variables("layer_growth", growth, "strength") | theory
    return xr.Dataset(variables, {"strength": [*strengths]})


def growth_rates(step, width, start, rates, steps, key):
    """Growth per step of the logarithm of the norm, an Estimate at each rate."""
    every = steps // BLOCKS
    setting = {"steps": BLOCKS * every, "every": every, "observe": lambda theta: theta[-1]}
    logs = units.simulate_chains(units.rescaled(step), width, start, rates, key, **setting)
    growth = (logs[:, -1] - logs[:, 0]) / ((BLOCKS - 1) * every)
    return [mean(g) for g in np.split(growth, len(rates))]


def execute(parameters: dict, session) -> xr.Dataset:
    """All four experiments, each on its own grid."""
    p = parameters
    common = {name: p[name] for name in ("chains", "steps", "seed")}
    by_rate: dict = {"rates": tuple(p["rates"])}
    sizes = {"rates": by_rate["rates"], "nets": p["nets"], "net_steps": p["net_steps"]}
    batches, widths = {"batch": list(p["batches"])}, {"width": list(p["widths"])}
    runs = {
        "nets": (partial(networks, **sizes, seed=p["seed"]), batches),
        "twins": (partial(twins, **by_rate, **common), batches),
        "unit": (partial(unit, **by_rate, **common), batches),
        "layer": (partial(layer, strengths=tuple(p["strengths"]), **common), widths),
    }
    return merge_sweeps(session.sweep_all(runs))


FULL, SMALL = size_table(  # parameter: full, small
    {
        "rates": ((0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.4)),
        "batches": ((1, 4), (1,)),
        "widths": ((1, 2, 3, 6), (1, 3)),
        "strengths": ((0.1, 0.2), (0.2,)),  # rate label_noise / batch^1/2 of a layer
        "chains": (2000, 200),
        "steps": (5000, 1000),
        "nets": (500, 60),
        "net_steps": (60_000, 8000),
    }
)

study = Study(
    execute=execute,
    sizes={"full": FULL, "small": SMALL},
    options={
        "chains": option(int, "chains near a set, at each rate", least=10),
        "nets": option(int, "whole networks, at each rate", least=2),
    },
    seed=True,
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
