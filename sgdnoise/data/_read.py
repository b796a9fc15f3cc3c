"""Reading of points, one per row, from files of many formats."""

import zipfile
from pathlib import Path

import numpy as np

BLOCK = 1 << 22  # entries that are checked for nan at once


def read_points(file, *, key: str | None = None, flatten: bool = False) -> np.ndarray:
    """The points of a file, one per row, in their stored type.  -> (n, D)

    Formats: .npy, which is memory-mapped; .npz, .pt and .safetensors with one array, or the one
    named by `key`; .csv with commas, without its first line if that is a header; .parquet with
    columns of numbers, or one column of lists, which `key` may name.
    flatten: make rows of images and other arrays, (n, ...) -> (n, D).
    Raises ValueError in one sentence for a file that is missing, of another format, damaged or
    empty, for several arrays, for another shape than (n, D), for complex numbers or text, and for
    nan or infinity, naming the row.
    """
    file = _checked(Path(file))
    if key is not None and file.suffix.lower() in (".npy", ".csv"):
        raise ValueError(f"{file.name} holds one array, which has no key such as {key!r}")
    points = _rows(_numbers(_loaded(file, key), file.name), file.name, flatten)
    _refuse_nan(points, file.name)
    return points


def has_header(file) -> list[str] | None:
    """The names in the first line of a .csv, or None if it is a point.

    A first line with a word in it is a header, and so is 0,1,2 ..., which pandas writes for columns
    without names.  Raises ValueError if the first name is empty: that column is an index.
    """
    with open(file, encoding="utf-8-sig") as lines:
        cells = [cell.strip().strip('"') for cell in next(lines, "").split(",")]
    if cells[0] == "" and len(cells) > 1:
        raise ValueError(
            f"the first column of {Path(file).name} has no name and is probably an index; omit it, "
            "in pandas by index=False"
        )
    counted = len(cells) > 1 and cells == [str(i) for i in range(len(cells))]
    return cells if counted or not all(map(_is_number, cells)) else None


def _checked(file):
    if file.is_dir():
        raise ValueError(f"{file} is a folder, not a file of points")
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    if file.suffix.lower() not in READERS:
        raise ValueError(f"{file.name} must end in one of {', '.join(READERS)}")
    if not file.stat().st_size:
        raise ValueError(f"{file.name} is an empty file")
    return file


def _loaded(file, key):
    """The array from the reader of this format; its errors become one sentence."""
    reader = READERS[file.suffix.lower()]
    try:
        return reader(file, key)
    except _ReadError:
        raise
    except ImportError:
        package, extra = NEEDED[file.suffix.lower()]
        raise ValueError(
            f"{file.name} needs the package {package}: pip install 'sgdnoise[{extra}]'"
        ) from None
    except Exception as error:  # each library has its own for a damaged file
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:80]
        raise ValueError(f"{file.name} holds no array of numbers: {reason}") from None


class _ReadError(ValueError):
    """An error whose message is complete."""


def _select_name(names, key, file):
    """The requested name, or the only one."""
    names = list(names)
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if key is None and len(names) != 1:
        which = f" ({listed}); name one as --key" if names else ""
        raise _ReadError(f"{file.name} holds {len(names)} arrays, not one{which}")
    if key is not None and key not in names:
        raise _ReadError(f"{file.name} has no array {key!r} but {listed or 'none at all'}")
    return names[0] if key is None else key


def _npy(file, key):  # noqa: ARG001 - the signature of all readers
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _npz(file, key):
    if not zipfile.is_zipfile(file):
        raise _ReadError(f"{file.name} holds no array of numbers: it is not a complete .npz file")
    with np.load(file, allow_pickle=False) as arrays:
        return arrays[_select_name(arrays.files, key, file)]


def _csv(file, key):  # noqa: ARG001 - the signature of all readers
    try:
        skipped = has_header(file) is not None
    except ValueError as error:
        raise error if isinstance(error, UnicodeDecodeError) else _ReadError(error) from None
    import pandas as pd

    table = pd.read_csv(
        file,
        header=0 if skipped else None,
        skipinitialspace=True,
        encoding="utf-8-sig",
    )
    return _table(table, None, file)


def _parquet(file, key):
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 - if it is missing, the error is ours

    return _table(pd.read_parquet(file, engine="pyarrow"), key, file)


def _table(table, key, file):
    """Columns of numbers side by side, or one column of lists below each other."""
    if not table.size:
        raise _ReadError(f"{file.name} holds no points: its shape is {table.shape}")
    if key is not None or table.columns.size == 1:
        column = table[_select_name(table.columns, key, file)]
        if column.map(lambda cell: isinstance(cell, (list, np.ndarray))).any():
            return np.stack(column.to_list())
        table = column.to_frame()
    words = [str(name) for name in table.columns if table[name].dtype.kind not in "biuf"]
    if words:
        named = ", ".join(words[:5])
        raise _ReadError(f"{file.name} has columns that are not of numbers: {named[:100]}")
    return table.to_numpy()


def _pt(file, key):
    import torch

    stored = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(stored, dict):
        tensors = {str(name): v for name, v in stored.items() if isinstance(v, torch.Tensor)}
        return _of_torch(tensors[_select_name(tensors, key, file)])
    if not isinstance(stored, torch.Tensor):
        raise _ReadError(
            f"{file.name} holds a {type(stored).__name__}, not a tensor or a dict of one"
        )
    if key is not None:
        raise _ReadError(f"{file.name} holds one tensor, which has no key such as {key!r}")
    return _of_torch(stored)


def _safetensors(file, key):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as arrays:
        return _of_torch(arrays.get_tensor(_select_name(arrays.keys(), key, file)))


def _of_torch(tensor):
    """The tensor in numpy, which has no bfloat16."""
    tensor = tensor.detach().resolve_conj()
    short = tensor.is_floating_point() and tensor.dtype.itemsize < 4
    return (tensor.float() if short else tensor).numpy()


READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
    ".pt": _pt,
    ".safetensors": _safetensors,
}
NEEDED = {  # the package of a kind of file, and the extra that installs it
    ".parquet": ("pyarrow", "files"),
    ".pt": ("torch", "torch"),
    ".safetensors": ("safetensors and torch", "torch,files"),
}


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return cell == ""
    return True


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


def _refuse_nan(array, name):
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
        raise ValueError(
            f"{rows.size} of {len(array)} rows of {name} are not finite, the first is row {rows[0]}"
        )
