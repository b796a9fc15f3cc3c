"""Verdicts: whether a measured number agrees with a predicted one, and whether data suffice."""

import math
from typing import Any, NamedTuple

from sgdnoise.core._estimate import Estimate

SIGNIFICANCE = 3  # standard errors that are attributed to chance
NEGLIGIBLE = 1e-4  # prediction relative to the deviation below which per cent mean nothing
HEADINGS = (
    *("claim", "predicted", "measured", "deviation", "allowed"),
    *("in s.e.", "in %", "regime", "verdict"),
)


class Verdict(NamedTuple):
    """One claim: a predicted number and a measured one, in the same unit.

    claimed: whether theory claims to hold here; otherwise the row is shown for contrast.
    tolerance: the deviation that theory allows, in the same unit, stated before measuring.

    Example:
        >>> from sgdnoise.core import Estimate
        >>> Verdict("mean", 1.0, Estimate(1.02, 0.01), claimed=True, tolerance=0.05).outcome
        'holds'
    """

    name: str
    predicted: float
    measured: Estimate
    claimed: bool
    tolerance: float

    @property
    def deviation(self) -> float:
        """measured - predicted."""
        return float(self.measured.value) - self.predicted

    @property
    def z(self) -> float:
        """The deviation in standard errors."""
        error = float(self.measured.stderr)
        return self.deviation / error if error else math.copysign(math.inf, self.deviation)

    @property
    def percent(self) -> float:
        """The deviation in per cent of the prediction; nan if that is negligible beside it."""
        negligible = abs(self.predicted) <= NEGLIGIBLE * abs(self.deviation)
        return math.nan if negligible else 100 * self.deviation / abs(self.predicted)

    @property
    def outcome(self) -> str:
        """One of holds, fails, undecided.

        A claim fails if it deviates by more than the tolerance and 3 standard errors together.  It
        is undecided if 3 standard errors exceed the tolerance, so that a false theory could pass.
        """
        error = SIGNIFICANCE * float(self.measured.stderr)
        if not math.isfinite(self.deviation) or not math.isfinite(error):
            return "undecided"
        if abs(self.deviation) > self.tolerance + error:
            return "fails"
        return "holds" if error <= self.tolerance else "undecided"

    @property
    def holds(self) -> bool:
        """Whether the outcome is `holds`."""
        return self.outcome == "holds"


def row(verdict: Verdict) -> tuple[str, ...]:
    """The verdict as cells of text, in the order of HEADINGS."""
    value, error = float(verdict.measured.value), float(verdict.measured.stderr)
    digits = max(0, min(6, 1 - math.floor(math.log10(error)))) if 0 < error < math.inf else 3
    return (
        verdict.name,
        f"{verdict.predicted:.{digits}f}",
        f"{value:.{digits}f} ± {error:.{digits}f}",
        f"{verdict.deviation:+.{digits}f}",
        f"{verdict.tolerance:.{digits}f}",
        f"{verdict.z:+.1f}" if error else "-",
        "-" if math.isnan(verdict.percent) else f"{verdict.percent:+.1f}",
        "inside" if verdict.claimed else "outside",
        verdict.outcome,
    )


def summary(verdicts) -> str:
    """The numbers of claims that hold, fail or are undecided in their regime, and of others."""
    inside = [v.outcome for v in verdicts if v.claimed]
    counts = ", ".join(f"{inside.count(o)} {o}" for o in ("holds", "fails", "undecided"))
    return f"{counts}; {len(verdicts) - len(inside)} (outside the regime), for contrast"


def exit_status(verdicts: list[Any]) -> int:
    """The exit status of a study: 1 if a claim failed where theory claims to hold, else 0."""
    return int(any(v.claimed and v.outcome == "fails" for v in verdicts))


def with_verdicts(dataset, verdicts: list[Verdict]):
    """The Dataset with its verdicts along an axis `claim`, for `verdicts_in` to read.

    Raises ValueError where a variable of the Dataset has the name of a column.
    """
    table = {
        "claim": [v.name for v in verdicts],
        "predicted": [v.predicted for v in verdicts],
        "measured": [float(v.measured.value) for v in verdicts],
        "measured_stderr": [float(v.measured.stderr) for v in verdicts],
        "claimed": [int(v.claimed) for v in verdicts],
        "tolerance": [v.tolerance for v in verdicts],
    }
    if taken := set(table) & set(dataset.variables):
        raise ValueError(f"a result has no variable {taken.pop()!r}, the name of a verdict column")
    return dataset.assign({name: ("claim", values) for name, values in table.items()})


def verdicts_in(dataset) -> list[Verdict]:
    """The verdicts that are stored in a Dataset, as they were when it was written."""
    if "claim" not in dataset.dims:
        return []
    names = ("claim", "predicted", "measured", "measured_stderr", "claimed", "tolerance")
    rows = zip(*(dataset[name].values.tolist() for name in names), strict=True)
    return [
        Verdict(name, predicted, Estimate(value, error), bool(claimed), tolerance)
        for name, predicted, value, error, claimed, tolerance in rows
    ]
