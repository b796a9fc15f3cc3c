"""Sweeps: the axes of the grid become those of the Dataset, and no finished point is lost."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor as Threads
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sgdnoise.lab import Incomplete, collect, read_result, spawn_generator, sweep, sweep_status
from sgdnoise.lab._store import on_grid, signature, stacked
from sgdnoise.lab._sweep._conduct import ATTEMPTS
from sgdnoise.lab._sweep._keys import fingerprint, points
from sgdnoise.lab._sweep._status import progress_text
from sgdnoise.lab._sweep._storage import STALE, stored_keys, tally

GRID = {"base": [2, 3, 5], "exponent": [1, 2]}
POWERS = [[2, 4], [3, 9], [5, 25]]
processes = partial(ProcessPoolExecutor, 2, mp_context=get_context("fork"))
pytestmark = pytest.mark.filterwarnings(
    # these children run numpy and xarray alone; a study's own are spawned, see sweep.workers
    "ignore:.*fork.*:DeprecationWarning",
    "ignore:.*fork.*:RuntimeWarning",
)


def power(base, exponent):
    return xr.Dataset({"value": float(base**exponent)})


def noted(base, exponent, *, calls, broken=""):
    """`power`, a line in the file `calls` for each; it raises while the file `broken` is there."""
    with open(calls, "a") as file:
        print(base, exponent, file=file)
    if base == 5 and os.path.exists(broken):
        raise RuntimeError("point 5")
    return power(base, exponent)


def drawn(base, exponent, *, rng):
    return xr.Dataset({"value": ("draw", base + rng.normal(size=3) * exponent)})


def fatal(base, exponent, *, once=""):
    """Kills its process at one point; with `once`, the first time."""
    if (base, exponent) == (3, 2) and (not once or not os.path.exists(once)):
        if once:
            Path(once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return power(base, exponent)


def hanging(base, exponent):
    if (base, exponent) == (3, 2):
        time.sleep(60)
    return power(base, exponent)


def large(base, exponent):
    return xr.Dataset({"value": ("t", np.full(100_000 if base == 5 else 10, exponent))})


def lines(file):
    return sorted(file.read_text().splitlines())


class Eager(Executor):
    """Every run is over before its future is seen, as with workers that outpace the caller."""

    def submit(self, run, /, *args, **kwargs):
        future: Future = Future()
        future.set_result(run(*args, **kwargs))
        return future


def holds_powers(dataset):
    np.testing.assert_array_equal(dataset.value.transpose("base", "exponent"), POWERS)


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("pool", [partial(Threads, 2), Eager, processes])
def test_the_grid_becomes_the_axes(pool, chunk):
    with pool() as executor:
        holds_powers(sweep(power, GRID, executor, chunk=chunk))


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("pool", [partial(Threads, 1), Eager], ids=["thread", "eager"])
def test_a_sweep_started_again_computes_only_what_is_missing(pool, chunk, tmp_path):
    calls, broken, folder = tmp_path / "calls", tmp_path / "broken", tmp_path / "kept"
    run = partial(noted, calls=calls, broken=broken)
    broken.touch()
    with pytest.raises(Incomplete, match=r"2 points failed, the first .*RuntimeError: point 5"):
        sweep(run, GRID, pool, folder, chunk=chunk)
    assert len(lines(calls)) == 6  # the failures stopped no other
    assert sweep_status(folder)[:5] == (6, 4, 0, 2, 0)
    calls.unlink()
    broken.unlink()
    holds_powers(sweep(run, GRID, pool, folder, chunk=chunk))
    assert lines(calls) == ["5 1", "5 2"]
    assert sweep_status(folder)[:5] == (6, 6, 0, 0, 0)
    wider = sweep(run, {**GRID, "exponent": [2, 1, 3]}, pool, folder, chunk=chunk)
    np.testing.assert_array_equal(wider.value.sel(exponent=3), [8, 27, 125])
    np.testing.assert_array_equal(wider.value.sel(exponent=[1, 2]), POWERS)
    assert len(lines(calls)) == 5
    assert tally(folder) == (9, 0)


def test_other_code_and_other_bound_arguments_are_other_points(tmp_path):
    calls = tmp_path / "calls"
    for seed in (None, 1):
        for run in (power, partial(noted, calls=calls), partial(noted, calls=str(calls) + "2")):
            bare = run if seed is None else partial(seeded, run=run)
            holds_powers(sweep(bare, GRID, Eager, tmp_path, seed=seed))
    assert len(list(tmp_path.glob("point-*.nc"))) == 36


def seeded(base, exponent, *, run, rng):
    assert isinstance(rng, np.random.Generator)
    return run(base, exponent)


def test_a_point_that_raises_is_recorded_with_its_traceback(tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    run = partial(noted, calls=tmp_path / "calls", broken=broken)
    with processes() as pool, pytest.raises(Incomplete) as ended:
        sweep(run, GRID, pool, tmp_path)
    assert [f.point for f in ended.value.failures if "point 5" in f.error and f.point["base"] == 5]
    (file, _) = tmp_path.glob("failed-*.json")
    failure = json.loads(file.read_text())
    assert failure["error"] == "RuntimeError: point 5"
    assert 'raise RuntimeError("point 5")' in failure["traceback"]
    assert "4 of 6 points done, 0 running, 2 failed, 0 left" in progress_text(tmp_path)
    assert "RuntimeError: point 5" in progress_text(tmp_path)
    partial_results = collect(tmp_path, missing="nan")
    np.testing.assert_array_equal(partial_results.value, [[2, 4], [3, 9], [np.nan, np.nan]])
    with pytest.raises(ValueError, match="2 of 6 points are not in"):
        collect(tmp_path)


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_worker_killed_in_mid_point_is_replaced_and_its_point_computed_again(chunk, tmp_path):
    run = partial(fatal, once=str(tmp_path / "once"))
    holds_powers(sweep(run, GRID, processes, tmp_path / "kept", chunk=chunk))
    assert (tmp_path / "once").exists()
    assert not list((tmp_path / "kept").glob("running-*"))


def test_a_point_that_kills_every_process_is_given_up_and_blamed_alone(tmp_path):
    with pytest.raises(Incomplete) as ended:
        sweep(fatal, GRID, processes, tmp_path)
    ((point, error, _),) = ended.value.failures
    assert point == {"base": 3, "exponent": 2}
    assert f"lost with its process {ATTEMPTS} times" in error
    assert sweep_status(tmp_path)[:5] == (6, 5, 0, 1, 0)


@pytest.mark.parametrize("chunk", [1, 6])
def test_a_point_that_hangs_is_ended_at_the_limit_and_the_others_go_on(chunk, tmp_path):
    with pytest.raises(Incomplete) as ended:
        sweep(hanging, GRID, processes, tmp_path, chunk=chunk, limit=0.5)
    ((point, error, trace),) = ended.value.failures
    assert point == {"base": 3, "exponent": 2}
    assert error == "TimeoutError: not done in 0.5 seconds"
    assert "in hanging" in trace
    assert tally(tmp_path) == (5, 1)


def test_a_time_limit_is_refused_where_it_would_end_the_sweep_itself(tmp_path):
    with pytest.raises(Incomplete, match=r"6 points failed.*needs an executor of other processes"):
        sweep(power, GRID, Eager, tmp_path, limit=1.0)


def test_a_pool_that_cannot_be_replaced_ends_clearly_and_keeps_what_is_done(tmp_path):
    with processes() as pool, pytest.raises(BrokenExecutor, match="no point can begin: Broken"):
        sweep(fatal, {"base": [3, 2], "exponent": [1, 2]}, pool, tmp_path)
    with pytest.raises(Incomplete, match="1 points"):
        sweep(fatal, {"base": [3, 2], "exponent": [1, 2]}, processes, tmp_path)


def test_what_cannot_be_sent_ends_clearly():
    with pytest.raises(BrokenExecutor, match=r"no point can begin: .*pickle"):
        sweep(lambda base: power(base, 1), {"base": [1, 2]}, processes)


def full(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_a_full_disk_fails_the_points_that_do_not_fit_and_leaves_no_half_file(tmp_path):
    """No file may pass 100 kB; half of the seal may not be written either."""
    small = partial(processes, initializer=full, initargs=(100_000,))
    with pytest.raises(Incomplete) as ended:
        sweep(large, GRID, small, tmp_path)
    assert {f.point["base"] for f in ended.value.failures} == {5}
    assert all("OSError" in f.error and "large" in f.error for f in ended.value.failures)
    assert len(list(tmp_path.glob(".point*"))) == 0
    assert tally(tmp_path) == (4, 2)
    grid = {"base": [5], "exponent": [1, 2]}
    np.testing.assert_array_equal(sweep(large, grid, processes, tmp_path).value[0, :, 0], [1, 2])


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_damaged_file_is_computed_again(chunk, tmp_path):
    calls, folder = tmp_path / "calls", tmp_path / "kept"
    run = partial(noted, calls=calls)
    sweep(run, GRID, Eager, folder, chunk=chunk)
    files = sorted(folder.glob("point*.nc"))
    places = [np.random.default_rng(0).integers(files[0].stat().st_size) for _ in range(3)]
    for place in (*places, None):
        calls.unlink()
        good = files[0].read_bytes()
        bad = bytearray(good[:100] if place is None else good)
        if place is not None:
            bad[place] ^= 1
        files[0].write_bytes(bytes(bad))
        holds_powers(sweep(run, GRID, Eager, folder, chunk=chunk))
        assert 1 <= len(lines(calls)) <= chunk


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
sys.path[:0] = ["tests", "."]
from lab.test_sweep import processes, slowly
from sgdnoise.lab import sweep

if __name__ == "__main__":
    run = partial(slowly, calls=sys.argv[1] + "/calls")
    dataset = sweep(run, {"point": list(range(12))}, processes, sys.argv[1] + "/kept")
    print(dataset.value.values.tolist())
"""


def slowly(point, *, calls):
    """A tenth of a second; the whole line is there only when it is over."""
    time.sleep(0.1)
    with open(calls, "a") as file:
        print(point, file=file)
    return xr.Dataset({"value": point})


@pytest.fixture
def script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    return [sys.executable, "-W", "ignore", str(tmp_path / "script.py"), str(tmp_path)]


def test_kill_9_of_the_sweep_itself_loses_nothing_that_was_finished(script, tmp_path):
    """Its workers go with it, or at the next thing they want of it; each ends its point at most."""
    folder = tmp_path / "kept"
    with subprocess.Popen(script, stdout=subprocess.DEVNULL, start_new_session=True) as child:
        while len(list(folder.glob("point-*.nc"))) < 3:
            assert child.poll() is None
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGKILL)
    before = len(list(folder.glob("point-*.nc")))
    assert 3 <= before < 12
    assert list(folder.glob("alive-*"))
    (tmp_path / "calls").unlink()
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == list(range(12))
    assert len(lines(tmp_path / "calls")) == 12 - before


def test_two_sweeps_on_one_folder_do_not_hurt_each_other(script):
    both = [subprocess.Popen(script, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for child in both:
        assert json.loads(child.communicate()[0]) == list(range(12))
        assert child.returncode == 0


def test_signs_of_life_say_what_runs_and_those_of_the_dead_are_taken_away(tmp_path):
    def run(point):
        return xr.Dataset({"value": point})

    folder = tmp_path / "kept"
    folder.mkdir()
    dead = [folder / "alive-dead.json", folder / "running-dead-point-1"]
    for file in dead:
        file.write_text('{"began": 0, "before": 0}')
        os.utime(file, (time.time() - 2 * STALE,) * 2)
    with pytest.raises(ValueError, match="no name that another process would know"):
        sweep(partial(run, object()), {"point": [0]}, Eager, folder)
    run = partial(plain, folder=folder)
    sweep(run, {"point": [0, 1, 2]}, Eager, folder)
    assert not any(file.exists() for file in dead)
    log = json.loads((folder / "log").read_text())
    assert [entry[:5] for entry in log] == [[3, 0, 1, 0, 2], [3, 1, 1, 0, 1], [3, 2, 1, 0, 0]]
    assert all(entry[5] > 0 for entry in log[1:])
    assert np.isnan(sweep_status(folder).seconds)
    with pytest.raises(ValueError, match="there is no sweep in the folder"):
        sweep_status(tmp_path)


def plain(point, *, folder):
    """Notes how far the sweep is while this point runs."""
    log = folder / "log"
    entries = json.loads(log.read_text()) if log.exists() else []
    log.write_text(json.dumps([*entries, sweep_status(folder)]))
    return xr.Dataset({"value": point})


def test_the_same_numbers_whatever_the_order_the_chunks_and_the_executor():
    expected = sweep(drawn, GRID, Eager, seed=3).value
    reversed_grid = {name: values[::-1] for name, values in reversed(GRID.items())}
    for grid, pool, chunk in [(GRID, processes, 1), (reversed_grid, partial(Threads, 3), 4)]:
        values = sweep(drawn, grid, pool, seed=3, chunk=chunk).value
        xr.testing.assert_equal(values.sel(GRID).transpose(*expected.dims), expected)
    fewer = sweep(drawn, {"base": [5], "exponent": [2]}, Eager, seed=3).value
    np.testing.assert_array_equal(fewer[0, 0], expected.sel(base=5, exponent=2))
    another_seed = sweep(drawn, GRID, Eager, seed=4).value
    assert (another_seed != expected).all()


def test_generators_of_neighbouring_points_are_those_of_numpy_and_unlike():
    first, again, neighbour, root = (
        spawn_generator(seed, {"a": a, "b": 1.5}).normal(size=4000)
        for seed, a in [(0, 1), (0, 1), (0, 2), (1, 1)]
    )
    np.testing.assert_array_equal(first, again)
    for stranger in (neighbour, root):
        assert abs(np.corrcoef(first, stranger)[0, 1]) < 5 / 4000**0.5
    number = spawn_generator(7, {"n": np.int64(3)}).random()
    assert number == spawn_generator(7, {"n": 3}).random()


def test_what_one_point_lacks_is_nan_whatever_the_order_of_names():
    """Names in no order, of which the first point has two and the others one."""
    with Threads(1) as executor:
        dataset = sweep(animals, {"point": [0, 1, 2]}, executor, chunk=2)
    np.testing.assert_array_equal(dataset.value.sel(name="ape"), [0, 1, 2])
    np.testing.assert_array_equal(dataset.value.sel(name="zebra"), [0, np.nan, np.nan])


def animals(point):
    names = ["zebra", "ape"] if point == 0 else ["ape"]
    return xr.Dataset({"value": ("name", [float(point)] * len(names))}, {"name": names})


def rich(a, b):
    """Everything a Dataset may hold, of one form at every point."""
    return xr.Dataset(
        {
            "number": a * 2,
            "curve": ("t", [a, b, a + b], {"units": "m"}),
            "word": f"{'abc'[a]}{b}",
            "flag": a > b,
            "small": np.float32(a / (b + 1)),
        },
        {"t": [0.5, 1.0, 2.0], "kind": ("t", ["x", "yy", "z"])},
        {"title": "rich"},
    )


@pytest.mark.parametrize("chunk", [1, 4, 9])
def test_arrays_laid_out_at_once_are_those_that_xarray_combines(chunk):
    """The witness is what xarray makes of the Datasets one by one."""
    grid = {"a": [0, 1, 2], "b": [2, 1, 0]}
    nested = [[rich(a, b) for b in grid["b"]] for a in grid["a"]]
    expected = xr.combine_nested(
        nested, ["a", "b"], coords="minimal", compat="override", join="outer", data_vars="all"
    )
    dataset = sweep(rich, grid, Eager, chunk=chunk)
    witness = expected.assign_coords(grid).transpose("a", "b", "t")
    xr.testing.assert_identical(dataset.drop_attrs(), witness.drop_attrs())
    assert dataset.attrs["title"] == "rich"
    assert dataset.curve.attrs == {"units": "m"}
    assert {name: dataset[name].dtype for name in dataset} == {
        n: expected[n].dtype for n in expected
    }


def test_stacking_and_laying_out_are_inverse_in_any_order():
    datasets = [rich(a, 1) for a in (2, 0, 1)]
    assert len({signature(dataset) for dataset in datasets}) == 1
    block = stacked(datasets, np.asarray([7, 5, 6], np.uint64), ["", "", ""])
    block = block.assign_attrs(dict.fromkeys(["seconds", "cpu_seconds"], 1.0))
    block = block.assign_attrs(dict.fromkeys(["machine", "processor", "device"], "x"))
    dataset = on_grid([block], [5, 6, 7], {"a": [0, 1, 2]})
    np.testing.assert_array_equal(dataset.number, [0, 2, 4])
    assert [len(list(g)) for _, g in groupby([*datasets, animals(1)], signature)] == [3, 1]


def test_every_dataset_says_where_it_comes_from(tmp_path):
    swept = sweep(seeded_power, {"base": [1, 2]}, Eager, tmp_path, seed=11)
    files = sorted(tmp_path.glob("point*.nc"))
    for dataset in (swept, *map(read_result, files)):
        attributes = dataset.attrs
        assert attributes["seed"] == 11
        assert attributes["seconds"] >= 0
        assert attributes["cpu_seconds"] >= 0
        assert {"commit", "versions", "machine", "processor", "device", "date"} <= set(attributes)
    first = read_result(files[0])
    assert json.loads(str(first.sweep_arguments.values[0]))["base"] in (1, 2)


def seeded_power(base, *, rng):
    return power(base, 1).assign(draw=rng.random())


def test_a_run_that_returns_no_dataset_fails():
    with pytest.raises(Incomplete, match="a run returns a Dataset, not a int"):
        sweep(pow, {"base": [2], "exp": [3]}, Eager)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"chunk": 0}, "a task needs at least one point, not 0"),
        ({"limit": 0.0}, "the time limit of a point must be positive, not 0.0 seconds"),
    ],
)
def test_a_wrong_argument_is_one_sentence(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        sweep(power, GRID, Eager, **words)


def test_a_folder_that_the_workers_do_not_share_is_said_so(tmp_path):
    with pytest.raises(ValueError, match=r"2 of 2 points are not in .* that all workers must see"):
        sweep(
            power, {"base": [1, 2], "exponent": [1]}, partial(Elsewhere, tmp_path), tmp_path / "a"
        )


class Elsewhere(Executor):
    """Workers on a machine with a folder of its own."""

    def __init__(self, folder):
        self.folder = folder

    def submit(self, run, job, /, *args):
        future: Future = Future()
        future.set_result(run(job._replace(folder=self.folder), *args))
        return future


@pytest.mark.slow
def test_ten_thousand_points_are_collected_within_ten_seconds(tmp_path):
    """Seconds of this process's own, in chunks of a hundred as points of milliseconds are kept."""
    grid = {"base": list(range(100)), "exponent": list(np.linspace(0, 1, 100))}
    with pytest.raises(Incomplete, match="1 points failed"):
        sweep(near_all, grid, Eager, tmp_path, chunk=100)
    began = time.process_time()
    dataset = collect(tmp_path, missing="nan")
    assert time.process_time() - began < 10
    assert int(dataset.value.isnull().sum()) == 1
    assert len(stored_keys(tmp_path)) == 9999


VALUE = xr.Dataset({"value": 1.0})


def near_all(base, exponent):
    if base == 7 and exponent == 0:
        raise RuntimeError("one of ten thousand")
    return VALUE


def test_points_come_in_the_order_of_the_axes():
    assert next(points(GRID)) == {"base": 2, "exponent": 1}
    assert len(list(points(GRID))) == 6


def test_a_fingerprint_knows_arguments_but_not_their_order():
    assert fingerprint(a=1, b=2) == fingerprint(b=2, a=1) != fingerprint(a=1, b=3)
    assert fingerprint(a=np.asarray([1, 2])) == fingerprint(a=[1, 2])
    assert fingerprint(a=partial(power, 1)) != fingerprint(a=partial(power, 2))
