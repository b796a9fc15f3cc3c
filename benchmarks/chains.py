"""Chains of label-noise descent: ours, a hand-written jax scan, and a hand-written torch loop.

`python -m benchmarks.chains` prints microseconds of CPU for one step of one chain, on one thread,
and the ratio to the hand-written scan; the same network, data, batch and number of chains for all.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import time
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import torch

from sgdnoise import noise
from sgdnoise.dynamics import descent
from sgdnoise.dynamics.chains import simulate
from sgdnoise.problem import Problem
from sgdnoise.theory.two_layer import TwoLayer

NET, N, BATCH, CHAINS, STEPS = TwoLayer(20, 40, 3), 128, 8, 8, 4000
RATE, LABEL_NOISE = 0.05, 1.0


def inputs_and_targets():
    """Random inputs (n, d) and targets (n, o)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, NET.d)).astype("f"), rng.normal(size=(N, NET.o)).astype("f")


def ours(x, y, start):
    """The package: one Noise, one Process, many chains."""
    problem = Problem(NET.losses, (jnp.asarray(x), jnp.asarray(y)), jax)
    process = descent(noise.label(problem, BATCH, LABEL_NOISE), RATE)

    def last(theta):
        return theta

    def run():
        args = jax.random.key(0), jnp.asarray(start)
        simulate(process, *args, steps=STEPS, every=STEPS, observe=last).block_until_ready()

    return run


def by_hand_in_jax(x, y, start):
    """vmap of a gradient inside a scan, keys split as everybody does."""
    x, y = jnp.asarray(x), jnp.asarray(y)

    def loss(theta, a, b):
        w, v = theta[: NET.d * NET.h].reshape(NET.d, NET.h), theta[NET.d * NET.h :]
        out = jnp.tanh(a @ w) @ v.reshape(NET.h, NET.o)
        return 0.5 * ((out - b) ** 2).sum(1).mean()

    def one(theta, key):
        which, what = jax.random.split(key)
        i = jax.random.randint(which, (BATCH,), 0, N)
        b = y[i] + LABEL_NOISE * jax.random.normal(what, (BATCH, NET.o))
        return theta - RATE * jax.grad(loss)(theta, x[i], b)

    @jax.jit
    def chains(theta, key):
        def step(theta, key):
            return jax.vmap(one)(theta, jax.random.split(key, CHAINS)), None

        return jax.lax.scan(step, theta, jax.random.split(key, STEPS))[0]

    return lambda: chains(jnp.asarray(start), jax.random.key(0)).block_until_ready()


def by_hand_in_torch(x, y, start, share=20):
    """torch.func over chains in a Python loop; a twentieth of the steps, scaled."""
    torch.set_num_threads(1)
    x, y = torch.asarray(x), torch.asarray(y)

    def loss(theta, a, b):
        w, v = theta[: NET.d * NET.h].view(NET.d, NET.h), theta[NET.d * NET.h :]
        return 0.5 * ((torch.tanh(a @ w) @ v.view(NET.h, NET.o) - b) ** 2).sum(1).mean()

    gradient = torch.func.vmap(torch.func.grad(loss))

    def run():
        theta = torch.asarray(start)
        for _ in range(STEPS // share):
            i = torch.randint(N, (CHAINS, BATCH))
            b = y[i] + LABEL_NOISE * torch.randn(CHAINS, BATCH, NET.o)
            theta = theta - RATE * gradient(theta, x[i], b)

    return run, share


def microseconds(run, share=1, repeats=5):
    """Median CPU time of a step of a chain, after one run to compile."""
    run()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return 1e6 * share * median(taken) / STEPS / CHAINS


def main():
    """Print the table."""
    x, y = inputs_and_targets()
    start = 0.2 * np.random.default_rng(1).normal(size=(CHAINS, NET.size)).astype("f")
    times = {
        "sgdnoise": microseconds(ours(x, y, start)),
        "jax by hand": microseconds(by_hand_in_jax(x, y, start)),
        "torch by hand": microseconds(*by_hand_in_torch(x, y, start)),
    }
    print(f"{CHAINS} chains, {NET.d}-{NET.h}-{NET.o} tanh, batch {BATCH}: CPU us a step and chain")
    for name, taken in times.items():
        print(f"{name:14} {taken:8.1f}   {taken / times['jax by hand']:6.2f} of jax by hand")


if __name__ == "__main__":
    main()
