"""Verdicts: whether a measured number agrees with a predicted one, and whether data suffice."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._estimate import Estimate
from sgdnoise.core._scalars import described

SIGNIFICANCE = 3  # standard errors that are attributed to chance
NEGLIGIBLE = 1e-4  # prediction relative to the deviation below which per cent mean nothing
HEADINGS = (
    *("claim", "kind", "predicted", "measured", "deviation", "allowed"),
    *("in s.e.", "in %", "verdict"),
)
PREDICTION, CONTRAST, OUTSIDE, OBSERVATION = "prediction", "contrast", "outside", "observation"
KINDS = (PREDICTION, CONTRAST, OUTSIDE, OBSERVATION)
# The outcome if the measurement is within the tolerance, beyond it, and neither.
OUTCOMES = {
    PREDICTION: ("holds", "fails", "undecided"),
    CONTRAST: ("agrees", "differs", "undecided"),
}
NOT_JUDGED = "-"


@dataclass(frozen=True)
class Verdict:
    """One row of a study: a predicted number and a measured one, in the same unit.

    kind: what the row is.
        "prediction": theory claims this number; it may hold or fail.
        "contrast": the number of a rival or a control, from which the measurement should differ.
        "outside": a prediction outside of its regime, which is shown and not judged.
        "observation": a measurement without a claim; the number beside it is for comparison.
    tolerance: the deviation that theory allows, in the same unit, stated before measuring.
    rivals: (name, what another theory predicts here) of each rival, for predictions.
    Raises ValueError for another kind, a negative tolerance, and what is no number or Estimate.

    Example:
        >>> from sgdnoise.core import Estimate
        >>> Verdict("mean", 1.0, Estimate(1.02, 0.01), "prediction", tolerance=0.06).outcome
        'holds'
        >>> Verdict("mean", 1.0, Estimate(1.04, 0.01), "prediction", tolerance=0.06).outcome
        'undecided'
        >>> Verdict("rival", 2.0, Estimate(1.02, 0.01), "contrast", 0.05).outcome
        'differs'
    """

    name: str
    predicted: Any
    measured: Estimate
    kind: str
    tolerance: Any = 0.0
    rivals: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self):
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {described(self.kind)}")
        for entry, value in (("predicted", self.predicted), ("tolerance", self.tolerance)):
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{entry} must be a number, not {described(value)}")
        if self.tolerance < 0:
            raise ValueError(f"tolerance must be 0 or more, not {self.tolerance}")
        if not isinstance(self.measured, Estimate):
            raise ValueError(f"measured must be an Estimate, not {described(self.measured)}")

    @property
    def excluded(self) -> dict[str, bool]:
        """rival -> whether it would fail here, by the rule by which the prediction would."""
        error = SIGNIFICANCE * float(self.measured.stderr)
        value = float(self.measured.value)
        beyond = {name: abs(value - rival) - error for name, rival in self.rivals}
        return {name: bool(distance > self.tolerance) for name, distance in beyond.items()}

    @property
    def deviation(self) -> float:
        """measured - predicted."""
        return float(self.measured.value) - self.predicted

    @property
    def z(self) -> float:
        """The deviation in standard errors."""
        error, deviation = float(self.measured.stderr), self.deviation
        if error or not deviation:
            return deviation / (error or 1.0)
        return math.copysign(math.inf, deviation)

    @property
    def percent(self) -> float:
        """The deviation in per cent of the prediction; nan if that is negligible beside it."""
        negligible = abs(self.predicted) <= NEGLIGIBLE * abs(self.deviation)
        return math.nan if negligible else 100 * self.deviation / abs(self.predicted)

    @property
    def outcome(self) -> str:
        """What is decided with 3 standard errors; "-" for rows that are not judged.

        A prediction holds if |deviation| + 3 s.e. <= tolerance: it is equivalent to theory.  It
        fails if |deviation| - 3 s.e. > tolerance, and is else undecided.  By the same rule a
        contrast agrees, differs, or is undecided.
        """
        if self.kind not in OUTCOMES:
            return NOT_JUDGED
        inside, beyond, neither = OUTCOMES[self.kind]
        error = SIGNIFICANCE * float(self.measured.stderr)
        if abs(self.deviation) + error <= self.tolerance:
            return inside
        return beyond if abs(self.deviation) - error > self.tolerance else neither

    @property
    def holds(self) -> bool:
        """Whether the outcome is `holds`."""
        return self.outcome == "holds"


@checked
def prediction_if(in_regime: bool) -> str:
    """The kind of a row of theory: a prediction in its regime, and else outside.

    Example:
        >>> prediction_if(0.08 <= 0.12), prediction_if(0.2 <= 0.12)
        ('prediction', 'outside')
    """
    return PREDICTION if in_regime else OUTSIDE


@checked
def compare(name: str, first: Estimate, second: Estimate, tolerance: float) -> Verdict:
    """Whether two independent Estimates are equal within a tolerance, as a Verdict.

    The row shows the value of the second as predicted, and the first as measured with the errors
    of both.  tolerance: the difference that does not matter, in the unit of both, stated before.
    Raises ValueError for a tolerance that is negative or nan, and what is no finite Estimate of one
    number.

    Example:
        >>> sgd, equation = Estimate(1.02, 0.01), Estimate(1.00, 0.01)
        >>> verdict = compare("variance", sgd, equation, tolerance=0.1)
        >>> verdict.outcome, round(verdict.z, 1)
        ('holds', 1.4)
    """
    for estimate in (first, second):
        if not isinstance(estimate, Estimate) or np.ndim(estimate.value):
            kind = described(estimate)
            raise ValueError(f"compare takes two Estimates of one number, not {kind}")
        if not math.isfinite(float(estimate.value)) or math.isnan(float(estimate.stderr)):
            raise ValueError(f"compare takes finite Estimates, not {estimate}")
    if math.isnan(tolerance):
        raise ValueError("tolerance must be a number, not nan")
    value = float(second.value)
    return Verdict(name, value, first - second + value, PREDICTION, tolerance)


def row(verdict: Verdict) -> tuple[str, ...]:
    """The verdict as cells of text, in the order of HEADINGS."""
    value, error = float(verdict.measured.value), float(verdict.measured.stderr)
    digits = max(0, min(6, 1 - math.floor(math.log10(error)))) if 0 < error < math.inf else 3
    judged = verdict.kind in OUTCOMES
    return (
        verdict.name,
        verdict.kind,
        f"{verdict.predicted:.{digits}f}",
        f"{value:.{digits}f} ± {error:.{digits}f}",
        f"{verdict.deviation:+.{digits}f}",
        f"{verdict.tolerance:.{digits}f}" if judged else NOT_JUDGED,
        f"{verdict.z:+.1f}" if error else "-",
        "-" if math.isnan(verdict.percent) else f"{verdict.percent:+.1f}",
        verdict.outcome,
    )


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """The number of each outcome of predictions and of contrasts, and of rows not judged.

    The names are "holds", "fails", "undecided"; "differs", "agrees", "contrast undecided";
    "outside" and "observation".
    """
    labels = [_label(verdict) for verdict in verdicts]
    return {name: labels.count(name) for name in LABELS}


def _label(verdict):
    if verdict.kind == CONTRAST and verdict.outcome == "undecided":
        return "contrast undecided"
    return verdict.outcome if verdict.kind in OUTCOMES else verdict.kind


LABELS = (
    *OUTCOMES[PREDICTION],
    *OUTCOMES[CONTRAST][:2],
    "contrast undecided",
    OUTSIDE,
    OBSERVATION,
)


def summary(verdicts: Iterable[Verdict]) -> str:
    """The numbers of each kind of row and of their outcomes, in a line."""
    number = counts(verdicts)
    parts = [
        "predictions: " + ", ".join(f"{number[name]} {name}" for name in LABELS[:3]),
        f"contrasts: {number['differs']} differ, {number['agrees']} agree, "
        f"{number['contrast undecided']} undecided",
        f"{number[OUTSIDE]} outside the regime",
        f"{number[OBSERVATION]} observations",
    ]
    return "; ".join(parts)


def without_powerless(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts, in which a prediction that none of its rivals would fail is an observation."""
    return [
        replace(v, kind=OBSERVATION)
        if v.kind == PREDICTION and v.rivals and not any(v.excluded.values())
        else v
        for v in verdicts
    ]


@checked
def exit_status(verdicts: list[Any]) -> int:
    """The exit status of a study: 1 if a prediction failed where theory claims to hold, else 0.

    Example:
        >>> from sgdnoise.core import Estimate
        >>> from sgdnoise.lab import Verdict
        >>> good = Verdict("mean", 1.0, Estimate(1.00, 0.01), "prediction", tolerance=0.1)
        >>> bad = Verdict("mean", 2.0, Estimate(1.00, 0.01), "prediction", tolerance=0.1)
        >>> exit_status([good]), exit_status([good, bad])
        (0, 1)
    """
    return int(any(v.outcome == "fails" for v in verdicts))


def with_verdicts(dataset, verdicts: list[Verdict]):
    """The Dataset with its verdicts along an axis `claim`, for `verdicts_in` to read.

    The predictions of rivals are in single precision, along an axis `rival_name`.
    Raises ValueError where a variable of the Dataset has the name of a column.
    """
    table = {
        "claim": [v.name for v in verdicts],
        "predicted": [v.predicted for v in verdicts],
        "measured": [float(v.measured.value) for v in verdicts],
        "measured_stderr": [float(v.measured.stderr) for v in verdicts],
        "tolerance": [v.tolerance for v in verdicts],
        "claim_kind": [v.kind for v in verdicts],
    }
    columns: dict[str, Any] = {name: ("claim", values) for name, values in table.items()}
    if names := list(dict.fromkeys(name for v in verdicts for name, _ in v.rivals)):
        values = [[dict(v.rivals).get(name, math.nan) for name in names] for v in verdicts]
        columns["rival_name"] = ("rival_name", names)
        columns["rival_predicted"] = (("claim", "rival_name"), np.asarray(values, np.float32))
    if taken := set(columns) & set(dataset.variables):
        raise ValueError(f"a result has no variable {taken.pop()!r}, the name of a verdict column")
    return dataset.assign(columns)


def without_verdicts(dataset):
    """The Dataset without the verdicts that it was stored with."""
    return dataset.drop_dims(["claim", "rival_name"], errors="ignore")


@checked
def verdicts_in(dataset) -> list[Verdict]:
    """The verdicts that are stored in a Dataset, as they were when it was written.

    Example:
        >>> import xarray as xr
        >>> table = {"predicted": [1.0], "measured": [1.02], "measured_stderr": [0.01]}
        >>> kinds = {"claim_kind": ["prediction"], "tolerance": [0.1]}
        >>> variables = {name: ("claim", values) for name, values in (table | kinds).items()}
        >>> [verdict] = verdicts_in(xr.Dataset(variables, {"claim": ["mean"]}))
        >>> verdict.name, verdict.outcome
        ('mean', 'holds')
    """
    if "claim" not in dataset.dims:
        return []
    columns = ("claim", "predicted", "measured", "measured_stderr", "claim_kind", "tolerance")
    rows = zip(*(dataset[name].values.tolist() for name in columns), strict=True)
    return [
        Verdict(name, predicted, Estimate(value, error), kind, tolerance, rivals)
        for (name, predicted, value, error, kind, tolerance), rivals in zip(
            rows, _stored_rivals(dataset), strict=True
        )
    ]


def _stored_rivals(dataset):
    """The rivals of each stored verdict; none in a result that was written without them."""
    if "rival_predicted" not in dataset:
        return [()] * dataset.sizes["claim"]
    names = dataset.rival_name.values.tolist()
    return [
        tuple((n, p) for n, p in zip(names, values, strict=True) if not math.isnan(p))
        for values in dataset.rival_predicted.values.tolist()
    ]
