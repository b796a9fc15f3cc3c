"""Files that are complete or absent, never half written."""

import os
import uuid
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def atomic_write(path):
    """Yield a temporary file that replaces `path` once all of it is on the disk."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_arrays(path, arrays) -> None:
    """Write a list of arrays as one .npz, completely or not at all."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, *arrays)


def load_arrays(path):
    """The arrays of `save_arrays`, or None if the file is missing or damaged (by its CRC)."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return [file[f"arr_{i}"] for i in range(len(file.files))]
    except (FileNotFoundError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
