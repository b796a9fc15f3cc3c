"""Calls of the tables of dimension: our estimators, those of peers, and searches for neighbours."""

from functools import partial
from importlib import import_module

import numpy as np

from benchmarks.rows import Row, Task

K = 20
WITH_K = {"levina_bickel", "danco", "mom", "mada", "tle", "ess", "local_pca"}
NAMES = ["twonn", "gride", "levina_bickel", "mom", "mada", "tle", "correlation", "ess", "danco"]
NAMES += ["fisher_separability", "local_pca", "participation_ratio"]
SEARCH = "search for 20 neighbours"
SKDIM = {
    "twonn": ("TwoNN", {}),
    "levina_bickel": ("MLE", {"K": K}),
    "tle": ("TLE", {}),
    "mada": ("MADA", {}),
    "mom": ("MOM", {}),
    "correlation": ("CorrInt", {}),
    "ess": ("ESS", {}),
    "danco": ("DANCo", {"k": K}),
    "fisher_separability": ("FisherS", {}),
    "levina_bickel at every point": ("MLE", {"K": K}),
}
DADAPY = {"twonn": "compute_id_2NN", "gride": "return_id_scaling_gride"}


def cloud(n: int, width: int) -> Task:
    """Normal points (n, width) in float64."""
    points = np.random.default_rng(0).normal(size=(n, width))
    packages = {"sgdnoise": ours, "torch by hand": by_torch, "faiss": by_faiss}
    packages |= {"scikit-dimension": by_skdim, "DADApy": by_dadapy}
    return Task(
        partial(search_by_sklearn, points),
        {name: partial(rows, points) for name, rows in packages.items()},
    )


def search_by_sklearn(points, k=K):
    """Indices of neighbours: scikit-learn's brute force."""
    neighbors = import_module("sklearn.neighbors").NearestNeighbors
    x = points.astype("f")
    found = neighbors(n_neighbors=k + 1, algorithm="brute").fit(x).kneighbors(x)
    return found[1][:, 1:]


def ours(points) -> list[Row]:
    """The package."""
    dimension, core = import_module("sgdnoise.dimension"), import_module("sgdnoise.core")
    rows = [Row(SEARCH, lambda: dimension.find_neighbours(points, K))]
    for name in NAMES:
        estimator = partial(dimension.ESTIMATORS[name], **({"k": K} if name in WITH_K else {}))
        rows.append(Row(name, partial(estimator, points)))
    for name in ("twonn", "levina_bickel"):
        estimator = getattr(dimension, name)
        rows.append(
            Row(f"{name} with its error", partial(core.with_group_error, estimator, points))
        )
    at_points = partial(dimension.local_levina_bickel, points, K)
    return [
        *rows,
        Row("levina_bickel at every point", at_points),
        Row("estimate", partial(dimension.ESTIMATORS["learned"], points)),
        Row("estimate with its error", partial(dimension.estimate, points)),
    ]


def by_torch(points, k=K, block=512) -> list[Row]:
    """Blocked products and the k smallest, as anybody would write it."""
    torch = import_module("torch")
    torch.set_num_threads(1)

    def search():
        x = torch.asarray(points.astype("f"))
        squared, found = (x**2).sum(1), []
        for start in range(0, len(x), block):
            rough = squared - 2 * x[start : start + block] @ x.T
            found.append(rough.topk(k + 1, dim=1, largest=False).indices[:, 1:])
        return torch.cat(found).numpy()

    return [Row(SEARCH, search)]


def by_faiss(points, k=K) -> list[Row]:
    """A flat index."""
    faiss = import_module("faiss")
    faiss.omp_set_num_threads(1)

    def search():
        x = np.ascontiguousarray(points.astype("f"))
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x)
        return index.search(x, k + 1)[1][:, 1:]

    return [Row(SEARCH, search)]


def by_skdim(points) -> list[Row]:
    """scikit-dimension, whose global values of a local estimator are means over points."""
    estimators = import_module("skdim").id

    def fitted(name, options):
        return getattr(estimators, name)(**options).fit(points)

    return [Row(what, partial(fitted, *one)) for what, one in SKDIM.items()]


def by_dadapy(points) -> list[Row]:
    """DADApy, which also counts its search."""
    data = import_module("dadapy").Data

    def fitted(method):
        return getattr(data(points, maxk=100), method)()

    return [Row(what, partial(fitted, method)) for what, method in DADAPY.items()]
