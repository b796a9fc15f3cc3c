"""Time and memory of our estimators of dimension, of the peers', and of finding neighbours at all.

`python -m benchmarks.dimension [N D]...` measures each in a process of its own: CPU seconds on one
thread, as multiples of the floor, which is the fastest exact search in float32 for 20 neighbours
among blocked products in torch, faiss and scikit-learn; and peak memory beyond that of the points.
Each round measures all of them in turn, and the least of all rounds counts.  --out writes markdown,
--peers is another interpreter, that has scikit-dimension or DADApy; --only leaves all others out.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import importlib
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from typer import Option

from sgdnoise import __version__, dimension
from sgdnoise.core import with_group_error
from sgdnoise.dimension import find_neighbours

K = 20
SIZES = ((1000, 20), (5000, 20), (20_000, 20), (20_000, 784))
STATUS = Path("/proc/self/status")
ALL = 1_000_000  # numbers in a cloud, above which the peers are left out
LIMIT = 300  # seconds of the wall for one measurement
KEYWORDS = {"levina_bickel", "mind_ml", "danco", "mom", "mada", "tle", "binomial", "ess", "abid"}
KEYWORDS |= {"local_pca"}
SKDIM = ("TwoNN", "MLE", "TLE", "MADA", "MOM", "CorrInt", "DANCo", "FisherS", "lPCA")
DADAPY = {"2NN": "compute_id_2NN", "gride": "return_id_scaling_gride"}
PACKAGES = ("numpy", "torch", "scikit-learn", "faiss-cpu", "scikit-dimension", "dadapy")


def by_torch(points, k=K, block=512):
    """Blocked products and the k smallest, as anybody would write it."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    x = torch.asarray(points.astype("f"))
    squared = (x**2).sum(1)
    for start in range(0, len(x), block):
        rough = squared - 2 * x[start : start + block] @ x.T
        rough.topk(k + 1, dim=1, largest=False)


def by_sklearn(points, k=K):
    """scikit-learn's brute force."""
    neighbors = importlib.import_module("sklearn.neighbors").NearestNeighbors
    x = points.astype("f")
    neighbors(n_neighbors=k + 1, algorithm="brute").fit(x).kneighbors(x)


def by_faiss(points, k=K):
    """faiss, a flat index."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    x = np.ascontiguousarray(points.astype("f"))
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    index.search(x, k + 1)


FLOORS = {"floor by torch": by_torch, "floor by sklearn": by_sklearn, "floor by faiss": by_faiss}


def ours() -> dict:
    """The estimators at 20 neighbours, their search among them, and the search alone."""

    def made(name):
        options = {"k": K} if name in KEYWORDS else {}
        return lambda points: dimension.ESTIMATORS[name](points, **options)

    with_errors = {
        "twonn with its error": lambda points: with_group_error(dimension.twonn, points),
        "levina_bickel with its error": lambda points: with_group_error(
            dimension.levina_bickel, points
        ),
        "estimate with its error": dimension.estimate,
    }
    alone = {"the search alone": lambda points: find_neighbours(points, K)}
    return alone | {name: made(name) for name in dimension.ESTIMATORS} | with_errors


def peers() -> dict:
    """What scikit-dimension and DADApy have of the same."""

    def skdim(name):
        return lambda points: getattr(importlib.import_module("skdim").id, name)().fit(points)

    def dadapy(method):
        data = importlib.import_module("dadapy").Data
        return lambda points: getattr(data(points, maxk=100), method)()

    result = {f"skdim.{name}": lambda points, name=name: skdim(name)(points) for name in SKDIM}
    return result | {
        f"dadapy.{name}": lambda points, method=method: dadapy(method)(points)
        for name, method in DADAPY.items()
    }


def one(name, n, width) -> dict:
    """CPU seconds and megabytes of one run in this process, or what it raises."""
    rng = np.random.default_rng(0)
    run = (FLOORS | ours() | peers())[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run(rng.normal(size=(300, 5)))  # imports, and compiles what is to be compiled
            points = rng.normal(size=(n, width))
            _forget_peak()
            before, began = _peak(), time.process_time()
            run(points)
        except Exception as error:  # a peer's limits are results
            return {"error": type(error).__name__}
    return {"seconds": time.process_time() - began, "megabytes": _peak() - before}


def _peak():
    """Megabytes that were most in use, since they were last forgotten where Linux can forget."""
    if STATUS.exists():
        (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _forget_peak():
    """The peak from here on: what was imported and compiled does not count."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def apart(python, name, n, width) -> dict:
    """The same in a new process of an interpreter."""
    command = [python, "-m", "benchmarks.dimension", "--one", name, str(n), str(width)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"over {LIMIT} s"}
    except (IndexError, json.JSONDecodeError):
        return {"error": "failed"}


def least(measured: list[dict]) -> dict:
    """Least time and most memory of some runs."""
    full = [value for value in measured if "seconds" in value]
    if not full:
        return measured[-1]
    return {
        "seconds": min(value["seconds"] for value in full),
        "megabytes": max(value["megabytes"] for value in full),
    }


def measure(n, width, names, rounds, python) -> list[str]:
    """Markdown of one cloud, as it is measured."""
    shown = [name for name in names if "." not in name or n * width <= ALL]
    runs: dict[str, list] = {name: [] for name in shown}
    for _ in range(rounds):
        for name, result in runs.items():
            if not result or "error" not in result[-1]:
                interpreter = python if "." in name else sys.executable
                result.append(apart(interpreter, name, n, width))
                print(n, width, name, result[-1], file=sys.stderr, flush=True)
    results = {name: least(result) for name, result in runs.items() if result}
    floor = min((results[name].get("seconds", np.inf) for name in FLOORS), default=np.inf)
    lines = [f"## n = {n:,}, D = {width}", "", f"The floor takes {floor:.3g} CPU seconds.", ""]
    lines += ["| | floors | MB |", "|---|---:|---:|"]
    return [*lines, *(_line(name, value, floor) for name, value in results.items()), ""]


def _line(name, each, floor):
    if "error" in each:
        return f"| {name} | {each['error']} | |"
    return f"| {name} | {each['seconds'] / floor:.2f} | {each['megabytes']:.0f} |"


def _versions(python):
    """Versions of what is measured, here and where the peers are."""
    message = "import json; from benchmarks.dimension import known; print(json.dumps(known()))"
    there = subprocess.run([python, "-c", message], capture_output=True, text=True, check=True)
    here, peer = known(), json.loads(there.stdout)
    remainder = {name: it for name, it in peer.items() if here.get(name) != it}
    elsewhere = f"; the peers with {_named(remainder)}" if remainder else ""
    return f"{_named(here)}{elsewhere}"


def known() -> dict:
    """Versions of the packages that are installed here."""
    result = {"python": platform.python_version(), "sgdnoise": __version__}
    for name in PACKAGES:
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue
    return result


def _named(versions):
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def main(
    sizes: Annotated[list[int] | None, typer.Argument(help="N D of each cloud")] = None,
    rounds: Annotated[int, Option(min=1, help="how often each is measured")] = 2,
    only: Annotated[list[str] | None, Option(help="one to measure; may be given again")] = None,
    peer: Annotated[str, Option("--peers", help="interpreter for the peers")] = sys.executable,
    out: Annotated[Path | None, Option(help="file of markdown to write")] = None,
    name: Annotated[str | None, Option("--one", help="measure one alone, here")] = None,
) -> None:
    """Print the tables."""
    clouds = list(zip((sizes or [])[::2], (sizes or [])[1::2], strict=True)) or SIZES
    if name is not None:
        print(json.dumps(one(name, *clouds[0])))
        return
    names = [*FLOORS, *(value for value in ours() | peers() if not only or value in only)]
    lines = [
        "# Time and memory of estimators of dimension",
        "",
        f"By `python -m benchmarks.dimension`, {date.today()}: normal points (n, D) in float64,",
        f"k = {K} where there is a k, one thread, each in a process of its own, least of {rounds}",
        "rounds. Floors: CPU time over that of the fastest exact search for 20 neighbours in",
        "float32; MB: peak memory beyond that of the points. Peers are measured on clouds of up",
        f"to {ALL:,} numbers.",
        "",
        f"{_versions(peer)}.",
        "",
    ]
    for n, width in clouds:
        lines += measure(n, width, names, rounds, peer)
        print("\n".join(lines), flush=True)
        if out is not None:
            out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
