"""The numbers of the paper, as LaTeX macros written from the committed results.

`python -m tools.paper_numbers` writes paper/generated/numbers.tex; `--check` compares it.
"""

import sys
import tomllib
from pathlib import Path

from sgdnoise.lab import Verdict, read_parts, verdicts_in
from sgdnoise.lab._verdict import row

ROOT = Path(__file__).parents[1]
NAMES = ROOT / "paper" / "numbers.toml"
OUT = ROOT / "paper" / "generated" / "numbers.tex"
SMALL = 1e-4
HEAD = "% Written by `python -m tools.paper_numbers` from the results of the studies.\n"


def text() -> str:
    """The definitions of all numbers that numbers.toml names, and of the counts of all studies.

    Raises ValueError for a claim or a rival that no result has.
    """
    stored = {path.parent.name: read_parts(path) for path in ROOT.glob("simulations/*/result.nc")}
    entries = tomllib.loads(NAMES.read_text(encoding="utf-8"))
    lines = [HEAD]
    for name, entry in entries.items():
        verdict = _verdict(name, entry, stored)
        fields = _fields(verdict, entry.get("rival"), name)
        lines += [_macro(f"{name}:{field}", value) for field, value in fields.items()]
    for name, value in _counts(stored).items():
        lines.append(_macro(name, str(value)))
    return "".join(lines)


def _verdict(name: str, entry: dict, stored: dict) -> Verdict:
    parts = stored.get(entry["study"])
    if parts is None:
        raise ValueError(f"{name}: there is no result of {entry['study']!r}")
    data = parts[entry["part"]] if "part" in entry else next(iter(parts.values()))
    found = [verdict for verdict in verdicts_in(data) if verdict.name == entry["claim"]]
    if len(found) != 1:
        raise ValueError(f"{name}: {entry['study']} has {len(found)} claims {entry['claim']!r}")
    return found[0]


def _fields(verdict: Verdict, rival: str | None, name: str) -> dict[str, str]:
    """What of a claim the paper may quote."""
    cells = row(verdict)
    measured = cells[3].replace(" ± ", r" \pm ")
    if 0 < abs(verdict.measured.value) < SMALL:  # decimals would not show it
        digits, power = f"{float(verdict.measured.value):.1e}".split("e")
        measured = rf"{digits} \times 10^{{{int(power)}}}"
    fields = {"predicted": cells[2], "measured": measured, "is": cells[8]}
    if rival is not None:
        rivals = dict(verdict.rivals)
        if rival not in rivals:
            raise ValueError(f"{name}: no rival {rival!r}; there are {', '.join(rivals)}")
        digits = len(cells[2].partition(".")[2])
        fields["rival"] = f"{float(rivals[rival]):.{digits}f}"
    return fields


def _counts(stored: dict) -> dict[str, int]:
    """The outcomes of the predictions of all studies, and how many exclude half and twice."""
    verdicts = [
        v for parts in stored.values() for data in parts.values() for v in verdicts_in(data)
    ]
    predictions = [verdict for verdict in verdicts if verdict.kind == "prediction"]
    counts = {
        f"all:{outcome}": sum(verdict.outcome == outcome for verdict in predictions)
        for outcome in ("holds", "fails", "undecided")
    }
    contrasts = [verdict for verdict in verdicts if verdict.kind == "contrast"]
    return counts | {
        "all:predictions": len(predictions),
        "all:studies": len(stored),
        "all:contrasts": len(contrasts),
        "all:differ": sum(verdict.outcome == "differs" for verdict in contrasts),
    }


def _macro(name: str, value: str) -> str:
    return rf"\expandafter\def\csname num@{name}\endcsname{{{value}}}" + "\n"


def main(arguments: list[str]) -> int:
    """Write the numbers, or compare them with those that are written: the exit status."""
    new = text()
    if "--check" in arguments:
        fresh = OUT.is_file() and OUT.read_text(encoding="utf-8") == new
        print("the numbers are fresh" if fresh else "stale: run python -m tools.paper_numbers")
        return 0 if fresh else 1
    OUT.write_text(new, encoding="utf-8")
    print(f"{new.count('def')} numbers in {OUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
