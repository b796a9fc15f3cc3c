"""Executors: processes of this machine, or those of a Dask cluster."""

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

from sgdnoise._extras import require
from sgdnoise.core._arguments import checked
from sgdnoise.lab._sweep._conduct import RenewableExecutor

THREADS = {
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
TIMEOUT = 20  # seconds in which a scheduler must answer


@checked
@contextmanager
def workers(jobs: int, cluster: str | None = None):
    """An executor that replaces lost workers, as a context.

    jobs: the number of processes, of one thread each; they end with this one, however it ends.
    cluster: the address of a Dask scheduler, whose workers replace them.
    Raises ValueError for no process, or if no scheduler answers, and ImportError without Dask.

    Example:
        >>> import math
        >>> with workers(1) as executor:
        ...     executor.submit(math.sqrt, 4.0).result()
        2.0
    """
    if jobs < 1:
        raise ValueError(f"at least one process must do the work, not {jobs}")
    start = partial(_processes, jobs) if cluster is None else partial(_dask, cluster)
    with RenewableExecutor(start) as pool:
        yield pool


@contextmanager
def _processes(jobs):
    os.environ.update({k: os.environ.get(k, v) for k, v in THREADS.items()})
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_end_with_parent, initargs=(os.getpid(),)
    )
    try:
        with _ignoring_interrupts():
            for _ in range(jobs):
                pool.submit(int)  # starts a process
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _dask(address):
    distributed = require("distributed", "cluster")
    try:
        client = distributed.Client(address, timeout=TIMEOUT)
    except (OSError, ValueError) as error:
        text = str(error).rstrip(".")
        raise ValueError(f"no Dask scheduler answers at {address}: {text}"[:200]) from None
    pool, scheduler = client.get_executor(pure=False), client.scheduler_comm
    # A client that has lost its scheduler, even for a moment, does not end all of its futures.
    pool.alive = lambda: client.status == "running" and client.scheduler_comm is scheduler
    try:
        yield pool
    finally:
        client.close(timeout=TIMEOUT)


@contextmanager
def _ignoring_interrupts():
    """Processes that start in the body ignore Ctrl-C, which their parent answers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent(parent):
    """End this process when its parent has ended, even by kill -9."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
