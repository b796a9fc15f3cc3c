"""What the study of estimates claims: how far they are off, and which error bars are true."""

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict

__all__ = ["LEAD", "TITLE", "percentage_error", "summarised", "tables", "verdicts"]

TITLE = "Estimates of dimension: how far off, and are the error bars true"
LEAD = (
    "Manifolds of the benchmark of Campadelli et al. (2015), from which nothing was learned, and "
    "repeats of clouds whose spread of values is known by repeating.",
    "A percentage error is |found / true - 1|, failures and more than 100% counted as 100%.",
    "An error bar is true if 95% of the 95% intervals hold the mean of the estimator over repeats, "
    "which is not the true dimension: what an estimator is off by is in the tables.",
)
MEANING = {
    "clean": "as they are",
    "noise": "normal noise of 0.05 in each coordinate",
    "relative": "normal noise of 5% of the radius",
    "wide": "turned into 1000 coordinates",
}
ALLOWED = {  # mean percentage error that is claimed; beside these the rest is for contrast
    ("clean", 1000): 7.5,
    ("clean", 2500): 5.0,
    ("wide", 1000): 10.0,
    ("wide", 2500): 10.0,
    ("noise", 2500): 10.0,
}
WHOLE_NUMBERS = ("pca",)  # the same in nearly every repeat: nothing is left to cover


def summarised(bars: xr.Dataset) -> xr.Dataset:
    """Of the repeats of each cloud: how many, mean, spread, the error claimed, coverage.

    A value lies nearer to the mean of m repeats, of which it is one, than to the true mean, by
    (1 - 1 / m)^1/2; that is allowed for.  One repeat alone tells nothing, and counts as none.
    """
    stacked = bars.stack(repeat=("block", "member"))
    known = np.isfinite(stacked.value) & np.isfinite(stacked.reach)
    known &= known.sum("repeat") > 1
    value, count = stacked.value.where(known), known.sum("repeat")
    mean = value.mean("repeat")
    off = abs(value - mean) / np.sqrt(1 - 1 / count.where(count > 1))
    return xr.Dataset(
        {
            "repeats": count,
            "mean": mean,
            "spread": value.std("repeat", ddof=1),
            "claimed_error": np.sqrt((stacked.error.where(known) ** 2).mean("repeat")),
            "covered": (off <= stacked.reach).where(known).mean("repeat"),
        }
    )


def percentage_error(results: xr.Dataset, method: str = "learned") -> xr.DataArray:
    """Mean over manifolds of |found / true - 1| in %, failures and more than 100 as 100."""
    off = 100 * abs(results.found.sel(by=method) / results.true - 1)
    return off.fillna(100).clip(max=100).mean("manifold")


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The recommended estimate against what it is to reach, every error bar against 95%."""
    found = []
    for n in results.points.values.tolist():
        for change in results.change.values.tolist():
            method = "learned, noisy" if change in ("noise", "relative") else "learned"
            errors = percentage_error(results, method).sel(points=n, change=change)
            measured = Estimate(float(errors.mean()), float(errors.std(ddof=1)) / errors.size**0.5)
            name = f"{method}, n = {n}, {change}: mean % off"
            claimed = (change, n) in ALLOWED
            found.append(Verdict(name, 0.0, measured, claimed, ALLOWED.get((change, n), 10.0)))
    return found + [_covered(results, name) for name in results.estimator.values.tolist()]


def _covered(results, name) -> Verdict:
    """Share of intervals that hold the estimator's own mean, over clouds and dimensions, in %."""
    part = results.sel(estimator=name)
    count = float(part.repeats.sum())
    if not count:
        return Verdict(f"{name}: intervals of 95%", 95.0, Estimate(np.nan, np.nan), False, 1.0)
    share = float((part.covered * part.repeats).sum()) / count
    error = 100 * (max(share * (1 - share), 1 / count) / count) ** 0.5
    claimed = name not in WHOLE_NUMBERS
    return Verdict(f"{name}: intervals of 95%", 95.0, Estimate(100 * share, error), claimed, 1.5)


def tables(results: xr.Dataset) -> list[Table]:
    """Mean percentage error of every method, and the true and claimed error of every estimator."""
    kinds = [(n, c) for n in results.points.values.tolist() for c in results.change.values.tolist()]
    rows = []
    for method in results.by.values.tolist():
        errors = percentage_error(results, method)
        cells = (errors.sel(points=n, change=c) for n, c in kinds)
        rows.append((method, *(_pm(cell) for cell in cells)))
    found = Table(
        "mean percentage error over 24 manifolds (mean ± s.e. over seeds); "
        + ", ".join(f"{change}: {MEANING[change]}" for change in results.change.values.tolist()),
        ("method", *(f"{n}, {change}" for n, change in kinds)),
        rows,
    )
    return [found, *(_bars(results, cloud) for cloud in results.cloud.values.tolist())]


def _bars(results, cloud):
    dimensions = results.d.values.tolist()
    rows = []
    for name in results.estimator.values.tolist():
        parts = [results.sel(cloud=cloud, estimator=name, d=d) for d in dimensions]
        rows.append((name, *(_bar(part) for part in parts)))
    return Table(
        f"{cloud}: mean value, claimed over true error, share of 95% intervals that hold the mean",
        ("estimator", *(f"d = {d}" for d in dimensions)),
        rows,
    )


def _bar(part):
    if not int(part.repeats):
        return "-"
    ratio = float(part.claimed_error / part.spread) if float(part.spread) else float("nan")
    return f"{float(part['mean']):.3g}, {ratio:.2f}, {100 * float(part.covered):.0f}%"


def _pm(values) -> str:
    return f"{float(values.mean()):.1f} ± {float(values.std(ddof=1)) / values.size**0.5:.1f}"
