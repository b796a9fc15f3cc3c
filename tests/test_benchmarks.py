"""Benchmarks: what is timed is right, rounds are kept, and tables and slowdowns come from them."""

import json
import subprocess
import sys
import time
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch
from numpy.testing import assert_allclose

from benchmarks import __main__ as command
from benchmarks import chain_peers, chains, commands, covariance, dimension, rows, track, watching
from benchmarks.covariance_peers import by_hand
from benchmarks.covariance_tasks import NETWORKS
from benchmarks.record import Record
from benchmarks.render import comparisons, exponents, page, ratios
from benchmarks.rows import Row, Task, measure_rounds
from benchmarks.tables import PEERS, TABLES, TRACKED
from sgdnoise.core import Problem

ROOT = Path(__file__).parents[1]
TINY = {"n": 12, "width": 8}
COMMITTED = ROOT / "benchmarks" / "rounds.json"


@pytest.fixture(autouse=True)
def _no_trace():
    """No seed and no number of threads is left behind."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


def busy(seconds):
    """Compute for so many seconds of CPU time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def cell(what, seconds, package="sgdnoise", size=None, unit=1.0):
    return {"package": package, "what": what, "size": size, "seconds": seconds, "unit": unit}


def one_round(table, cells, commit="abc", python=0):
    return {
        "table": table,
        "python": python,
        "commit": commit,
        "date": "2026-01-02T03:04:05+00:00",
        "load": 1.5,
        "versions": {"python": "3.11", "numpy": "2.4"},
        "cells": cells,
    }


# --- timing ---


def test_a_time_is_that_of_one_of_the_times_of_a_call():
    calls = [Row("ten at once", lambda: busy(0.03), 10), Row("three", lambda: busy(0.03), 3)]
    task = Task(lambda: busy(0.01), {"sgdnoise": lambda: calls})
    (first, second) = measure_rounds(task, ["sgdnoise"], 2)
    for one in (first, second):
        ten, three = one["cells"]
        units = [c["seconds"] / c["unit"] for c in (ten, three)]
        assert_allclose(units, [0.3, 1], rtol=0.5)  # a wrong number of times is a factor of 3


def test_the_first_call_is_not_timed():
    calls = []

    def slow_at_first():
        busy(0.001 if calls else 0.5)
        calls.append(1)

    task = Task(lambda: busy(0.001), {"sgdnoise": lambda: [Row("once", slow_at_first)]})
    (one,) = measure_rounds(task, ["sgdnoise"], 1)
    assert one["cells"][0]["seconds"] < 0.005


def test_time_of_children_counts():
    began = rows.cpu_seconds()
    subprocess.run([sys.executable, "-c", "x = sum(range(10**7))"], check=True)
    assert rows.cpu_seconds() - began > 0.05


def test_what_fails_or_takes_too_long_is_named_and_the_others_are_timed(monkeypatch):
    monkeypatch.setattr(rows, "LIMIT", 0.3)
    runs = []

    def wrong():
        runs.append(1)
        raise KeyError("x")

    def absent():
        raise ImportError("no such package")

    calls = [Row("endless", lambda: busy(9)), Row("wrong", wrong), Row("fine", lambda: None)]
    task = Task(lambda: None, {"sgdnoise": lambda: calls, "absent": absent})
    first, second = measure_rounds(task, ["absent", "sgdnoise"], 2)
    endless, failed, fine = first["cells"]
    assert endless["failed"] == "over 0 s"
    assert failed["failed"] == "KeyError"
    assert fine["seconds"] > 0
    assert [c["what"] for c in second["cells"]] == ["fine"]
    assert len(runs) == 1


def test_a_call_of_two_rows_is_made_once_and_a_long_one_in_one_round(monkeypatch):
    monkeypatch.setattr(rows, "LONG", 0.25)
    runs = []

    def long():
        runs.append(1)
        busy(0.3)

    calls = [Row("one", long), Row("other", long), Row("short", lambda: busy(0.1))]
    task = Task(lambda: None, {"sgdnoise": lambda: calls})
    first, second = measure_rounds(task, ["sgdnoise"], 2)
    assert [c["what"] for c in first["cells"]] == ["one", "other", "short"]
    assert first["cells"][0]["seconds"] == first["cells"][1]["seconds"]
    assert [c["what"] for c in second["cells"]] == ["short"]
    assert len(runs) == 2  # the first is not timed


@pytest.mark.skipif(not rows.STATUS.exists(), reason="only Linux tells the peak of memory")
def test_memory_is_what_a_call_holds_at_most():
    def greedy():
        for _ in range(3):
            np.ones(5_000_000)  # 40 MB, one at a time
        return np.ones(5_000_000), np.ones(5_000_000)

    task = Task(lambda: None, {"sgdnoise": lambda: [Row("greedy", greedy)]})
    (one,) = measure_rounds(task, ["sgdnoise"], 1)
    assert 75 < one["cells"][0]["mebibytes"] < 90


# --- what is timed ---


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("gpt2", "frozen", "resnet")])
def test_covariances_are_the_same_anew_and_again_and_by_hand(name):
    torch.manual_seed(0)
    examples = NETWORKS[name](**TINY)
    anew, again, peer = (make(examples) for make in (covariance.anew, covariance.again, by_hand))
    mean, diagonal = peer["diagonal"]()
    expected = {
        "trace": diagonal.sum(),
        "diagonal": diagonal,
        "noise scale": diagonal.sum() / (mean @ mean),
        "spectrum": peer["spectrum"]().flip(0) / len(examples.targets),
    }
    for what, truth in expected.items():
        room = 1e-5 * float(truth.max())  # float32, relative to the largest
        for ours in (anew, again):
            assert_allclose(ours[what]().numpy(), truth.numpy(), rtol=1e-3, atol=room)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_unit_and_a_trace(name):
    task = covariance.network(name, n=2, width=64 if name == "gpt2" else 8)
    (one,) = measure_rounds(task, ["sgdnoise"], 1, only={"trace"})
    (trace,) = one["cells"]
    assert trace["seconds"] > 0


def test_the_network_whose_batch_norm_is_frozen_has_it_frozen():
    examples = NETWORKS["frozen"](n=2)
    norms = [m for m in examples.net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_all_searches_find_the_same_neighbours():
    points = np.random.default_rng(0).normal(size=(700, 6))
    expected = dimension.search_by_sklearn(points)
    (by_torch,) = dimension.by_torch(points)
    search, *_ = dimension.ours(points)
    for indices in (by_torch.run(), search.run().index):
        assert np.mean(np.sort(indices) == np.sort(expected)) > 0.999  # ties of float32


@pytest.mark.parametrize("library", ["NUMPY", "TORCH"])
@pytest.mark.parametrize("widths", [(4, 5, 3), (4, 6, 5, 3)])
def test_a_step_by_hand_is_a_step_along_the_gradient_of_autodiff(widths, library):
    drawn = np.random.default_rng(1).integers(chain_peers.N, size=(2, chain_peers.BATCH))
    library = getattr(chain_peers, library)
    library = library._replace(integers=lambda _: library.asarray(drawn))
    curved, data = len(widths) > 3, chains.inputs_and_targets(widths)
    size = sum(i * o for i, o in pairwise(widths))
    start = np.random.default_rng(2).normal(size=(2, size)).astype("f")

    def losses(theta, x, y):
        return chains.losses(widths, jnp.tanh if curved else lambda x: x, theta, x, y)

    problem = Problem(losses, tuple(map(jnp.asarray, data)))
    run = chain_peers.layered(widths, curved, data, start, False, library, 1)
    for net, layers in enumerate(zip(*run(), strict=True)):
        theta = np.concatenate([np.asarray(layer).ravel() for layer in layers])
        gradient = problem.subset(jnp.asarray(drawn[net])).gradient(jnp.asarray(start[net]))
        expected = -chain_peers.RATE * np.asarray(gradient)
        assert_allclose(theta - start[net], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["SGD", "equation"])
def test_all_of_ours_and_by_hand_take_steps_of_networks(kind):
    task = chains.networks((4, 5, 3), kind, nets=2, steps=2)
    mine = [package for package in task.packages if package not in PEERS]
    (one,) = measure_rounds(task, mine, 1)
    assert not [c for c in one["cells"] if "failed" in c]
    assert {c["package"] for c in one["cells"]} == set(mine)


def test_steps_and_measurements_of_a_watch_are_timed():
    (one,) = measure_rounds(watching.training("mlp", steps=10), ["sgdnoise"], 1)
    assert len(one["cells"]) == 8
    assert not [c for c in one["cells"] if "failed" in c]


def test_a_command_that_fails_is_not_timed():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        commands.process("-c", "1 / 0")


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")])
def test_every_benchmark_can_be_imported(name):
    import_module(f"benchmarks.{name}")


def test_every_table_names_a_function_that_exists():
    for name, table in TABLES.items():
        module = import_module(f"benchmarks.{table.module}")
        assert callable(getattr(module, table.function)), name


# --- the command ---


def test_help_is_fast_and_fits_a_terminal():
    began = rows.cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "80"},
    )
    assert rows.cpu_seconds() - began < 1
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_rounds_are_measured_in_another_process_and_shown(tmp_path):
    arguments = ["--only", "sweep", "--rounds", "1", "--out", str(tmp_path)]
    assert command.main(arguments) == 0
    record = Record(tmp_path / "rounds.json")
    (one,) = record.rounds
    assert one["table"] == "sweep"
    assert one["versions"]["numpy"] == np.__version__
    stored, again = one["cells"]
    assert stored["seconds"] > again["seconds"] > 0
    assert 0.15 < stored["unit"] < 0.6  # 200 points of 1 ms
    assert set(record.missing) == set(PEERS)
    text = (tmp_path / "tables.md").read_text()
    assert text == page(record)
    assert "Not measured, since not installed or not asked for: scikit-dimension" in text


@pytest.fixture
def quick_rounds(monkeypatch):
    """Rounds cost nothing; the third of all is interrupted, once."""
    stopped = []

    def add_rounds(record, name, rounds, peers):  # noqa: ARG001 - as it is called
        for _ in range(rounds):
            if len(record.rounds) == 3 and not stopped:
                stopped.append(name)
                raise KeyboardInterrupt
            record.add(one_round(name, [cell("it", 2.0)]))

    monkeypatch.setattr("benchmarks.run.add_rounds", add_rounds)
    monkeypatch.setattr("benchmarks.record.source", lambda: "abc")


def test_an_interrupted_run_keeps_its_rounds_and_the_next_continues(tmp_path, quick_rounds):  # noqa: ARG001
    arguments = ["--only", "scaling", "--rounds", "2", "--out", str(tmp_path)]

    def counts():
        done = [one["table"] for one in Record(tmp_path / "rounds.json").rounds]
        return [done.count(name) for name in TABLES if name.startswith("scaling")]

    assert command.main(arguments) == 130
    assert counts() == [2, 1, 0]
    assert command.main(arguments) == 0
    assert counts() == [2, 2, 2]
    assert command.main(arguments) == 0
    assert counts() == [4, 4, 4]


def test_a_file_of_another_machine_is_refused(tmp_path, capsys):
    file = tmp_path / "rounds.json"
    file.write_text(json.dumps({"machine": {"cpu": "other"}, "rounds": []}))
    assert command.main(["--only", "sweep", "--out", str(tmp_path)]) == 2
    assert "another machine" in capsys.readouterr().err


def test_a_name_that_no_table_has_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "nothing"])
    assert "no table has such a name" in capsys.readouterr().err


# --- the tables ---


def test_only_rounds_of_the_last_commit_are_shown(tmp_path):
    record = Record(tmp_path / "rounds.json")
    for commit, seconds in (("old", 9.0), ("new", 2.0), ("new", 4.0)):
        record.add(one_round("sweep", [cell("it", seconds, unit=2.0)], commit))
    again = Record(tmp_path / "rounds.json")
    assert ratios(again.of("sweep")) == {("sgdnoise", "it", None): [1.0, 2.0]}
    assert "| it | 1.5 (1 to 2) |" in page(again)
    assert "`sweep`, 2 rounds of commit new." in page(again)


def test_an_exponent_is_that_of_the_times_and_its_error_that_of_scipy():
    sizes = np.array([100, 200, 400, 800])
    noise = np.random.default_rng(0).normal(size=(3, 4))
    rounds = [
        one_round(
            "scaling-points",
            [
                cell("it", float(s), size=int(n))
                for n, s in zip(sizes, sizes**1.5 * np.exp(0.1 * z), strict=True)
            ],
        )
        for z in noise
    ]
    slope, error = exponents(rounds)["sgdnoise", "it"]
    expected = scipy.stats.linregress(
        np.log(np.tile(sizes, 3)), 1.5 * np.log(np.tile(sizes, 3)) + 0.1 * noise.ravel()
    )
    assert_allclose([slope, error], [expected.slope, expected.stderr])


def test_what_is_slower_than_another_package_is_listed(tmp_path):
    record = Record(tmp_path / "rounds.json")
    for ours, theirs in ((2.0, 1.0), (3.0, 1.5)):
        cells = [cell("it", ours), cell("it", theirs, "torch by hand")]
        cells += [cell("more", 1.0), cell("more", 3.0, "torch by hand")]
        record.add(one_round("noise-mlp", cells))
    found = comparisons(record.of("noise-mlp"))
    assert found == [("it", "torch by hand", 2.0, True), ("more", "torch by hand", 1 / 3, True)]
    (line,) = [line for line in page(record).splitlines() if line.startswith("- ")]
    assert line.endswith("it, 2.00 times torch by hand")


def test_what_is_slower_than_the_unit_that_computes_the_same_is_listed(tmp_path):
    record = Record(tmp_path / "rounds.json")
    record.add(one_round("watching-mlp", [cell("walk, a step", 3.0, unit=2.0), cell("it", 9.0)]))
    (line,) = [line for line in page(record).splitlines() if line.startswith("- ")]
    assert line.endswith("walk, a step, 1.50 times torch by hand (one round)")


def test_what_fails_has_its_reason_in_the_table(tmp_path):
    record = Record(tmp_path / "rounds.json")
    failed = {"package": "faiss", "what": "it", "size": None, "failed": "over 9 s"}
    record.add(one_round("sweep", [cell("it", 1.0), failed]))
    assert "| it | 1 | over 9 s |" in page(record)


def test_the_committed_tables_are_those_of_the_committed_rounds():
    text = COMMITTED.with_name("tables.md").read_text(encoding="utf-8")
    assert text == page(Record(COMMITTED))


def test_the_site_has_a_page_of_the_committed_tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    text, pictures = import_module("pages").benchmark_pages()["index"]
    assert not pictures
    assert text.startswith(COMMITTED.with_name("tables.md").read_text(encoding="utf-8"))
    assert "make bench" in text


# --- the course over commits ---


def test_a_deliberate_slowdown_is_reported(tmp_path):
    file = tmp_path / "track.jsonl"

    def measured(seconds):
        calls = [Row("slowed", lambda: busy(seconds)), Row("same", lambda: busy(0.02))]
        task = Task(lambda: busy(0.01), {"sgdnoise": lambda: calls})
        found = ratios(measure_rounds(task, ["sgdnoise"], 3))
        return {what: values for (_, what, _), values in found.items()}

    assert track.append(file, measured(0.01)) == []
    assert track.append(file, measured(0.01)) == []
    (sentence,) = track.append(file, measured(0.02))
    what, now = sentence.split()[:2]
    assert what == "slowed:"
    assert 1.6 < float(now) < 2.4
    assert len(file.read_text().splitlines()) == 3


def test_a_rise_within_the_spread_is_not_reported():
    assert track.slower({"it": [1.0, 2.0]}, {"it": [1.9, 2.5]}) == []
    assert len(track.slower({"it": [1.0, 1.1]}, {"it": [1.9, 2.5]})) == 1


def test_ten_ratios_are_tracked_and_exist():
    assert len(set(TRACKED)) == 10
    lines = COMMITTED.with_name("track.jsonl").read_text("utf-8").splitlines()
    assert set(json.loads(lines[-1])["ratios"]) == {", ".join(pair) for pair in TRACKED}
