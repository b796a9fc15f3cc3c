"""A cache of the programs that jax compiles, which later processes then need not compile again."""

import importlib.util
import os
import sys
from pathlib import Path

from sgdnoise.lab._store import processor
from sgdnoise.lab._sweep._keys import fingerprint

# Programs that compile faster than this are not stored: reading them costs as much.
SETTINGS = {"jax_persistent_cache_min_compile_time_secs": 0.05}
MAX_SIZE = 2**30  # bytes; jax then locks the folder, so that processes may share it


def cache_compiled_programs() -> None:
    """Let jax store compiled programs in the user's cache, for this process and its children.

    Nothing happens if the user has chosen a folder by JAX_COMPILATION_CACHE_DIR, if the folder
    cannot be written, or without `filelock`, by which processes share it.
    """
    chosen = "JAX_COMPILATION_CACHE_DIR" in os.environ
    if chosen or importlib.util.find_spec("filelock") is None:
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "sgdnoise" / f"jax-{fingerprint(processor=processor())}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        use_cache(folder, jax_compilation_cache_max_size=MAX_SIZE)


def use_cache(folder, **settings) -> None:
    """Let jax store compiled programs in a folder, here and in processes that start later."""
    settings = {"jax_compilation_cache_dir": str(folder), **SETTINGS, **settings}
    os.environ |= {name.upper(): str(value) for name, value in settings.items()}
    if "jax" in sys.modules:
        from jax.experimental.compilation_cache import compilation_cache

        for name, value in settings.items():
            sys.modules["jax"].config.update(name, value)
        compilation_cache.reset_cache()  # jax looks for the folder only once
