"""Time and memory of our estimators of dimension, of the peers', and of finding neighbours at all.

`python -m benchmarks.dimension [N D]...` prints CPU seconds on one thread, as multiples of the
floor: the fastest exact search in float32 for 20 neighbours among blocked products in torch, faiss
and scikit-learn.  scikit-dimension, DADApy and faiss are measured where they are installed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib
import importlib.util
import sys
import time
import tracemalloc
import warnings

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from sgdnoise import dimension
from sgdnoise.dimension import nearest

K = 20
SIZES = ((1000, 20), (5000, 20), (20_000, 20), (20_000, 784))
LONG = 60  # seconds after which a peer is not tried on a larger cloud
KEYWORDS = {"levina_bickel", "mind_ml", "danco", "mom", "mada", "tle", "binomial", "ess", "abid"}


def by_torch(points, k=K, block=512):
    """Blocked products and the k smallest, as anybody would write it."""
    x = torch.asarray(points.astype("f"))
    squared = (x**2).sum(1)
    for start in range(0, len(x), block):
        rough = squared - 2 * x[start : start + block] @ x.T
        rough.topk(k + 1, dim=1, largest=False)


def by_sklearn(points, k=K):
    """scikit-learn's brute force."""
    NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(points).kneighbors(points)


def by_faiss(points, k=K):
    """faiss, a flat index."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    x = np.ascontiguousarray(points.astype("f"))
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    index.search(x, k + 1)


FLOORS = {"torch": by_torch, "sklearn": by_sklearn, "faiss": by_faiss}


def ours(name):
    """The estimator at 20 neighbours, its search among them."""
    options = {"k": K} if name in KEYWORDS else {}
    return lambda points: dimension.ESTIMATORS[name](points, **options)


def peers() -> dict:
    """What scikit-dimension and DADApy have of the same."""
    found = {}
    if importlib.util.find_spec("skdim"):
        skdim = importlib.import_module("skdim").id
        for name in ("TwoNN", "MLE", "TLE", "MADA", "MOM", "CorrInt", "DANCo", "FisherS", "lPCA"):
            found[f"skdim.{name}"] = lambda points, name=name: getattr(skdim, name)().fit(points)
    if importlib.util.find_spec("dadapy"):
        data = importlib.import_module("dadapy").Data
        found["dadapy.2NN"] = lambda points: data(points, maxk=100).compute_id_2NN()
    return found


def seconds(run, points, repeats):
    """Least CPU time of some runs; what it raises, by name."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run(points)
        except Exception as error:  # a peer's limits are results
            return type(error).__name__
        taken.append(time.process_time() - began)
        if taken[-1] > 5:
            break
    return min(taken)


def megabytes(run, points):
    """Peak memory that numpy asked for."""
    tracemalloc.start()
    try:
        run(points)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / 1e6


def measure(n, width, left_out):
    """Print the table of one cloud."""
    points = np.random.default_rng(0).normal(size=(n, width))
    floors = {name: seconds(run, points, 3) for name, run in FLOORS.items()}
    floor = min(taken for taken in floors.values() if isinstance(taken, float))
    print(f"\nn = {n}, D = {width}: the floor takes {floor:.3f} s of", end=" ")
    print(", ".join(f"{name} {_said(taken)}" for name, taken in floors.items()))
    print(f"{'':32} {'s':>9} {'floors':>7} {'MB':>6}")
    shown = {"the search itself": lambda p: nearest(p, K)}
    shown |= {name: ours(name) for name in dimension.ESTIMATORS if name not in left_out}
    for name, run in shown.items():
        taken = seconds(run, points, 2)
        _line(name, taken, floor, megabytes(run, points) if isinstance(taken, float) else 0)
        if isinstance(taken, float) and taken > LONG:
            left_out.add(name)
    for name, run in peers().items():
        if name not in left_out:
            taken = seconds(run, points, 1)
            _line(name, taken, floor, None)
            if not isinstance(taken, float) or taken > LONG / 10:
                left_out.add(name)


def _line(name, taken, floor, memory):
    times = f"{taken / floor:7.2f}" if isinstance(taken, float) else f"{'':7}"
    print(f"{name:32} {_said(taken):>9} {times} {memory or 0:6.0f}", flush=True)


def _said(taken):
    return f"{taken:.3f}" if isinstance(taken, float) else taken


def main():
    """Print the tables."""
    torch.set_num_threads(1)
    numbers = [int(word) for word in sys.argv[1:]]
    sizes = list(zip(numbers[::2], numbers[1::2], strict=True)) or SIZES
    left_out: set[str] = set()
    for n, width in sizes:
        measure(n, width, left_out)


if __name__ == "__main__":
    main()
