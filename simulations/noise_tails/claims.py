"""What is claimed of tails and of normality, and the tables beside it."""

import math

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, mean, nanmean
from sgdnoise.lab import Table, Verdict
from sgdnoise.noise import METHODS

TITLE = "The shape of gradient noise: what samples can say of it, and what fakes a heavy tail"
LEAD = (
    "Each estimator of a tail index is claimed only for the laws that it assumes; elsewhere it is "
    "shown for contrast.",
    "Kesten's index has no fitted parameter. Chains start at zero and are independent.",
)

ALPHA = {  # true tail indices
    "Pareto 2": 2.0,
    "Student 1.5": 1.5,
    "Student 3": 3.0,
    "Student 5": 5.0,
    "stable 1.2": 1.2,
    "stable 1.7": 1.7,
    "Gaussian": math.inf,
}
_STABLE = ("stable 1.2", "stable 1.7", "Gaussian")
CLAIMED = {
    "hill": ("Pareto 2", "Student 1.5", "stable 1.2"),
    "clauset": ("Pareto 2", "stable 1.2"),
    "moments": ("Pareto 2", "Student 1.5", "stable 1.2"),
    "stable": _STABLE,
    "blocks": _STABLE,
}
KESTEN = ((0.5, 1), (0.8, 1), (1.1, 1), (1.0, 2), (1.4, 4))  # rate, batch


def truth(law: str, method: str) -> float:
    """What an estimator of an index is to find in a law: a stable fit its limit law."""
    alpha = ALPHA[law]
    if method == "moments":
        return 1 / alpha
    return min(alpha, 2.0) if method in ("stable", "blocks") else alpha


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Estimators where they apply, layers, Kesten's index, p-values, and batches of a network."""
    return [
        *_of_estimators(results),
        *_of_mixing(results),
        *_of_chains(results),
        *_of_tests(results),
        *_of_network(results),
    ]


def _of_estimators(results):
    """The largest samples: mean against truth on some laws, coverage over those claimed."""
    m, found = int(results.samples.max()), []
    part = results.sel(samples=m)
    for method in METHODS:
        hits = []
        for law in ALPHA:
            right = truth(law, method)
            value, error = (
                part[name].sel(law=law, estimator=method).values
                for name in ("index", "index_stderr")
            )
            claimed = law in CLAIMED[method]
            if math.isfinite(right):
                name = f"{_named(method)}, {law}, m = {m}"
                allowed = 0.07 if method == "moments" else 0.05 * right
                found.append(Verdict(name, right, nanmean(value), claimed, allowed))
            if claimed:
                hits += (abs(value - right) <= 1.96 * error).tolist()
        claimed = method != "clauset"
        name = f"{_named(method)}: 95% intervals that hold the truth, m = {m}"
        found.append(Verdict(name, 95.0, _share(hits), claimed, 5.0))
    return found


def _of_mixing(results):
    found = []
    for spread in results.spread.values.tolist():
        for method in ("stable", "blocks"):
            for pooling in ("layers", "naive"):
                values = results.mixed.sel(spread=spread, by=method, pooling=pooling).values
                name = f"{method}, Gaussian, log-scales ± {spread:g}, {pooling}"
                found.append(Verdict(name, 2.0, mean(values), pooling == "layers", 0.03))
    return found


def _of_chains(results):
    found = []
    for place, (rate, batch) in enumerate(KESTEN):
        part = results.sel(setting=place)
        alpha = float(part.kesten[0])
        name = f"tail of theta, rate {rate}, batch {batch}"
        found.append(Verdict(name, alpha, mean(part.theta_index.values), True, 0.07 * alpha))
    return found


def _of_tests(results):
    return [
        Verdict(
            f"Gaussian noise {shape}: rejected at 5% (%)",
            5.0,
            _share(results.p_value.sel(shape=shape).values <= 0.05),
            True,
            2.0,
        )
        for shape in results["shape"].values.tolist()
    ]


def _of_network(results):
    """Excess of the fourth moment falls as 1 / batch; of few examples it is not known well."""
    found = []
    for stage in results.stage.values.tolist():
        part = results.sel(stage=stage)
        for batch in results.batch.values.tolist():
            here = part.sel(batch=batch)
            predicted = float(part.one_example) / batch
            measured = Estimate(float(here.mardia), float(here.mardia_stderr))
            name = f"network, {stage}: excess fourth moment, batch {batch}"
            allowed = max(0.2 * abs(predicted), 0.05)
            found.append(Verdict(name, predicted, measured, batch >= 16, allowed))
    return found


def _named(method):
    return "1 / alpha by moments" if method == "moments" else f"alpha by {method}"


def _share(hits):
    """A share in %, with an error that is not zero where all agree."""
    count, share = len(hits), float(np.mean(hits))
    return Estimate(100 * share, 100 * (max(share * (1 - share), 1 / count) / count) ** 0.5)


def tables(results: xr.Dataset) -> list[Table]:
    """Errors of every estimator, power of the test, tails of the network's layers."""
    laws, counts = results.law.values.tolist(), results.samples.values.tolist()
    rows = [
        (f"{_named(method)}, m = {m}", *(_off(results, law, method, m) for law in laws))
        for method in METHODS
        for m in counts
    ]
    caption = "mean ± spread of repeats; error claimed over spread; 95% intervals with the truth"
    found = [Table(caption, ("estimator", *laws), rows)]
    shares = [
        (other, *(f"{100 * v:.0f}%" for v in results.found.sel(other=other).values.tolist()))
        for other in results.other.values.tolist()
    ]
    headings = ("noise, 20 coordinates", *(f"m = {m}" for m in results.m.values.tolist()))
    found.append(Table("share found not to be Gaussian, at 5%", headings, shares))
    return [*found, *(_layers(results, stage) for stage in results.stage.values.tolist())]


def _off(results, law, method, m):
    part = results.sel(law=law, estimator=method, samples=m)
    value, error = part["index"].values, part["index_stderr"].values
    spread, right = value.std(ddof=1), truth(law, method)
    cover = f"{100 * np.mean(abs(value - right) <= 1.96 * error):.0f}%"
    claimed = np.sqrt(np.mean(error**2)) / spread
    return f"{value.mean():.2f} ± {spread:.2f}; {claimed:.2f}; {cover}"


def _layers(results, stage):
    part = results.sel(stage=stage)
    rows = []
    for batch in results.batch.values.tolist():
        here = part.sel(batch=batch)
        for method in results.by.values.tolist():
            cells = (f"{v:.2f}" for v in here.layer_index.sel(by=method).values.tolist())
            rows.append((f"batch {batch}, {method}", *cells, f"{float(here.batch_p):.3f}"))
    caption = f"network, {stage}: alpha by layer, of all numbers as they are; p-value of normality"
    return Table(caption, ("noise", "first layer", "second layer", "pooled", "p"), rows)
