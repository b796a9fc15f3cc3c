"""Reading of points, one per row, from files of many formats."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.data._columns import Choice, ReadError, Table, chosen, names_of, warn_of_index
from sgdnoise.data._stores import read_hdf5, read_mat, read_npz, select_name, tensors_of
from sgdnoise.data._text import PACKED, read_text

BLOCK = 1 << 22  # entries that are checked for nan at once
Columns = Sequence[str | int] | str | int | None


@checked
def read_points(
    file,
    *,
    key: str | None = None,
    flatten: bool = False,
    transpose: bool = False,
    columns: Columns = None,
    drop: Columns = None,
    header: bool | None = None,
) -> np.ndarray:
    """The points of a file, one per row, in their stored type.  -> (n, D)

    Formats: .npy, which is memory-mapped; .npz, .mat, .h5, .hdf5, .nwb, .pt, .pth and .safetensors
    with one array, or the one named by `key`; .parquet with columns of numbers, or one column of
    lists, which `key` may name; and text, .csv, .tsv, .txt or .dat, also packed as .gz, .bz2 or
    .xz: commas, semicolons, tabs or spaces between columns, points or commas as decimal marks,
    comments after #.
    flatten: make rows of images and other arrays, (n, ...) -> (n, D).
    columns, drop: columns of the file to take, and to leave out: names, places from 0, or ranges
    such as 2:5.
    transpose: take these columns as points, and not the rows.
    header: whether the first line of a text is one; by default that is recognised.
    Warns `IndexColumn` if a column rises or falls throughout, as an index or a time does.
    Raises ValueError in one sentence for a file that is missing, of another format, damaged or
    empty, for several arrays, for another shape than (n, D), for complex numbers or text, for a
    header that names fewer columns than there are, and for nan or infinity, naming the row.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savetxt(f"{folder}/points.csv", [[1.5, 2], [3.5, 4], [5, 7]], delimiter=",")
        ...     points = read_points(f"{folder}/points.csv")
        >>> points.tolist()
        [[1.5, 2.0], [3.5, 4.0], [5.0, 7.0]]
    """
    return read_table(
        file,
        key=key,
        flatten=flatten,
        transpose=transpose,
        columns=columns,
        drop=drop,
        header=header,
    ).points


def read_table(
    file,
    *,
    key: str | None = None,
    flatten: bool = False,
    transpose: bool = False,
    columns: Columns = None,
    drop: Columns = None,
    header: bool | None = None,
) -> Table:
    """The points of a file as `read_points` reads them, the names of columns, and notes."""
    file, choice = _checked(Path(file)), chosen(columns, drop)
    if key is not None and (kind_of(file) == ".npy" or is_text(file)):
        raise ValueError(f"{file.name} holds one array, which has no key such as {key!r}")
    table = _loaded(file, key, choice, header)
    points = _rows(_numbers(table.points, file.name), file.name, flatten)
    if choice != Choice() and table.names is None and not is_text(file):
        places = choice.places(None, points.shape[1], file.name)
        points = points[:, places]
    points = points.T if transpose else points
    names = None if transpose else table.names
    _refuse_nan(points, names, file.name)
    warn_of_index(points, names, file.name)
    return table._replace(points=points, names=names)


def has_header(file) -> list[str] | None:
    """The names in the first line of a text file, or None if it is a point.

    Raises ValueError if the first name is empty: that column is an index.
    """
    table = _loaded(_checked(Path(file)), None, Choice(), None)
    return table.names


def is_text(file: Path) -> bool:
    """Whether the name of a file says that it is a table of text."""
    return kind_of(file) in TEXT


def kind_of(file: Path) -> str:
    """The ending that says the format of a file, before that of a packed text."""
    endings = [ending.lower() for ending in file.suffixes[-2:]]
    packed = len(endings) == 2 and endings[1] in PACKED and endings[0] in TEXT
    return endings[0] if packed else file.suffix.lower()


def _checked(file):
    if file.is_dir():
        raise ValueError(f"{file} is a folder, not a file of points")
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    kind = kind_of(file)
    if kind in ADVICE:
        raise ValueError(f"{file.name} is not read: {ADVICE[kind]}")
    if kind not in READERS:
        raise ValueError(f"{file.name} must end in one of {', '.join(READERS)}")
    if not file.stat().st_size:
        raise ValueError(f"{file.name} is an empty file")
    return file


def _loaded(file, key, choice, header):
    """The table from the reader of this format; its errors become one sentence."""
    kind = kind_of(file)
    try:
        if is_text(file):
            return read_text(file, choice, header)
        if kind == ".parquet":
            return _of_frame(_parquet(file), key, choice, file)
        return READERS[kind](file, key)
    except ReadError:
        raise
    except ImportError:
        package, extra = NEEDED[kind]
        raise ValueError(
            f"{file.name} needs the package {package}: pip install 'sgdnoise[{extra}]'"
        ) from None
    except MemoryError:
        raise ValueError(f"{file.name} is larger than the memory that is free") from None
    except Exception as error:  # each library has its own for a damaged file
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:80]
        raise ValueError(f"{file.name} holds no array of numbers: {reason}") from None


def _npy(file, key):  # noqa: ARG001 - the signature of all readers
    return Table(np.load(file, mmap_mode="r", allow_pickle=False))


def _parquet(file):
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 - if it is missing, the error is ours

    return pd.read_parquet(file, engine="pyarrow")


def _of_frame(frame, key, choice, file):
    """Columns of numbers side by side, or one column of lists below each other."""
    if not frame.size:
        raise ReadError(f"{file.name} holds no points: its shape is {frame.shape}")
    if key is not None or frame.columns.size == 1:
        column = frame[select_name({str(name): () for name in frame.columns}, key, file)]
        if column.map(lambda cell: isinstance(cell, (list, np.ndarray))).any():
            return Table(np.stack(column.to_list()))
        frame = column.to_frame()
    names = [str(name) for name in frame.columns]
    frame = frame.iloc[:, choice.places(names, len(names), file.name)]
    words = [str(name) for name in frame.columns if frame[name].dtype.kind not in "biuf"]
    if words:
        named = ", ".join(words[:5])
        raise ReadError(f"{file.name} has columns that are not of numbers: {named[:100]}")
    return Table(frame.to_numpy(), [str(name) for name in frame.columns])


def _pt(file, key):
    import torch

    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise ReadError(
            f"{file.name} holds no array of numbers, or objects besides it that only a program "
            "could build; save the tensor alone by torch.save"
        ) from None
    if isinstance(stored, dict):
        tensors = tensors_of(stored)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        return Table(_of_torch(tensors[select_name(shapes, key, file)]))
    if not isinstance(stored, torch.Tensor):
        raise ReadError(
            f"{file.name} holds a {type(stored).__name__}, not a tensor or a dict of one"
        )
    if key is not None:
        raise ReadError(f"{file.name} holds one tensor, which has no key such as {key!r}")
    return Table(_of_torch(stored))


def _safetensors(file, key):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as arrays:
        names = {name: () for name in arrays.keys()}  # noqa: SIM118 - it is no dict
        return Table(_of_torch(arrays.get_tensor(select_name(names, key, file))))


def _of_torch(tensor):
    """The tensor in numpy, which has no bfloat16."""
    tensor = tensor.detach().resolve_conj()
    short = tensor.is_floating_point() and tensor.dtype.itemsize < 4
    return (tensor.float() if short else tensor).numpy()


TEXT = (".csv", ".tsv", ".txt", ".dat")
READERS: dict[str, Any] = {
    ".npy": _npy,
    ".npz": read_npz,
    **dict.fromkeys(TEXT, read_text),
    ".parquet": _parquet,
    ".pt": _pt,
    ".pth": _pt,
    ".safetensors": _safetensors,
    ".mat": read_mat,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".nwb": read_hdf5,
}
NEEDED = {  # the package of a kind of file, and the extra that installs it
    ".parquet": ("pyarrow", "files"),
    ".pt": ("torch", "torch"),
    ".pth": ("torch", "torch"),
    ".safetensors": ("safetensors and torch", "torch,files"),
    ".mat": ("h5py", "lab"),
    ".h5": ("h5py", "lab"),
    ".hdf5": ("h5py", "lab"),
    ".nwb": ("h5py", "lab"),
}
ADVICE = {
    ".pkl": "a pickle can run any program; save its array by numpy.save",
    ".pickle": "a pickle can run any program; save its array by numpy.save",
    ".xlsx": "save the sheet as .csv",
    ".xls": "save the sheet as .csv",
    ".rds": "save the matrix by write.csv(x, file, row.names = FALSE)",
}


def _numbers(array, name):
    """The array in a type of every array library: native, and no wider than float64."""
    match array.dtype.kind:
        case "b":
            return array.astype(np.uint8)
        case "c":
            raise ValueError(
                f"{name} holds complex numbers; put real and imaginary parts in columns of reals"
            )
        case "i" | "u" | "f":
            native = array.dtype.newbyteorder("=")
            wanted = np.dtype(float) if native.itemsize > 8 else native
            return array if wanted == array.dtype and array.dtype.isnative else array.astype(wanted)
    raise ValueError(f"{name} holds no array of numbers but of type {str(array.dtype)[:40]}")


def _rows(array, name, flatten):
    if array.ndim > 2 and flatten:
        array = array.reshape(len(array), int(np.prod(array.shape[1:])))
    if array.ndim > 2:
        raise ValueError(
            f"{name} must hold points (n, D), one a row, not shape {array.shape}; --flatten "
            f"makes rows of {np.prod(array.shape[1:])} of it"
        )
    if array.ndim != 2:
        raise ValueError(f"{name} must hold points (n, D), one a row, not shape {array.shape}")
    if not array.size:
        raise ValueError(f"{name} holds no points: its shape is {array.shape}")
    return array


def _refuse_nan(array, names, name):
    """Raise ValueError for nan, in blocks, since the array may be larger than memory."""
    if array.dtype.kind != "f":
        return
    step = max(1, BLOCK // array.shape[1])
    bad = [
        start + np.flatnonzero(~np.isfinite(array[start : start + step]).all(axis=1))
        for start in range(0, len(array), step)
    ]
    rows = np.concatenate(bad)
    if rows.size:
        missing = np.flatnonzero(~np.isfinite(array[rows[:1000]]).all(axis=0))
        only = rows.size > 1 and missing.size == 1 < array.shape[1]
        more = f"; all are in {names_of(names, int(missing[0]))}, see --drop" if only else ""
        raise ValueError(
            f"{rows.size} of {len(array)} rows of {name} are not finite, the first is row "
            f"{rows[0]}{more}"
        )
