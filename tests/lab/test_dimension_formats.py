"""`sgdnoise dimension` gives one answer for the same points in every kind of file."""

import gzip
import json

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from lab.test_terminal import ask
from scipy.io import savemat
from scipy.spatial.distance import cdist

POINTS = np.random.default_rng(0).normal(size=(60, 3)).round(6)


def text(delimiter=",", decimal=".", header=""):
    rows = [[f"{cell:.6f}".replace(".", decimal) for cell in row] for row in POINTS]
    return header + "".join(delimiter.join(row) + "\n" for row in rows)


def hdf5(path):
    with h5py.File(path, "w") as store:
        store["X"] = POINTS


def parquet(path):
    pytest.importorskip("pyarrow")
    pd.DataFrame(POINTS, columns=["x", "y", "z"]).to_parquet(path)


def safetensors(path):
    pytest.importorskip("safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.asarray(POINTS)}, path)


WRITERS = {
    "p.npy": lambda path: np.save(path, POINTS),
    "p.npz": lambda path: np.savez(path, X=POINTS),
    "p.mat": lambda path: savemat(path, {"X": POINTS}),
    "p.h5": hdf5,
    "p.nwb": hdf5,
    "p.csv": lambda path: path.write_text(text(header="x,y,z\n")),
    "semicolons.csv": lambda path: path.write_text(text(";")),
    "commas.csv": lambda path: path.write_text(text(";", ",", "x;y;z\n")),
    "p.tsv": lambda path: path.write_text(text("\t")),
    "p.txt": lambda path: path.write_text(text("  ")),
    "p.csv.gz": lambda path: path.write_bytes(gzip.compress(text().encode())),
    "p.pt": lambda path: torch.save(torch.asarray(POINTS), path),
    "p.pth": lambda path: torch.save({"model": {"w": torch.asarray(POINTS)}}, path),
    "p.parquet": parquet,
    "p.safetensors": safetensors,
}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Pictures take most of the time of the command, and are tested elsewhere."""
    monkeypatch.setattr("sgdnoise.lab._profile_figure.draw_profile", lambda *words: words[-1])


def twonn_by_hand():
    """(n - 1) / sum log(r_2 / r_1), from all distances."""
    nearest = np.sort(cdist(POINTS, POINTS), axis=1)[:, 1:3]
    return (len(POINTS) - 1) / np.sum(np.log(nearest[:, 1] / nearest[:, 0]))


@pytest.mark.parametrize("name", WRITERS)
def test_the_dimension_is_that_of_the_points_in_every_kind_of_file(name, tmp_path):
    WRITERS[name](tmp_path / name)
    result = ask("dimension", tmp_path / name, "--out", tmp_path, "--estimator", "twonn", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["points"], told["coordinates"]) == POINTS.shape
    np.testing.assert_allclose(told["estimators"][0]["dimension"], twonn_by_hand(), rtol=1e-9)


CUT = 100  # bytes that are left of a file
BINARY = ("npy", "npz", "mat", "h5", "nwb", "csv.gz", "pt", "pth", "parquet", "safetensors")


@pytest.mark.parametrize("kind", BINARY)
def test_a_file_that_was_cut_is_one_sentence(kind, tmp_path):
    path = tmp_path / f"p.{kind}"
    WRITERS[path.name](path)
    path.write_bytes(path.read_bytes()[:CUT])
    result = ask("dimension", path, "--out", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: p.")
    assert len(result.stderr.splitlines()) == 1


OTHERS = {
    "words.csv": "a,b\nred,blue\ngreen,grey\n",
    "ragged.csv": "1.5,2\n3,4,5\n6,7\n",
    "words.txt": "There are no numbers here.\nNot one.\n",
    "missing.tsv": "x\ty\n1.5\t2\n\t4\n",
    "html.csv": "<!DOCTYPE html>\n<html><body>Not found</body></html>\n",
    "binary.txt": "\x00\x01\x02\x03" * 50,
    "empty.npy": "",
    "text.npy": "1 2 3\n4 5 6\n",
    "text.mat": "1 2 3\n4 5 6\n",
    "text.parquet": "1 2 3\n4 5 6\n",
    "text.safetensors": "1 2 3\n4 5 6\n",
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_something_else_is_one_sentence(name, tmp_path):
    if name.endswith((".parquet", ".safetensors")):
        pytest.importorskip("pyarrow" if name.endswith("t") else "safetensors")
    (tmp_path / name).write_text(OTHERS[name])
    result = ask("dimension", tmp_path / name, "--out", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert name in result.stderr
    assert len(result.stderr.splitlines()) == 1
