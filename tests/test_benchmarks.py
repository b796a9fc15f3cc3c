"""Benchmarks: they can be imported and run, and what the covariances time computes the same."""

import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from numpy.testing import assert_allclose

from benchmarks import covariance as benchmark
from benchmarks import live, sweep, watch
from benchmarks.covariance_peers import by_hand
from benchmarks.covariance_tasks import STREAM, TASKS

TINY = {"n": 12, "width": 4}
NETWORKS = [name for name in TASKS if name != STREAM]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One run is enough, and no seed or thread is left behind."""
    monkeypatch.setattr(benchmark, "CLEAR", 1e-6)  # a tick of the clock
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


def made_up(_name, package, _what, **_size):
    """Everything takes two floors; one package cannot be imported, and one fails."""
    if package == "BackPACK":
        return {}
    rows = dict.fromkeys(["floor", *benchmark.ROWS], 4.0) | {"floor": 2.0}
    return rows | ({"trace": "RuntimeError"} if package == "nngeometry" else {})


@pytest.mark.parametrize("name", NETWORKS)
def test_a_table_has_a_line_for_each_row_and_a_column_for_each_package(name):
    packages = benchmark.OURS | benchmark.PEERS
    lines = benchmark.measured(name, made_up, packages, **TINY)
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert len(cells) == 2 * (2 + len(benchmark.ROWS))
    assert {len(row) for row in cells} == {1 + len(packages)}
    times = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells[: len(cells) // 2]}
    assert times["matvec"] == ["2.00", "2.00", "2.00", "2.00", "-", "2.00"]
    assert times["trace"][-1] == "RuntimeError"


@pytest.mark.parametrize("package", benchmark.OURS)
def test_everything_of_ours_is_measured(package, monkeypatch):
    monkeypatch.setattr(benchmark, "_rise", lambda run: float(run() is None))  # watching is slow
    for label in ("seconds", "megabytes"):
        result = benchmark.one("mlp", package, label, rounds=1, **TINY)
        assert set(result) | {"set-up"} == {"floor", *benchmark.ROWS}
        assert all(isinstance(value, float) for value in result.values())


def test_memory_of_the_streamed_task_is_measured_for_each_number_of_examples():
    lines = benchmark.streams(made_up, (4, 6), width=4)
    assert lines[-3:-1] == [f"| {row} | 2.00 | 4 | 4 |" for row in ("matvec", "trace")]
    assert set(benchmark.one(STREAM, "streamed", "seconds", rounds=1, **TINY)) == {
        "floor",
        "matvec",
        "trace",
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_timed_gives_the_same_anew_and_again_and_by_hand(name):
    torch.manual_seed(0)
    task = TASKS[name](**TINY)
    anew, again, peer = (rows(task) for rows in (benchmark.anew, benchmark.again, by_hand))
    mean, diagonal = peer["diagonal"]()
    values = peer["spectrum"]().flip(0) / len(task.targets)
    expected = {
        "trace": diagonal.sum(),
        "diagonal": diagonal,
        "noise scale": diagonal.sum() / (mean @ mean),
        "spectrum": values,
    }
    for row, truth in expected.items():
        room = 1e-5 * float(truth.max())  # float32, relative to the largest
        for ours in (anew, again):
            assert_allclose(ours[row]().numpy(), truth.numpy(), rtol=1e-3, atol=room)


def test_memory_is_the_largest_sum_of_what_is_held_at_once():
    def run():
        for _ in range(3):
            torch.ones(2**18)  # one at a time
        return torch.ones(2**18), torch.ones(2**18)

    assert abs(benchmark.megabytes({"run": run})["run"] - 2) < 0.01


def test_what_takes_too_long_and_what_fails_is_said_and_all_else_is_timed(monkeypatch):
    monkeypatch.setattr(benchmark, "LIMIT", 0.1)

    def busy():
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    def endless():
        while True:
            pass

    def wrong():
        raise KeyError("x")

    rows = {"floor": lambda: None, "busy": busy, "endless": endless, "wrong": wrong}
    result = benchmark.seconds(rows, rounds=2)
    assert 0.02 <= result["busy"] < 0.06  # the clock may tick in steps of some milliseconds
    assert result["endless"] == "> 0.1 s"
    assert result["wrong"] == "KeyError"


@pytest.mark.parametrize("name", [path.stem for path in Path(watch.__file__).parent.glob("*.py")])
def test_every_benchmark_can_be_imported(name):
    import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("label", watch.WATCHES)
def test_every_way_of_watching_is_timed(label):
    net, data = watch.mlp(), watch.examples()
    assert watch.measurement_seconds(net, *data, 1, **watch.WATCHES[label]) > 0
    watched, walked = watch.by_hand(net, *data, watched=True), watch.ours(net, *data)
    assert min(watch.seconds({"watched": watched, "walked": walked}, 2, 1).values()) > 0


def test_a_small_sweep_is_timed_beside_a_bare_pool():
    lines = sweep.table(count=100, chunk=50, jobs=1)
    assert lines[0] == "100 points of 1 ms, 50 to a task, 1 processes"
    assert len([line for line in lines if line.startswith("| ")]) == 5


def test_the_live_noise_scale_has_a_row_for_each_network():
    lines = live.table(["MLP 64-128-128-10"], steps=20)
    cells = [cell.strip() for cell in lines[-2].strip("|").split("|")]
    assert cells[0] == "MLP 64-128-128-10"
    assert len(cells) == 5
    assert all(cell.endswith("%") for cell in cells[2:])
    assert live._budget.perf_counter is time.perf_counter  # as it was
