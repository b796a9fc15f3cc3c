"""The command line: what is right is printed, what is wrong is one sentence and status 2."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import rich.console
from lab.test_sweep import GRID, fatal, holds_powers, power
from typer.testing import CliRunner

from sgdnoise import __version__
from sgdnoise.core import Estimate
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
    assert "predictions: 2 holds, 2 fails, 0 undecided; contrasts: 0" in judged.stdout
    rows = " ".join(judged.stdout.split())
    assert "good 2 2 - - 100 100 100 100 -" in rows
    assert "bad 2 - 2 - 100 100 0 0 -" in rows
    assert max(map(len, judged.stdout.split("Claims that fail")[0].splitlines()[:-4])) <= 80
    assert judged.stdout.count("bad, n = 1: n Var") == 1  # a claim that fails
    assert "good, n = 1" not in judged.stdout


def test_the_table_of_studies_in_a_document_is_renewed(studies, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Before\n\n<!-- table -->\n<!-- /table -->\n\nAfter\n")
    assert ask("verdicts", studies, "--table", page).exit_code == 1
    text = page.read_text()
    assert "| bad | 2 | - | 2 | - |" in text
    assert text.startswith("Before")
    assert text.endswith("After\n")


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
    claim = Verdict(
        "label noise, PR after 40,000 steps", 8.7, Estimate(8.9, 0.05), "prediction", 0.9
    )
    monkeypatch.setattr(cli, "console", rich.console.Console(width=width))
    kinds = ("prediction", "outside", "contrast")
    show("a study", [replace(claim, kind=kind) for kind in kinds])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    shown = [line.split()[-1] for line in lines if "8.900 ± 0.050" in line]
    assert shown == ["holds", "outside", "agrees"]
    assert ("allowed" in "".join(lines)) == (width == 140)


@pytest.mark.parametrize("name", ["a[/b]", "w[i] of [bold]x", "a \x1b[31m red \x07", "caf\udce9"])
def test_names_are_printed_as_they_are_without_control_characters(name, capsys):
    verdict = Verdict(name, 1.0, Estimate(1.0, 0.01), "prediction", 0.1)
    cli.show(f"study {name}", [verdict])
    cli.say(name)
    shown = capsys.readouterr().out
    expected = name.encode("unicode_escape").decode()
    assert shown.count(expected) == 3
    assert "\x1b" not in shown


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
