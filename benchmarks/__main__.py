"""`python -m benchmarks`: measure, store all rounds, and write the tables from them."""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.tables import TABLES

DESCRIPTION = """Time this package against the same by hand and against other packages.
CPU time, one thread.  All rounds are stored in FOLDER/rounds.json, and the tables of them in
FOLDER/tables.md.  Ctrl-C keeps the rounds that are done; the same command then continues, and
adds as many rounds again once all are done."""
EPILOG = """Other packages: pip install -e '.[all,peers]', and then --peers.  DADApy needs numpy
below 2 and so an environment of its own: python -m venv .venv-dadapy; .venv-dadapy/bin/pip
install dadapy 'numpy<2'; then --peers .venv-dadapy/bin/python."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    result = argparse.ArgumentParser("python -m benchmarks", description=DESCRIPTION, epilog=EPILOG)
    add = result.add_argument
    add("--quick", action="store_true", help="the short tables, two rounds: some 5 CPU minutes")
    add("--only", action="append", metavar="NAME", help="tables whose name begins so; repeat it")
    add("--rounds", type=int, help="rounds of each table; 3 by default")
    others = "measure other packages too: those of this interpreter, then of these"
    add("--peers", nargs="*", metavar="PYTHON", help=others)
    add("--out", type=Path, default=Path("out/benchmarks"), metavar="FOLDER", help="%(default)s")
    add("--table", type=Path, metavar="JSON", help="print the tables of a file, without measuring")
    add("--list", action="store_true", help="print the names of the tables")
    add("--worker", help=argparse.SUPPRESS)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    parse = parser()
    options = parse.parse_args(arguments)
    if options.worker:
        from benchmarks.run import work

        try:
            work(json.loads(options.worker))
        except KeyboardInterrupt:
            return 130
    elif options.list:
        for name, table in TABLES.items():
            print(f"{name:26}{'quick  ' if table.quick else '       '}{table.title}")
    elif options.table:
        from benchmarks.record import Record
        from benchmarks.render import page

        print(page(Record(options.table)), end="")
    else:
        names = chosen(options.only, options.quick)
        if not names:
            parse.error(f"--only {' '.join(options.only)}: no table has such a name; see --list")
        if options.rounds is not None and options.rounds < 1:
            parse.error(f"--rounds is at least 1, not {options.rounds}")
        return measure(names, options)
    return 0


def chosen(only: list[str] | None, quick: bool) -> list[str]:
    """The names of tables that were asked for."""
    return [
        name
        for name, table in TABLES.items()
        if (table.quick or not quick) and (not only or name.startswith(tuple(only)))
    ]


def measure(names: list[str], options) -> int:
    """Measure what is missing, store it, and write the tables; the exit status."""
    from benchmarks.record import Record, source
    from benchmarks.run import add_rounds, missing_peers, peers_of

    record = Record(options.out / "rounds.json")
    wanted = options.rounds or (2 if options.quick else 3)
    try:
        record.refuse_another_machine()
        peers = peers_of([sys.executable, *(options.peers or [])])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.peers is None:
        peers = {sys.executable: []}
    record.missing = missing_peers(peers)
    commit = source()
    done = {name: sum(not one["python"] for one in record.of(name, commit)) for name in names}
    target = wanted * (1 + min(done.values()) // wanted)
    try:
        for name in names:
            if done[name] < target:
                print(f"{name}: {target - done[name]} rounds", file=sys.stderr, flush=True)
                add_rounds(record, name, target - done[name], peers)
    except KeyboardInterrupt:
        print(f"Stopped; {record.file} has the rounds that were done.", file=sys.stderr)
        return 130
    finally:
        write(record, options.out / "tables.md")
    return 0


def write(record, file: Path) -> None:
    """Write the tables, if there is anything to write."""
    from benchmarks.render import page

    if record.rounds:
        file.write_text(page(record), encoding="utf-8")
        print(f"{file} has the tables.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
