"""How far estimates of dimension are off, and whether their error bars are true.

Accuracy is measured on the 24 manifolds of Campadelli et al. (2015): as they are, with noise, and
embedded in many coordinates.  Error bars are compared with the standard deviation over repeated
samples of three manifolds: without curvature or boundary, with a boundary, and with curvature.
"""

from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from sgdnoise import dimension
from sgdnoise.core import with_group_error
from sgdnoise.data import BENCHMARK, benchmark, embedded, gaussian, noisy, sphere, torus
from sgdnoise.lab import Study, merge_sweeps, option, read_result, size_table
from simulations.calibration import claims, figure

COMMITTED = Path(__file__).with_name("result.nc")
MANIFOLDS = {"torus": torus, "gaussian": gaussian, "sphere": sphere}
VARIANTS = {
    "clean": lambda data, rng: data,
    "noise": lambda data, rng: data._replace(
        inputs=data.inputs + 0.05 * rng.normal(size=data.inputs.shape)
    ),
    "relative": lambda data, rng: noisy(data, 0.05, rng=rng),
    "wide": lambda data, rng: embedded(data, 1000, rng=rng),
}
REPEAT_INTERVAL = {  # slow estimators are measured in one of so many repeats, in 2 at least
    **dict.fromkeys(("mind_ml", "ess", "abid", "fisher_separability"), 3),
    "learned": 4,
    **dict.fromkeys(("danco", "tle", "abide", "local_pca"), 16),
    **dict.fromkeys(("full_correlation_integral", "geodesic"), 24),
}
BLOCK = 24  # repeats of one manifold in one point of the sweep
ALL = tuple(dimension.ESTIMATORS)


def methods(calibrated: bool) -> dict:
    """The methods that are tried on the benchmark, each a function points -> number."""
    names = ("learned", "twonn", "levina_bickel", "ess", "danco")
    functions = {name: dimension.ESTIMATORS[name] for name in names}
    functions["learned, noisy"] = partial(dimension.learned, noisy=True)
    if calibrated:
        for name in ("twonn", "l2n2", "levina_bickel"):
            functions[f"calibrated {name}"] = dimension.calibrated(dimension.ESTIMATORS[name])
    return functions


def methods_of(names, calibrated: bool) -> dict:
    """The methods that are, or use, one of these estimators."""
    every = methods(calibrated).items()
    return {name: f for name, f in every if name.split(",")[0].split()[-1] in names}


def accuracy(points: int, change: str, seed: int, *, calibrated: bool, names=ALL) -> xr.Dataset:
    """The dimension of every manifold of the benchmark, by every method of these estimators."""
    functions = methods_of(names, calibrated)
    rows = []
    for index, name in enumerate(BENCHMARK):
        rng = np.random.default_rng([seed, index, points])
        data = VARIANTS[change](benchmark(name, points, rng=rng), rng)
        neighbours = dimension.find_neighbours(data.inputs, 40)
        rows.append([_value(method, neighbours) for method in functions.values()])
    true = [manifold.dimension for manifold in BENCHMARK.values()]
    return xr.Dataset(
        {"found": (("manifold", "by"), np.asarray(rows))},
        {"manifold": list(BENCHMARK), "true": ("manifold", true), "by": list(functions)},
    )


def _value(method, neighbours):
    try:
        return float(method(neighbours.points, neighbours=neighbours))
    except ValueError:
        return np.nan


def coverage(cloud: str, d: int, block: int, *, repeats: int, size: int, names=ALL) -> xr.Dataset:
    """Values, errors and half-widths of 95% intervals of these estimators, in one block of repeats.

    size: points of a sample.
    """
    bars = np.full((BLOCK, len(ALL), 3), np.nan)
    for member, repeat in enumerate(range(block * BLOCK, min(repeats, (block + 1) * BLOCK))):
        rng = np.random.default_rng([repeat, d, list(MANIFOLDS).index(cloud)])
        points = MANIFOLDS[cloud](size, d, rng=rng).inputs
        bars[member] = _bars_of(points, [n for n in _measured_in(repeat, repeats) if n in names])
    columns = {"value": bars[..., 0], "error": bars[..., 1], "reach": bars[..., 2]}
    axes = ("member", "estimator")
    return xr.Dataset({k: (axes, v) for k, v in columns.items()}, {"estimator": list(ALL)})


def _measured_in(repeat, repeats):
    """The estimators that are measured in this repeat."""
    intervals = {name: min(REPEAT_INTERVAL.get(name, 1), repeats // 2) for name in ALL}
    return [name for name, interval in intervals.items() if repeat % interval == 0]


def _bars_of(points, names):
    """Value, error and half-width of these estimators, nan for all others.  -> (estimator, 3)

    Estimators that use the same neighbours share one search.
    """
    separate = ("geodesic", "abide", *dimension.ERROR_GROUPS)
    shared = [n for n in names if n in dimension.MANIFOLD and n not in separate]

    def estimates(sample):
        neighbours = dimension.find_neighbours(sample, 40)
        return np.asarray(
            [float(dimension.ESTIMATORS[n](sample, neighbours=neighbours)) for n in shared]
        )

    bars = dict(zip(shared, _bar(estimates, points).T, strict=True)) if shared else {}
    for name in names:
        if name not in bars:
            bars[name] = _bar_of_one(name, points)
    return [bars.get(name, np.full(3, np.nan)) for name in ALL]


def _bar(statistic, points, **groups):
    """Value, error and half-width of each number of a statistic, (3, ...)."""
    estimate = with_group_error(statistic, points, **groups)
    return np.stack([estimate.value, estimate.stderr, estimate.interval()[1] - estimate.value])


def _bar_of_one(name, points):
    estimator, groups = dimension.ESTIMATORS[name], dimension.ERROR_GROUPS.get(name, {})
    try:
        return _bar(lambda sample: np.asarray(float(estimator(sample))), points, **groups)
    except ValueError:  # `geodesic` refuses a group whose graph is not connected
        return np.full(3, np.nan)


def summary(bars: xr.Dataset) -> xr.Dataset:
    """The repeats of each sample: their number, mean, deviation, claimed error and coverage.

    A value lies nearer to the mean of m repeats, of which it is one, than to the true mean, by
    (1 - 1 / m)^1/2; this is corrected.  One repeat alone has no deviation and counts as none.
    """
    stacked = bars.stack(repeat=("block", "member"))
    finite = np.isfinite(stacked.value) & np.isfinite(stacked.reach)
    finite &= finite.sum("repeat") > 1
    value, count = stacked.value.where(finite), finite.sum("repeat")
    mean = value.mean("repeat")
    deviation = abs(value - mean) / np.sqrt(1 - 1 / count.where(count > 1))
    return xr.Dataset(
        {
            "repeats": count,
            "mean": mean,
            "spread": value.std("repeat", ddof=1),
            "claimed_error": np.sqrt((stacked.error.where(finite) ** 2).mean("repeat")),
            "covered": (deviation <= stacked.reach).where(finite).mean("repeat"),
        }
    )


def execute(parameters: dict, session) -> xr.Dataset:
    """Accuracy and coverage; with `only`, these estimators anew and the others as committed."""
    p, only = parameters, list(parameters["only"] or ())
    names = tuple(only) or ALL
    benchmarks = {
        "points": list(p["points"]),
        "change": list(p["changes"]),
        "seed": list(range(p["seeds"])),
    }
    samples = {
        "cloud": list(MANIFOLDS),
        "d": list(p["dimensions"]),
        "block": list(range(-(-p["repeats"] // BLOCK))),
    }
    measure = partial(coverage, repeats=p["repeats"], size=p["sample"], names=names)
    accuracies = None
    if methods_of(names, p["calibrated"]):
        run = partial(accuracy, calibrated=p["calibrated"], names=names)
        accuracies = session.sweep(run, benchmarks, name="accuracy")
    bars = summary(session.sweep(measure, samples, name="coverage"))
    if only:
        return renewed(read_result(COMMITTED), accuracies, bars.sel(estimator=only))
    return merge_sweeps({"accuracy": accuracies, "coverage": bars})


def renewed(committed: xr.Dataset, accuracies: xr.Dataset | None, bars: xr.Dataset) -> xr.Dataset:
    """The committed results with these methods and these estimators replaced."""
    datasets = []
    for axis, new in (("by", accuracies), ("estimator", bars)):
        old = committed[[name for name, v in committed.data_vars.items() if axis in v.dims]]
        if new is not None:
            others = old.drop_sel({axis: new[axis].values})
            order = {axis: old[axis].values}
            old = xr.concat([others, new], axis, join="exact", data_vars="minimal").sel(order)
        datasets.append(old)
    merged = xr.merge(
        [dataset.drop_attrs() for dataset in datasets], join="outer", compat="no_conflicts"
    )
    return merged.assign_attrs({f"before_{name}": v for name, v in committed.attrs.items()})


FULL, SMALL = size_table(  # parameter: full, small
    {
        "points": ((1000, 2500), (300,)),
        "seeds": (5, 2),
        "changes": (tuple(VARIANTS), ("clean",)),
        "calibrated": (True, False),
        "repeats": (240, 8),
        "dimensions": ((2, 5, 10), (2,)),
        "sample": (1000, 250),
        "only": ((), ()),
    }
)


def check(parameters: dict) -> None:
    """Raises ValueError for an unknown estimator, or one to be measured at another size."""
    for name in parameters["only"]:
        if name not in ALL:
            raise ValueError(f"there is no estimator {name!r}; there are {', '.join(ALL)}")
    full = {name: parameters[name] for name in FULL if name != "only"}
    if parameters["only"] and full != {name: v for name, v in FULL.items() if name != "only"}:
        raise ValueError("--only measures again at the full size, that of the committed results")


study = Study(
    execute=execute,
    check=check,
    sizes={"full": FULL, "small": SMALL},
    options={
        "seeds": option(int, "benchmark sets of each kind", least=2),
        "repeats": option(int, "samples of each manifold, fewer of slow estimators", least=2),
        "only": option(list, "an estimator to measure again, all others as committed"),
    },
    claims=claims,
    figure=figure,
)

if __name__ == "__main__":
    study.main()
