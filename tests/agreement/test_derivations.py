"""What must be true of the derivations: their laws, their independence, their honesty."""

import ast
import importlib
import sys
from functools import reduce
from pathlib import Path

import pytest
import sympy as sp

from derivations import __main__ as command
from derivations import algebra, latex, same
from derivations.catalogue import SUBJECTS, entries
from derivations.equation import EQUATIONS, Equation

ENTRIES = entries()
LAWS = [(entry.label, law) for entry in ENTRIES for law in entry.laws]
FILES = sorted(Path(algebra.__file__).parent.glob("*.py"))


@pytest.mark.parametrize(("label", "law"), LAWS, ids=lambda part: getattr(part, "__name__", part))
def test_laws_hold(label, law):  # noqa: ARG001 - the label names the test
    assert law() is True


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.label)
def test_derivations_are_equations_that_say_something(entry):
    equation = entry.derive()
    assert isinstance(equation, sp.Eq)
    assert equation.lhs != equation.rhs
    assert sp.srepr(equation.lhs) != sp.srepr(equation.rhs)
    assert not any(block is sp.nan for block in sp.preorder_traversal(equation.rhs))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.label)
def test_equations_have_laws_and_are_used(entry):
    assert entry.laws
    assert callable(_resolve(entry.computed_by))


def _resolve(name):
    """The public function or method of a subpackage, by its name."""
    package, subpackage, *names = name.split(".")
    value = importlib.import_module(f"{package}.{subpackage}")
    assert names[0] in value.__all__
    return reduce(getattr, names, value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_derivation_knows_the_code(path):
    foreign = _imported(path) - sys.stdlib_module_names
    assert foreign <= {"derivations", "sympy", "rich"}
    assert "rich" not in foreign or path.stem == "__main__"


def _imported(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    return {
        name.split(".")[0]
        for name in plain + [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    }


def test_every_subject_is_proved():
    written = {path.stem for path in FILES if "@equation(" in path.read_text()}
    assert written == {subject.__name__.split(".")[-1] for subject in SUBJECTS}
    labels = [entry.label for entry in ENTRIES]
    assert len(set(labels)) == len(labels) == sum(map(len, EQUATIONS.values()))


@pytest.mark.parametrize("power", [0, 1, 2, 3, 4, 6])
def test_means_over_white_numbers_are_double_factorials(power):
    (z,) = algebra.white(1)
    assert algebra.mean(z**power, [z]) == (0 if power % 2 else sp.factorial2(power - 1))


def test_same_tells_expressions_apart():
    x, y = sp.symbols("x y")
    assert algebra.same((x + y) ** 2, x**2 + 2 * x * y + y**2)
    assert not algebra.same(x, y)
    assert not algebra.same(sp.Matrix([x, x]), sp.Matrix([x, y]))


def test_upright_changes_no_value():
    x = sp.Symbol("x", positive=True)
    for fraction in (-1 / (x - 2), 3 * x / (x + 1), -x / (2 * (x**2 - 1)), x):
        assert algebra.same(algebra.upright(fraction), fraction)


def one(holds):
    """A catalogue of one equation whose law holds or does not."""
    law = (lambda: True) if holds else (lambda: False)
    return lambda: [Equation("eq:one", lambda: sp.Eq(sp.Symbol("x"), 1), "nowhere", (law,))]


@pytest.fixture
def committed(tmp_path, monkeypatch):
    path = tmp_path / "paper" / "generated" / "equations.tex"
    monkeypatch.setattr(latex, "COMMITTED", path)
    monkeypatch.setattr(latex, "text", lambda: "fresh")
    return path


def test_the_command_writes_what_it_proved(committed, monkeypatch, capsys):
    monkeypatch.setattr(command, "entries", one(holds=True))
    assert command.main([]) == 0
    assert not committed.exists()
    assert command.main(["--write"]) == 0
    assert committed.read_text() == "fresh"
    assert "1 of 1" in capsys.readouterr().out


def test_the_command_fails_and_writes_nothing_where_a_law_fails(committed, monkeypatch, capsys):
    monkeypatch.setattr(command, "entries", one(holds=False))
    assert command.main(["--write"]) == 1
    assert not committed.exists()
    assert "does not hold: eq:one" in capsys.readouterr().out


@pytest.mark.parametrize("stale", [None, "old"])
def test_the_check_fails_where_the_paper_is_stale(stale, committed, monkeypatch):
    monkeypatch.setattr(command, "entries", one(holds=True))
    if stale:
        committed.parent.mkdir(parents=True)
        committed.write_text(stale)
    assert command.main(["--check"]) == 1
    assert (committed.read_text() if committed.exists() else None) == stale


@pytest.mark.usefixtures("committed")
def test_the_check_passes_where_the_paper_is_fresh(monkeypatch):
    monkeypatch.setattr(command, "entries", one(holds=True))
    command.main(["--write"])
    assert command.main(["--check"]) == 0


def test_the_list_names_every_equation_and_proves_nothing(committed, monkeypatch, capsys):
    monkeypatch.setattr(command, "entries", one(holds=False))
    assert command.main(["--list"]) == 0
    assert not committed.exists()
    assert "eq:one" in capsys.readouterr().out


@pytest.mark.parametrize("described", [*SUBJECTS, *(e.derive for e in ENTRIES)], ids=latex._caption)
def test_captions_are_words_that_latex_prints(described):
    assert not set(latex._caption(described)) & set("_^$&%#{}~|\\")


def test_one_equation_is_printed_with_its_symbols_and_its_function(capsys):
    assert command.main(["eq:stationary-ratio"]) == 0
    shown = capsys.readouterr().out
    for word in ("symbols: eta, h", "sgdnoise.theory.langevin_covariance", "same(expression"):
        assert word in shown


def test_an_equation_that_does_not_exist_is_a_sentence(capsys):
    assert command.main(["eq:stationery"]) == 2
    assert "there is no equation 'eq:stationery'; see eq:stationary" in capsys.readouterr().err


def test_an_expression_of_a_reader_is_compared_by_names_of_symbols():
    eta, h = sp.symbols("eta h")
    assert same(1 / (1 - eta * h / 2), "eq:stationary-ratio")
    assert not same(1 / (1 - eta * h), "eq:stationary-ratio")
    with pytest.raises(ValueError, match="there is no equation"):
        same(eta, "eq:nothing")
