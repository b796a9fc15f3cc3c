"""Files that are whole or absent, and Datasets that say where they come from."""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import uuid
import zipfile
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from sgdnoise import __version__

_PACKAGES = ("numpy", "scipy", "jax", "torch", "xarray", "matplotlib", "scikit-learn")
_SEAL = b"\nsha256:"  # and 64 digits end a file


@contextmanager
def atomic_write(path):
    """A file to write in place of `path`, which takes its name when all of it is on disk."""
    path = Path(path)
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield new
        with open(new, "rb") as done:
            os.fsync(done.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def save_arrays(path, arrays) -> None:
    """A list of arrays as one .npz, whole or not at all."""
    with atomic_write(path) as new, open(new, "wb") as file:
        np.savez(file, *arrays)


def load_arrays(path):
    """The arrays of `save_arrays`, or None where the file is missing or damaged (by its CRC)."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return [file[f"arr_{i}"] for i in range(len(file.files))]
    except (FileNotFoundError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def plain_attributes(attributes: dict) -> dict:
    """Attributes as netCDF has them: what is neither a number nor text becomes JSON."""
    return {
        k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in attributes.items()
    }


def write_result(dataset, path, **attributes) -> None:
    """Write a Dataset with `attributes` as netCDF; attributes of other types become JSON.

    Behind the netCDF, where none of its readers looks, stands the SHA-256 of all of it.
    """
    with _synchronous():
        raw = dataset.assign_attrs(plain_attributes(attributes)).to_netcdf(engine="h5netcdf")
    _write_sealed(raw, path)


def write_parts(results: dict, path) -> None:
    """Write several Datasets, each in a netCDF group of its name; "" is the name of the root."""
    import xarray as xr

    if set(results) == {""}:
        return write_result(results[""], path)
    with _synchronous():
        raw = xr.DataTree.from_dict(results).to_netcdf(engine="h5netcdf")
    return _write_sealed(raw, path)


def _write_sealed(raw, path):
    with atomic_write(path) as new, open(new, "wb") as file:
        file.write(raw)
        file.write(_seal(raw))


def read_result(path, *, sealed: bool = False):
    """Read a Dataset that `write_result` made, all of it into memory.

    A file without a checksum, as another program may have written it, is read all the same,
    unless it must be `sealed`.  Raises FileNotFoundError, and ValueError for a damaged file.
    """
    import xarray as xr

    return _opened(path, sealed, lambda file: xr.load_dataset(file, engine="h5netcdf"))


def read_parts(path) -> dict:
    """Read the Datasets that `write_parts` made: name -> Dataset.  Raises as `read_result`."""
    import xarray as xr

    tree = _opened(path, False, lambda file: xr.open_datatree(file, engine="h5netcdf").load())
    nodes = {"": tree} if not tree.children else tree.children
    return {name: node.to_dataset() for name, node in nodes.items()}


def _opened(path, sealed, load):
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no result file {path}")
    body, seal = _apart(path)
    if (seal or sealed) and seal != _seal(body):
        raise ValueError(f"{path} is damaged: its checksum is not that of its contents")
    try:
        with _synchronous():
            return load(io.BytesIO(body))
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # as HDF5 answers damage
        raise ValueError(f"{path} is not a whole netCDF file: {error}") from None


def checksum_ok(path) -> bool:
    """Whether the file is there and has the very bytes that `write` gave it, by its checksum."""
    try:
        body, seal = _apart(path)
    except OSError:
        return False
    return seal == _seal(body)


def _synchronous():
    """In a Dask worker, xarray would ask the scheduler for a lock on a file in memory."""
    dask = sys.modules.get("dask")
    return nullcontext() if dask is None else dask.config.set(scheduler="synchronous")


def _seal(raw) -> bytes:
    return _SEAL + hashlib.sha256(raw).hexdigest().encode()


def _apart(path):
    """The contents of a file and the seal behind them; b"" where there is none."""
    raw = Path(path).read_bytes()
    place = len(raw) - len(_SEAL) - 64
    sealed = place >= 0 and raw.startswith(_SEAL, place)
    return (raw[:place], raw[place:]) if sealed else (raw, b"")


def signature(dataset) -> tuple:
    """What Datasets must share to be stacked: names, axes, kinds of numbers, and coordinates."""
    inside, fixed = dataset.variables.items(), set(dataset.coords)
    kinds = tuple((k, v.dims, v.shape, v.dtype.str) for k, v in inside if k not in fixed)
    places = tuple((k, v.dims, repr(v.values.tolist())) for k, v in inside if k in fixed)
    return kinds, places


def stacked(datasets: list, keys, arguments: list[str]):
    """Datasets of one form as one, along `sweep_point`, with the key and arguments of each."""
    import xarray as xr

    first = datasets[0]

    def row(name):
        every = np.stack([each.variables[name].values for each in datasets])
        return ("sweep_point", *first[name].dims), every, first[name].attrs

    rows = {name: row(name) for name in first.data_vars}
    labels = {"sweep_key": ("sweep_point", keys), "sweep_arguments": ("sweep_point", arguments)}
    return xr.Dataset(rows | labels, first.coords, first.attrs)


def on_grid(parts: list, keys: list[int], grid: dict):
    """Stacked Datasets along the axes of a grid, whose points have these keys in its order.

    What is in none of the parts, or lacks in some, is nan.
    """
    plain = [part.drop_vars(["sweep_key", "sweep_arguments"]) for part in parts]
    where = {
        int(key): (part, row)
        for part, each in enumerate(parts)
        for row, key in enumerate(each["sweep_key"].values)
    }
    one = {signature(each.isel(sweep_point=0)) for each in plain}
    if len(one) == 1 and all(key in where for key in keys):
        found = _reshaped(plain, [where[key] for key in keys], grid)
    else:
        empty = plain[0].isel(sweep_point=0).where(False)
        rows = [where.get(key) for key in keys]
        found = _nested(
            [empty if r is None else plain[r[0]].isel(sweep_point=r[1]) for r in rows], grid
        )
    return found.assign_coords(grid).assign_attrs(_together(parts, grid))


def _reshaped(parts, rows, grid):
    """Rows of parts of one form, as arrays along the axes of a grid."""
    import xarray as xr

    starts = np.cumsum([0, *(part.sizes["sweep_point"] for part in parts)])
    order = np.asarray([starts[part] + row for part, row in rows])
    sizes, first = [len(values) for values in grid.values()], parts[0]

    def along(name):
        every = np.concatenate([part.variables[name].values for part in parts])[order]
        whole_of_it = every.reshape(*sizes, *every.shape[1:])
        return (*grid, *first[name].dims[1:]), whole_of_it, first[name].attrs

    return xr.Dataset({name: along(name) for name in first.data_vars}, first.coords, first.attrs)


def _nested(found, grid):
    """Datasets in the order of the points of a grid, along new axes, each with what it has."""
    import xarray as xr

    for values in reversed(list(grid.values())[1:]):
        found = [found[i : i + len(values)] for i in range(0, len(found), len(values))]
    whole_of_it = xr.combine_nested(
        found, list(grid), data_vars="all", coords="minimal", compat="override", join="outer"
    )
    return whole_of_it.transpose(*grid, ...)


def _together(parts, grid):
    """What the parts say of where they come from, as one."""
    total = {name: sum(p.attrs[name] for p in parts) for name in ("seconds", "cpu_seconds")}
    kinds = {
        name: "; ".join(sorted({str(p.attrs[name]) for p in parts}))
        for name in ("machine", "processor", "device")
    }
    return total | kinds | {"arguments": json.dumps({"grid": {k: len(v) for k, v in grid.items()}})}


def provenance(arguments: dict, device: str = "", *, seed: int | None = None) -> dict:
    """What a result must say of itself: arguments, seed, versions, commit, machine, time.

    Code and machine are those seen first by this process: of the code that runs, not of one
    that was edited meanwhile.
    """
    return {
        "arguments": arguments,
        **({} if seed is None else {"seed": seed}),
        **_here(),
        "device": device or "cpu",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "schema": 1,
    }


@cache
def _here():
    return {
        "versions": _versions(),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
    }


def _processor():
    """The kind of processor, by its maker's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions():
    found = {"python": platform.python_version(), "sgdnoise": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(*words):
    """What git says of the checkout this package runs from; nothing where there is none."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
