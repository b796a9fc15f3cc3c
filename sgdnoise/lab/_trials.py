"""The ledger of trials: every run that informed a tolerance, a limit or a setting of a study."""

import math
from pathlib import Path
from typing import Any

from sgdnoise.core._files import atomic_write
from sgdnoise.lab._verdict import OUTSIDE, PREDICTION, Verdict, summary

FILE = "trials.md"
SHOWN = 3  # deviations of a row
HEADINGS = ("date", "commit", "arguments", "seed", "seen", "largest deviations", "why", "decision")
HEADER = f"""\
# Trials

Every run that informed a tolerance, a limit or a setting of this study. `python -m simulations run
NAME ... --trial "why"` adds a row; its decision is written by hand. The run of the findings is not
a trial.

| {" | ".join(HEADINGS)} |
| {" | ".join(["---"] * len(HEADINGS))} |
"""


def record_trial(
    folder: Path, why: str, arguments: str, results: dict[str, Any], verdicts: list[Verdict]
) -> Path:
    """Append a run to trials.md in the folder of a study, with an empty decision; its path.

    arguments: the words of the command line.  results: label -> Dataset of each part.
    """
    path = folder / FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else HEADER
    origin = next(iter(results.values())).attrs
    changed = " and changes" if origin.get("dirty") == "True" else ""
    cells = (
        str(origin.get("date", "?"))[:10],
        f"{str(origin.get('commit', '?'))[:9]}{changed}",
        arguments,
        str(origin.get("seed", "-")),
        summary(verdicts),
        "; ".join(_largest(verdicts)) or "none",
        why,
        "",
    )
    row = " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    with atomic_write(path) as new:
        new.write_text(f"{text.rstrip()}\n| {row} |\n", encoding="utf-8")
    return path


def words_of(size: str, values: dict) -> str:
    """What a command line asked for, without what does not change the numbers."""
    given = {k: v for k, v in values.items() if v is not None and k not in ("jobs", "cluster")}
    words = [f"--{name.replace('_', '-')} {_text(value)}" for name, value in given.items()]
    return " ".join([f"--size {size}", *words])


def _text(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _largest(verdicts):
    """The largest deviations of predictions, in per cent, inside and outside of the regime."""
    rows = [v for v in verdicts if v.kind in (PREDICTION, OUTSIDE) and math.isfinite(v.percent)]
    for v in sorted(rows, key=lambda v: -abs(v.percent))[:SHOWN]:
        error = 100 * float(v.measured.stderr) / abs(v.predicted)
        yield f"{v.name}: {v.percent:+.1f} ± {error:.1f}%"
