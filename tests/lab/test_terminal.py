"""The command line: what is right is printed, what is wrong is one sentence and status 2."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from functools import partial
from itertools import count

import numpy as np
import pytest
import rich.console
from lab.test_sweep import GRID, fatal, holds_powers, power
from typer.testing import CliRunner
from witnesses import SURE, torus

from sgdnoise import __version__
from sgdnoise.core import Estimate, with_group_error
from sgdnoise.dimension import ESTIMATORS
from sgdnoise.lab import Failure, Incomplete, Verdict, load_study, sweep, workers, write_result
from sgdnoise.lab import _terminal as cli
from sgdnoise.lab._command_line import app
from sgdnoise.lab._skeleton import write_study
from sgdnoise.lab._terminal import (
    MAX_FAILURES,
    exit_on_error,
    pace,
    progress,
    show,
    time_left,
    writable,
)


def ask(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def said(words):
    """Exit status and what stands on stderr, of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sgdnoise", *map(str, words)], capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.fixture
def torus_file(tmp_path, rng):
    """300 points of a 2-torus in 4 dimensions."""
    np.save(tmp_path / "torus.npy", torus(2, 300, rng))
    return tmp_path / "torus.npy"


def measured(file, *words):
    """What the command prints, its picture beside the file."""
    return ask("dimension", file, "--out", file.parent, *words)


def row_of(name, result):
    """Numbers in the line of one estimator."""
    (line,) = [line for line in result.stdout.splitlines() if line.split()[:1] == [name]]
    return [float(word) for word in line.split()[1:4]]


def test_the_dimension_of_a_file_is_printed_by_every_estimator(torus_file):
    """The torus has dimension 2, of which `estimate` is known to 5 errors, and spans 4."""
    result = measured(torus_file)
    assert result.exit_code == 0
    assert "300 points in 4 dimensions" in result.stdout
    first = [line.split()[0] for line in result.stdout.splitlines() if line.split()]
    shown = [word for word in first if word in {"estimate", *ESTIMATORS}]
    assert shown == ["estimate", *(name for name in ESTIMATORS if name != "learned")]
    value, error, _ = row_of("estimate", result)
    assert abs(value - 2) < SURE * error + 0.05 * 2
    assert f"take estimate, {value:.2f} ± {error:.2f}" in result.stdout
    assert "another question" in result.stdout


def test_values_and_errors_are_those_of_the_functions(torus_file):
    names = ("abide", "pca", "twonn", "l2n2")
    result = measured(torus_file, *(word for name in names for word in ("--estimator", name)))
    points = np.load(torus_file)
    for name in names:
        expected = with_group_error(ESTIMATORS[name], points, splits=5)
        assert row_of(name, result)[:2] == [
            round(float(v), 2) for v in (expected.value, expected.stderr)
        ]
    assert "the recommended value is that of estimate" in result.stdout


def test_a_picture_is_drawn_and_nobody_elses_is_written_over(torus_file):
    words = ("--estimator", "twonn")
    picture = torus_file.parent / "dimension.png"
    assert str(picture) in measured(torus_file, *words).stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert measured(torus_file, *words).exit_code == 0  # over its own
    picture.write_bytes(b"holiday")
    refused = measured(torus_file, *words)
    assert refused.exit_code == 2
    assert picture.read_bytes() == b"holiday"
    nested = torus_file.parent / "new" / "profile.svg"
    for _ in range(2):
        assert measured(torus_file, *words, "--picture", nested).exit_code == 0
    assert "<svg" in nested.read_text()


def test_csv_and_npz_are_read_as_npy_is(tmp_path, rng):
    points = rng.normal(size=(80, 2))
    np.save(tmp_path / "p.npy", points)
    np.savez(tmp_path / "p.npz", points=points)
    np.savetxt(tmp_path / "p.csv", points, delimiter=",", header="x,y", comments="")
    words = ("--estimator", "twonn", "--estimator", "pca")
    tables = [measured(tmp_path / f"p.{kind}", *words) for kind in ("npy", "npz", "csv")]
    assert len({(*row_of("twonn", t)[:2], *row_of("pca", t)[:2]) for t in tables}) == 1
    assert "its first line is a header, x, y" in tables[2].stdout


def test_rows_are_taken_at_random_and_by_seed(torus_file):
    words = ("--estimator", "twonn", "--points", "150")
    first, again, another = (
        measured(torus_file, *words, "--seed", seed).stdout for seed in (1, 1, 2)
    )
    assert "taking 150 rows at random, by seed 1" in first
    assert first.split("twonn")[1].split()[:2] == again.split("twonn")[1].split()[:2]
    assert first.split("twonn")[1].split()[:2] != another.split("twonn")[1].split()[:2]


def test_points_that_repeat_are_merged_or_refused_as_asked(tmp_path, rng):
    points = torus(2, 60, rng)
    np.save(tmp_path / "p.npy", np.concatenate([points, points[:7]]))
    np.save(tmp_path / "q.npy", points)
    words = ("--estimator", "twonn")
    merged = measured(tmp_path / "p.npy", *words)
    assert "7 of 67 points repeat others and were merged" in merged.stdout
    assert row_of("twonn", merged)[:2] == row_of("twonn", measured(tmp_path / "q.npy", *words))[:2]
    refused = measured(tmp_path / "p.npy", *words, "--duplicates", "refuse")
    assert refused.exit_code == 2
    assert "7 of 67 points repeat others" in refused.stderr


def test_points_on_a_lattice_are_told_once_in_a_sentence(tmp_path, rng):
    np.save(tmp_path / "p.npy", rng.permutation(np.arange(200.0))[:150, None] * [1, 2])
    result = measured(tmp_path / "p.npy", "--estimator", "levina_bickel")
    assert result.exit_code == 0
    assert result.stdout.count("two nearest neighbours") == 1
    assert "as on a lattice" in result.stdout
    assert "Ties" not in result.stdout + result.stderr


def test_what_an_estimator_refuses_stands_in_its_row_and_below_in_full(tmp_path, rng):
    np.save(tmp_path / "p.npy", torus(1, 40, rng))
    words = [word for name in ("estimate", "tle", "twonn") for word in ("--estimator", name)]
    result = measured(tmp_path / "p.npy", *words)
    assert result.exit_code == 0
    assert "estimate: at least 205 points" in result.stdout
    assert "tle: no error: " in result.stdout
    assert "none is recommended" in result.stdout


def test_a_calibrated_column_is_for_the_estimators_of_manifolds_alone(
    torus_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = sys.modules["sgdnoise.dimension._calibration"]
    monkeypatch.setattr(module, "POINTS", 300)
    monkeypatch.setattr(module, "_curve", module._curve.__wrapped__)
    words = ("--estimator", "mom", "--estimator", "stable_rank", "--calibrate")
    result = measured(torus_file, *words)
    expected = float(module.calibrated(ESTIMATORS["mom"])(np.load(torus_file)))
    assert row_of("mom", result)[2] == round(expected, 2)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(" stable_rank")]
    assert line.split()[3] == "-"


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_of_estimators_fits_the_terminal(width, tmp_path, rng, monkeypatch):
    """With every number in it, and notes cut short, for they stand below in full."""
    narrow = rich.console.Console(width=width, highlight=False)
    monkeypatch.setattr("sgdnoise.lab._survey_report.console", narrow)
    monkeypatch.setattr("sgdnoise.lab._terminal.console", narrow)
    np.save(tmp_path / "p.npy", torus(1, 40, rng))
    words = [w for n in ("tle", "full_correlation_integral") for w in ("--estimator", n)]
    result = measured(tmp_path / "p.npy", *words)
    lines = [line for line in result.stdout.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= width
    assert "full_correlation_integral" in result.stdout
    (line,) = [line for line in lines if line.startswith(" tle")]
    assert 0 < float(line.split()[1]) < 3
    assert ("…" in line) == (width == 80)
    assert "tle: no error: at least 21 points" in result.stdout


WRONG_WORDS = {
    "estimator": (
        ("--estimator", "fractal"),
        "there is no estimator 'fractal'; there are estimate",
    ),
    "no points": (("--points", "0"), "--points takes 2 to 300 of the 300 rows, not 0"),
    "too many points": (("--points", "301"), "not 301"),
    "picture": (("--picture", "p.jpeg"), "ends in .png, .pdf or .svg, unlike p.jpeg"),
    "key": (("--key", "x"), "no key such as 'x'"),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG_WORDS.values(), ids=WRONG_WORDS.keys())
def test_a_wrong_option_is_one_sentence(words, sentence, torus_file):
    result = measured(torus_file, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_is_no_cloud_of_points_is_one_sentence(tmp_path):
    """Each kind of wrong file: see test_read."""
    np.save(tmp_path / "nan.npy", np.asarray([[1.0, 2.0], [np.nan, 0.0]]))
    status, text = said(["dimension", tmp_path / "nan.npy", "--out", tmp_path])
    assert status == 2
    assert text == "error: 1 of 2 rows of nan.npy are not finite, the first is row 1\n"


def test_ctrl_c_ends_politely(torus_file, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sgdnoise.lab._command_line.measure", interrupted)
    result = measured(torus_file)
    assert result.exit_code == 130
    assert "stopped; nothing was written" in result.stdout


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A folder with two studies, of which the results of one are wrong, and one without."""
    folder = tmp_path_factory.mktemp("checkout") / "studies_of_test"
    folder.mkdir()
    for name in ("good", "bad", "new"):
        write_study(folder, name)
    for name, factor in (("good", 1), ("bad", 2)):
        study = load_study(folder, name)
        results = study.simulate("small")
        origin = {"device": "x", "date": "2026-01-01"}
        write_result(results.assign(square=factor * results.square), study.stored, **origin)
    return folder


def test_verdicts_judge_all_stored_results_and_decide_the_status(studies):
    judged = ask("verdicts", studies)
    assert judged.exit_code == 1
    assert "2 holds, 2 fails, 0 undecided; 0 (outside the regime)" in judged.stdout
    rows = " ".join(judged.stdout.split())
    assert "good x 2026-01-01 2 - - -" in rows
    assert "bad x 2026-01-01 - 2 - -" in rows
    assert judged.stdout.count("bad, n = 1: n Var") == 1  # a claim that fails
    assert "good, n = 1" not in judged.stdout


def test_each_claim_of_a_study_is_shown_on_request(studies):
    shown = ask("verdicts", studies, "--study", "good")
    assert "n = 1: n Var" in shown.stdout.split("study")[0]
    refused = ask("verdicts", studies, "--study", "three")
    assert refused.exit_code == 2
    assert "there is no study 'three'; there are bad, good, new" in refused.stderr


def test_verdicts_outside_a_checkout_is_one_sentence(tmp_path):
    status, error = said(["verdicts", tmp_path / "nowhere"])
    assert status == 2
    assert error.endswith("nowhere: verdicts needs a checkout of the repository\n")


def test_without_the_extra_lab_it_is_one_sentence():
    code = "import sys\nsys.modules['typer'] = None\nfrom sgdnoise.__main__ import main\nmain()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: typer is not installed; it comes with the extra 'lab': "
        "pip install 'sgdnoise[lab]'\n"
    )


def test_derivations_without_sympy_say_what_to_install():
    code = (
        "import runpy, sys\nsys.modules['sympy'] = None\n"
        "runpy.run_module('derivations', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: sympy is not installed; it comes with the extra 'derivations': "
        "pip install 'sgdnoise[derivations]'\n"
    )


def test_the_version_is_printed():
    assert ask("--version").stdout == f"sgdnoise {__version__}\n"


def test_the_progress_of_a_sweep_is_printed(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        sweep(power, GRID, pool, tmp_path)
    assert "6 of 6 points done, 0 running, 0 failed, 0 left" in ask("sweep", tmp_path).stdout
    (tmp_path / "out" / "work").mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        sweep(power, {"base": [2], "exponent": [1]}, pool, tmp_path / "out" / "work" / "points")
    below = ask("sweep", tmp_path / "out").stdout
    assert below.startswith(f"{os.path.join('work', 'points')}: 1 of 1 points done")
    refused = ask("sweep", tmp_path / "nowhere")
    assert refused.exit_code == 2
    assert "there is no sweep in the folder" in refused.stderr


@pytest.mark.parametrize("width", [80, 140])
def test_a_verdict_is_readable_on_a_narrow_and_on_a_wide_terminal(width, capsys, monkeypatch):
    claim = Verdict("label noise, PR after 40,000 steps", 8.7, Estimate(8.9, 0.05), True, 0.9)
    monkeypatch.setattr(cli, "console", rich.console.Console(width=width))
    show("a study", [claim, claim._replace(claimed=False)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert sum("8.900 ± 0.050" in line for line in lines) == 2
    assert [word for line in lines for word in line.split() if "holds" in word] == [
        "holds",
        "(holds)",
    ]
    assert ("allowed" in "".join(lines)) == (width == 140)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ValueError, match="cannot write to the folder"):
        writable(tmp_path / "file")
    assert writable(tmp_path / "new" / "deep").is_dir()
    assert not list((tmp_path / "new" / "deep").iterdir())


def test_time_left_is_told_at_the_rate_so_far():
    assert time_left(0, 10, 5.0) == "..."
    assert time_left(5, 10, 60.0) == "2:00"


def test_the_pace_tells_rate_time_left_and_failures():
    assert pace(0, 10, 5.0) == "... left"
    assert pace(5, 10, 60.0) == "5 a minute, 2:00 left"
    assert pace(120, 40, 60.0, failed=2) == "2 a second, 0:20 left, 2 failed"


def test_progress_without_a_terminal_is_plain_lines(capsys, monkeypatch):
    """A line at once and then one each 15 seconds, here 15 of a faster clock."""
    clock = count(0, 20)
    monkeypatch.setattr(cli, "console", rich.console.Console(width=140, highlight=False))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with progress("points", lambda: (4, 1), 10):
        time.sleep(1.2)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("points: 4 of 10, ") for line in lines)
    assert all(line.endswith("1 failed") for line in lines)


def test_points_that_failed_are_listed_and_status_is_3(capsys):
    failures = [
        Failure({"rate": k, "batch": 2}, "RuntimeError: no", "a\nb")
        for k in range(MAX_FAILURES + 2)
    ]
    with pytest.raises(SystemExit) as ended, exit_on_error("start it again"):
        raise Incomplete(failures)
    assert ended.value.code == 3
    text = capsys.readouterr().out
    assert f"{MAX_FAILURES + 2} points failed:" in text
    assert "rate 0, batch 2: RuntimeError: no" in text
    assert "and 2 more" in text
    assert "all others are stored; start it again" in text


def test_a_lost_executor_is_a_sentence_and_status_3(capsys):
    with pytest.raises(SystemExit) as ended, exit_on_error("start it again"):
        raise BrokenExecutor("no point can begin")
    assert ended.value.code == 3
    assert "is lost (no point can begin); start it again" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_are_replaced_after_one_was_killed(tmp_path):
    run = partial(fatal, once=str(tmp_path / "once"))
    with workers(1) as pool:
        holds_powers(sweep(run, GRID, pool))
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"


def test_workers_are_one_thread_each_and_refuse_none():
    with workers(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
    with pytest.raises(ValueError, match="not 0"), workers(0):
        pass


def test_kill_9_leaves_no_worker_behind(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\nfrom sgdnoise.lab import workers\n"
        "if __name__ == '__main__':\n"
        "    with workers(1) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 60).result()\n"
    )
    command = [sys.executable, str(script)]
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker)


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
