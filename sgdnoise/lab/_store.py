"""Files that are complete or absent, and Datasets with their provenance."""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from sgdnoise import __version__
from sgdnoise.core._arguments import checked
from sgdnoise.core._files import atomic_write

_PACKAGES = ("numpy", "scipy", "jax", "torch", "xarray", "matplotlib", "scikit-learn")
LARGE = 4096  # bytes; compression does not make smaller variables shorter
_SEAL = b"\nsha256:"  # and 64 digits end a file


def plain_attributes(attributes: dict) -> dict:
    """Attributes as netCDF has them: what is neither a number nor text becomes JSON."""
    return {
        k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in attributes.items()
    }


@checked
def write_result(dataset, path, **attributes) -> None:
    """Write a Dataset with `attributes` as netCDF; attributes of other types become JSON.

    Behind the netCDF, where none of its readers looks, stands the SHA-256 of all of it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import xarray as xr
        >>> from sgdnoise.lab import read_result
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_result(xr.Dataset({"x": 1.0}), Path(folder, "r.nc"), arguments={"n": 2})
        ...     read_result(Path(folder, "r.nc")).attrs["arguments"]
        '{"n": 2}'
    """
    with _synchronous():
        raw = dataset.assign_attrs(plain_attributes(attributes)).to_netcdf(engine="h5netcdf")
    _write_sealed(raw, path)


@checked
def write_parts(results: dict, path) -> None:
    """Write several Datasets, each in a netCDF group of its name; "" is the name of the root.

    Large variables of groups are compressed without loss.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import xarray as xr
        >>> from sgdnoise.lab import read_parts
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_parts({"a": xr.Dataset({"x": 1.0}), "b": xr.Dataset()}, Path(folder, "r.nc"))
        ...     sorted(read_parts(Path(folder, "r.nc")))
        ['a', 'b']
    """
    import xarray as xr

    if set(results) == {""}:
        return write_result(results[""], path)
    encoding = {f"/{name}": _compression(dataset) for name, dataset in results.items()}
    with _synchronous():
        raw = xr.DataTree.from_dict(results).to_netcdf(engine="h5netcdf", encoding=encoding)
    return _write_sealed(raw, path)


def _compression(dataset) -> dict:
    """How netCDF stores the variables of at least LARGE bytes, each in one compressed chunk."""
    settings = {"zlib": True, "complevel": 9, "shuffle": True}
    large = {name: v for name, v in dataset.variables.items() if v.nbytes >= LARGE}
    return {
        name: settings | {"chunksizes": variable.shape}
        for name, variable in large.items()
        if variable.dtype.kind in "fiu"
    }


def _write_sealed(raw, path):
    with atomic_write(path) as new, open(new, "wb") as file:
        file.write(raw)
        file.write(_seal(raw))


@checked
def read_result(path, *, sealed: bool = False):
    """Read a Dataset that `write_result` made, all of it into memory.

    A file without a checksum, as another program may have written it, is read all the same,
    unless it must be `sealed`.  Raises FileNotFoundError, and ValueError for a damaged file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import xarray as xr
        >>> from sgdnoise.lab import write_result
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_result(xr.Dataset({"x": 1.0}), Path(folder, "r.nc"))
        ...     read_result(Path(folder, "r.nc"), sealed=True).x.item()
        1.0
    """
    import xarray as xr

    return _opened(path, sealed, lambda file: xr.load_dataset(file, engine="h5netcdf"))


@checked
def read_parts(path) -> dict:
    """Read the Datasets that `write_parts` made: name -> Dataset.  Raises as `read_result`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import xarray as xr
        >>> from sgdnoise.lab import write_parts
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_parts({"a": xr.Dataset({"x": 1.0}), "b": xr.Dataset()}, Path(folder, "r.nc"))
        ...     read_parts(Path(folder, "r.nc"))["a"].x.item()
        1.0
    """
    import xarray as xr

    tree = _opened(path, False, lambda file: xr.open_datatree(file, engine="h5netcdf").load())
    nodes = {"": tree} if not tree.children else tree.children
    return {name: node.to_dataset() for name, node in nodes.items()}


def _opened(path, sealed, load):
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no result file {path}")
    body, seal = _split_seal(path)
    if (seal or sealed) and seal != _seal(body):
        raise ValueError(f"{path} is damaged: its checksum is not that of its contents")
    try:
        with _synchronous():
            return load(io.BytesIO(body))
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # as HDF5 answers damage
        raise ValueError(f"{path} is not a complete netCDF file: {error}") from None


def checksum_ok(path) -> bool:
    """Whether the file exists and is unchanged since it was written, by its checksum."""
    try:
        body, seal = _split_seal(path)
    except OSError:
        return False
    return seal == _seal(body)


def _synchronous():
    """In a Dask worker, xarray would ask the scheduler for a lock on a file in memory."""
    dask = sys.modules.get("dask")
    return nullcontext() if dask is None else dask.config.set(scheduler="synchronous")


def _seal(raw) -> bytes:
    return _SEAL + hashlib.sha256(raw).hexdigest().encode()


def _split_seal(path):
    """The contents of a file and the seal behind them, which may be empty."""
    raw = Path(path).read_bytes()
    place = len(raw) - len(_SEAL) - 64
    sealed = place >= 0 and raw.startswith(_SEAL, place)
    return (raw[:place], raw[place:]) if sealed else (raw, b"")


def signature(dataset) -> tuple:
    """The names, axes, dtypes and coordinates that Datasets must share to be stacked."""
    inside, fixed = dataset.variables.items(), set(dataset.coords)
    kinds = tuple((k, v.dims, v.shape, v.dtype.str) for k, v in inside if k not in fixed)
    places = tuple((k, v.dims, repr(v.values.tolist())) for k, v in inside if k in fixed)
    return kinds, places


def stacked(datasets: list, keys, arguments: list[str]):
    """Datasets of one signature as one, along `sweep_point`, with keys and arguments."""
    import xarray as xr

    first = datasets[0]

    def row(name):
        values = np.stack([dataset.variables[name].values for dataset in datasets])
        return ("sweep_point", *first[name].dims), values, first[name].attrs

    rows = {name: row(name) for name in first.data_vars}
    labels = {"sweep_key": ("sweep_point", keys), "sweep_arguments": ("sweep_point", arguments)}
    return xr.Dataset(rows | labels, first.coords, first.attrs)


def on_grid(blocks: list, keys: list[int], grid: dict):
    """Stacked Datasets along the axes of a grid, whose points have these keys in its order.

    Points and variables that are missing become nan.
    """
    plain = [block.drop_vars(["sweep_key", "sweep_arguments"]) for block in blocks]
    places = {
        int(key): (number, row)
        for number, block in enumerate(blocks)
        for row, key in enumerate(block["sweep_key"].values)
    }
    signatures = {signature(block.isel(sweep_point=0)) for block in plain}
    if len(signatures) == 1 and all(key in places for key in keys):
        dataset = _reshaped(plain, [places[key] for key in keys], grid)
    else:
        empty = plain[0].isel(sweep_point=0).where(False)
        rows = [places.get(key) for key in keys]
        datasets = [empty if r is None else plain[r[0]].isel(sweep_point=r[1]) for r in rows]
        dataset = _nested(datasets, grid)
    return dataset.assign_coords(grid).assign_attrs(_common_origin(blocks, grid))


def _reshaped(blocks, rows, grid):
    """Rows of blocks of one signature, as arrays along the axes of a grid."""
    import xarray as xr

    starts = np.cumsum([0, *(block.sizes["sweep_point"] for block in blocks)])
    order = np.asarray([starts[number] + row for number, row in rows])
    sizes, first = [len(values) for values in grid.values()], blocks[0]

    def along(name):
        values = np.concatenate([block.variables[name].values for block in blocks])[order]
        axes = (*grid, *first[name].dims[1:])
        return axes, values.reshape(*sizes, *values.shape[1:]), first[name].attrs

    return xr.Dataset({name: along(name) for name in first.data_vars}, first.coords, first.attrs)


def _nested(datasets, grid):
    """Datasets in the order of the points of a grid, combined along new axes."""
    import xarray as xr

    for values in reversed(list(grid.values())[1:]):
        datasets = [datasets[i : i + len(values)] for i in range(0, len(datasets), len(values))]
    dataset = xr.combine_nested(
        datasets, list(grid), data_vars="all", coords="minimal", compat="override", join="outer"
    )
    return dataset.transpose(*grid, ...)


def _common_origin(blocks, grid):
    """The provenance of all blocks as one."""
    total = {name: sum(p.attrs[name] for p in blocks) for name in ("seconds", "cpu_seconds")}
    kinds = {
        name: "; ".join(sorted({str(p.attrs[name]) for p in blocks}))
        for name in ("machine", "processor", "device")
    }
    return total | kinds | {"arguments": json.dumps({"grid": {k: len(v) for k, v in grid.items()}})}


@checked
def provenance(arguments: dict, device: str = "", *, seed: int | None = None) -> dict:
    """The provenance of a result: arguments, seed, versions, commit, machine and time.

    The commit is that of the first call in this process: of the code that runs, not of code that
    was edited since.

    Example:
        >>> origin = provenance({"chains": 100}, "cpu", seed=0)
        >>> origin["arguments"], origin["device"], origin["seed"]
        ({'chains': 100}, 'cpu', 0)
    """
    return {
        "arguments": arguments,
        **({} if seed is None else {"seed": seed}),
        **_environment(),
        "device": device or "cpu",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "schema": 1,
    }


# Rows that a trial adds to a ledger do not change what the next run computes.
_CODE = ("--", ":(top)", ":(top,exclude,glob)**/trials.md")


@cache
def _environment():
    return {
        "versions": _versions(),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no", *_CODE))),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "processor": processor(),
    }


def processor() -> str:
    """The name of the processor, or its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions():
    versions = {"python": platform.python_version(), "sgdnoise": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(*words):
    """The output of git in the checkout of this package; empty if there is none."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
