"""Prove every derived equation: `python -m derivations`; or print one: `... eq:stationary`."""

import argparse
import sys

try:
    from rich.console import Console
    from rich.table import Table

    from derivations import latex
    from derivations.catalogue import entries, entry_of, prove
except ModuleNotFoundError as error:
    extra = {"sympy": "derivations", "rich": "lab"}.get(error.name or "")
    if extra is None:  # it is a mistake
        raise
    sentence = f"{error.name} is not installed; it comes with the extra '{extra}': "
    print(f"error: {sentence}pip install 'sgdnoise[{extra}]'", file=sys.stderr)
    raise SystemExit(2) from None

__all__ = ["main"]


def main(arguments=None) -> int:
    """Return 0 if all laws hold (and with --check the committed file is up to date), else 1.

    2 for an equation that does not exist.
    """
    parser = argparse.ArgumentParser(prog="python -m derivations", description=__doc__)
    parser.add_argument("equation", nargs="?", help="print this one, such as eq:stationary")
    parser.add_argument("--write", action="store_true", help="write the equations of the paper")
    parser.add_argument("--check", action="store_true", help="fail if those are out of date")
    parser.add_argument("--list", action="store_true", help="list the equations, prove nothing")
    options = parser.parse_args(arguments)
    console = Console(emoji=False, markup=False)
    if options.equation:
        try:
            console.print(_described(entry_of(options.equation)), soft_wrap=True)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0
    if options.list:
        console.print(_list())
        return 0
    proofs = [prove(entry) for entry in entries()]
    console.print(_table(proofs))
    failures = [f"{p.equation.label}: {name}" for p in proofs for name in p.failed]
    for line in failures:
        console.print(f"does not hold: {line}")
    if failures:
        return 1
    return _write(console, options.check) if options.check or options.write else 0


def _described(entry):
    """An equation in LaTeX and as sympy prints it, its symbols, its function, and its laws."""
    derived = entry.derive()
    symbols = ", ".join(sorted(str(s) for s in derived.rhs.free_symbols))
    laws = ", ".join(law.__name__.strip("_").replace("_", " ") for law in entry.laws)
    return "\n".join(
        [
            entry.derive.__doc__.strip(),
            "",
            f"{derived.lhs} = {derived.rhs}",
            "",
            f"LaTeX: {latex.body(derived)}",
            f"symbols: {symbols}",
            f"computed by: {entry.computed_by}",
            f"derived in: {entry.derive.__module__}.{entry.derive.__name__}",
            f"laws: {laws}",
            f'compare yours: from derivations import same; same(expression, "{entry.label}")',
        ]
    )


def _list():
    table = Table("equation", "derived in", "computed by", "laws")
    for entry in entries():
        place = f"{entry.derive.__module__}.{entry.derive.__name__}"
        table.add_row(entry.label, place, entry.computed_by, str(len(entry.laws)))
    return table


def _table(proofs):
    table = Table("equation", "computed by", "laws", "seconds")
    for entry, failed, seconds in proofs:
        laws = f"{len(entry.laws) - len(failed)} of {len(entry.laws)}"
        table.add_row(entry.label, entry.computed_by, laws, f"{seconds:.2f}")
    return table


def _write(console, check):
    text, path = latex.text(), latex.COMMITTED
    name = path.relative_to(path.parents[2])
    if check:
        stale = not path.exists() or path.read_text() != text
        state = "out of date: run python -m derivations" if stale else "up to date"
        console.print(f"{name} is {state}")
        return int(stale)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    console.print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
