"""Files are whole or absent, and results say where they come from."""

import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

from sgdnoise.lab import provenance, read, write
from sgdnoise.lab._store import atomic_write, checksum_ok, code_hash, load_arrays, save_arrays


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
        "import sys, time\nfrom sgdnoise.lab._store import whole\n"
        f"with whole({str(path)!r}) as new:\n"
        "    new.write_bytes(b'half'); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
    found = load_arrays(path)
    assert found is not None
    np.testing.assert_array_equal(found[0], np.arange(3))


def test_arrays_come_back_as_they_were(tmp_path, rng):
    arrays = [rng.normal(size=(3, 2)), np.arange(4, dtype=np.int32), np.float32(1.5)]
    save_arrays(tmp_path / "a.npz", arrays)
    found = load_arrays(tmp_path / "a.npz")
    assert found is not None
    for one, other in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == other.dtype


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
    found = xr.Dataset({"spread": ("rate", [1.0, 2.0])}, {"rate": [0.1, 0.2]})
    write(found, tmp_path / "r.nc", **provenance({"size": 3}, "some device", seed=7))
    back = read(tmp_path / "r.nc")
    xr.testing.assert_identical(back.drop_attrs(), found)
    assert back.attrs["arguments"] == '{"size": 3}'
    assert back.attrs["device"] == "some device"
    assert back.attrs["seed"] == 7
    assert {"commit", "dirty", "versions", "machine", "processor", "date"} <= set(back.attrs)


def test_what_is_no_result_is_said_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no result file"):
        read(tmp_path / "absent.nc")
    (tmp_path / "bad.nc").write_bytes(b"not netCDF")
    with pytest.raises(ValueError, match="not a whole netCDF file"):
        read(tmp_path / "bad.nc")


def test_any_flipped_bit_of_a_result_is_noticed(tmp_path, rng):
    path = tmp_path / "r.nc"
    write(xr.Dataset({"value": ("t", rng.normal(size=50))}), path)
    assert checksum_ok(path)
    good = path.read_bytes()
    for place in (*rng.integers(len(good), size=20), len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(bad))
        assert not checksum_ok(path)
        with pytest.raises(ValueError, match="is damaged: its checksum"):
            read(path, sealed=True)
    for cut in (0, 10, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        assert not checksum_ok(path)
    assert not checksum_ok(tmp_path / "absent.nc")


def test_a_damaged_result_is_refused_and_one_without_a_checksum_is_read(tmp_path):
    found = xr.Dataset({"value": ("t", np.arange(50.0))})
    write(found, tmp_path / "r.nc")
    bad = bytearray((tmp_path / "r.nc").read_bytes())
    bad[len(bad) // 2] ^= 1
    (tmp_path / "r.nc").write_bytes(bytes(bad))
    with pytest.raises(ValueError, match="is damaged: its checksum"):
        read(tmp_path / "r.nc")
    found.to_netcdf(tmp_path / "plain.nc", engine="h5netcdf")
    xr.testing.assert_identical(read(tmp_path / "plain.nc"), found)


def test_a_result_with_its_checksum_is_netcdf_to_others(tmp_path, rng):
    found = xr.Dataset({"value": ("t", rng.normal(size=5))})
    write(found, tmp_path / "r.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "r.nc", engine="h5netcdf"), found)
    with h5py.File(tmp_path / "r.nc") as file:
        np.testing.assert_array_equal(file["value"], found.value)


def test_the_hash_of_the_source_is_stable():
    assert code_hash() == code_hash()
    assert len(code_hash()) == 16
