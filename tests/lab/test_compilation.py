"""Programs that jax compiles are stored for later processes, where that is possible."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
import jax
from sgdnoise.lab._compilation import cache_compiled_programs
jax.numpy.zeros(3).block_until_ready()  # jax has looked for a cache before there is one
cache_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # on a fast machine, too
f = jax.jit(lambda x: jax.numpy.linalg.eigh(jax.lax.fori_loop(0, 9, lambda _, y: y @ x, x))[0])
print(float(f(jax.numpy.eye(7)).sum()), os.environ.get("JAX_COMPILATION_CACHE_DIR"))
"""


def run(home, **settings):
    """What the program prints, with the user's cache in a folder."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | settings
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=env | {"XDG_CACHE_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_programs_are_stored_in_the_users_cache_and_read_again(tmp_path):
    pytest.importorskip("filelock")
    value, folder = run(tmp_path)
    assert float(value) == 7
    stored = {path: path.read_bytes() for path in tmp_path.rglob("*-cache")}
    assert stored
    assert all(str(path).startswith(folder) for path in stored)
    assert run(tmp_path) == [value, folder]
    assert {path: path.read_bytes() for path in stored} == stored  # and not replaced


def test_without_a_folder_to_write_nothing_is_stored(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert run(tmp_path / "file") == ["7.0", "None"]


def test_a_folder_that_the_user_has_chosen_is_left_alone(tmp_path):
    chosen = str(tmp_path / "chosen")
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=chosen) == ["7.0", chosen]
    assert not (tmp_path / "sgdnoise").exists()
