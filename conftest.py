"""Fixtures: one array library at a time, and random numbers that belong to the test."""

import importlib
import os
import zlib
from pathlib import Path

import array_api_compat
import hypothesis
import jax
import numpy as np
import pytest
import torch

jax.config.update("jax_enable_x64", True)
# Compiled programs are stored for the next run of the tests, for each pytest process apart.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder = Path(__file__).parent / ".pytest_cache" / "jax" / worker
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)  # for the processes that tests start
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
torch.set_num_threads(1)
hypothesis.settings.register_profile("sgdnoise", deadline=None, max_examples=25)
hypothesis.settings.load_profile("sgdnoise")


@pytest.fixture(params=["numpy", "torch", "jax.numpy"])
def xp(request):
    """The namespace of each array library in turn."""
    library = importlib.import_module(request.param)
    return array_api_compat.array_namespace(library.asarray([0.0]))


@pytest.fixture
def rng(request):
    """A generator that is seeded by the name of the test: adding a test changes no other."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def quick_to_compile():
    """Many small programs that run a few steps: XLA's optimiser costs more than it saves."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
