"""What the README shows is what runs."""

import re
import runpy
from pathlib import Path

import pytest

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
