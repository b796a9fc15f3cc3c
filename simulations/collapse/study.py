"""Whether noise draws a network into a set that its steps never leave: exponents, nothing fitted.

A unit y = w2 w1 x under label noise, near zero and as a whole; two units that become alike; and a
layer, which the same noise drives away from zero once it has more than two inputs and outputs.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import xarray as xr
from typer import Option

from sgdnoise.core import mean
from sgdnoise.lab._terminal import (
    Cluster,
    Jobs,
    Out,
    Small,
    command,
    exit_on_error,
    run_study,
    sweep_all,
)
from sgdnoise.theory import (
    lyapunov_exponent,
    lyapunov_of_layer,
    lyapunov_of_unit,
    lyapunov_of_unit_small_rate,
    origin_exponent,
)
from simulations.collapse import claims
from simulations.collapse import figure as picture
from simulations.collapse._chains import (
    APART,
    FAR_BELOW,
    LABEL_NOISE,
    SLOPE,
    chains,
    curvatures,
    far_below,
    layer_step,
    resting,
    twins_step,
    unit_step,
)

OUT = Path("out/collapse")
LAYER_BATCH = 4
PARTS, WATCHES = 10, 40  # of a run near a set, the first of them left out; of a net


class Size(NamedTuple):
    """How much is run."""

    rates: tuple[float, ...]
    batches: tuple[int, ...]
    widths: tuple[int, ...]
    strengths: tuple[float, ...]  # of a layer's kicks, rate label_noise / batch^1/2
    chains: int
    steps: int
    nets: int
    net_steps: int
    seed: int = 0


FULL = Size((0.1, 0.2, 0.3, 0.4, 0.5), (1, 4), (1, 2, 3, 6), (0.1, 0.2), 2000, 5000, 500, 60_000)
SMALL = Size((0.1, 0.4), (1,), (1, 3), (0.2,), 200, 1000, 60, 8000)


def unit(batch: int, *, size: Size) -> xr.Dataset:
    """Growth of the distance to zero of units far below all that they could learn."""
    start = np.tile([FAR_BELOW, 0.0, 0.0], (size.chains * len(size.rates), 1))
    found = _growth(partial(unit_step, batch=batch), 2 * batch, start, size.rates, size, 1, batch)
    exact, small = (
        [exponent(SLOPE, LABEL_NOISE, rate, batch) for rate in size.rates]
        for exponent in (lyapunov_of_unit, lyapunov_of_unit_small_rate)
    )
    more = {"unit_exact": ("rate", exact), "unit_small": ("rate", small)}
    return xr.Dataset(_measured("unit_growth", found, "rate") | more, {"rate": [*size.rates]})


def nets(batch: int, *, size: Size) -> xr.Dataset:
    """Whole units from weights of order one: where they are, and how many blew up."""
    every = max(1, size.net_steps // WATCHES)
    rng = np.random.default_rng([size.seed, batch])
    start = 0.3 * rng.normal(size=(size.nets * len(size.rates), 2))
    seen = chains(
        partial(unit_step, batch=batch),
        2 * batch,
        start,
        size.rates,
        (size.seed, 2, batch),
        steps=WATCHES * every,
        every=every,
    )
    weights = np.abs(seen).reshape(len(size.rates), size.nets, WATCHES, 2)
    alive = np.isfinite(weights).all(-1)
    gone = alive & (weights.max(-1) < claims.GONE)
    with np.errstate(divide="ignore"):  # zero is as far as numbers go
        middle = np.nanmedian(np.where(alive, np.log10(weights).sum(-1), np.nan), axis=1)
    return xr.Dataset(
        {
            "net_size": (("rate", "watch"), middle),
            "net_gone": ("rate", gone[..., -1].sum(1)),
            "net_alive": ("rate", alive[..., -1].sum(1)),
            "net_step": ("watch", every * np.arange(1, WATCHES + 1)),
            "net_count": size.nets,
        },
        {"rate": [*size.rates]},
    )


def twins(batch: int, *, size: Size) -> xr.Dataset:
    """Growth of the difference of two units, and of curvatures across: on the way, and at rest."""
    weight, count, left_out = resting(), len(size.rates), size.steps // PARTS
    start = np.tile([weight - APART, weight + APART, 0.0, 0.0], (size.chains // 5 * count, 1))
    step, key = partial(twins_step, batch=batch), (size.seed, 3, batch)
    how = {"steps": size.steps, "every": 1, "look": lambda theta: theta[2:]}
    seen = chains(step, 2 * batch, start, size.rates, key, **how)[:, left_out:]
    growth, bends = (np.split(seen[..., part], count) for part in (1, 0))
    told = [
        np.asarray([lyapunov_exponent(h, rate).value for h in some])
        for rate, some in zip(size.rates, bends, strict=True)
    ]
    found = [some.mean(1) for some in growth]
    rng = np.random.default_rng([size.seed, 5, batch])
    still = curvatures(weight, rng.normal(size=(2, 100 * batch * size.chains)))
    at_rest = [lyapunov_exponent(still, rate, batch) for rate in size.rates]
    unlike = [mean(one - other) for one, other in zip(found, told, strict=True)]
    return xr.Dataset(
        _measured("twins_growth", [mean(some) for some in found], "rate")
        | _measured("twins_unlike", unlike, "rate")
        | _measured("twins_at_rest", at_rest, "rate"),
        {"rate": [*size.rates]},
    )


def layer(width: int, *, size: Size) -> xr.Dataset:
    """Growth of small weights in and out of a hidden unit, label noise alone and no signal.

    As many white inputs as outputs, `width`; weights start balanced, as they stay at a width of 1.
    """
    rates = [c * LAYER_BATCH**0.5 / LABEL_NOISE for c in size.strengths]
    start = np.zeros((size.chains * len(rates), 2 * width + 1))
    start[:, [0, width]] = FAR_BELOW
    step = partial(layer_step, batch=LAYER_BATCH, width=width)
    found = _growth(step, 2 * LAYER_BATCH * width, start, rates, size, 6, width)
    base = [origin_exponent(width, LABEL_NOISE, rate, LAYER_BATCH) for rate in rates]
    refined = [lyapunov_of_layer(width, c, LAYER_BATCH) for c in size.strengths]
    more = {"layer_base": ("strength", base), "layer_refined": ("strength", refined)}
    growth = _measured("layer_growth", found, "strength")
    return xr.Dataset(growth | more, {"strength": [*size.strengths]})


def _growth(step, width, start, rates, size, *part):
    """Growth a step of the logarithm of the norm, an Estimate at each rate."""
    every, key = size.steps // PARTS, (size.seed, *part)
    how = {"steps": PARTS * every, "every": every, "look": lambda theta: theta[-1]}
    logs = chains(far_below(step), width, start, rates, key, **how)
    growth = (logs[:, -1] - logs[:, 0]) / ((PARTS - 1) * every)  # slower directions are forgotten
    return [mean(some) for some in np.split(growth, len(rates))]


def _measured(name, found, axis):
    value, error = ([float(e[i]) for e in found] for i in (0, 1))
    return {name: (axis, value), f"{name}_stderr": (axis, error)}


def study(size: Size, *, jobs: int, folder, cluster: str | None = None) -> xr.Dataset:
    """All parts, on `jobs` processes; what is finished is kept in `folder`."""
    batches, widths = {"batch": [*size.batches]}, {"width": [*size.widths]}
    parts: dict[str, tuple] = {
        "nets": (nets, batches),
        "twins": (twins, batches),
        "unit": (unit, batches),
        "layer": (layer, widths),
    }
    sized = {name: (partial(run, size=size), grid) for name, (run, grid) in parts.items()}
    found = sweep_all(sized, folder, jobs=jobs, cluster=cluster)
    return xr.merge(found.values(), join="outer", compat="no_conflicts")


def main(
    small: Small = False,
    run_chains: Annotated[
        int | None, Option("--chains", help="near a set, at each rate", show_default="by size")
    ] = None,
    nets_each: Annotated[
        int | None, Option("--nets", help="whole networks, at each rate", show_default="by size")
    ] = None,
    seed: Annotated[int, Option(help="of all that is drawn")] = 0,
    jobs: Jobs = 2,
    cluster: Cluster = None,
    out: Out = OUT,
) -> None:
    """Run all parts, and hold them against exponents."""
    size = SMALL if small else FULL
    size = size._replace(
        chains=size.chains if run_chains is None else run_chains,
        nets=size.nets if nets_each is None else nets_each,
        seed=seed,
    )
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        if size.chains < 10 or size.nets < 2:
            raise ValueError(
                f"errors need at least 10 chains and 2 nets, not {size.chains} and {size.nets}"
            )
        if seed < 0:
            raise ValueError(f"a seed is a whole number from 0, not {seed}")
        run_study(
            partial(study, size, jobs=jobs, cluster=cluster), size._asdict(), claims, picture, out
        )


if __name__ == "__main__":
    command(main)
