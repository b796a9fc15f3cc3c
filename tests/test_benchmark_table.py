"""The benchmark's table: one measurement, the least of several, and what could not be measured."""

import numpy as np

from benchmarks import dimension as table


def test_an_estimator_is_timed_and_weighed():
    result = table.one("effective_rank", 2000, 10)
    assert 0 < result["seconds"] < 30
    assert 0 <= result["megabytes"] < 200


def test_memory_is_that_of_the_run_alone(monkeypatch):
    """80 MB are touched and let go, and what the warm-up held does not count."""

    def greedy(points):
        np.ones(10_000_000 if len(points) == 1000 else 30_000_000)

    monkeypatch.setattr(table, "ours", lambda: {"greedy": greedy})
    if table.STATUS.exists():
        assert 79 < table.one("greedy", 1000, 3)["megabytes"] < 100


def test_what_cannot_be_measured_says_why():
    assert table.one("danco", 8, 3) == {"error": "ValueError"}
    assert table.least([{"error": "failed"}]) == {"error": "failed"}
    assert table._line("peer", {"error": "failed"}, 1.0) == "| peer | failed | |"


def test_time_is_the_least_of_all_rounds_and_memory_the_most():
    rounds = [{"seconds": 3.0, "megabytes": 5.0}, {"seconds": 2.0, "megabytes": 4.0}]
    assert table.least([*rounds, {"error": "failed"}]) == {"seconds": 2.0, "megabytes": 5.0}
    assert table._line("ours", table.least(rounds), 0.5) == "| ours | 4.00 | 5 |"


def test_the_table_has_the_floor_as_unit_and_no_peers_of_large_clouds(monkeypatch):
    taken = {"floor by torch": 2.0, "floor by sklearn": 4.0, "floor by faiss": 8.0, "twonn": 3.0}

    def apart(python, name, n, width):  # noqa: ARG001 - as it is called
        return {"seconds": taken[name], "megabytes": 1.0}

    monkeypatch.setattr(table, "apart", apart)
    lines = table.measure(10**6, 10, [*taken, "skdim.TwoNN"], 2, "python")
    assert "The floor takes 2 CPU seconds." in lines
    assert "| twonn | 1.50 | 1 |" in lines
    assert "| floor by sklearn | 2.00 | 1 |" in lines
    assert not any("skdim" in line for line in lines)
