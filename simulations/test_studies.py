"""All studies: their help, bad input, committed results, figures, reports and small sizes."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sgdnoise.lab import Session, exit_status, load_study, study_names, verdicts_in

HOME = Path(__file__).parent
NAMES = study_names(HOME)
PARTS = [  # every study, and every part of a group
    pytest.param(name, path.parent.name if path.parent.parent != HOME else "", id=label)
    for name in NAMES
    for path in sorted((HOME / name).rglob("claims.py"))
    for label in [path.parent.relative_to(HOME).as_posix()]
]
QUICK = {"stationary"}  # small sizes of seconds


def part_of(name, part):
    return load_study(HOME, name).parts[part]


def committed(name, part):
    return load_study(HOME, name).read()[part]


def rows(verdicts):
    return [
        # Ten digits, since the last ones of a mean depend on the processor.
        (v.name, *(f"{float(number):.10g}" for number in numbers), v.kind)
        for v in verdicts
        for numbers in [(v.predicted, v.measured.value, v.measured.stderr, v.tolerance)]
    ]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_folder_of_data_is_read_or_refused(name, part, tmp_path):
    study = part_of(name, part)
    if "data" not in study.options or study.all_sizes()["full"].get("data", "") is not None:
        pytest.skip("it reads no folder of data")
    for folder, sentence in ((tmp_path, "leave out --data"), ("nowhere", "no folder nowhere")):
        with pytest.raises(ValueError, match=sentence):
            study.parameters("small", Session(tmp_path), {"data": str(folder)})
    study.parameters("full", Session(tmp_path), {"data": str(tmp_path)})


@pytest.mark.parametrize("name", NAMES)
def test_help_names_every_option_with_its_default(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    study = load_study(HOME, name)
    with pytest.raises(SystemExit) as ended:
        study.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    options = {option for study_part in study.parts.values() for option in study_part.options}
    for option in (*options, "size", "out", "jobs", "cluster"):
        assert f"--{option.replace('_', '-')}" in text
    assert text.count("default") >= 3
    for study_part in study.parts.values():
        assert all(option.help for option in study_part.options.values())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--size", "huge"], "there is no size 'huge'; there are small, demo, full"),
        (["--size", "small", "--jobs", "0"], "at least one process must do the work, not 0"),
        (["--out", __file__], "cannot write to the folder"),
    ],
    ids=["size", "jobs", "out"],
)
@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_one_sentence_and_status_2(name, words, sentence, tmp_path, capsys):
    study = load_study(HOME, name)
    words = words if "--out" in words else [*words, "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        study.main(words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_option_is_checked(name, part, tmp_path):
    study = part_of(name, part)
    session = Session(tmp_path)
    for option, choice in study.options.items():
        if choice.least is not None:
            with pytest.raises(ValueError, match=f"{option} must be at least"):
                study.parameters("small", session, {option: choice.kind(choice.least - 1)})
        if choice.choices is not None:
            wrong = ["abacus"] if choice.kind is list else "abacus"
            with pytest.raises(ValueError, match=r"there is no .* 'abacus'; there are "):
                study.parameters("small", session, {option: wrong})
    for size in ("small", "demo", "full"):
        assert study.parameters(size, session, {})


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_the_committed_verdicts_are_those_of_the_committed_numbers(name, part):
    results = committed(name, part)
    assert rows(part_of(name, part).judge(results)) == rows(verdicts_in(results))
    assert results.attrs["dirty"] == "False"


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_committed_prediction_excludes_a_rival_that_it_names(name, part):
    predictions = [v for v in verdicts_in(committed(name, part)) if v.kind == "prediction"]
    assert predictions
    for verdict in predictions:
        assert any(verdict.excluded.values()), verdict.name
        assert len({name for name, _ in verdict.rivals}) == len(verdict.rivals), verdict.name


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_committed_results_are_drawn_and_tabulated(name, part):
    study, results = part_of(name, part), committed(name, part)
    for stem, (caption, figure) in study.figure.figures(results).items():
        file = f"{part}_{stem}" if part and stem != "figure" else part or stem
        assert (HOME / name / f"{file}.png").is_file()
        assert (HOME / name / f"{file}.pdf").is_file()
        assert caption.endswith(".")
        assert any(ax.has_data() for ax in figure.axes)
        labelled = [ax for ax in figure.axes if ax.get_xlabel() or ax.get_ylabel()]
        assert labelled
    for table in study.claims.tables(results):
        assert table.rows
        assert all(len(row) == len(table.headings) for row in table.rows)
    assert all(sentence.endswith(".") for sentence in study.lead(results))
    assert len({v.name for v in study.judge(results)}) == len(study.judge(results))


@pytest.mark.parametrize("name", NAMES)
def test_findings_have_the_table_of_the_committed_result(name):
    study = load_study(HOME, name)
    text = (study.folder / "findings.md").read_text(encoding="utf-8")
    for label, results in study.read().items():
        head = f"<!-- table {label} -->" if label else "<!-- table -->"
        table = text.split(head)[1].split("<!-- /table -->")[0]
        assert table.count("\n| ") == 2 + len(study.parts[label].judge(results))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        pytest.param(*p.values, id=p.id, marks=() if p.id in QUICK else pytest.mark.slow)
        for p in PARTS
    ],
)
def test_the_small_size_runs_and_no_claim_fails(name, part, tmp_path):
    study = part_of(name, part)
    results = study.simulate("small")
    verdicts = study.judge(results)
    assert exit_status(verdicts) == 0
    assert any(np.isfinite(float(v.measured.value)) for v in verdicts)
    assert study.draw(results, tmp_path)
    assert study.report(results, tmp_path).read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_ctrl_c_ends_with_how_to_continue_and_the_run_continues(tmp_path):
    """The points that were done are read, not run again."""
    words = ["-m", "simulations", "run", "stationary", "--size", "small", "--jobs", "1"]
    words = [sys.executable, *words, "--chains", "4000", "--out", str(tmp_path)]
    run = subprocess.Popen(words, cwd=HOME.parent, stdout=subprocess.PIPE, text=True)
    done = lambda: list(tmp_path.rglob("point-*.nc"))  # noqa: E731
    while not done() and run.poll() is None:
        time.sleep(0.05)
    assert run.poll() is None, "it must be stopped before its end"
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "stopped" in said
    assert "run the same command again to continue" in said
    before = {path: path.stat().st_mtime_ns for path in done()}
    assert subprocess.run(words, cwd=HOME.parent, capture_output=True).returncode == 0
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert (tmp_path / "result.nc").exists()


@pytest.mark.parametrize("name", NAMES)
def test_trials_are_in_a_ledger(name):
    """Findings mention trials by a link to it, and its rows have all cells."""
    home = HOME / name
    rows = [line for line in (home / "trials.md").read_text("utf-8").splitlines() if "|" in line]
    cells = {line.replace("\\|", "").count("|") for line in rows}
    assert len(rows) >= 2
    assert cells == {9}
    text = (home / "findings.md").read_text("utf-8") if (home / "findings.md").exists() else ""
    for mention in re.finditer(r"\btrials?\b", text):
        around = text[mention.start() - 1 : mention.end() + 20]
        assert around.startswith("[") or "trials.md" in around or "/trials" in around, around
