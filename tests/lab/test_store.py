"""Files are complete or absent, and results have their provenance."""

import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

from sgdnoise.core._files import atomic_write, load_arrays, save_arrays
from sgdnoise.lab import provenance, read_parts, read_result, write_parts, write_result
from sgdnoise.lab._store import checksum_ok, signature


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def half():
        with atomic_write(path) as new:
            new.write_text("ne")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="middle"):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_kill_9_in_the_middle_of_a_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.npz"
    save_arrays(path, [np.arange(3)])
    code = (
        "import sys, time\nfrom sgdnoise.core._files import atomic_write\n"
        f"with atomic_write({str(path)!r}) as new:\n"
        "    new.write_bytes(b'half'); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
    stored = load_arrays(path)
    assert stored is not None
    np.testing.assert_array_equal(stored[0], np.arange(3))


def test_arrays_come_back_as_they_were(tmp_path, rng):
    arrays = [rng.normal(size=(3, 2)), np.arange(4, dtype=np.int32), np.float32(1.5)]
    save_arrays(tmp_path / "a.npz", arrays)
    stored = load_arrays(tmp_path / "a.npz")
    assert stored is not None
    for array, back in zip(arrays, stored, strict=True):
        np.testing.assert_array_equal(array, back)
        assert np.asarray(array).dtype == back.dtype


def test_a_missing_or_damaged_file_of_arrays_is_none(tmp_path, rng):
    path = tmp_path / "a.npz"
    assert load_arrays(path) is None
    save_arrays(path, [rng.normal(size=1000)])
    good = path.read_bytes()
    for cut in (0, 10, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        assert load_arrays(path) is None
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    path.write_bytes(bytes(flipped))
    assert load_arrays(path) is None


def test_a_dataset_comes_back_with_its_origin(tmp_path):
    dataset = xr.Dataset({"spread": ("rate", [1.0, 2.0])}, {"rate": [0.1, 0.2]})
    write_result(dataset, tmp_path / "r.nc", **provenance({"size": 3}, "some device", seed=7))
    back = read_result(tmp_path / "r.nc")
    xr.testing.assert_identical(back.drop_attrs(), dataset)
    assert back.attrs["arguments"] == '{"size": 3}'
    assert back.attrs["device"] == "some device"
    assert back.attrs["seed"] == 7
    assert {"commit", "dirty", "versions", "machine", "processor", "date"} <= set(back.attrs)


def test_what_is_no_result_is_said_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no result file"):
        read_result(tmp_path / "absent.nc")
    (tmp_path / "bad.nc").write_bytes(b"not netCDF")
    with pytest.raises(ValueError, match="not a complete netCDF file"):
        read_result(tmp_path / "bad.nc")


def test_any_flipped_bit_of_a_result_is_noticed(tmp_path, rng):
    path = tmp_path / "r.nc"
    write_result(xr.Dataset({"value": ("t", rng.normal(size=50))}), path)
    assert checksum_ok(path)
    good = path.read_bytes()
    for place in (*rng.integers(len(good), size=20), len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(bad))
        assert not checksum_ok(path)
        with pytest.raises(ValueError, match="is damaged: its checksum"):
            read_result(path, sealed=True)
    for cut in (0, 10, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        assert not checksum_ok(path)
    assert not checksum_ok(tmp_path / "absent.nc")


def test_a_damaged_result_is_refused_and_one_without_a_checksum_is_read(tmp_path):
    dataset = xr.Dataset({"value": ("t", np.arange(50.0))})
    write_result(dataset, tmp_path / "r.nc")
    bad = bytearray((tmp_path / "r.nc").read_bytes())
    bad[len(bad) // 2] ^= 1
    (tmp_path / "r.nc").write_bytes(bytes(bad))
    with pytest.raises(ValueError, match="is damaged: its checksum"):
        read_result(tmp_path / "r.nc")
    dataset.to_netcdf(tmp_path / "plain.nc", engine="h5netcdf")
    xr.testing.assert_identical(read_result(tmp_path / "plain.nc"), dataset)


def test_a_result_with_its_checksum_is_netcdf_to_others(tmp_path, rng):
    dataset = xr.Dataset({"value": ("t", rng.normal(size=5))})
    write_result(dataset, tmp_path / "r.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "r.nc", engine="h5netcdf"), dataset)
    with h5py.File(tmp_path / "r.nc") as file:
        np.testing.assert_array_equal(file["value"], dataset.value)


def test_parts_of_a_result_come_back_from_one_file(tmp_path, rng):
    datasets = {
        name: xr.Dataset({"value": ("t", rng.normal(size=n))}, attrs={"seconds": n})
        for name, n in (("second", 3), ("first", 5))
    }
    write_parts(datasets, tmp_path / "r.nc")
    assert checksum_ok(tmp_path / "r.nc")
    back = read_parts(tmp_path / "r.nc")
    assert [*back] == [*datasets]
    for name, dataset in datasets.items():
        xr.testing.assert_identical(back[name], dataset)


def test_large_variables_of_parts_are_compressed_bit_for_bit(tmp_path, rng):
    values = rng.normal(size=(30, 1000)).astype(np.float32)
    values[0, :3] = np.nan, np.inf, -0.0
    steps = np.tile(np.arange(1000), (30, 1))
    variables = {"value": (("run", "t"), values), "step": (("run", "t"), steps)}
    part = xr.Dataset(variables | {"high": (("run", "t"), values > 1)})
    write_parts({"one": part, "two": part}, tmp_path / "r.nc")
    assert (tmp_path / "r.nc").stat().st_size < values.nbytes + steps.nbytes
    for back in read_parts(tmp_path / "r.nc").values():
        assert {name: v.dtype for name, v in back.items()} == {n: v.dtype for n, v in part.items()}
        assert all(back[name].values.tobytes() == part[name].values.tobytes() for name in part)


def test_a_result_without_parts_is_the_part_without_a_name(tmp_path):
    dataset = xr.Dataset({"value": ("t", np.arange(5.0))})
    write_parts({"": dataset}, tmp_path / "r.nc")
    xr.testing.assert_identical(read_parts(tmp_path / "r.nc")[""], dataset)
    xr.testing.assert_identical(read_result(tmp_path / "r.nc"), dataset)


@pytest.mark.parametrize(
    "other",
    [
        xr.Dataset({"value": ("t", np.zeros(3, np.float32))}, {"t": [0, 1, 2]}),
        xr.Dataset({"value": ("t", np.zeros(3, int))}, {"t": [0, 1, 2]}),
        xr.Dataset({"value": ("t", np.zeros(3))}, {"t": [0, 1, 3]}),
        xr.Dataset({"number": ("t", np.zeros(3))}, {"t": [0, 1, 2]}),
        xr.Dataset({"value": ("t", np.zeros(2))}, {"t": [0, 1]}),
        xr.Dataset({"value": ("u", np.zeros(3))}, {"u": [0, 1, 2]}),
    ],
    ids=["precision", "integers", "coordinates", "name", "size", "axis"],
)
def test_a_signature_has_names_axes_dtypes_and_coordinates(other):
    """Datasets that differ in one of them cannot be stacked without changing their numbers."""
    dataset = xr.Dataset({"value": ("t", np.zeros(3))}, {"t": [0, 1, 2]})
    assert signature(dataset) == signature(dataset + 1)
    assert signature(dataset) != signature(other)
