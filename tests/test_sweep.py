"""Sweeps: the axes of the grid become the axes of the Dataset, and nothing is computed twice."""

from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from threading import Event

import numpy as np
import pytest
import xarray as xr

from sgdnoise.sweep import fingerprint, points, sweep

GRID = {"base": [2, 3, 5], "exponent": [1, 2]}
POWERS = [[2, 4], [3, 9], [5, 25]]


def power(base, exponent):
    return xr.Dataset({"value": float(base**exponent)})


def counted(calls, base, exponent):
    calls.append((base, exponent))
    return power(base, exponent)


def broken(base, exponent):
    if base == 5:
        raise RuntimeError("point 5")
    return power(base, exponent)


class Eager(Executor):
    """Every run is over before its future is seen, as with workers that outpace the caller."""

    def submit(self, run, /, *args, **point):
        future: Future = Future()
        try:
            future.set_result(run(*args, **point))
        except RuntimeError as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize(
    "pool",
    [ThreadPoolExecutor, partial(ProcessPoolExecutor, mp_context=get_context("spawn"))],
    ids=["threads", "processes"],
)
def test_the_grid_becomes_the_axes(pool):
    with pool(2) as executor:
        found = sweep(power, GRID, executor)
    np.testing.assert_array_equal(found.value.transpose("base", "exponent"), POWERS)


@pytest.mark.parametrize("pool", [partial(ThreadPoolExecutor, 1), Eager], ids=["thread", "eager"])
def test_a_sweep_started_again_computes_only_what_is_missing(pool, tmp_path):
    calls: list = []
    with pool() as executor:
        with pytest.raises(RuntimeError, match="point 5"):
            sweep(broken, GRID, executor, tmp_path)
        found = sweep(partial(counted, calls), GRID, executor, tmp_path)
    assert sorted(calls) == [(5, 1), (5, 2)]
    np.testing.assert_array_equal(found.value.transpose("base", "exponent"), POWERS)


def test_a_failure_cancels_what_has_not_begun(monkeypatch):
    """The second run goes on only when all have been told to stop: it alone ends."""
    calls, told, all_told, cancel = [], [], Event(), Future.cancel

    def telling(future):
        told.append(future)
        done = cancel(future)
        if len(told) == 50:
            all_told.set()
        return done

    def run(point):
        if point == 0:
            raise RuntimeError("stop")
        all_told.wait()
        calls.append(point)
        return xr.Dataset()

    monkeypatch.setattr(Future, "cancel", telling)
    with ThreadPoolExecutor(1) as executor, pytest.raises(RuntimeError, match="stop"):
        sweep(run, {"point": list(range(50))}, executor)
    assert calls in ([], [1])


def test_a_damaged_point_is_computed_again(tmp_path):
    with ThreadPoolExecutor(1) as executor:
        sweep(power, GRID, executor, tmp_path)
        one = sorted(tmp_path.glob("point-*.nc"))[0]
        one.write_bytes(one.read_bytes()[:100])
        found = sweep(power, GRID, executor, tmp_path)
    np.testing.assert_array_equal(found.value.transpose("base", "exponent"), POWERS)


def test_what_one_point_lacks_is_nan_whatever_the_order_of_names():
    """Names in no order, of which the first point has two and the others one."""

    def run(point):
        names = ["zebra", "ape"] if point == 0 else ["ape"]
        return xr.Dataset({"value": ("name", [float(point)] * len(names))}, {"name": names})

    with ThreadPoolExecutor(1) as executor:
        found = sweep(run, {"point": [0, 1, 2]}, executor)
    np.testing.assert_array_equal(found.value.sel(name="ape"), [0, 1, 2])
    np.testing.assert_array_equal(found.value.sel(name="zebra"), [0, np.nan, np.nan])


def test_points_come_in_the_order_of_the_axes():
    assert next(points(GRID)) == {"base": 2, "exponent": 1}
    assert len(list(points(GRID))) == 6


def test_a_fingerprint_knows_arguments_but_not_their_order():
    assert fingerprint(a=1, b=2) == fingerprint(b=2, a=1) != fingerprint(a=1, b=3)
