"""Many chains at once: ours, and the same written by hand, against the arithmetic they need.

`python -m benchmarks.chains [TASK]...` prints CPU time of one step of one chain on one thread, the
least of some rounds, and how many floors it is.  The floor of a task is its random numbers at the
best rate of any generator here (ours or torch's) and its multiplications at the rate of a matrix
product of size 1024, both timed in the same rounds.  --out writes markdown.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import time
from collections.abc import Callable
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import typer

from benchmarks import chain_peers
from benchmarks.chain_peers import BATCH, NETS, RATE, N
from sgdnoise.core import Problem
from sgdnoise.dynamics import Process, langevin, mlp_problem, sgd, simulate
from sgdnoise.noise import Normal, linear_network_moments, minibatch, with_replacement
from sgdnoise.theory import MLP

LINEAR, DEEP = (20, 50, 10), (20, 32, 32, 10)
ROUNDS, CLEAR = 7, 0.3  # seconds that a run shall take at least


class Task(NamedTuple):
    """Who runs it, each as (steps) -> a call; chains; numbers and multiplications a step takes."""

    title: str
    runs: dict[str, Callable[[int], Callable[[], Any]]]
    chains: int
    normals: float
    products: float


# --- Ornstein-Uhlenbeck, full matrices: theta <- theta - H theta + L z ---


def process_task(d):
    """4096 chains in d directions."""
    h = (RATE * (np.eye(d) + 0.1 * np.random.default_rng(0).normal(size=(d, d)))).astype("f")
    root = (0.1 * np.random.default_rng(0).normal(size=(d, d))).astype("f")
    first, start = Process(lambda t, z: t - h @ t + root @ z, Normal(d), RATE), (4096, d)
    runs = {
        "sgdnoise": partial(ours, first, np.zeros(start, "f")),
        "jax": partial(
            chain_peers.by_scan, lambda t, z: t - h @ t + root @ z, _normal(d), np.zeros(start, "f")
        ),
        "numpy": partial(chain_peers.process_in_numpy, h, root),
        "torch": partial(chain_peers.process_in_torch, h, root),
        **chain_peers.linear(h, root),
    }
    return Task(f"Ornstein-Uhlenbeck, d = {d}", runs, 4096, d, 2 * d * d)


# --- networks, by SGD and by the equation of their minibatches ---


def losses(widths, tanh, theta, x, y):
    """Squared loss of each example, layers (in, out) without biases."""
    for k, (i, o) in enumerate(pairwise(widths)):
        x = x @ theta[: i * o].reshape(i, o)
        theta = theta[i * o :]
        x = tanh(x) if k < len(widths) - 2 else x
    return 0.5 * ((x - y) ** 2).sum(1)


def examples(widths):
    """Inputs and targets without meaning."""
    return [
        np.random.default_rng(0).normal(size=(N, width)).astype("f")
        for width in (widths[0], widths[-1])
    ]


def net_task(widths, kind):
    """Networks by SGD, by the equation of its minibatches, or that by second moments."""
    curved = widths == DEEP
    data, size = examples(widths), sum(i * o for i, o in pairwise(widths))
    loss = partial(losses, widths, jnp.tanh if curved else lambda x: x)
    problem = Problem(loss, tuple(map(jnp.asarray, data)))
    start = (0.2 * np.random.default_rng(0).normal(size=(NETS, size))).astype("f")
    law, used = with_replacement(N, BATCH), N if kind == "equation" else BATCH
    name = "tanh" if curved else "linear"
    title, value = f"{'-'.join(map(str, widths))} {name}, {kind}", 3 * size - widths[0] * widths[1]
    if kind == "equation by moments":
        model = linear_network_moments(problem, widths, law)
        d, h, o = widths
        return Task(
            title,
            {"sgdnoise": partial(ours, langevin(model, RATE), start)},
            NETS,
            model.normal.size,
            model.normal.size * (d * (d + 1) // 2 + d * o) + 3 * d * h * o + d * d * o,
        )
    dense, known = kind == "equation", mlp_problem(MLP(widths, name), *problem.examples)
    first, second = (
        (langevin if dense else sgd)(minibatch(p, BATCH), RATE) for p in (known, problem)
    )
    in_torch = partial(losses, widths, torch.tanh if curved else lambda x: x)
    runs = {
        "sgdnoise": partial(ours, first, start),
        "any loss": partial(ours, second, start),
        "jax": partial(chain_peers.by_scan, *_by_hand(problem, dense), start),
        "torch": partial(chain_peers.net_in_torch, in_torch, data, start, dense),
    }
    if dense:
        runs |= chain_peers.equations(problem, in_torch, data, start)
    else:
        runs |= chain_peers.sgd_peers(problem, start)
    return Task(title, runs, NETS, N if dense else BATCH / 2, used * value)


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


# --- who runs them ---


def _normal(size):
    return lambda key: jax.random.normal(key, (size,))


def _first(theta):
    return theta[0]


def ours(process, start, steps):
    """The package."""
    start, key = jnp.asarray(start), jax.random.key(0)
    settings = {"steps": steps, "every": steps, "observe": _first}
    return lambda: simulate(process, key, start, **settings).block_until_ready()


def rates():
    """Calls that make so many normal numbers, or so many multiplications."""
    d, chains, steps = 10, 4096, 300
    adding = Process(lambda t, z: t + z, Normal(d), 1.0)
    square, product = jnp.ones((1024, 1024)), jax.jit(jnp.matmul)
    blank = torch.empty(d, chains)
    return {
        "sgdnoise": (ours(adding, np.zeros((chains, d), "f"), steps), d * chains * steps),
        "torch": (lambda: [blank.normal_() for _ in range(steps)], d * chains * steps),
        "product": (lambda: product(square, square).block_until_ready(), 1024**3),
    }


def cpu(run):
    """Seconds of processor that a call takes."""
    began = time.process_time()
    run()
    return time.process_time() - began


def prepared(make, chains):
    """A run that is compiled and takes long enough, its number of steps, and seconds to compile."""
    run = make(4)
    first, again = cpu(run), cpu(run)
    steps = max(4, int(4 * CLEAR / max(again, 1e-4)))
    run = make(steps)
    run()
    return run, steps * chains, first - again


def measured(task: Task, rounds: int) -> tuple[dict, dict]:
    """Nanoseconds of a step of a chain, and of the floor; seconds to compile."""
    built = {name: prepared(make, task.chains) for name, make in task.runs.items()}
    calls: dict = {("rate", name): call for name, call in rates().items()}
    for run, _ in calls.values():
        run()
    calls |= {name: (run, count) for name, (run, count, _) in built.items()}
    best = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, (run, count) in calls.items():
            best[name] = min(best[name], 1e9 * cpu(run) / count)
    number = min(best["rate", "sgdnoise"], best["rate", "torch"])
    best["floor"] = task.normals * number + task.products * best["rate", "product"]
    return best, {name: taken for name, (_, _, taken) in built.items()}


TASKS: dict[str, Callable[[], Task]] = {
    "ou10": partial(process_task, 10),
    "ou100": partial(process_task, 100),
    "sgd": partial(net_task, LINEAR, "SGD"),
    "moments": partial(net_task, LINEAR, "equation by moments"),
    "equation": partial(net_task, LINEAR, "equation"),
    "mlp": partial(net_task, DEEP, "SGD"),
    "mlp-equation": partial(net_task, DEEP, "equation"),
}
PEERS = ("any loss", "jax", "numpy", "torch", "diffrax", "diffrax_best", "torchsde", "blackjax")


def line(task: Task, best: dict, compiling: dict) -> str:
    """A row of the table."""
    cells = [f"{best['floor']:,.0f}", f"{best['sgdnoise']:,.0f}"]
    cells += [f"{best['sgdnoise'] / best['floor']:.2f}"]
    cells += [f"{best[p] / best['floor']:.2f}" if p in best else "-" for p in PEERS]
    rates = [f"{1e3 / best['rate', name]:.0f}" for name in ("sgdnoise", "torch")]
    cells += [*rates, f"{2 / best['rate', 'product']:.0f}", f"{compiling['sgdnoise']:.1f}"]
    return f"| {task.title} | {' | '.join(cells)} |"


HEAD = f"""# Time of many chains

By `python -m benchmarks.chains`, {date.today()}: CPU time of one step of one chain on one thread,
float32, least of some rounds, other work going on beside; 4096 chains of the linear process,
{NETS} networks (n = {N}, batch {BATCH}).  Floors are defined in `benchmarks/chains.py`: random
numbers and multiplications at the best rates that the same rounds saw, which are in the last
columns, in millions a second and in Gflop/s.  Ours are chains of `Dense` networks; any loss: the
same chains of a loss that automatic differentiation is given; jax: a scan and vmap over chains with
jax.random; torch: torch.func, or a loop over one tensor; numpy: a loop over one array, SFC64, and
its M/s: normal numbers of torch; diffrax: vmap of a chain, best: one state with chains last;
torchsde: Euler with diffusion products; blackjax: sgld at temperature zero; s: to compile ours.
jax {jax.__version__}, torch {torch.__version__}.

| task | floor, ns | ours, ns | floors | {" | ".join(PEERS).replace("_", ", ")} | \
M/s | its M/s | Gflop/s | s |
|---|---:|---:|---:|{"---:|" * len(PEERS)}---:|---:|---:|---:|
"""


def main(
    tasks: Annotated[list[str] | None, typer.Argument(help=" ".join(TASKS))] = None,
    out: Annotated[Path | None, typer.Option(help="where to write markdown")] = None,
    rounds: Annotated[int, typer.Option(help="of which the least counts")] = ROUNDS,
):
    """Print the table."""
    torch.set_num_threads(1)
    text = HEAD
    print(HEAD, end="", flush=True)
    for name in tasks or TASKS:
        task = TASKS[name]()
        text += line(task, *measured(task, rounds)) + "\n"
        print(text.splitlines()[-1], flush=True)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
