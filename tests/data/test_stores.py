"""Files that hold several arrays: MATLAB, HDF5, NWB, numpy and torch."""

import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy.io import savemat

from sgdnoise.data import read_points
from sgdnoise.data._read import read_table

POINTS = np.random.default_rng(0).normal(size=(30, 3))
LABELS = np.arange(30)


def hdf5(path, arrays, userblock=0):
    with h5py.File(path, "w", userblock_size=userblock) as store:
        for name, array in arrays.items():
            store[name] = array


def matlab_73(path, arrays):
    """As MATLAB writes it: a head of 512 bytes, and the axes of arrays in reverse order."""
    hdf5(path, {name: array.T for name, array in arrays.items()}, userblock=512)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


WRITERS = {
    "one.mat": lambda path: savemat(path, {"X": POINTS, "rate": 30.0, "name": "mouse"}),
    "new.mat": lambda path: matlab_73(path, {"X": POINTS}),
    "one.h5": lambda path: hdf5(path, {"X": POINTS, "labels": LABELS, "text": "words"}),
    "one.hdf5": lambda path: hdf5(path, {"deep/down": POINTS}),
    "one.nwb": lambda path: hdf5(path, {"processing/rates/data": POINTS, "start": 0.0}),
    "one.npz": lambda path: np.savez(path, X=POINTS, y=LABELS),
    "state.pth": lambda path: torch.save({"model": {"w": torch.asarray(POINTS)}, "epoch": 3}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_only_matrix_of_a_file_is_taken(name, tmp_path):
    WRITERS[name](tmp_path / name)
    assert_array_equal(read_points(tmp_path / name), POINTS)


def test_it_is_told_which_array_was_taken_of_several(tmp_path):
    WRITERS["one.npz"](tmp_path / "one.npz")
    assert "its array X" in read_table(tmp_path / "one.npz").notes[0]


TWO = {
    "mat": lambda path: savemat(path, {"Y": POINTS[:, :2], "s": {"rates": POINTS, "n": 3}}),
    "h5": lambda path: hdf5(path, {"Y": POINTS[:, :2], "s/rates": POINTS}),
    "nwb": lambda path: hdf5(path, {"Y": POINTS[:, :2], "s/rates": POINTS}),
    "pth": lambda path: torch.save(
        {"Y": torch.asarray(POINTS[:, :2]), "s": {"rates": torch.asarray(POINTS)}}, path
    ),
}


@pytest.mark.parametrize("kind", TWO)
def test_an_array_is_taken_by_its_key(kind, tmp_path):
    path = tmp_path / f"two.{kind}"
    TWO[kind](path)
    full = "s/rates" if kind in ("h5", "nwb") else "s.rates"
    for key in ("rates", full):
        assert_array_equal(read_points(path, key=key), POINTS)
    with pytest.raises(ValueError, match=rf"2 arrays.*Y, {full}.*--key.*30 x 2") as caught:
        read_points(path)
    assert f"{full} 30 x 3" in str(caught.value)
    with pytest.raises(ValueError, match=rf"no array 'z' but Y, {full}"):
        read_points(path, key="z")
    with pytest.raises(ValueError, match=rf"'s' of two.{kind} is a group, of {full}"):
        read_points(path, key="s")


class Code:
    """An object whose unpickling runs a program."""

    def __reduce__(self):
        return (pytest.fail, ("it was run",))


def test_a_file_of_torch_runs_no_program(tmp_path):
    torch.save(Code(), tmp_path / "p.pth")
    with pytest.raises(ValueError, match="only a program could build; save the tensor alone"):
        read_points(tmp_path / "p.pth")


@pytest.mark.parametrize("kind", ["mat", "h5", "nwb", "pth"])
def test_a_damaged_file_is_one_sentence(kind, tmp_path):
    (tmp_path / f"p.{kind}").write_bytes(b"\x89HDF and no more" * 20)
    with pytest.raises(ValueError, match=r"^p\.[^\n]*holds no array of numbers[^\n]*$"):
        read_points(tmp_path / f"p.{kind}")
