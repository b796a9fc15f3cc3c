"""Proves every derived equation and writes them for the paper: `python -m derivations`."""

import argparse
import sys

from rich.console import Console
from rich.table import Table

from derivations import latex
from derivations.catalogue import entries, prove

__all__ = ["main"]


def main(arguments=None) -> int:
    """Exit status: 0 if all laws hold (and with --check the committed file is fresh), else 1."""
    parser = argparse.ArgumentParser(prog="python -m derivations", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    check = parser.parse_args(arguments).check
    console = Console(emoji=False, markup=False)
    proofs = [prove(entry) for entry in entries()]
    console.print(_table(proofs))
    failed = [f"{p.entry.label}: {name}" for p in proofs for name in p.failed]
    for line in failed:
        console.print(f"does not hold: {line}")
    return 1 if failed else _written(console, check)


def _table(proofs):
    table = Table("equation", "computed by", "laws", "seconds")
    for entry, failed, seconds in proofs:
        held = len(entry.checks) - len(failed)
        table.add_row(entry.label, entry.used, f"{held} of {len(entry.checks)}", f"{seconds:.2f}")
    return table


def _written(console, check):
    fresh, path = latex.text(), latex.COMMITTED
    name = path.relative_to(path.parents[2])
    if check:
        stale = not path.exists() or path.read_text() != fresh
        console.print(f"{name} is {'stale: run python -m derivations' if stale else 'fresh'}")
        return int(stale)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(fresh)
    console.print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
