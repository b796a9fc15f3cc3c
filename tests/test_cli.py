"""The command line: what is right is printed, what is wrong is one sentence and status 2."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rich.console
import xarray as xr
from typer.testing import CliRunner

from sgdnoise import cli
from sgdnoise.__main__ import app
from sgdnoise.cli import time_left, workers, writable
from sgdnoise.estimate import Estimate
from sgdnoise.store import write
from sgdnoise.verdict import Verdict, columns


def ask(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def said(words):
    """Exit status and what stands on stderr, of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sgdnoise", *map(str, words)], capture_output=True, text=True
    )
    return done.returncode, done.stderr


def test_the_dimension_of_a_file_is_printed_with_errors(tmp_path, rng):
    angle = rng.uniform(0, 2 * np.pi, (400, 2))
    np.save(tmp_path / "torus.npy", np.concatenate([np.cos(angle), np.sin(angle)], axis=1))
    found = ask("dimension", tmp_path / "torus.npy")
    assert found.exit_code == 0
    assert "400 points in 4 dimensions" in found.stdout
    value = float(found.stdout.split("twonn")[1].split()[0])
    assert abs(value - 2) < 1


def test_csv_and_npz_are_read_as_npy_is(tmp_path, rng):
    points = rng.normal(size=(80, 2))
    np.save(tmp_path / "p.npy", points)
    np.savez(tmp_path / "p.npz", points=points)
    np.savetxt(tmp_path / "p.csv", points, delimiter=",")
    tables = [ask("dimension", tmp_path / f"p.{kind}").stdout for kind in ("npy", "npz", "csv")]
    assert len({t.split("\n", 1)[1] for t in tables}) == 1


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("absent.npy", None, "there is no file"),
        ("points.txt", b"1 2", "must end in one of .npy, .npz, .csv"),
        ("torn.npy", b"\x93NUMPY", "holds no array of numbers"),
        ("words.csv", b"a,b\n", "holds no array of numbers"),
        ("flat.npy", np.arange(3.0), "must hold points (n, D)"),
        ("nan.npy", np.asarray([[1.0, 2.0], [np.nan, 0.0]]), "1 rows that are not finite"),
        ("few.npy", np.ones((39, 2)), "errors need 2 groups of 20 points or more, not 39"),
    ],
)
def test_what_is_no_cloud_of_points_is_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    status, text = said(["dimension", path])
    assert status == 2
    assert text.startswith("error: ")
    assert sentence in text
    assert "Traceback" not in text


def test_verdicts_are_read_from_results_and_decide_the_status(tmp_path):
    good = Verdict("a claim", 1.0, Estimate(1.01, 0.01), True, 0.1)
    write(xr.Dataset().assign(columns([good])), tmp_path / "one.nc", device="x", date="2026-01-01")
    found = ask("verdicts", tmp_path)
    assert found.exit_code == 0
    assert "1 holds, 0 fails, 0 undecided; 0 (outside the regime)" in found.stdout
    bad = good._replace(measured=Estimate(2.0, 0.01))
    write(xr.Dataset().assign(columns([good, bad])), tmp_path / "two.nc")
    assert ask("verdicts", tmp_path).exit_code == 1
    assert said(["verdicts", tmp_path / "nowhere"])[0] == 2


@pytest.mark.parametrize("width", [80, 140])
def test_a_verdict_is_readable_on_a_narrow_and_on_a_wide_terminal(width, capsys, monkeypatch):
    claim = Verdict("label noise, PR after 40,000 steps", 8.7, Estimate(8.9, 0.05), True, 0.9)
    monkeypatch.setattr(cli, "console", rich.console.Console(width=width))
    cli.show("a study", [claim, claim._replace(claimed=False)])
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


def test_workers_are_one_thread_each_and_refuse_none():
    with workers(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
    with pytest.raises(ValueError, match="not 0"), workers(0):
        pass


def test_kill_9_leaves_no_worker_behind(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\nfrom sgdnoise.cli import workers\n"
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
