"""What is claimed of estimated tails and of the test of normality, with the tables beside it."""

import math

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Table,
    Verdict,
    estimate_in,
    mean_of,
    prediction_if,
    rivals_of_effect,
    settings_of,
)
from sgdnoise.noise import METHODS
from simulations._intervals import relative_width, slope
from simulations.noise_tails._cases import KESTEN

TITLE = "The shape of gradient noise: what samples can tell, and what appears as a heavy tail"
LEAD = (
    "Each estimator of a tail index is claimed only for the laws that it assumes; all others are "
    "contrasts.",
    "Kesten's index has no fitted parameter.  Chains start at zero and are independent.",
    "Coverage is claimed as a width: that of the intervals over that of intervals that would hold "
    "95%, which has no ceiling as the percentage has.  The tolerance is that of 5 percentage "
    "points.",
    "The excess fourth moment of a mean over a batch is exactly 1 / batch that of an example.",
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
COVERAGE = 0.05  # tolerance of the fraction of 95% intervals that hold
LEVEL = 1.0  # tolerance of the level of a test, 5%, in percentage points: a fifth
MOMENT = 0.1  # tolerance of a fourth moment, as a fraction
_STABLE = ("stable 1.2", "stable 1.7", "Gaussian")
CLAIMED = {
    "hill": ("Pareto 2", "Student 1.5", "stable 1.2"),
    "clauset": ("Pareto 2", "stable 1.2"),
    "moments": ("Pareto 2", "Student 1.5", "stable 1.2"),
    "stable": _STABLE,
    "blocks": _STABLE,
}


def truth(law: str, method: str) -> float:
    """What an estimator should give for a law; of a stable fit the index of its limit law."""
    alpha = ALPHA[law]
    if method == "moments":
        return 1 / alpha
    return min(alpha, 2.0) if method in ("stable", "blocks") else alpha


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """Estimators where they apply, layers, Kesten's index, p-values, and batches of a network."""
    experiments = (_estimators, _mixing, _chains, _tests, _network)
    return [verdict for experiment in experiments for verdict in experiment(results)]


def _estimators(results):
    """For the most samples: the mean against the truth, and coverage over the claimed laws."""
    m, rows = int(results.samples.max()), []
    for method in METHODS:
        hits = []
        for law, data in settings_of(results.sel(samples=m, estimator=method), "law"):
            true, values, errors = (
                truth(law, method),
                data["index"].values,
                data.index_stderr.values,
            )
            claimed = law in CLAIMED[method]
            if math.isfinite(true):
                name = f"{_label(method)}, {law}, m = {m}"
                tolerance = 0.07 if method == "moments" else 0.05 * true
                estimate = mean_of(values, skip_missing=True)
                kind, rivals = prediction_if(claimed), _other_tails(method, law, true)
                rows.append(Verdict(name, true, estimate, kind, tolerance, rivals))
            if claimed:
                hits += (abs(values - true) <= 1.96 * errors).tolist()
        name = f"{_label(method)}: width of 95% intervals over what it should be, m = {m}"
        kind, rivals = prediction_if(method != "clauset"), rivals_of_effect(1.0, "width")
        width = relative_width(float(np.mean(hits)), len(hits))
        rows.append(Verdict(name, 1.0, width, kind, COVERAGE / slope(1.0), rivals))
    return rows


def _other_tails(method, law, true):
    """Indices a factor of the true one, and that of a Gaussian."""
    inverse = method == "moments"
    bounded = method in ("stable", "blocks")  # by the index 2 of a Gaussian
    gaussian = 0.0 if inverse else 2.0 if bounded and law != "Gaussian" else math.nan

    def index(factor):
        if not factor or (bounded and factor * true > 2):
            return math.nan
        return true / factor if inverse else true * factor

    return rivals_of_effect(index, "alpha", *[("Gaussian", gaussian)][: math.isfinite(gaussian)])


def _mixing(results):
    for deviation in results.spread.values.tolist():
        for method in ("stable", "blocks"):
            for pooling in ("layers", "naive"):
                data = results.mixed.sel(spread=deviation, by=method, pooling=pooling)
                name = f"{method}, Gaussian, log-scales ± {deviation:g}, {pooling}"
                claimed = pooling == "layers"
                # Layers of equal scale may be pooled, so that nothing should differ.
                kind = "contrast" if not claimed and deviation else "observation"
                kind = "prediction" if claimed else kind
                pooled = results.mixed.sel(spread=deviation, by=method, pooling="naive")
                others = [("layers pooled", float(pooled.mean()))] if deviation else []
                rivals = (("alpha x 0.5", 1.0), ("alpha x 0.8", 1.6), *others) if claimed else ()
                yield Verdict(name, 2.0, mean_of(data), kind, 0.03, rivals)


def _chains(results):
    for setting, (rate, batch) in enumerate(KESTEN):
        data = results.sel(setting=setting)
        alpha = float(data.kesten[0])
        name = f"tail of theta, rate {rate}, batch {batch}"
        rivals = rivals_of_effect(alpha, "alpha")[1:]
        measured = mean_of(data.theta_index)
        yield Verdict(name, alpha, measured, "prediction", 0.07 * alpha, rivals)


def _tests(results):
    """The level of the test of normality."""
    for shape, data in settings_of(results, "shape"):
        name = f"Gaussian noise {shape}: rejected at 5% (%)"
        measured = rejected(data.p_value.values)
        rivals = rivals_of_effect(lambda factor: 5 * factor, "rate")
        yield Verdict(name, 5.0, measured, "prediction", LEVEL, rivals)


def rejected(p_values) -> Estimate:
    """Percentage of tests that reject at 5%, (table, test) -> one; tests of a table are dependent.

    The error is that of the means of tables, and at least that of as many independent tests, since
    two tables may agree by chance.
    """
    tables = mean_of((p_values <= 0.05).mean(1))
    fraction, count = float(tables.value), p_values.size
    least = (max(fraction * (1 - fraction), 1 / count) / count) ** 0.5
    return Estimate(100 * fraction, 100 * max(float(tables.stderr), least), tables.dof)


def _network(results):
    """The excess fourth moment falls as 1 / batch, exactly."""
    for (stage, batch), data in settings_of(results, "stage", "batch"):
        predicted = float(data.one_example) / batch
        name = f"network, {stage}: excess fourth moment, batch {batch}"
        rivals = rivals_of_effect(predicted, "moment")
        tolerance = MOMENT * abs(predicted)
        yield Verdict(name, predicted, estimate_in(data, "mardia"), "prediction", tolerance, rivals)


def _label(method):
    return "1 / alpha by moments" if method == "moments" else f"alpha by {method}"


def tables(results: xr.Dataset) -> list[Table]:
    """Errors of every estimator, power of the test, tails of the network's layers."""
    laws, counts = results.law.values.tolist(), results.samples.values.tolist()
    rows = [
        (f"{_label(method)}, m = {m}", *(_errors(results, law, method, m) for law in laws))
        for method in METHODS
        for m in counts
    ]
    caption = (
        "mean ± deviation of repeats; error claimed over deviation; 95% intervals with the truth"
    )
    powers = [
        (alternative, *(f"{100 * v:.0f}%" for v in data.found.values.tolist()))
        for alternative, data in settings_of(results, "other")
    ]
    headings = ("noise, 20 coordinates", *(f"m = {m}" for m in results.m.values.tolist()))
    layers = [_layers(data, stage) for stage, data in settings_of(results, "stage")]
    power = Table("tests that reject normality at 5%", headings, powers)
    return [Table(caption, ("estimator", *laws), rows), power, *layers]


def _errors(results, law, method, m):
    data = results.sel(law=law, estimator=method, samples=m)
    value, error = data["index"].values, data["index_stderr"].values
    deviation, true = value.std(ddof=1), truth(law, method)
    cover = f"{100 * np.mean(abs(value - true) <= 1.96 * error):.0f}%"
    claimed = np.sqrt(np.mean(error**2)) / deviation
    return f"{value.mean():.2f} ± {deviation:.2f}; {claimed:.2f}; {cover}"


def _layers(results, stage):
    rows = []
    for (batch, method), data in settings_of(results, "batch", "by"):
        cells = (f"{v:.2f}" for v in data.layer_index.values.tolist())
        rows.append((f"batch {batch}, {method}", *cells, f"{float(data.batch_p):.3f}"))
    caption = f"network, {stage}: alpha by layer, of all numbers pooled; p-value of normality"
    return Table(caption, ("noise", "first layer", "second layer", "pooled", "p"), rows)
