"""Fixtures: one array library at a time, and random numbers that belong to the test."""

import importlib
import zlib
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext

import array_api_compat
import hypothesis
import jax
import numpy as np
import pytest
import torch

jax.config.update("jax_enable_x64", True)
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
    """A generator seeded by the test's own name: adding a test changes no other."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def quick_to_compile():
    """Many small programs, each run a few steps: here XLA's optimiser costs more than it saves."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


class Here(Executor):
    """Runs at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        done: Future = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@pytest.fixture(scope="module")
def in_this_process():
    """Studies that are told one job run their points here, where tests may change things."""

    from sgdnoise.lab._session import workers

    @contextmanager
    def here(jobs, cluster=None):
        with (
            nullcontext(Here()) if (jobs, cluster) == (1, None) else workers(jobs, cluster) as pool
        ):
            yield pool

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgdnoise.lab._session.workers", here)
        yield patch
