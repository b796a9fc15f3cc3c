"""Where and by whom the points of a study are computed."""

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sgdnoise.lab import _terminal
from sgdnoise.lab._sweep._conduct import Incomplete, sweep
from sgdnoise.lab._sweep._executors import workers
from sgdnoise.lab._sweep._storage import tally
from sgdnoise.lab._sweep._worker import Failure

DEVICES = ("cpu", "cuda")


class InProcess(Executor):
    """An executor that runs each task at once, in this process."""

    def submit(self, run, /, *args, **kwargs):
        future: Future = Future()
        future.set_result(run(*args, **kwargs))
        return future


@dataclass(frozen=True)
class Session:
    """The folder for finished points, and the processes that compute them.

    folder: a sweep that was stopped goes on from what is in it.  jobs: processes on this machine.
    cluster: the address of a Dask scheduler, which replaces them.  in_process: the points run in
    this process, as in tests.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import xarray as xr
        >>> def square(n):
        ...     return xr.Dataset({"value": n**2})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = Session(Path(folder), in_process=True).sweep(square, {"n": [1, 2, 3]})
        >>> result.value.values.tolist()
        [1, 4, 9]
    """

    folder: Path
    jobs: int = 2
    cluster: str | None = None
    device: str = "cpu"
    seed: int = 0
    in_process: bool = False

    def workers(self):
        """The executor, as a context."""
        return nullcontext(InProcess()) if self.in_process else workers(self.jobs, self.cluster)

    def sweep(self, run: Callable[..., Any], grid: dict, name: str = "points") -> Any:
        """The Datasets of `run` at every point of a grid, as one; see `sgdnoise.lab.sweep`."""
        return self.sweep_all({name: (run, grid)})[name]

    def sweep_all(self, sweeps: Mapping[str, tuple[Callable[..., Any], dict]]) -> dict[str, Any]:
        """The Dataset of each sweep, name -> (run, grid), behind one progress bar.

        A point that fails stops no other sweep.  Raises Incomplete at the end, with all failures.
        """
        total = sum(math.prod(map(len, grid.values())) for _, grid in sweeps.values())
        datasets: dict[str, Any] = {}
        failures: list[Failure] = []
        bar = _terminal.progress("points", partial(tally, self.folder), total)
        with self.workers() as pool, bar:
            for name, (run, grid) in sweeps.items():
                try:
                    datasets[name] = sweep(run, grid, pool, self.folder / name)
                except Incomplete as error:
                    failures += error.failures
        if failures:
            raise Incomplete(failures)
        return datasets


def use_device(library: str, device: str) -> str:
    """Make a library, "jax" or "torch", use a device, here and in processes to come; its name.

    Raises ValueError for a device that is unknown or absent.
    """
    if device not in DEVICES:
        raise ValueError(f"there is no device {device!r}; there are {' and '.join(DEVICES)}")
    try:
        return _torch_device(device) if library == "torch" else _jax_device(device)
    except (RuntimeError, AssertionError):  # jax 0.10 asserts where there is no GPU
        raise ValueError("there is no CUDA device on this machine; use --device cpu") from None


def _torch_device(device):
    import torch

    return "cpu" if device == "cpu" else torch.cuda.get_device_name()


def _jax_device(device):
    os.environ["JAX_PLATFORMS"] = device
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    jax.config.update("jax_platforms", device)
    return jax.devices()[0].device_kind
