"""What the README shows is what runs."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

import sgdnoise

README = Path("README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"## ([^\n]+)\n(?:(?!\n## ).)*?```python\n(.*?)```", README, flags=re.S)


@pytest.mark.parametrize("title", [title for title, _ in BLOCKS])
def test_the_code_of_the_readme_runs_and_speaks(title, tmp_path, capsys):
    script = tmp_path / "shown.py"
    script.write_text(dict(BLOCKS)[title], encoding="utf-8")
    runpy.run_path(str(script))
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) <= 6
    assert not any("nan" in line for line in lines)


def test_the_readme_shows_four_programs_of_about_twenty_lines():
    assert len(BLOCKS) == README.count("```python") == 4
    assert all(len(code.splitlines()) <= 25 for _, code in BLOCKS)


def test_the_readme_names_files_and_commands_that_exist():
    for name in re.findall(r"`((?:simulations|tests|sgdnoise|paper)/[\w./]*)`", README):
        assert Path(name).exists(), name
    targets = re.findall(r"^(\w[\w-]*):", Path("Makefile").read_text(), flags=re.M)
    assert set(re.findall(r"make (\w+)[ `\n]", README)) - {"and", "the"} <= set(targets)
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert Path(picture).exists(), picture


def test_the_page_of_the_package_has_no_picture_and_no_link_of_the_repository():
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    page = README
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for rule in hook["substitutions"]:
        page = re.sub(rule["pattern"], rule["replacement"], page)
    assert "![" not in page
    assert not re.findall(r"\]\((?!https?:)", page)
    assert page.count("```python") == README.count("```python")
    assert re.findall(r"^## .*", page, flags=re.M) == re.findall(r"^## .*", README, flags=re.M)


def test_version_citation_and_changelog_agree():
    citation = Path("CITATION.cff").read_text(encoding="utf-8")
    changelog = Path("CHANGELOG.md").read_text(encoding="utf-8")
    (cited,) = re.findall(r"^version: (\S+)", citation, flags=re.M)
    newest = re.findall(r"^## (\S+)", changelog, flags=re.M)[0]
    assert sgdnoise.__version__ == cited == newest
    assert re.search(r"^date-released: \d{4}-\d\d-\d\d$", citation, flags=re.M)


def test_the_community_files_exist_and_link_what_exists():
    for name in ("CODE_OF_CONDUCT.md", "SECURITY.md", "LICENSE", "CONTRIBUTING.md"):
        assert Path(name).stat().st_size > 200
    templates = sorted(path.stem for path in Path(".github/ISSUE_TEMPLATE").glob("*.md"))
    assert templates == ["bug", "claim", "request"]
    for path in Path(".github/ISSUE_TEMPLATE").glob("*.md"):
        assert re.match(r"---\nname: .+\nabout: .+\n---\n", path.read_text(encoding="utf-8"))
