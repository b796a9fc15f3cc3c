"""How far estimates of dimension are off, and whether their error bars are true.

The 24 manifolds of Campadelli et al. (2015), clean, with noise and in many coordinates, by the
recommended estimate and by others; and repeats of clouds without curvature or edge, with edge,
and with curvature, on which an error bar is held against the spread it claims to know.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
import xarray as xr
from typer import Option

from sgdnoise import dimension
from sgdnoise.core import with_group_error
from sgdnoise.data import BENCHMARK, benchmark, embedded, gaussian, noisy, sphere, torus
from sgdnoise.lab import read, sweep
from sgdnoise.lab._terminal import exit_on_error, progress, run_study, workers
from simulations.calibration import claims
from simulations.calibration import figure as picture

OUT = Path("out/calibration")
BEFORE = Path(__file__).parent / "results" / "calibration.nc"
CLOUDS = {"torus": torus, "gaussian": gaussian, "sphere": sphere}
CHANGES: dict[str, Callable] = {
    "clean": lambda data, rng: data,
    "noise": lambda data, rng: data._replace(
        inputs=data.inputs + 0.05 * rng.normal(size=data.inputs.shape)
    ),
    "relative": lambda data, rng: noisy(data, 0.05, rng=rng),
    "wide": lambda data, rng: embedded(data, 1000, rng=rng),
}
ONE_IN = {  # so many repeats, of estimators that take long; of each 2 at least
    **dict.fromkeys(("mind_ml", "ess", "abid", "fisher_separability"), 3),
    "learned": 4,
    **dict.fromkeys(("danco", "tle", "abide", "local_pca"), 16),
    **dict.fromkeys(("full_correlation_integral", "geodesic"), 24),
}


class Size(NamedTuple):
    """How much is run."""

    points: tuple[int, ...]
    seeds: int
    changes: tuple[str, ...]
    calibrated: bool
    repeats: int
    dimensions: tuple[int, ...]
    cloud: int


FULL = Size((1000, 2500), 5, tuple(CHANGES), True, 240, (2, 5, 10), 1000)
SMALL = Size((300,), 2, ("clean",), False, 8, (2,), 250)
BLOCK = 24  # repeats of a cloud in one task; fewer in all if fewer are asked


def methods(calibrated: bool) -> dict:
    """What is tried on the benchmark, points -> number."""
    names = ("learned", "twonn", "levina_bickel", "ess", "danco")
    found = {name: dimension.ESTIMATORS[name] for name in names}
    found["learned, noisy"] = partial(dimension.learned, noisy=True)
    if calibrated:
        for name in ("twonn", "l2n2", "levina_bickel"):
            found[f"calibrated {name}"] = dimension.calibrated(dimension.ESTIMATORS[name])
    return found


def methods_of(names, calibrated: bool) -> dict:
    """Those of the methods that are or use one of these estimators."""
    every = methods(calibrated).items()
    return {by: how for by, how in every if by.split(",")[0].split()[-1] in names}


def accuracy(
    points: int, change: str, seed: int, *, calibrated: bool, names=tuple(dimension.ESTIMATORS)
) -> xr.Dataset:
    """The dimension of every manifold of the benchmark by every method of these estimators."""
    tried = methods_of(names, calibrated)
    rows = []
    for place, name in enumerate(BENCHMARK):
        rng = np.random.default_rng([seed, place, points])
        data = CHANGES[change](benchmark(name, points, rng=rng), rng)
        near = dimension.find_neighbours(data.inputs, 40)
        rows.append([_value(method, near) for method in tried.values()])
    axes = ("manifold", "by")
    true = [manifold.dimension for manifold in BENCHMARK.values()]
    return xr.Dataset(
        {"found": (axes, np.asarray(rows))},
        {"manifold": list(BENCHMARK), "true": ("manifold", true), "by": list(tried)},
    )


def coverage(
    cloud: str, d: int, block: int, *, size: Size, names=tuple(dimension.ESTIMATORS)
) -> xr.Dataset:
    """Values, errors and reach of 95% intervals of these estimators on some repeats of a cloud."""
    repeats = range(block * BLOCK, min(size.repeats, (block + 1) * BLOCK))
    found = np.full((BLOCK, len(dimension.ESTIMATORS), 3), np.nan)
    for member, repeat in enumerate(repeats):
        rng = np.random.default_rng([repeat, d, list(CLOUDS).index(cloud)])
        points = CLOUDS[cloud](size.cloud, d, rng=rng).inputs
        due = [name for name in _due(repeat, size.repeats) if name in names]
        found[member] = _measured(points, due)
    axes = ("member", "estimator")
    return xr.Dataset(
        {name: (axes, found[..., at]) for at, name in enumerate(("value", "error", "reach"))},
        {"estimator": list(dimension.ESTIMATORS)},
    )


def _due(repeat, repeats):
    """The estimators that this repeat of so many measures."""
    often = {name: min(ONE_IN.get(name, 1), repeats // 2) for name in dimension.ESTIMATORS}
    return [name for name, each in often.items() if repeat % each == 0]


def _measured(points, names):
    """Value, error and reach of these estimators, nan for the others, (estimator, 3).

    Neighbours are found once for all that use the same.
    """
    apart = ("geodesic", "abide", *dimension.ERROR_GROUPS)
    sharing = [n for n in names if n in dimension.MANIFOLD and n not in apart]

    def several(part):
        near = dimension.find_neighbours(part, 40)
        return np.asarray([float(dimension.ESTIMATORS[n](part, neighbours=near)) for n in sharing])

    found = dict(zip(sharing, _bars(several, points).T, strict=True)) if sharing else {}
    for name in names:
        if name not in found:
            found[name] = _alone(name, points)
    return [found.get(name, np.full(3, np.nan)) for name in dimension.ESTIMATORS]


def _bars(statistic, points, **groups):
    """Value, error and reach of each number of a statistic, (3, ...)."""
    measured = with_group_error(statistic, points, **groups)
    return np.stack([measured.value, measured.stderr, measured.interval()[1] - measured.value])


def _alone(name, points):
    estimator, groups = dimension.ESTIMATORS[name], dimension.ERROR_GROUPS.get(name, {})
    try:
        return _bars(lambda part: np.asarray(float(estimator(part))), points, **groups)
    except ValueError:  # geodesic, where it refuses a group
        return np.full(3, np.nan)


def _value(method, near):
    try:
        return float(method(near.points, neighbours=near))
    except ValueError:
        return np.nan


def study(size: Size, *, jobs: int, folder, only=()) -> xr.Dataset:
    """Accuracy and coverage, on `jobs` processes; what is finished is kept in `folder`.

    only: estimators that are measured, all others being as in the results committed before.
    """
    names = tuple(only) or tuple(dimension.ESTIMATORS)
    seeds, blocks = list(range(size.seeds)), list(range(-(-size.repeats // BLOCK)))
    sets: dict[str, list] = {"points": [*size.points], "change": [*size.changes], "seed": seeds}
    bars: dict[str, list] = {"cloud": [*CLOUDS], "d": [*size.dimensions], "block": blocks}
    if not methods_of(names, size.calibrated):
        sets["seed"] = []
    total = sum(math.prod(map(len, grid.values())) for grid in (sets, bars))
    near = partial(accuracy, calibrated=size.calibrated, names=names)
    spread = partial(coverage, size=size, names=names)

    def finished():
        return sum(1 for _ in folder.rglob("point-*.nc"))

    with workers(jobs) as pool, progress("points", finished, total):
        found = sweep(near, sets, pool, folder / "accuracy") if sets["seed"] else None
        repeated = claims.summarised(sweep(spread, bars, pool, folder / "coverage"))
    if only:
        return renewed(read(BEFORE), found, repeated.sel(estimator=list(only)))
    parts = [repeated] if found is None else [found, repeated]
    return xr.merge(parts, join="outer", compat="no_conflicts")


def renewed(before: xr.Dataset, found: xr.Dataset | None, repeated: xr.Dataset) -> xr.Dataset:
    """The results before, with these methods and these estimators instead of what they were."""
    parts = []
    for axis, new in (("by", found), ("estimator", repeated)):
        old = before[[name for name, each in before.data_vars.items() if axis in each.dims]]
        if new is not None:
            kept = old.drop_sel({axis: new[axis].values})
            order = {axis: old[axis].values}
            old = xr.concat([kept, new], axis, join="exact", data_vars="minimal").sel(order)
        parts.append(old)
    merged = xr.merge([part.drop_attrs() for part in parts], join="outer", compat="no_conflicts")
    return merged.assign_attrs({f"before_{name}": it for name, it in before.attrs.items()})


def main(
    small: Annotated[bool, Option("--small", help="a minute, for a look")] = False,
    seeds: Annotated[
        int | None, Option(help="benchmark sets of each kind", show_default="by size")
    ] = None,
    repeats: Annotated[
        int | None, Option(help="of each cloud; slow estimators less often", show_default="by size")
    ] = None,
    only: Annotated[
        list[str] | None,
        Option(help="an estimator to measure again, the rest as committed; may be given again"),
    ] = None,
    jobs: Annotated[int, Option(help="processes")] = 2,
    out: Annotated[Path, Option(help="folder for results; a stopped run goes on there")] = OUT,
) -> None:
    """How far estimates of dimension are off on 24 manifolds; whether their error bars are true.

    By size: 5 sets of each kind and 240 repeats of each cloud; small, 2 and 8.
    Stopped at any moment, it goes on where it stopped when started again with the same arguments.
    Exit status: 0 the claims hold, 1 one fails inside its regime, 2 bad input.
    """
    size = SMALL if small else FULL
    asked: dict[str, Any] = {"seeds": seeds, "repeats": repeats}
    size = size._replace(**{name: n for name, n in asked.items() if n is not None})
    with exit_on_error(f"run the same command again to go on from what is in {out}"):
        least = min(size.seeds, size.repeats)
        if least < 2:
            raise ValueError(f"an error needs at least 2 seeds and 2 repeats, not {least}")
        _check_only(only or (), size)
        run_study(
            partial(study, size, jobs=jobs, only=only or ()),
            size._asdict() | ({"only": only} if only else {}),
            claims,
            picture,
            out,
        )


def _check_only(only, size):
    for name in only:
        if name not in dimension.ESTIMATORS:
            raise ValueError(
                f"sgdnoise.dimension._catalogue.ESTIMATORS has no {name!r}; give one of their names"
            )
    if only and size != FULL:
        raise ValueError("only some are measured again at the full size, that of the results kept")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
