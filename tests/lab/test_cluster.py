"""Sweeps on Dask: the same numbers, and clear ends where workers or the scheduler are lost."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

distributed = pytest.importorskip("distributed")

from lab.test_sweep import GRID, drawn, fatal, hanging, holds_powers, power, slowly  # noqa: E402

from sgdnoise.lab import Incomplete, sweep, workers  # noqa: E402 - after importorskip
from sgdnoise.lab._sweep import _executors  # noqa: E402
from sgdnoise.lab._sweep._storage import tally  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        # Dask leaves sockets and loops to the garbage collector when a worker or a scheduler dies
        "ignore::ResourceWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",
        "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    ),
]
QUIET = {
    "env": {
        **os.environ,
        "PYTHONPATH": "tests:.",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",
    }
}


class Dask:
    """A scheduler and its workers, processes of their own, on a port that is free."""

    def __init__(self, folder, count):
        self.file, self.folder = folder / "scheduler.json", folder
        words = ["scheduler", "--port", "0", "--no-dashboard", "--no-show"]
        self.scheduler = self.start(*words, "--scheduler-file", self.file)
        self.workers = [
            self.start(
                "worker",
                "--scheduler-file",
                self.file,
                "--nthreads",
                "1",
                "--no-dashboard",
                "--local-directory",
                folder,
            )
            for _ in range(count)
        ]

    def start(self, *words):
        with open(self.folder / "log", "a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *map(str, words)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **QUIET,
            )

    @property
    def address(self):
        while not self.file.exists():
            time.sleep(0.1)
        time.sleep(0.1)
        return json.loads(self.file.read_text())["address"]

    def end(self):
        for process in (*self.workers, self.scheduler):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    dask = Dask(tmp_path_factory.mktemp("dask"), 2)
    yield dask
    dask.end()


def test_the_same_numbers_on_dask_as_in_this_process(cluster):
    with ThreadPoolExecutor(1) as pool:
        expected = sweep(drawn, GRID, pool, seed=3).value
    with workers(1, cluster.address) as pool:
        assert isinstance(pool, Executor)
        values = sweep(drawn, GRID, pool, seed=3, chunk=2).value
    np.testing.assert_array_equal(values, expected)


def test_an_executor_of_dask_itself_will_do(cluster):
    with distributed.Client(cluster.address) as client:
        holds_powers(sweep(power, GRID, client.get_executor()))


def test_a_dask_worker_killed_in_mid_point_is_replaced_by_its_nanny(cluster, tmp_path):
    run = partial(fatal, once=str(tmp_path / "once"))
    with workers(1, cluster.address) as pool:
        holds_powers(sweep(run, GRID, pool, tmp_path / "kept"))
    assert (tmp_path / "once").exists()


def test_a_point_that_hangs_on_dask_is_ended_once(cluster, tmp_path):
    with workers(1, cluster.address) as pool, pytest.raises(Incomplete) as ended:
        sweep(hanging, GRID, pool, tmp_path, limit=1.0)
    ((point, error, _),) = ended.value.failures
    assert point == {"base": 3, "exponent": 2}
    assert error == "TimeoutError: not done in 1 seconds"
    assert tally(tmp_path) == (5, 1)


def test_a_lost_scheduler_is_a_clear_end_and_another_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(_executors, "TIMEOUT", 3)
    run, grid = partial(slowly, calls=tmp_path / "calls"), {"point": list(range(30))}
    first, folder = Dask(tmp_path, 1), tmp_path / "kept"

    def watch():
        while tally(folder)[0] < 2:
            time.sleep(0.02)
        os.killpg(first.scheduler.pid, signal.SIGKILL)

    try:
        with ThreadPoolExecutor(1) as thread, workers(1, first.address) as pool:
            thread.submit(watch)
            with pytest.raises(BrokenExecutor, match=r"started again: no Dask scheduler"):
                sweep(run, grid, pool, folder)
        assert 2 <= tally(folder)[0] < 30
        with ThreadPoolExecutor(1) as local:
            np.testing.assert_array_equal(sweep(run, grid, local, folder).value, range(30))
    finally:
        first.end()


def test_an_address_where_nobody_answers_is_one_sentence(monkeypatch):
    monkeypatch.setattr(_executors, "TIMEOUT", 0.5)
    sentence = r"no Dask scheduler answers at tcp://127\.0\.0\.1:9: "
    with pytest.raises(ValueError, match=sentence), workers(1, "tcp://127.0.0.1:9"):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"\[cluster\]"), workers(1, "tcp://x"):
        pass
