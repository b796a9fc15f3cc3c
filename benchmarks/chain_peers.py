"""What `benchmarks.chains` times ours against: loops by hand, and other packages."""

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

__all__ = [
    "NUMPY",
    "TORCH",
    "all_by_diffrax",
    "by_scan",
    "layered",
    "linear_by_torchsde",
    "network_peers",
    "process_in_numpy",
    "process_in_torch",
]

N, BATCH, RATE, NETS = 500, 8, 0.01, 256


# --- by hand ---


class Library(NamedTuple):
    """What a loop by hand needs of numpy or torch."""

    asarray: Any
    tanh: Any
    integers: Any
    normal: Any


_random = np.random.Generator(np.random.SFC64(0))
NUMPY = Library(
    np.array,
    np.tanh,
    lambda shape: _random.integers(N, size=shape),
    lambda shape: _random.standard_normal(shape, "f"),
)
TORCH = Library(
    torch.tensor, torch.tanh, lambda shape: torch.randint(N, shape), lambda s: torch.randn(s)
)


def process_in_numpy(h, root, chains, steps):
    """One array, a step at a time."""

    def run():
        theta = np.zeros((len(h), chains), "f")
        for _ in range(steps):
            theta += root @ NUMPY.normal(theta.shape) - h @ theta

    return run


def process_in_torch(h, root, chains, steps):
    """One tensor, a step at a time."""
    h, root = torch.asarray(h), torch.asarray(root)

    def run():
        theta = torch.zeros(len(h), chains)
        for _ in range(steps):
            theta += root @ torch.randn(theta.shape) - h @ theta

    return run


def layered(widths, curved, data, start, dense, library, steps):
    """Networks of layers as batched matrix products, backward pass by hand; theta at the end."""
    x, y = (library.asarray(values) for values in data)

    def drawn(nets):
        """Inputs, targets and weights of the examples of each network."""
        if not dense:
            i = library.integers((nets, BATCH))
            return x[i], y[i], 1 / BATCH
        z = library.normal((nets, N))
        z -= z.mean(1)[:, None]
        return x, y, (1 / N + z / (N * BATCH) ** 0.5)[..., None]

    def step(layers, inputs, targets, weights):
        values = [inputs]
        for k, layer in enumerate(layers):
            value = values[-1] @ layer
            values.append(library.tanh(value) if curved and k < len(layers) - 1 else value)
        error = (values[-1] - targets) * weights
        for k in reversed(range(len(layers))):
            gradient = values[k].mT @ error
            if k:
                error = error @ layers[k].mT
                error = error * (1 - values[k] ** 2) if curved else error
            layers[k] -= RATE * gradient

    def run():
        layers, begin = [], 0
        for i, o in pairwise(widths):
            part = start[:, begin : begin + i * o].reshape(-1, i, o)
            layers.append(library.asarray(part))
            begin += i * o
        for _ in range(steps):
            step(layers, *drawn(len(start)))
        return layers

    return run


def by_scan(step, draw, start, steps):
    """One chain in a scan, a key a step, and vmap over chains."""

    def chain(theta, key):
        return jax.lax.scan(
            lambda t, k: (step(t, draw(k)), None), theta, jax.random.split(key, steps)
        )[0]

    go = jax.jit(jax.vmap(chain))
    start, keys = jnp.asarray(start), jax.random.split(jax.random.key(0), len(start))
    return lambda: go(start, keys).block_until_ready()


# --- theta <- theta - H theta + L z, as an equation with steps of time one ---


def _solved(terms, start, steps, dt=1.0):
    import diffrax

    return diffrax.diffeqsolve(
        terms, diffrax.Euler(), 0.0, steps * dt, dt, start,
        saveat=diffrax.SaveAt(t1=True), adjoint=diffrax.DirectAdjoint(), max_steps=None,
    ).ys[0]  # fmt: skip


def all_by_diffrax(h, root, chains, steps):
    """All chains as one state."""
    import diffrax
    import lineax

    shape = (len(h), chains)
    like = jax.ShapeDtypeStruct(shape, "float32")
    kicked = lineax.FunctionLinearOperator(lambda z: root @ z, like)

    def solve(key, start):
        path = diffrax.UnsafeBrownianPath(shape, key)
        kick = diffrax.ControlTerm(lambda *_: kicked, path)
        return _solved(
            diffrax.MultiTerm(diffrax.ODETerm(lambda _, y, __: -h @ y), kick), start, steps
        )

    go, start = jax.jit(solve), jnp.zeros(shape, "f")
    return lambda: go(jax.random.key(0), start).block_until_ready()


class _Sde(torch.nn.Module):
    """Drift and diffusion product, general noise, Ito."""

    noise_type, sde_type = "general", "ito"

    def __init__(self, drift, product):
        super().__init__()
        self.f, self.g_prod = lambda _, y: drift(y), lambda _, y, z: product(y, z)


def _by_torchsde(sde, start, numbers, steps, dt):
    import torchsde

    ts = torch.tensor([0.0, steps * dt])

    def run():
        path = torchsde.BrownianInterval(0.0, steps * dt, size=(len(start), numbers), entropy=0)
        with torch.no_grad():
            return torchsde.sdeint(sde, start, ts, bm=path, method="euler", dt=dt)

    return run


def linear_by_torchsde(h, root, chains, steps):
    """Euler steps with diffusion products."""
    h, root = torch.asarray(h), torch.asarray(root)
    sde = _Sde(lambda y: -y @ h.T, lambda _, z: z @ root.T)
    return _by_torchsde(sde, torch.zeros(chains, len(h)), len(h), steps, 1.0)


# --- networks: the equation of minibatches, which has the covariance of all examples ---


def network_peers(problem, loss, data, start, dense):
    """Drift and diffusion apart, as these packages ask for them; SGD of blackjax."""
    if not dense:
        return {"blackjax": partial(_sgd_by_blackjax, problem, start)}
    return {
        "diffrax": partial(_equation_by_diffrax, problem, start),
        "torchsde": partial(_equation_by_torchsde, loss, data, start),
    }


def _equation_by_diffrax(problem, start, steps):
    import diffrax
    import lineax

    n = len(problem)
    like = jax.ShapeDtypeStruct((n,), "float32")

    def kick(_, theta, __):
        def product(z):
            return problem.weighted_gradient(theta, (z - z.mean()) * (RATE / (n * BATCH)) ** 0.5)

        return lineax.FunctionLinearOperator(product, like)

    def chain(key, theta):
        path = diffrax.UnsafeBrownianPath((n,), key)
        drift = diffrax.ODETerm(lambda _, y, __: -problem.gradient(y))
        return _solved(
            diffrax.MultiTerm(drift, diffrax.ControlTerm(kick, path)), theta, steps, RATE
        )

    go, keys = jax.jit(jax.vmap(chain)), jax.random.split(jax.random.key(0), len(start))
    return lambda: go(keys, jnp.asarray(start)).block_until_ready()


def _equation_by_torchsde(loss, data, start, steps):
    x, y = map(torch.asarray, data)
    n = len(x)
    pull = torch.func.grad(lambda theta, weights: (weights * loss(theta, x, y)).sum())
    many = torch.func.vmap(pull)
    equal = torch.full((len(start), n), 1 / n)

    def product(theta, z):
        return many(theta, (z - z.mean(1, keepdim=True)) * (RATE / (n * BATCH)) ** 0.5)

    sde = _Sde(lambda theta: -many(theta, equal), product)
    return _by_torchsde(sde, torch.asarray(start), n, steps, RATE)


# --- networks: SGD, which blackjax has as Langevin dynamics at temperature zero ---


def _sgd_by_blackjax(problem, start, steps):
    import blackjax

    kernel = blackjax.sgld(lambda theta, drawn: -problem.subset(drawn).gradient(theta))

    def chain(theta, key):
        def step(theta, key):
            pick, kick = jax.random.split(key)
            drawn = jax.random.randint(pick, (BATCH,), 0, len(problem))
            return kernel.step(kick, theta, drawn, RATE, 0.0), None

        return jax.lax.scan(step, theta, jax.random.split(key, steps))[0]

    go, keys = jax.jit(jax.vmap(chain)), jax.random.split(jax.random.key(0), len(start))
    return lambda: go(jnp.asarray(start), keys).block_until_ready()
