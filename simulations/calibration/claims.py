"""What the study of dimension estimates claims: how far they are off, which error bars are true."""

from functools import cache

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate, with_group_error
from sgdnoise.dimension import ERROR_GROUPS
from sgdnoise.lab import Table, Verdict, mean_of, prediction_if, rivals_of_effect, settings_of
from simulations._intervals import relative_width, slope

TITLE = "Estimates of dimension: how far off, and are the error bars true"
LEAD = (
    "Accuracy is measured on the manifolds of the benchmark of Campadelli et al. (2015), none of "
    "which the learned estimator was trained on.  Error bars are measured on repeated samples.",
    "The percentage error is |estimated / true - 1|; failures and errors above 100% count as 100%.",
    "An error bar is true if 95% of the 95% intervals contain the mean of the estimator over "
    "repeats.  This is not the true dimension: the bias of each estimator is in the tables.",
    "Coverage is claimed as the width of the intervals over that of intervals that would hold 95%, "
    "by Student's law with the degrees of freedom of the error.  The percentage has a ceiling: "
    "intervals of twice the width hold 99.9%.  The tolerance is that of 1.5 percentage points.",
)
DESCRIPTIONS = {
    "clean": "as they are",
    "noise": "normal noise of 0.05 in each coordinate",
    "relative": "normal noise of 5% of the radius",
    "wide": "rotated into 1000 coordinates",
}
TOLERANCE = {  # mean percentage error that is claimed; all other settings are contrasts
    ("clean", 1000): 7.5,
    ("clean", 2500): 5.0,
    ("wide", 1000): 10.0,
    ("wide", 2500): 10.0,
    ("noise", 2500): 10.0,
}
COVERAGE = 0.015  # tolerance of the fraction of 95% intervals that hold
SAMPLES = 1000  # of each interval
INTEGER_VALUED = ("pca",)  # the same value in nearly every repeat, so that coverage means nothing


def percentage_error(results: xr.Dataset, method: str = "learned") -> xr.DataArray:
    """Mean over manifolds of |estimated / true - 1| in %, each at most 100, failures 100."""
    errors = 100 * abs(results.found.sel(by=method) / results.true - 1)
    return errors.fillna(100).clip(max=100).mean("manifold")


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The accuracy of the recommended estimator, and the coverage of every error bar."""
    rows = []
    for (n, change), _ in settings_of(results, "points", "change"):
        method = "learned, noisy" if change in ("noise", "relative") else "learned"
        errors = percentage_error(results, method).sel(points=n, change=change)
        measured = Estimate(float(errors.mean()), float(errors.std(ddof=1)) / errors.size**0.5)
        claimed, tolerance = (change, n) in TOLERANCE, TOLERANCE.get((change, n), 10.0)
        name = f"{method}, n = {n}, {change}: mean % off"
        kind = prediction_if(claimed)
        plain = percentage_error(results, "twonn").sel(points=n, change=change)
        rivals = (("as far off as TwoNN", float(plain.mean())),)
        rows.append(Verdict(name, 0.0, measured, kind, tolerance, rivals))
    return rows + [coverage(results, name) for name in results.estimator.values.tolist()]


def coverage(results, name) -> Verdict:
    """The width of 95% intervals over what it should be, from those that hold the mean.

    It is that of the fraction over all samples of intervals that contain the estimator's own mean.
    """
    data, dof = results.sel(estimator=name), degrees_of_freedom(name)
    count = int(data.repeats.sum())
    text = f"{name}: width of 95% intervals over what it should be"
    tolerance, kind = COVERAGE / slope(1.0, dof), prediction_if(name not in INTEGER_VALUED)
    if not count:
        return Verdict(text, 1.0, Estimate(np.nan, np.nan), "outside", tolerance)
    fraction = float((data.covered * data.repeats).sum()) / count
    measured, rivals = relative_width(fraction, count, dof), rivals_of_effect(1.0, "width")
    return Verdict(text, 1.0, measured, kind, tolerance, rivals)


@cache
def degrees_of_freedom(name: str) -> float:
    """Those of the error of an estimator, which its groups decide."""
    samples = np.random.default_rng(0).normal(size=SAMPLES)
    return float(with_group_error(np.mean, samples, **ERROR_GROUPS.get(name, {})).dof)


def tables(results: xr.Dataset) -> list[Table]:
    """The mean percentage error of every method, then the error bars of every estimator."""
    kinds = [values for values, _ in settings_of(results, "points", "change")]
    rows = []
    for method in results.by.values.tolist():
        errors = percentage_error(results, method)
        means = [mean_of(errors.sel(points=n, change=change)) for n, change in kinds]
        rows.append((method, *(f"{m.value:.1f} ± {m.stderr:.1f}" for m in means)))
    variants = ", ".join(f"{name}: {DESCRIPTIONS[name]}" for name in results.change.values.tolist())
    caption = f"mean percentage error over 24 manifolds (mean ± s.e. over seeds); {variants}"
    first = Table(caption, ("method", *(f"{n}, {change}" for n, change in kinds)), rows)
    return [first, *(_error_bars(data, name) for name, data in settings_of(results, "cloud"))]


def _error_bars(results, cloud):
    rows = [
        (name, *(_error_bar(cell) for _, cell in settings_of(data, "d")))
        for name, data in settings_of(results, "estimator")
    ]
    caption = (
        f"{cloud}: mean value, claimed over true error, share of 95% intervals that hold the mean"
    )
    return Table(caption, ("estimator", *(f"d = {d}" for d in results.d.values.tolist())), rows)


def _error_bar(data):
    if not int(data.repeats):
        return "-"
    ratio = float(data.claimed_error / data.spread) if float(data.spread) else float("nan")
    return f"{float(data['mean']):.3g}, {ratio:.2f}, {100 * float(data.covered):.0f}%"
