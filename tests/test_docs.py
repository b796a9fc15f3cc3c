"""The findings of every study quote its committed result, and the front page lists all of them."""

import re
from pathlib import Path

import pytest

import sgdnoise
from sgdnoise.lab import load_study, read_parts, verdicts_in
from sgdnoise.lab._power import overview_table
from sgdnoise.lab._verdict import row
from simulations.calibration import claims as calibration_claims

STUDIES = sorted(path.parent for path in Path("simulations").glob("*/study.py"))


def cells(verdict):
    return [text.replace("|", "\\|") for text in row(verdict)]


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_findings_quote_every_verdict_as_it_is(folder):
    text = (folder / "findings.md").read_text(encoding="utf-8")
    for results in read_parts(folder / "result.nc").values():
        verdicts = verdicts_in(results)
        assert verdicts
        for verdict in verdicts:
            assert f"| {' | '.join(cells(verdict))} |" in text


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_findings_begin_with_a_summary_of_a_few_sentences(folder):
    title, summary, *_ = (folder / "findings.md").read_text(encoding="utf-8").split("\n\n")
    assert title.startswith("# ")
    assert summary.startswith("Question: ")
    assert 3 <= len(re.findall(r"[.?](?= |\n|$)", summary)) <= 9
    assert re.search(r"\d", summary)


def test_the_table_of_studies_is_that_of_the_committed_results():
    judged = {
        f"{folder.name}/{label}" if label else folder.name: verdicts_in(results)
        for folder in STUDIES
        for label, results in read_parts(folder / "result.nc").items()
    }
    page = Path("docs/findings.md").read_text(encoding="utf-8")
    assert f"<!-- table -->\n{overview_table(judged)}\n<!-- /table -->" in page


def test_the_front_page_has_one_line_for_each_study():
    page = Path("docs/findings.md").read_text(encoding="utf-8")
    links = re.findall(r"^\| \[\w+\]\(\.\./simulations/(\w+)/findings\.md\)", page, re.M)
    assert sorted(links) == [folder.name for folder in STUDIES]
    rows = sum(len(read_parts(folder / "result.nc")) for folder in STUDIES)
    assert len(page.splitlines()) <= len(STUDIES) + rows + 60  # and nothing else grows


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_result_says_where_it_comes_from(folder):
    for results in read_parts(folder / "result.nc").values():
        origin = results.attrs
        names = {"arguments", "versions", "commit", "machine", "device", "date", "seconds"}
        assert names <= set(origin)
        assert origin["dirty"] == "False"
        assert len(origin["commit"]) == 40
    assert (folder / "result.nc").stat().st_size < 1_450_000


def test_the_tables_of_estimators_are_those_of_the_committed_result():
    text = Path("docs/dimension.md").read_text(encoding="utf-8")
    results = load_study(Path("simulations"), "calibration").read()[""]
    tables = calibration_claims.tables(results)
    assert len(tables) == 4
    for table in tables:
        for line in (table.headings, *table.rows):
            assert f"| {' | '.join(line)} |" in text


DOCUMENTS = [Path("README.md"), Path("CONTRIBUTING.md"), *sorted(Path("docs").glob("*.md"))]
SUBPACKAGES = "core|data|dimension|dynamics|lab|nets|noise|theory"


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_name_that_a_document_quotes_can_be_reached(path):
    text = path.read_text(encoding="utf-8")
    for dotted in re.findall(rf"`(?:sgdnoise\.)?((?:{SUBPACKAGES})\.\w+(?:\.\w+)*)", text):
        value = sgdnoise
        for name in dotted.split("."):
            value = getattr(value, name)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_file_that_a_document_links_exists(path):
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)#:]+)[)#]", prose):
        assert (path.parent / link).exists(), link


TUTORIALS = sorted(Path("docs/tutorials").glob("*.py"))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_asks_answers_and_asserts_before_it_answers(path):
    text = path.read_text(encoding="utf-8")
    question, answer = text.index("**Question.**"), text.index("**Answer.**")
    assert question < text.index("\nassert ") < answer
    assert text.count("\nassert ") >= 3


def test_the_site_runs_the_tutorials_and_stops_at_an_error():
    settings = re.findall(r'"(\w+)": ([^\n]+),', Path("docs/conf.py").read_text(encoding="utf-8"))
    expected = {"examples_dirs": '"tutorials"', "filename_pattern": '"/"'}
    expected |= {"abort_on_example_error": "True", "run_stale_examples": "True"}
    assert expected.items() <= dict(settings).items()
    assert len(TUTORIALS) == 5


def ten_results():
    page = Path("docs/findings.md").read_text(encoding="utf-8")
    part = page.split("## Ten results")[1].split("## All studies")[0]
    items = re.split(r"\n(?=\d+\. )", part)[1:]
    return [re.sub(r"\s+", " ", re.sub(r"^\d+\. ", "", item.split("\n\n")[0])) for item in items]


def test_there_are_ten_results_of_ten_studies():
    names = [re.findall(r"simulations/(\w+)/findings", item) for item in ten_results()]
    assert len(names) == len({tuple(name) for name in names}) == 10
    assert all(len(name) == 1 for name in names)


@pytest.mark.parametrize("item", ten_results(), ids=lambda item: item[2:40])
def test_numbers_of_the_front_page_stand_in_the_findings(item):
    """Each number with a decimal or a percent sign, and its error; signs are told in words."""
    (name,) = re.findall(r"simulations/(\w+)/findings", item)
    findings = Path("simulations", name, "findings.md").read_text(encoding="utf-8")
    findings = re.sub(r"\s+", " ", findings)
    numbers = re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?|\d+%", item)
    assert numbers
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", findings), number
