"""Calls of the tables of many chains: ours, those of peers, and the same by hand."""

import os

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import chain_peers
from benchmarks.chain_peers import BATCH, NETS, RATE, N
from benchmarks.rows import Row, Task
from sgdnoise.core import Problem
from sgdnoise.dynamics import Process, langevin, mlp_problem, sgd, simulate
from sgdnoise.noise import Normal, linear_network_moments, minibatch, with_replacement
from sgdnoise.theory import MLP

CHAINS = 4096
STEP = "a step"


# --- Ornstein-Uhlenbeck, full matrices: theta <- theta - H theta + L z ---


def process(d: int, chains: int = CHAINS, steps: int = 100) -> Task:
    """Chains in d directions."""
    h = (RATE * (np.eye(d) + 0.1 * np.random.default_rng(0).normal(size=(d, d)))).astype("f")
    root = (0.1 * np.random.default_rng(0).normal(size=(d, d))).astype("f")
    first = Process(lambda t, z: t - h @ t + root @ z, Normal(d), RATE)
    start = np.zeros((chains, d), "f")
    calls = {
        "sgdnoise": partial(ours, first, start),
        "jax by hand": partial(
            chain_peers.by_scan, lambda t, z: t - h @ t + root @ z, _normal(d), start
        ),
        "torch by hand": partial(chain_peers.process_in_torch, h, root, chains),
        "diffrax": partial(chain_peers.all_by_diffrax, h, root, chains),
        "torchsde": partial(chain_peers.linear_by_torchsde, h, root, chains),
    }
    unit = chain_peers.process_in_numpy(h, root, chains, steps)
    return _task(unit, {name: {STEP: call} for name, call in calls.items()}, steps, chains)


# --- networks, by SGD and by the equation of their minibatches ---


def losses(widths, tanh, theta, x, y):
    """Squared loss of each example, layers (in, out) without biases."""
    for k, (i, o) in enumerate(pairwise(widths)):
        x = x @ theta[: i * o].reshape(i, o)
        theta = theta[i * o :]
        x = tanh(x) if k < len(widths) - 2 else x
    return 0.5 * ((x - y) ** 2).sum(1)


def inputs_and_targets(widths):
    """Inputs and targets without meaning."""
    return [
        np.random.default_rng(0).normal(size=(N, width)).astype("f")
        for width in (widths[0], widths[-1])
    ]


def networks(widths, kind: str, nets: int = NETS, steps: int | None = None) -> Task:
    """Networks by "SGD", or by the "equation" of its minibatches."""
    curved, dense = len(widths) > 3, kind == "equation"
    steps = steps or (10 if dense else 100)
    data, size = inputs_and_targets(widths), sum(i * o for i, o in pairwise(widths))
    loss = partial(losses, widths, jnp.tanh if curved else lambda x: x)
    problem = Problem(loss, tuple(map(jnp.asarray, data)))
    start = (0.2 * np.random.default_rng(0).normal(size=(nets, size))).astype("f")
    known = mlp_problem(MLP(widths, "tanh" if curved else "linear"), *problem.examples)
    make = langevin if dense else sgd
    calls = {
        "sgdnoise": {STEP: partial(ours, make(minibatch(known, BATCH), RATE), start)},
        "sgdnoise, any loss": {STEP: partial(ours, make(minibatch(problem, BATCH), RATE), start)},
        "jax by hand": {STEP: partial(chain_peers.by_scan, *_by_hand(problem, dense), start)},
    }
    if dense and not curved:
        second = langevin(linear_network_moments(problem, widths, with_replacement(N, BATCH)), RATE)
        calls["sgdnoise"]["a step, by second moments"] = partial(ours, second, start)
    in_torch = partial(losses, widths, torch.tanh if curved else lambda x: x)
    calls |= {
        name: {STEP: call}
        for name, call in chain_peers.network_peers(problem, in_torch, data, start, dense).items()
    }
    layered = partial(chain_peers.layered, widths, curved, data, start, dense)
    calls["torch by hand"] = {STEP: partial(layered, chain_peers.TORCH)}
    return _task(layered(chain_peers.NUMPY, steps), calls, steps, nets)


def _by_hand(problem, dense):
    """A step and what it draws, as everybody writes them."""
    if not dense:
        return (
            lambda t, i: t - RATE * jax.grad(problem.subset(i).value)(t),
            lambda key: jax.random.randint(key, (BATCH,), 0, N),
        )

    def step(t, z):
        weights = 1 / N + (z - z.mean()) / (N * BATCH) ** 0.5
        return t - RATE * problem.weighted_gradient(t, weights)

    return step, _normal(N)


def _normal(size):
    return lambda key: jax.random.normal(key, (size,))


def _first(theta):
    return theta[0]


def ours(process, start, steps):
    """A call of the package that takes so many steps; the first compiles."""
    start, key = jnp.asarray(start), jax.random.key(0)
    settings = {"steps": steps, "every": steps, "observe": _first}
    return lambda: simulate(process, key, start, **settings).block_until_ready()


def _task(unit, calls, steps, chains):
    """The task whose calls all take so many steps of so many chains."""
    torch.set_num_threads(1)
    count = steps * chains

    def rows(package):
        return [Row(what, make(steps), count) for what, make in calls[package].items()]

    return Task(unit, {package: partial(rows, package) for package in calls}, count)
