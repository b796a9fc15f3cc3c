"""Time and memory of gradient-noise covariances: ours, and those of the peers that have some of it.

`python -m benchmarks.covariance [mlp|convnet|vgg|transformer|stream]...` measures each package in
processes of its own on one thread: CPU time as multiples of the floor, one pass forward and back
over the same examples at batch 256, of which one is timed before each measurement and the least
counts; and the rise of the memory that torch allocates.  --out writes markdown; --peers is another
interpreter, that has the peers; what is not installed there is left out.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from copy import deepcopy
from datetime import date
from functools import partial
from importlib.metadata import distributions, version
from itertools import accumulate
from pathlib import Path
from time import process_time
from typing import Annotated

import torch
import typer
from torch.profiler import ProfilerActivity, profile
from typer import Option

from benchmarks.covariance_peers import PEERS
from benchmarks.covariance_tasks import STREAM, TASKS, Task
from sgdnoise.core import Gram
from sgdnoise.nets import gradient_covariance

ROWS = ["set-up", "matvec", "trace", "diagonal", "noise scale", "top 10", "top 10 pairs"]
ROWS += ["spectrum", "draw"]
WHATS = ("seconds", "megabytes")
USUAL = ["mlp", "convnet", "transformer", STREAM]  # vgg takes as long as these
LIMIT = 40  # CPU seconds for one measurement
LONG = 3.0  # CPU seconds above which one measurement is enough
CLEAR = 0.2  # CPU seconds that the clock resolves well enough
PACKAGES = ("torch", "curvlinops-for-pytorch", "backpack-for-pytorch", "nngeometry")


def anew(task: Task) -> dict:
    """row -> ours, from the network to the answer."""
    return _ours(partial(gradient_covariance, *task), task) | {
        "set-up": lambda: gradient_covariance(*task)
    }


def again(task: Task) -> dict:
    """row -> ours where the covariance has been set up; for products, its mean is known as well."""
    known = gradient_covariance(*task)
    known @ torch.zeros(task.p)
    rows = _ours(lambda: Gram(known.rows, known.var_within, known.var_mean), task)
    return rows | {"matvec": partial(known.__matmul__, torch.randn(task.p))}


def _ours(made, task):
    vector = torch.randn(task.p)
    return {
        "matvec": lambda: made() @ vector,
        "trace": lambda: made().trace(),
        "diagonal": lambda: made().diagonal(),
        "noise scale": lambda: _scale(made()),
        "top 10": lambda: made().top(10).values,
        "top 10 pairs": lambda: made().top(10).vectors,
        "spectrum": lambda: made().eigenvalues(),
        "draw": lambda: made().draw(rng=0),
    }


def _scale(covariance):
    return covariance.trace() / (covariance.mean @ covariance.mean)


def streamed(task: Task) -> dict:
    """row -> ours where each answer passes over the network anew, 256 examples at a time."""
    known = gradient_covariance(*task, block=256)
    vector = torch.randn(task.p)
    return {
        "matvec": lambda: Gram(known.rows, known.var_within) @ vector,
        "trace": lambda: Gram(known.rows, known.var_within).trace(),
    }


OURS = {"sgdnoise": anew, "sgdnoise, set up": again}


def floor(task: Task, batch=256):
    """Forward and back over the examples."""
    for start in range(0, len(task.targets), batch):
        subset = slice(start, start + batch)
        task.net.zero_grad()
        task.losses(task.net(task.inputs[subset]), task.targets[subset]).sum().backward()


def seconds(rows: dict, rounds: int) -> dict:
    """row -> CPU seconds, least of the rounds, or why there are none; the floor before each."""
    floor, result = rows["floor"], {}
    smallest = _timed(floor)
    for _ in range(rounds):
        for run in dict.fromkeys(rows.values()):
            before = result.get(run, 0.0)
            if isinstance(before, str) or before > LONG:
                continue
            smallest = min(smallest, _timed(floor))
            taken = _attempted(_timed, run)
            result[run] = min(taken, before or taken) if isinstance(taken, float) else taken
    return {name: result[run] for name, run in rows.items()} | {"floor": smallest}


def megabytes(rows: dict) -> dict:
    """row -> MiB by which the memory that torch allocates rises."""
    result = {run: _attempted(_rise, run) for run in dict.fromkeys(rows.values())}
    return {name: result[run] for name, run in rows.items()}


def _timed(run):
    """CPU seconds of one run, of as many as take CLEAR seconds: some clocks tick slowly."""
    began, times, taken = process_time(), 0, 0.0
    while not times or taken < CLEAR:
        run()
        times, taken = times + 1, process_time() - began
    return taken / times


def _rise(run):
    """By how many MiB torch's allocations rise at most, what is returned among them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        stored = run()
    del stored
    events = watched.profiler.kineto_results.events()
    steps = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate((size for _, size in steps), initial=0)) / 2**20


def _attempted(measure, run):
    """What is measured, or what prevents it: a peer's limits are results."""
    try:
        with _limited():
            return measure(run)
    except TimeoutError:
        return f"> {LIMIT} s"
    except Exception as error:
        return type(error).__name__


@contextmanager
def _limited():
    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def one(name: str, package: str, what: str, rounds: int = 2, **size) -> dict:
    """Seconds or megabytes of one package in this process; what it cannot do is absent."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = TASKS[name](**size)
        plain = task._replace(net=deepcopy(task.net))  # some peers leave hooks in theirs
        floor(plain._replace(inputs=task.inputs[:256], targets=task.targets[:256]))
        try:
            rows = (OURS | PEERS | {"streamed": streamed})[package](task)
        except ImportError:
            return {}
        rows = {"floor": partial(floor, plain), **rows}
        return seconds(rows, rounds) if what == "seconds" else megabytes(rows)


def apart(python, *args, **size) -> dict:
    """The same in a new process of an interpreter."""
    command = [python, "-m", "benchmarks.covariance", "--one", json.dumps([args, size])]
    done = subprocess.run(command, capture_output=True, text=True)
    print(*args, done.stdout.strip() or done.stderr[-300:], file=sys.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def table(name: str, found: dict, size: int, n: int) -> list[str]:
    """Markdown of one network: found[package][what][row]."""
    smallest = min(value["seconds"]["floor"] for value in found.values() if value["seconds"])
    rise = _cell(found["sgdnoise"], "megabytes", "floor")
    lines = [f"## {name}: {TASKS[name].__doc__}", ""]
    lines += [f"n = {n}, p = {size:,}; the gradients of all examples {n * size / 2**18:,.0f} MiB."]
    lines += [f"The floor takes {smallest:.3g} CPU seconds and {rise} MiB.", ""]
    for label, title in (("seconds", "floors"), ("megabytes", "MiB")):
        lines += [f"| {title} | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
        for row in ROWS:
            cells = [_cell(value, label, row) for value in found.values()]
            lines.append(f"| {row} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def _cell(found, what, row):
    value = found[what].get(row, "-")
    if isinstance(value, str):
        return value
    return f"{value / found['seconds']['floor']:.2f}" if what == "seconds" else f"{value:.0f}"


def measured(name, measure, packages, **size) -> list[str]:
    """Markdown of one network; measure: (network, package, what, ...) -> row -> number."""
    result = {p: {w: measure(name, p, w, **size) for w in WHATS} for p in packages}
    task = TASKS[name](**size)
    return table(name, result, task.p, len(task.targets))


def streams(measure, counts=(2048, 16384), **size) -> list[str]:
    """Markdown of time, at the least number of examples, and of memory, at each."""
    lines = [f"## stream: {TASKS[STREAM].__doc__}", ""]
    lines += ["256 examples at a time; no set-up is kept, and the mean is found anew.", ""]
    lines += [f"| | floors, n = {counts[0]} |" + "".join(f" MiB, n = {n} |" for n in counts)]
    lines += ["|---|" + "---:|" * (1 + len(counts))]
    result = {"seconds": measure(STREAM, "streamed", "seconds", n=counts[0], **size)}
    rises = [{"megabytes": measure(STREAM, "streamed", "megabytes", n=n, **size)} for n in counts]
    for row in ("matvec", "trace"):
        cells = [_cell(value, "megabytes", row) for value in rises]
        lines.append(f"| {row} | {' | '.join([_cell(result, 'seconds', row), *cells])} |")
    return [*lines, ""]


def known() -> dict:
    """Versions of what is measured, of the packages that are installed here."""
    return {name: version(name) for name in PACKAGES if _installed(name)}


def _installed(name):
    return any(True for _ in distributions(name=name))


def _versions(python):
    message = "import json; from benchmarks.covariance import known; print(json.dumps(known()))"
    there = subprocess.run([python, "-c", message], capture_output=True, text=True, check=True)
    both = known() | json.loads(there.stdout)
    return ", ".join(f"{name} {number}" for name, number in both.items())


def main(
    names: Annotated[list[str] | None, typer.Argument(help="which networks")] = None,
    rounds: Annotated[int, Option(min=1, help="how often each is measured")] = 2,
    peer: Annotated[str, Option("--peers", help="interpreter for the peers")] = sys.executable,
    out: Annotated[Path | None, Option(help="file of markdown to write")] = None,
    alone: Annotated[str | None, Option("--one", help="measure one alone, here")] = None,
) -> None:
    """Print the tables."""
    if alone is not None:
        args, size = json.loads(alone)
        print(json.dumps(one(*args, **size)))
        return

    def measure(name, package, what, **size):
        python = peer if package in PEERS else sys.executable
        return apart(python, name, package, what, rounds, **size)

    lines = [
        "# Time and memory of gradient-noise covariances",
        "",
        f"By `python -m benchmarks.covariance`, {date.today()}: CPU time on one thread, least of",
        f"{rounds} (of one where it takes over {LONG:.0f} s), over the floor, one pass forward and",
        "back over the same examples at batch 256, timed anew before each; MiB: how far what",
        "torch allocates rises, the answer included; what others allocate is not counted, such as",
        f"the basis of scipy's eigsh, by which peers have the top 10.  {_versions(peer)}.",
        "",
        *NOTES,
    ]
    for name in names or USUAL:
        lines += streams(measure) if name == STREAM else measured(name, measure, OURS | PEERS)
        print("\n".join(lines), flush=True)
        if out is not None:
            out.write_text("\n".join(lines), encoding="utf-8")


NOTES = (
    "sgdnoise: from the network to the answer; set up: from what its layers have seen, which is",
    "kept; for a product the mean gradient is known too.  All of it is centred and exact.",
    "torch.func, by hand: jvp and vjp for products, a vmap of grad for the rest, all centred, and",
    "scipy's eigsh for the top 10.  curvlinops: the empirical Fisher, not centred; scipy's",
    "eigsh for the top 10; its trace and diagonal are stochastic and left out; one token is one",
    "example to it, so no transformer.  BackPACK: sums of squares, centred by the gradient that",
    "comes with them; no operator.  nngeometry: hooks, not centred.  `-`: not to be had.",
    "",
)

if __name__ == "__main__":
    typer.run(main)
