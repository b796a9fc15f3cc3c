"""Calls of the tables of exponents: the same work at several sizes."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks import chains as many_chains
from benchmarks.chain_peers import NETS
from benchmarks.covariance import anew
from benchmarks.covariance_tasks import mlp
from benchmarks.dimension import search_by_sklearn
from benchmarks.rows import Row, Task
from sgdnoise.core import with_group_error
from sgdnoise.dimension import levina_bickel, participation_ratio, twonn

POINTS = (1000, 2000, 4000, 8000)
WIDTHS = (128, 256, 512, 1024)
CHAINS = (256, 1024, 4096, 16384)


def points(sizes=POINTS) -> Task:
    """Estimators of n points."""
    rng = np.random.default_rng(0)
    clouds = {n: rng.normal(size=(n, 20)) for n in sizes}
    estimators: dict[str, Callable] = {
        "twonn": twonn,
        "levina_bickel": levina_bickel,
        "participation_ratio": participation_ratio,
        "twonn with its error": partial(with_group_error, twonn),
    }
    rows = [
        Row(what, partial(estimator, cloud), size=n)
        for what, estimator in estimators.items()
        for n, cloud in clouds.items()
    ]
    return Task(partial(search_by_sklearn, clouds[min(sizes)]), {"sgdnoise": lambda: rows})


def parameters(widths=WIDTHS) -> Task:
    """Covariances of an MLP of 256 examples with p parameters."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    square = torch.randn(512, 512)

    def rows():
        for width in widths:
            network = mlp(256, width)
            calls = anew(network)
            for what in ("trace", "diagonal", "product", "spectrum"):
                yield Row(what, calls[what], size=network.p)

    return Task(lambda: square @ square, {"sgdnoise": rows})


def chains(sizes=CHAINS) -> Task:
    """Chains of an Ornstein-Uhlenbeck process and networks by SGD, 20 steps."""
    square = np.ones((512, 512), "f")

    def rows():
        for count in sizes:
            task = many_chains.process(10, count, 20)
            for row in task.packages["sgdnoise"]():
                yield Row("20 steps, Ornstein-Uhlenbeck, d = 10", row.run, size=count)
        for count in sizes:
            nets = count * NETS // max(sizes)
            task = many_chains.networks((20, 50, 10), "SGD", nets, 20)
            for row in task.packages["sgdnoise"]():
                yield Row("20 steps of SGD, networks 20-50-10", row.run, size=nets)

    return Task(lambda: square @ square, {"sgdnoise": rows})
