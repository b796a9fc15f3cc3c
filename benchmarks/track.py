"""Ten ratios of every commit: `python -m benchmarks.track` adds a line and says what became slower.

Each line of the file has commit, date, machine and load, and of each ratio all its rounds.  A ratio
became slower if its median rose by a fifth or more and no round is as fast as any before, on the
same machine.  The exit status is 1 then.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from benchmarks.tables import TRACKED

__all__ = ["append", "measured", "slower"]

FILE = Path(__file__).with_name("track.jsonl")
RISE = 1.2


def measured(rounds: int, tracked: Iterable[tuple[str, str]] = TRACKED) -> dict[str, list[float]]:
    """The rounds of each ratio, measured now."""
    from benchmarks.render import ratios
    from benchmarks.run import rounds_in_a_process

    tracked, result = list(tracked), {}
    for table in dict.fromkeys(table for table, _ in tracked):
        only = [what for name, what in tracked if name == table]
        found = ratios(list(rounds_in_a_process(table, rounds, [], only=only)))
        for what in only:
            values = found.get(("sgdnoise", what, None))
            if not isinstance(values, list):
                raise RuntimeError(f"{table}, {what}: {values or 'was not measured'}")
            result[f"{table}, {what}"] = values
    return result


def append(file: Path, ratios: dict[str, list[float]]) -> list[str]:
    """Add a line to a file; sentences on what became slower since the last of this machine."""
    from benchmarks.record import conditions, machine, source

    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    here = machine()
    before = [line for line in map(json.loads, lines) if line["machine"] == here]
    line = {"commit": source(), "machine": here, **conditions(), "ratios": ratios}
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    return slower(before[-1]["ratios"], ratios) if before else []


def slower(before: dict[str, list[float]], now: dict[str, list[float]]) -> list[str]:
    """A sentence on each ratio that became slower."""
    result = []
    for name in before.keys() & now.keys():
        old, new = before[name], now[name]
        if median(new) >= RISE * median(old) and min(new) > max(old):
            result.append(f"{name}: {median(new):.3g} units, and {median(old):.3g} before.")
    return sorted(result)


def main(arguments: list[str] | None = None) -> int:
    """Measure, add a line, and print the ratios and what became slower; the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.track", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s by default")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="track.jsonl here")
    options = parser.parse_args(arguments)
    ratios = measured(options.rounds)
    for name, values in ratios.items():
        print(f"{name:45}{median(values):8.3g}   {min(values):.3g} to {max(values):.3g}")
    worse = append(options.out, ratios)
    print(*(f"Slower: {sentence}" for sentence in worse), sep="\n")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
