"""Points come out of every kind of file as they went in, and what is none is one sentence."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sgdnoise.data import read_points
from sgdnoise.data._read import has_header
from sgdnoise.dimension import check_points

POINTS = np.random.default_rng(0).normal(size=(30, 3))
NAMED = {"a": POINTS, "b": POINTS[:, :2]}


def parquet(path, table):
    pytest.importorskip("pyarrow")
    table.to_parquet(path)


def safetensors(path, tensors):
    pytest.importorskip("safetensors")
    from safetensors.torch import save_file

    save_file({name: torch.asarray(array).contiguous() for name, array in tensors.items()}, path)


def upper(path):
    np.savez(path.with_suffix(".npz"), POINTS)
    path.with_suffix(".npz").rename(path)


def columns(array):
    return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])


WRITERS = {
    "one.npy": lambda path: np.save(path, POINTS),
    "one.NPZ": upper,
    "one.npz": lambda path: np.savez_compressed(path, some=POINTS),
    "plain.csv": lambda path: np.savetxt(path, POINTS, delimiter=", ", fmt="%.17g"),
    "headed.csv": lambda path: columns(POINTS).to_csv(path, index=False),
    "counted.csv": lambda path: pd.DataFrame(POINTS).to_csv(path, index=False),
    "bom.csv": lambda path: columns(POINTS).to_csv(path, index=False, encoding="utf-8-sig"),
    "columns.parquet": lambda path: parquet(path, columns(POINTS)),
    "lists.parquet": lambda path: parquet(path, pd.DataFrame({"vector": POINTS.tolist()})),
    "indexed.parquet": lambda path: parquet(path, columns(POINTS).set_index(np.arange(5, 35))),
    "tensor.pt": lambda path: torch.save(torch.asarray(POINTS), path),
    "dict.pt": lambda path: torch.save({"x": torch.asarray(POINTS), "epoch": 3}, path),
    "leaf.pt": lambda path: torch.save(torch.asarray(POINTS).requires_grad_(), path),
    "one.safetensors": lambda path: safetensors(path, {"x": POINTS}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_points_come_out_as_they_went_in(name, tmp_path):
    WRITERS[name](tmp_path / name)
    result = read_points(tmp_path / name)
    assert result.dtype == np.float64
    assert_array_equal(result, POINTS)


@pytest.mark.parametrize("kind", ["npz", "parquet", "pt", "safetensors"])
def test_one_of_several_arrays_is_taken_by_its_key(kind, tmp_path):
    path = tmp_path / f"two.{kind}"
    {
        "npz": lambda: np.savez(path, **NAMED),
        "parquet": lambda: parquet(
            path, pd.DataFrame({name: array.tolist() for name, array in NAMED.items()})
        ),
        "pt": lambda: torch.save({k: torch.asarray(v) for k, v in NAMED.items()}, path),
        "safetensors": lambda: safetensors(path, NAMED),
    }[kind]()
    assert_array_equal(read_points(path, key="b"), NAMED["b"])
    with pytest.raises(ValueError, match=r"a, b"):
        read_points(path)
    with pytest.raises(ValueError, match=r"'c'.* a, b"):
        read_points(path, key="c")


def test_an_array_on_disk_stays_there(tmp_path):
    np.save(tmp_path / "p.npy", POINTS)
    assert isinstance(read_points(tmp_path / "p.npy"), np.memmap)


@pytest.mark.parametrize("kind", ["uint8", "bool", "int64", "float16", "float32", ">f8", "g"])
def test_every_type_of_real_number_becomes_one_that_estimators_take(kind, tmp_path):

    total = np.random.default_rng(1).integers(0, 2, (20, 4)).astype(kind)
    np.save(tmp_path / "p.npy", total)
    result = read_points(tmp_path / "p.npy")
    assert result.dtype.isnative
    assert_array_equal(check_points(np.asarray(result)), total)


@pytest.mark.parametrize("kind", ["npy", "pt"])
def test_images_are_rows_once_flattened(kind, tmp_path):
    images = np.random.default_rng(2).integers(0, 255, (5, 4, 3, 2), dtype=np.uint8)
    path = tmp_path / f"p.{kind}"
    np.save(path, images) if kind == "npy" else torch.save(torch.asarray(images), path)
    assert_array_equal(read_points(path, flatten=True), images.reshape(5, 24))
    with pytest.raises(ValueError, match=r"--flatten makes rows of 24"):
        read_points(path)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_of_torch_is_read(kind, tmp_path):
    short = torch.asarray(POINTS).to(kind)
    torch.save(short, tmp_path / "p.pt")
    assert_array_equal(read_points(tmp_path / "p.pt"), short.float().numpy())


@given(rows=st.lists(st.tuples(*[st.floats(-1e9, 1e9)] * 2), min_size=1, max_size=5))
def test_a_first_line_of_numbers_is_no_header(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "p.csv"
    path.write_text("\n".join(f"{x!r},{y!r}" for x, y in rows))
    assert has_header(path) is None
    assert_array_equal(read_points(path), np.asarray(rows))


@pytest.mark.parametrize(("line", "names"), [("a,b", ["a", "b"]), ('"x","1"', ["x", "1"])])
def test_a_first_line_with_a_word_is_a_header(line, names, tmp_path):
    (tmp_path / "p.csv").write_text(f"{line}\n1,2\n3,4\n")
    assert has_header(tmp_path / "p.csv") == names
    assert_array_equal(read_points(tmp_path / "p.csv"), [[1, 2], [3, 4]])


BAD = np.where(np.arange(30)[:, None] == 17, np.nan, POINTS)
WRONG = {
    "absent.npy": (None, "there is no file"),
    "points.doc": (b"1 2", "must end in one of .npy, .npz, .csv, .tsv, .txt, .dat, .parquet, .pt"),
    "points.pkl": (b"1 2", "a pickle can run any program"),
    "empty.npy": (b"", "is an empty file"),
    "torn.npy": (b"\x93NUMPY", "holds no array of numbers"),
    "torn.npz": (b"PK\x03\x04 and no more", "not a complete .npz file"),
    "torn.parquet": (b"PAR1 and no more", "holds no array of numbers"),
    "torn.pt": (b"PK\x03\x04 and no more", "holds no array of numbers"),
    "torn.safetensors": (b"\xff" * 20, "holds no array of numbers"),
    "bytes.csv": (b"\xff\xfe\x00\x01,2", "holds no array of numbers"),
    "words.csv": (b"a,b\n1,x\n", "columns that are not of numbers: b"),
    "header.csv": (b"a,b\n", "holds no points"),
    "ragged.csv": (b"1,2\n3,4,5\n", "holds no array of numbers"),
    "index.csv": (b",x,y\n0,1.5,2\n1,2.5,3\n", "is probably an index"),
    "gap.csv": (b"1,2\n3,\n", "1 of 2 rows of gap.csv are not finite, the first is row 1"),
    "object.npy": (np.asarray([[1, "a"], [None, 2]], dtype=object), "holds no array of numbers"),
    "complex.npy": (POINTS + 1j, "complex numbers"),
    "text.npy": (POINTS.astype(str), "of type <U32"),
    "dates.npy": (np.zeros((3, 2), "datetime64[s]"), "of type datetime64"),
    "fields.npy": (np.zeros(3, "f8,f8"), "of type [('f0'"),
    "flat.npy": (np.arange(3.0), "not shape (3,)"),
    "none.npy": (np.zeros((0, 3)), "holds no points: its shape is (0, 3)"),
    "nan.npy": (BAD, "rows of nan.npy are not finite, the first is row 17"),
    "inf.npy": (np.where(np.isnan(BAD), -np.inf, POINTS), "row 17"),
    "none.npz": ({}, "holds 0 arrays, not one"),
    "list.pt": ([1, 2], "holds a list, not a tensor"),
    "code.pt": (np.random.default_rng(0), "holds no array of numbers"),
    "sparse.pt": (torch.eye(3).to_sparse(), "holds no array of numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_cloud_of_points_is_refused_in_one_sentence(name, tmp_path):
    content, named = WRONG[name]
    path = tmp_path / name
    if name.endswith((".parquet", ".safetensors")):
        pytest.importorskip({".p": "pyarrow", ".s": "safetensors"}[path.suffix[:2]])
    match content:
        case bytes():
            path.write_bytes(content)
        case dict():
            np.savez(path, **content)
        case np.ndarray():
            np.save(path, content, allow_pickle=True)
        case None:
            pass
        case _:
            torch.save(content, path)
    with pytest.raises(ValueError, match=r"^[^\n]{20,300}$") as caught:
        read_points(path)
    message = str(caught.value)
    assert named in message
    assert not message.endswith(".")
    assert ". " not in message


def test_a_nan_is_found_beyond_the_first_block(tmp_path, monkeypatch):
    monkeypatch.setattr("sgdnoise.data._read.BLOCK", 12)
    np.save(tmp_path / "p.npy", BAD)
    with pytest.raises(ValueError, match="row 17"):
        read_points(tmp_path / "p.npy")


def test_a_folder_and_a_key_where_there_is_none_are_refused(tmp_path):
    np.save(tmp_path / "p.npy", POINTS)
    with pytest.raises(ValueError, match="is a folder"):
        read_points(tmp_path)
    with pytest.raises(ValueError, match="no key such as 'x'"):
        read_points(tmp_path / "p.npy", key="x")


@pytest.mark.parametrize(
    ("kind", "package", "module", "extra"),
    [
        ("parquet", "pyarrow", "pyarrow.parquet", "files"),
        ("safetensors", "safetensors and torch", "safetensors", "torch,files"),
        ("pt", "torch", "torch", "torch"),
    ],
)
def test_a_missing_package_is_named_with_what_brings_it(
    kind, package, module, extra, tmp_path, monkeypatch
):
    (tmp_path / f"p.{kind}").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"the package {package}: .*sgdnoise\[{extra}\]"):
        read_points(tmp_path / f"p.{kind}")
