"""Arrays in files that hold several: .npz, .mat, HDF5 with its .nwb, torch and safetensors."""

import zipfile
from typing import Any

import numpy as np

from sgdnoise.data._columns import ReadError, Table

NUMBERS = "biuf"
MATLAB_73 = b"MATLAB 7.3 MAT-file"


def select_name(arrays: dict[str, tuple], key: str | None, file) -> str:
    """The requested name, or the only one, among names of arrays and their shapes.

    Raises ReadError for several names, which it lists with shapes, and for one that is not there.
    """
    names = sorted(arrays, key=lambda name: len(arrays[name]) < 2)  # matrices first
    if key is not None:
        return _named(names, key, file)
    if len(names) != 1:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        shapes = ", ".join(f"{name} {_shape(arrays[name])}" for name in names[:5])
        listed = f" ({', '.join(names[:5])}{more}); name one as --key" if names else ""
        sizes = f"; their shapes are {shapes}" if len(names) > 0 and arrays[names[0]] else ""
        raise ReadError(f"{file.name} holds {len(names)} arrays, not one{listed}{sizes}")
    return names[0]


def select(arrays: dict[str, tuple], key: str | None, file) -> tuple[str, tuple[str, ...]]:
    """The requested name, or that of the only array of two or more axes, and a note on it."""
    matrices = [name for name, shape in arrays.items() if sum(side > 1 for side in shape) > 1]
    if key is None and len(matrices) == 1 < len(arrays):
        return matrices[0], (f"its array {matrices[0]}, the only one with rows and columns",)
    return select_name(arrays, key, file), ()


def read_npz(file, key):
    """An array of an .npz file."""
    if not zipfile.is_zipfile(file):
        raise ReadError(f"{file.name} holds no array of numbers: it is not a complete .npz file")
    with np.load(file, allow_pickle=False) as arrays:
        name, notes = select({name: _npy_shape(arrays, name) for name in arrays.files}, key, file)
        return Table(arrays[name], None, notes)


def _npy_shape(arrays, name):
    """The shape of an array in an .npz file, from its header."""
    with arrays.zip.open(f"{name}.npy") as stream:
        if np.lib.format.read_magic(stream) == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)[0]
        return np.lib.format.read_array_header_2_0(stream)[0]


def read_hdf5(file, key):
    """A dataset of an HDF5 file, by its path; also of a file of MATLAB 7.3, whose axes turn."""
    import h5py

    with open(file, "rb") as stream:
        turned = stream.read(len(MATLAB_73)) == MATLAB_73
    with h5py.File(file) as store:
        shapes: dict[str, tuple] = {}

        def note(name, item):
            if isinstance(item, h5py.Dataset) and item.dtype.kind in NUMBERS and item.ndim:
                shapes[name] = item.shape[::-1] if turned else item.shape

        store.visititems(note)
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith("#refs#")}
        name, notes = select(shapes, key and key.strip("/"), file)
        array = store[name][()]
    return Table(array.T if turned else array, None, notes)


def read_mat(file, key):
    """A variable of a .mat file; a field of a structure is `structure.field`."""
    with open(file, "rb") as stream:
        if stream.read(len(MATLAB_73)) == MATLAB_73:
            return read_hdf5(file, key and key.replace(".", "/"))
    from scipy.io import loadmat

    arrays = dict(_flattened(loadmat(file, struct_as_record=True)))
    name, notes = select({name: array.shape for name, array in arrays.items()}, key, file)
    return Table(arrays[name], None, notes)


def _flattened(mapping, above=""):
    """Names and arrays of numbers of a .mat file, those of structures below their name."""
    for name, value in mapping.items():
        if name.startswith("__"):
            continue
        if hasattr(value, "toarray"):
            value = value.toarray()
        if not isinstance(value, np.ndarray):
            continue
        if value.dtype.names and value.size == 1:
            fields = {field: value[field].flat[0] for field in value.dtype.names}
            yield from _flattened(fields, f"{above}{name}.")
        elif value.dtype.kind in NUMBERS + "c" and value.size > 1:
            yield f"{above}{name}", value


def tensors_of(stored: Any, above: str = "") -> dict[str, Any]:
    """Names and tensors of a dict, those of dicts within it below their name and a point."""
    tensors: dict[str, Any] = {}
    for name, value in stored.items():
        if isinstance(value, dict):
            tensors |= tensors_of(value, f"{above}{name}.")
        elif hasattr(value, "resolve_conj"):
            tensors[f"{above}{name}"] = value
    return tensors


def _named(names, key, file):
    if key in names:
        return key
    ends = [name for name in names if name.endswith((f"/{key}", f".{key}"))]
    if len(ends) == 1:
        return ends[0]
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    inside = [name for name in names if name.startswith((f"{key}/", f"{key}."))]
    if inside:
        raise ReadError(f"{key!r} of {file.name} is a group, of {', '.join(inside[:5])}")
    raise ReadError(f"{file.name} has no array {key!r} but {listed or 'none at all'}")


def _shape(shape):
    return " x ".join(map(str, shape))
