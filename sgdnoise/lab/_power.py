"""Power: which rivals of its predictions a study excludes."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.lab._verdict import PREDICTION, Verdict, counts

FACTORS = (0.5, 0.8, 1.25, 2.0)  # of an effect, which predictions should exclude
NOTHING = "nothing changes"


@checked
def rivals_of_path(times, values, place: int) -> list[tuple[str, float]]:
    """What a predicted path says at one of its times if its speed kappa were another, or zero.

    times, values: (t,), from the start; place: the index of the time.  With f kappa the path is at
    time t where the prediction is at f t.  A time beyond the path has no value.

    Example:
        >>> rivals_of_path([0.0, 1.0, 2.0], [4.0, 3.0, 2.0], 1)[:2]
        [('nothing changes', 4.0), ('kappa x 0.5', 3.5)]
    """
    times, values = np.asarray(times, float), np.asarray(values, float)
    elapsed = times[0] + np.asarray(FACTORS) * (times[place] - times[0])
    rivals = [
        (f"kappa x {factor:g}", float(np.interp(time, times, values)))
        for factor, time in zip(FACTORS, elapsed, strict=True)
        if time <= times[-1]
    ]
    return [(NOTHING, float(values[0])), *rivals]


@checked
def most_sensitive(times, values) -> int:
    """The index of the time at which a predicted path tells its speed from half and from twice it.

    times, values: (t,), from the start; positive values.  It maximises the smaller of the changes
    of log value from the time to half and to twice it, which must lie on the path.

    Example:
        >>> import numpy as np
        >>> times = np.linspace(0, 4, 401)
        >>> float(times[most_sensitive(times, 1 + np.exp(-times))])
        1.22
    """
    times, logs = np.asarray(times, float), np.log(values)
    elapsed = times - times[0]
    inside = 2 * elapsed <= elapsed[-1]
    half, twice = (np.interp(f * elapsed[inside], elapsed, logs) for f in (0.5, 2.0))
    least = np.minimum(abs(half - logs[inside]), abs(twice - logs[inside]))
    return int(np.argmax(least))


@checked
def rivals_of_effect(
    predict: Callable[[float], float] | float, effect: str = "effect", *others: tuple[str, float]
) -> tuple[tuple[str, float], ...]:
    """What theory predicts if an effect were absent, or f times as strong; and other rivals.

    predict: f -> the prediction with the effect times f, at f = 0, 0.5, 0.8, 1.25 and 2; or a
    number that is proportional to the effect.  A value that is not finite is left out.

    Example:
        >>> rivals_of_effect(lambda f: 1 + 0.2 * f, "noise", ("Gaussian", 3.0))[:2]
        (('nothing changes', 1.0), ('noise x 0.5', 1.1))
    """
    values = [predict(f) if callable(predict) else f * predict for f in (0.0, *FACTORS)]
    names = [NOTHING, *(f"{effect} x {factor:g}" for factor in FACTORS)]
    rivals = [*zip(names, values, strict=True), *others]
    return tuple((name, float(value)) for name, value in rivals if np.isfinite(value))


@checked
def power(verdicts: Iterable[Verdict]) -> dict[str, tuple[int, int]]:
    """The number of predictions that each rival would fail, and of those that name it.

    Example:
        >>> from sgdnoise.core import Estimate
        >>> from sgdnoise.lab import Verdict
        >>> measured, rivals = Estimate(1.02, 0.01), (("nothing changes", 0.0), ("half", 0.99))
        >>> power([Verdict("mean", 1.0, measured, "prediction", 0.1, rivals)])
        {'nothing changes': (1, 1), 'half': (0, 1)}
    """
    named: dict[str, list[bool]] = {}
    for verdict in verdicts:
        for name, fails in verdict.excluded.items() if verdict.kind == PREDICTION else ():
            named.setdefault(name, []).append(fails)
    return {name: (sum(fails), len(fails)) for name, fails in named.items()}


def power_text(verdicts: Iterable[Verdict]) -> str:
    """The power of a study in a line; empty if no prediction names a rival."""
    numbers = power(verdicts)
    shares = (f"{name} {failed} of {total}" for name, (failed, total) in numbers.items())
    return f"predictions that rivals would fail: {', '.join(shares)}" if numbers else ""


class Power(NamedTuple):
    """Shares of the predictions of a study that exclude kinds of rivals; nan if none names one.

    half, twice: the effect times 0.5, and times 2.  both: half and twice.  others: all named
    alternatives of the row.
    """

    nothing: float
    half: float
    twice: float
    both: float
    others: float


def shares(verdicts: Iterable[Verdict]) -> Power:
    """The shares of predictions that exclude each kind of rival, of those that name one."""
    excluded = [v.excluded for v in verdicts if v.kind == PREDICTION]
    nothing, half, twice = (
        [{n: e for n, e in row.items() if n.endswith(end)} for row in excluded]
        for end in (NOTHING, " x 0.5", " x 2")
    )
    both = [a | b for a, b in zip(half, twice, strict=True)]
    scaled = tuple(f" x {factor:g}" for factor in FACTORS)
    others = [{n: e for n, e in r.items() if not n.endswith((NOTHING, *scaled))} for r in excluded]
    return Power(*map(_share, (nothing, half, twice, both, others)))


def _share(rows):
    named = [all(row.values()) for row in rows if row]
    return sum(named) / len(named) if named else float("nan")


OVERVIEW = (
    *("study", "all", "hold", "fail", "open"),
    *("none", "x 0.5", "x 2", "both", "other"),
)
CAPTION = (
    "Predictions: all, those that hold, fail, or are open (undecided). Then the percentage of "
    "predictions that would fail if nothing changed (none), if the effect were half as strong or "
    "twice as strong, and if all named alternatives (other) held; of those that name such rivals."
)


def overview_row(name: str, verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """The outcomes of a study's predictions and the shares that exclude rivals, as OVERVIEW."""
    verdicts = list(verdicts)
    number = counts(verdicts)
    outcomes = [number[outcome] for outcome in ("holds", "fails", "undecided")]
    percent = [f"{100 * share:.0f}" if share == share else "-" for share in shares(verdicts)]
    return (name, str(sum(outcomes)), *(str(n) if n else "-" for n in outcomes), *percent)


def overview_table(judged: dict[str, list[Verdict]]) -> str:
    """The table of all studies in Markdown: label -> verdicts."""
    rule = ["---", *["---:"] * (len(OVERVIEW) - 1)]
    rows = [OVERVIEW, rule, *(overview_row(name, verdicts) for name, verdicts in judged.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + f"\n\n{CAPTION}"
