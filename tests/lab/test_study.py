"""Studies: parameters, runs in process and on the command line, groups, and new studies."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Session,
    Study,
    StudyGroup,
    Verdict,
    load_study,
    option,
    read_parts,
    study_commands,
)
from sgdnoise.lab._options import command_line
from sgdnoise.lab._output import with_table
from sgdnoise.lab._session import use_device
from sgdnoise.lab._skeleton import FILES, write_study
from sgdnoise.lab._trials import HEADER, record_trial


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a new study and a group of two parts."""
    folder = tmp_path_factory.mktemp("root") / "new_studies"
    folder.mkdir()
    write_study(folder, "first")
    (folder / "group").mkdir()
    for label in ("one", "two"):
        write_study(folder / "group", label)
        for file in (folder / "group" / label).iterdir():
            text = file.read_text().replace("from group.", "from new_studies.group.")
            file.write_text(text)
    (folder / "group" / "study.py").write_text(
        '"""A group."""\nfrom sgdnoise.lab import StudyGroup\n'
        "from new_studies.group.one.study import study as one\n"
        "from new_studies.group.two.study import study as two\n"
        'study = StudyGroup({"one": one, "two": two}, title="A group")\n'
    )
    return folder


@pytest.fixture
def study(folder):
    return load_study(folder, "first")


@pytest.fixture
def group(folder):
    return load_study(folder, "group")


def status(study, *words):
    """The exit status of the command line, in this process."""
    with pytest.raises(SystemExit) as ended:
        study.main([str(word) for word in words])
    return ended.value.code


def test_a_new_study_is_short_and_passes_its_own_test(folder, tmp_path):
    assert sum(text.count("\n") for text in FILES.values()) <= 120
    home = tmp_path / "new_studies"
    shutil.copytree(folder / "first", home / "first")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(home)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_new_changes_no_other_file_and_refuses_a_name_that_is_taken(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    app = study_commands(folder)
    with pytest.raises(SystemExit) as ended:
        app(["new", "second"])
    assert ended.value.code == 0
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    added = {path for path in after if path not in before}
    assert added == {folder / "second" / name for name in FILES}
    assert {path: after[path] for path in before} == before
    for name, sentence in (
        ("second", "already a folder"),
        ("Two Words", "name of a Python module"),
    ):
        with pytest.raises(ValueError, match=sentence):
            write_study(folder, name)
    shutil.rmtree(folder / "second")


def test_a_run_leaves_result_figures_and_report_and_goes_on(study, tmp_path, capsys):
    words = ("--size", "small", "--out", tmp_path, "--jobs", 1)
    assert status(study, *words) == 0
    assert {path.name for path in tmp_path.glob("*.*")} == {
        "figure.pdf",
        "figure.png",
        "report.html",
        "result.nc",
    }
    points = [*tmp_path.rglob("point-*.nc")]
    assert len(points) == 2
    times = [path.stat().st_mtime_ns for path in points]
    assert status(study, *words) == 0
    assert [path.stat().st_mtime_ns for path in points] == times  # nothing was computed again
    (dataset,) = study.read(tmp_path / "result.nc").values()
    assert {"commit", "arguments", "seconds", "cpu_seconds", "versions"} <= set(dataset.attrs)
    assert study.judge(dataset) == study.judge(study.simulate("small"))
    assert str(tmp_path / "result.nc") in capsys.readouterr().out


def test_a_trial_adds_a_row_to_the_ledger_of_the_study(folder, tmp_path):
    home = tmp_path / "new_studies"
    shutil.copytree(folder / "first", home / "first")
    words = [sys.executable, "-m", "new_studies.first.study", "--size", "small", "--jobs", "1"]
    words += ["--out", str(tmp_path / "out"), "--repeats", "40000"]
    before = (home / "first" / "trials.md").read_text()
    for why in ("Is a | tenth\n enough?", "again"):
        done = subprocess.run([*words, "--trial", why], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr
    text = (home / "first" / "trials.md").read_text()
    assert text.startswith(before.rstrip())
    first, second = text.removeprefix(before).strip().splitlines()
    assert "--size small --repeats 40000" in first
    assert "predictions: " in first
    assert "n = 16: n Var: " in first
    assert first.endswith("| Is a \\| tenth enough? |  |")
    assert second.endswith("| again |  |")
    cells = [line.replace("\\|", "").count("|") for line in (*before.splitlines()[-2:], first)]
    assert len(set(cells)) == 1
    subprocess.run(words, cwd=tmp_path, capture_output=True)
    assert (home / "first" / "trials.md").read_text() == text  # without --trial nothing is added


def test_a_trial_needs_a_reason(study, tmp_path, capsys):
    assert status(study, "--size", "small", "--out", tmp_path, "--trial", " ") == 2
    assert "a trial needs a reason" in capsys.readouterr().err
    assert not [*tmp_path.rglob("point-*.nc")]


def test_results_of_other_arguments_are_kept_apart(study, tmp_path, capsys):
    words = ("--size", "small", "--out", tmp_path, "--jobs", 1)
    status(study, *words)
    (first,) = study.read(tmp_path / "result.nc").values()
    status(study, *words)
    assert not list(tmp_path.glob("result-*.nc"))
    capsys.readouterr()
    status(study, *words, "--repeats", "30000")
    (kept,) = tmp_path.glob("result-*.nc")
    (earlier,) = study.read(kept).values()
    assert earlier.attrs["arguments"] == first.attrs["arguments"]
    assert f"is kept as {kept}" in capsys.readouterr().out
    (tmp_path / "result.nc").write_bytes(b"not a result")
    assert status(study, *words) == 0


def test_a_study_without_a_ledger_gets_one_with_the_largest_deviations_first(tmp_path):
    verdicts = [
        Verdict(f"row {k}", 1.0, Estimate(1 + k / 100, 0.001), "prediction", 0.02) for k in range(6)
    ]
    verdicts.append(Verdict("seen", 1.0, Estimate(9.0, 0.1), "observation"))
    origin = {"date": "2030-01-02T03", "commit": "abcdef0123456", "dirty": "True", "seed": 3}
    results = {"": xr.Dataset(attrs=origin)}
    path = record_trial(tmp_path, "why", "--size small", results, verdicts)
    row = path.read_text().splitlines()[-1]
    assert path.read_text().startswith(HEADER)
    assert row.startswith("| 2030-01-02 | abcdef012 and changes | --size small | 3 | predictions: ")
    assert "| row 5: +5.0 ± 0.1%; row 4: +4.0 ± 0.1%; row 3: +3.0 ± 0.1% | why |  |" in row


def test_the_status_is_1_where_a_claim_fails(study, tmp_path, monkeypatch):
    claims = sys.modules[study.claims.__name__]
    monkeypatch.setattr(claims, "mean_of", lambda values: 2.0 * xr_mean(values))
    assert status(study, "--size", "small", "--out", tmp_path, "--jobs", 1) == 1


def xr_mean(values):
    from sgdnoise.lab import mean_of

    return mean_of(values)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--size", "huge"], "there is no size 'huge'; there are small, demo, full"),
        (["--repeats", "3"], "repeats must be at least 64, not 3"),
        (["--jobs", "0"], "at least one process must do the work, not 0"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(words, sentence, study, tmp_path, capsys):
    assert status(study, *words, "--out", tmp_path) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"


def test_a_size_inherits_from_full_and_demo_is_small_unless_it_is_given(study, tmp_path):
    session = Session(tmp_path)
    full, small, demo = (study.parameters(s, session, {}) for s in ("full", "small", "demo"))
    assert full == {"n": [1, 4, 16, 64], "repeats": 100_000}
    assert small == demo == {"n": [1, 16], "repeats": 40_000}
    assert study.parameters("small", session, {"repeats": 99})["repeats"] == 99


def made(claims_of, **kwargs):
    """A study with the claims and the figure of another."""
    kwargs = {"sizes": {"full": {}, "small": {}}} | kwargs
    return Study(claims=claims_of.claims, figure=claims_of.figure, **kwargs)


def power(base, seed, *, exponent=1, device="none"):
    assert seed >= 0
    return xr.Dataset({"value": float(base) ** exponent, "gpu": float(device == "cuda")})


def test_axes_may_depend_on_parameters_and_seed_and_device_are_passed_on(study, tmp_path):
    powers = made(
        study,
        run=power,
        grid={"base": [2, 3], "seed": lambda parameters: range(parameters["count"])},
        sizes={"full": {"count": 3}, "small": {"count": 2}, "cuda": {"exponent": 3}},
        options={"exponent": option(float), "base": option(list, choices=[2, 3])},
        device="torch",
    )
    results = powers.simulate("small", exponent=2.0, base=["3"])
    np.testing.assert_array_equal(results.value, [[9.0, 9.0]])
    on_gpu = powers.parameters("full", Session(tmp_path, device="cuda"), {})
    assert (on_gpu["exponent"], on_gpu["count"], on_gpu["device"]) == (3, 3, "cuda")
    for changes, sentence in (
        ({"base": ["5"]}, "there is no base '5'; there are 2, 3"),
        ({"exponent": float("nan")}, "exponent must be a finite number, not nan"),
    ):
        with pytest.raises(ValueError, match=sentence):
            powers.parameters("small", Session(tmp_path), changes)


def test_checks_notes_arrange_and_execute(study, tmp_path):
    def check(parameters):
        if parameters["seed"] == 7:
            raise ValueError("seven is refused")

    def execute(parameters, session):
        assert parameters["seed"] == session.seed
        grids = {"a": (power, {"base": [2], "seed": [0]}), "b": (power, {"base": [3], "seed": [0]})}
        sweeps = session.sweep_all(grids)
        return xr.Dataset({"total": sweeps["a"].value.sum() + sweeps["b"].value.sum()})

    sums = made(
        study,
        execute=execute,
        arrange=lambda dataset: dataset.assign(seen=1),
        check=check,
        notes=lambda dataset: [f"total {float(dataset.total)}"],
        seed=True,
    )
    results = sums.simulate("small")
    assert (float(results.total), int(results.seen)) == (5.0, 1)
    assert "total 5.0" in sums.lead(results)
    for seed, sentence in ((7, "seven is refused"), (-1, "a seed is an integer from 0 to")):
        with pytest.raises(ValueError, match=sentence):
            sums.parameters("small", Session(tmp_path, seed=seed), {})


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_an_unknown_or_absent_device_is_one_sentence(library):
    import torch

    assert use_device(library, "cpu") == "cpu"
    with pytest.raises(ValueError, match="there is no device 'abacus'; there are cpu and cuda"):
        use_device(library, "abacus")
    if library == "torch" and not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device on this machine; use --device cpu"):
            use_device(library, "cuda")


def test_a_group_has_one_result_with_a_part_for_each_study(group, tmp_path, capsys):
    assert status(group, "--size", "small", "--out", tmp_path, "--jobs", 1) == 0
    assert [*read_parts(tmp_path / "result.nc")] == ["one", "two"]
    names = {path.name for path in tmp_path.glob("*.*")}
    assert names == {"one.png", "one.pdf", "two.png", "two.pdf", "report.html", "result.nc"}
    assert (tmp_path / "report.html").read_text().count("<h1>") == 2
    only = tmp_path / "only"
    words = ("--size", "small", "--out", only, "--jobs", 1, "--part", "two")
    assert status(group, *words) == 0
    assert [*read_parts(only / "result.nc")] == ["two"]
    assert status(group, "--part", "three") == 2
    assert "there is no part 'three'; there are one, two" in capsys.readouterr().err


def test_a_group_refuses_a_part_that_it_does_not_have(group, tmp_path):
    from sgdnoise.lab import write_parts

    write_parts({"three": xr.Dataset({"a": 1})}, tmp_path / "r.nc")
    with pytest.raises(ValueError, match="whose parts are one, two: it holds the part 'three'"):
        group.read(tmp_path / "r.nc")


def test_a_group_refuses_a_result_without_parts(group, tmp_path):
    from sgdnoise.lab import write_result

    write_result(xr.Dataset({"a": 1}), tmp_path / "r.nc")
    with pytest.raises(ValueError, match=r"is not a result of group, .* a result without parts"):
        group.read(tmp_path / "r.nc")


@pytest.mark.parametrize("name", ["numpy", "json", "_private", "test_first"])
def test_new_refuses_names_that_python_or_pytest_would_confuse(name, folder):
    with pytest.raises(ValueError, match=r"is already a Python module|begins neither with _"):
        write_study(folder, name)
    assert not (folder / name).exists()


def command(folder, *words):
    with pytest.raises(SystemExit) as ended:
        study_commands(folder)([str(word) for word in words])
    return ended.value.code


def test_the_commands_list_run_judge_and_draw(folder, tmp_path, capsys):
    assert command(folder, "list") == 0
    assert "first  Variance of the mean of n numbers" in capsys.readouterr().out
    words = ("first", "--size", "small", "--out", tmp_path, "--jobs", "1")
    assert command(folder, "run", *words) == 0
    result = tmp_path / "result.nc"
    capsys.readouterr()
    for place in (result, tmp_path):
        assert command(folder, "judge", "first", place) == 0
        assert "predictions: 2 holds, 0 fails, 0 undecided" in capsys.readouterr().out
    (tmp_path / "figure.png").unlink()
    (tmp_path / "findings.md").write_text("before\n<!-- table -->\nold\n<!-- /table -->\nafter\n")
    assert command(folder, "draw", "first", result) == 0
    assert (tmp_path / "figure.png").exists()
    lines = (tmp_path / "findings.md").read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    assert sum(line.startswith("| n = ") for line in lines) == 2


def test_commands_refuse_an_unknown_study_and_an_absent_result(folder, tmp_path, capsys):
    for words in (("run", "third"), ("judge", "third"), ("draw", "third")):
        assert command(folder, *words) == 2
        sentence = "error: there is no study 'third'; there are first, group\n"
        assert capsys.readouterr().err == sentence
    assert command(folder, "judge", "first", tmp_path / "absent.nc") == 2
    assert "there is no result file" in capsys.readouterr().err


def test_commands_name_the_result_of_a_run_where_none_is_committed(folder, capsys):
    for word in ("judge", "draw"):
        assert command(folder, word, "first") == 2
        error = capsys.readouterr().err
        assert error.startswith("error: first has no committed result; ")
        assert error.endswith(f"{word} first {Path('out/first/result.nc')}\n")


@pytest.mark.parametrize("word", ["judge", "draw"])
def test_commands_refuse_the_result_of_another_study(word, folder, tmp_path, capsys):
    from sgdnoise.lab import write_result

    write_result(xr.Dataset({"a": 1}), tmp_path / "result.nc")
    assert command(folder, word, "first", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'result.nc'} is not a result of first (")
    assert len(error.splitlines()) == 1


def test_run_without_a_name_is_refused_and_its_help_is_not(folder, capsys):
    assert command(folder, "run") == 2
    assert "error: run needs the NAME of a study; NAME is one of first" in capsys.readouterr().err
    assert command(folder, "run", "--help") == 0


@pytest.mark.parametrize("package", ["jax", "torch"])
def test_a_study_whose_package_is_not_installed_is_one_sentence(
    package, folder, capsys, monkeypatch
):
    (folder / "needs").mkdir()
    (folder / "needs" / "study.py").write_text(f'"""A study."""\nimport {package}\n')
    monkeypatch.setitem(sys.modules, package, None)
    try:
        assert command(folder, "judge", "needs") == 2
    finally:
        shutil.rmtree(folder / "needs")
    error = capsys.readouterr().err
    assert error.startswith(f"error: {package} is not installed; it comes with the extra")
    assert len(error.splitlines()) == 1


def test_a_cluster_without_dask_is_one_sentence(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ("--size", "small", "--out", tmp_path, "--cluster", "tcp://x:1")
    assert status(study, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: distributed is not installed; it comes with the extra 'cluster'"
    )
    assert len(error.splitlines()) == 1


def test_help_lists_all_sizes_and_says_that_demo_is_small_where_it_is(study, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert status(study, "--help") == 0
    assert "how much is run: small, demo (as small), full" in capsys.readouterr().out
    larger = made(study, run=power, sizes={"full": {}, "small": {}, "demo": {}})
    assert status(larger, "--help") == 0
    assert "how much is run: small, demo, full" in capsys.readouterr().out


def test_the_lines_of_help_fill_the_width_of_the_terminal(capsys):
    words = " ".join(["word"] * 40)
    text = f"First sentence.\n\n{words[:99]}\n{words[100:]}"
    with pytest.raises(SystemExit):
        command_line(print, [], text)(["--help"])
    lines = [line.split().count("word") for line in capsys.readouterr().out.splitlines()]
    counts = [count for count in lines if count]
    assert sum(counts) == 40
    assert len(set(counts[:-1])) == 1


def test_a_script_and_the_command_run_the_same_study_under_one_name(folder, tmp_path):
    """What one of them has finished the other does not compute again."""
    root, words = folder.parent, ("--size", "small", "--out", str(tmp_path), "--jobs", "1")
    env = {"PYTHONPATH": f"{root}:{Path.cwd()}", "PATH": "", "HOME": str(tmp_path)}
    script = [sys.executable, str(folder / "first" / "study.py"), *words]
    done = subprocess.run(script, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("point-*.nc")}
    assert len(times) == 2
    assert command(folder, "run", "first", *words) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("point-*.nc")} == times


def test_a_table_is_replaced_between_its_own_markers():
    text = "<!-- table a -->\n1\n<!-- /table -->\n<!-- table b -->\n2\n<!-- /table -->\n"
    renewed = with_table(text, "b", "new")
    assert renewed == text.replace("\n2\n", "\nnew\n")
    assert with_table("no markers", "", "new") == "no markers"


def test_a_study_needs_something_to_run(study):
    with pytest.raises(ValueError, match="a study needs a run function, or execute"):
        made(study)
    assert isinstance(StudyGroup({"first": study}, title="t").parts["first"], Study)
