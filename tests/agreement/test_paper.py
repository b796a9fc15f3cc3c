"""What the paper includes is what is derived, and what is cited can be looked up."""

import ast
import re
from pathlib import Path

import pytest

from derivations import latex

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "paper"
EQUATIONS = PAPER / "generated" / "equations.tex"
SOURCES = sorted((ROOT / "sgdnoise").rglob("*.py"))
NAME = r"(?:Di |de |Van )?[A-Z][\w'-]*"
CITATION = re.compile(rf"((?:{NAME}, )*{NAME}(?: & {NAME}| et al\.)?),? \(?((?:19|20)\d\d)\)")


@pytest.mark.slow
def test_equations_are_fresh():
    assert EQUATIONS.read_text() == latex.text(), "run: python -m derivations"


def test_every_label_that_is_referred_to_exists():
    text = (PAPER / "main.tex").read_text()
    labels = set(re.findall(r"\\label\{([^}]+)\}", text + EQUATIONS.read_text()))
    assert set(re.findall(r"\\ref\{([^}]+)\}", text)) <= labels


def test_every_citation_of_the_paper_has_an_entry():
    groups = re.findall(r"\\cite\w*\*?(?:\[[^]]*\])*\{([^}]+)\}", (PAPER / "main.tex").read_text())
    cited = {key.strip() for group in groups for key in group.split(",")}
    assert cited
    assert cited <= entries().keys()


def test_no_symbol_has_two_superscripts():
    """A prime is a superscript: LaTeX refuses a power behind it."""
    assert not re.findall(r"'(?:_\{[^}]*\}|_\w)?\^", EQUATIONS.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_author_named_in_a_docstring_has_an_entry(path):
    for names, year in citations(path):
        assert any(answers(entry, names, year) for entry in entries().values()), (names, year)


def test_citations_are_found():
    """The search itself: a regular expression that finds nothing would pass."""
    text = "as in Levina & Bickel (2004), (Li, Tai & E, 2017) and Facco et al. (2017)"
    assert found(text) == [
        (("Levina", "Bickel"), "2004"),
        (("Li", "Tai", "E"), "2017"),
        (("Facco",), "2017"),
    ]
    assert sum(len(citations(path)) for path in SOURCES) >= 5


def entries():
    """Authors' family names and year of each entry of refs.bib."""
    blocks = re.findall(r"@\w+\{([^,]+),(.*?)\n\}", (PAPER / "refs.bib").read_text(), re.DOTALL)
    return {key: (_families(body), _field("year", body)) for key, body in blocks}


def answers(entry, names, year):
    """Whether an entry is of that year and begins with these authors, or has no others."""
    families, published = entry
    return year == published and families[: len(names)] == list(names)


def found(text):
    return [
        (tuple(re.split(r", | & ", names.replace(" et al.", ""))), year)
        for names, year in CITATION.findall(" ".join(text.split()))
    ]


def citations(path):
    """(authors, year) in every docstring of a file."""
    described = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, described)]
    return [pair for node in nodes for pair in found(ast.get_docstring(node) or "")]


def _families(body):
    return [author.split(",")[0].strip() for author in _field("author", body).split(" and ")]


def _field(name, body):
    return re.search(rf"\b{name} = \{{(.*)\}},?\n", body + "\n")[1]
