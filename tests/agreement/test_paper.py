"""What the paper includes is what is derived, and what is cited can be looked up."""

import ast
import re
from pathlib import Path

import pytest

from derivations import latex
from sgdnoise.lab import read_result
from tools import paper_numbers

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "paper"
EQUATIONS = PAPER / "generated" / "equations.tex"
SOURCES = sorted((ROOT / "sgdnoise").rglob("*.py"))
NAME = r"(?:Di |de |Van )?[A-Z][\w'-]*"
CITATION = re.compile(rf"((?:{NAME}, )*{NAME}(?: & {NAME}| et al\.)?),? \(?((?:19|20)\d\d)\)")


@pytest.mark.slow
def test_equations_are_fresh():
    assert EQUATIONS.read_text() == latex.text(), "run: python -m derivations"


def test_the_numbers_of_the_paper_are_those_of_the_results():
    assert paper_numbers.OUT.read_text() == paper_numbers.text(), "python -m tools.paper_numbers"


def test_every_number_that_is_quoted_exists_and_every_name_is_quoted():
    text = (PAPER / "main.tex").read_text()
    quoted = set(re.findall(r"\\num\{([^}#]+)\}", text))
    quoted |= {f"{name}:is" for name in re.findall(r"\\verdict\{([^}#]+)\}", text)}
    defined = set(re.findall(r"num@(.+?)\\endcsname", paper_numbers.OUT.read_text()))
    assert quoted <= defined
    names = {name.partition(":")[0] for name in quoted}
    assert {name.partition(":")[0] for name in defined} == names


def test_a_number_that_no_result_has_is_refused():
    entry = {"study": "stationary", "claim": "no such claim"}
    stored = {"stationary": {"": read_result(ROOT / "simulations/stationary/result.nc")}}
    with pytest.raises(ValueError, match="0 claims 'no such claim'"):
        paper_numbers._verdict("name", entry, stored)


def test_the_figures_of_the_paper_exist():
    text = (PAPER / "main.tex").read_text()
    for name in re.findall(r"\\studyfigure\{([^}#]+)\}", text):
        assert (ROOT / "simulations" / f"{name}.pdf").is_file(), name


def test_every_label_that_is_referred_to_exists():
    text = (PAPER / "main.tex").read_text()
    labels = set(re.findall(r"\\label\{([^}#]+)\}", text + EQUATIONS.read_text()))
    labels |= {f"fig:{name}" for name in re.findall(r"\}\{([\w-]+)\}$", text, re.MULTILINE)}
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
