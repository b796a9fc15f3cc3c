"""Files that are whole or absent, and Datasets that say where they come from."""

import hashlib
import json
import os
import platform
import subprocess
import uuid
import zipfile
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

import sgdnoise

__all__ = ["load_arrays", "provenance", "read", "save_arrays", "source", "whole", "write"]

_PACKAGES = ("numpy", "scipy", "jax", "torch", "xarray", "matplotlib", "scikit-learn")


@contextmanager
def whole(path):
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
    with whole(path) as new, open(new, "wb") as file:
        np.savez(file, *arrays)


def load_arrays(path):
    """The arrays of `save_arrays`, or None where the file is missing or damaged (by its CRC)."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return [file[f"arr_{i}"] for i in range(len(file.files))]
    except (FileNotFoundError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def write(dataset, path, **attributes) -> None:
    """A Dataset as netCDF, with `attributes`; what is no number or text is kept as JSON."""
    plain = {
        k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in attributes.items()
    }
    with whole(path) as new:
        dataset.assign_attrs(plain).to_netcdf(new, engine="h5netcdf")


def read(path):
    """A Dataset that `write` made, all of it in memory.  Raises FileNotFoundError, ValueError."""
    import xarray as xr

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no result file {path}")
    try:
        return xr.load_dataset(path, engine="h5netcdf")
    except OSError as error:
        raise ValueError(f"{path} is not a whole netCDF file: {error}") from None


def provenance(arguments: dict, device: str = "") -> dict:
    """What a result must say of itself: arguments, versions, commit, machine, time."""
    return {
        "arguments": arguments,
        "versions": _versions(),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": device or "cpu",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "schema": 1,
    }


def source() -> str:
    """A hash of the package's own code and of the studies beside it: other code, other results."""
    home = Path(__file__).parent
    files = sorted([*home.rglob("*.py"), *(home.parent / "simulations").glob("*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _versions():
    found = {"python": platform.python_version(), "sgdnoise": sgdnoise.__version__}
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
