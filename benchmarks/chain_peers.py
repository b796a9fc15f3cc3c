"""What `benchmarks.chains` times ours against: by hand, and by packages that are installed."""

import importlib.util
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch

__all__ = [
    "by_scan",
    "equations",
    "linear",
    "net_in_torch",
    "process_in_numpy",
    "process_in_torch",
    "sgd_peers",
]

N, BATCH, RATE, NETS = 500, 8, 0.01, 256


def _known(**runs):
    """Of runs by package the ones whose package is here."""
    return {name: run for name, run in runs.items() if importlib.util.find_spec(name.split("_")[0])}


# --- by hand ---


def process_in_numpy(h, root, steps):
    """One array, a step at a time."""
    generator = np.random.Generator(np.random.SFC64(0))

    def run():
        theta = np.zeros((len(h), 4096), "f")
        for _ in range(steps):
            theta += root @ generator.standard_normal(theta.shape, "f") - h @ theta

    return run


def process_in_torch(h, root, steps):
    """One tensor, a step at a time."""
    h, root = torch.asarray(h), torch.asarray(root)

    def run():
        theta = torch.zeros(len(h), 4096)
        for _ in range(steps):
            theta += root @ torch.randn(theta.shape) - h @ theta

    return run


def net_in_torch(loss, data, start, dense, steps):
    """torch.func over chains, a step at a time."""
    x, y = map(torch.asarray, data)

    def weighted(theta, weights, x, y):
        return (weights * loss(theta, x, y)).sum()

    gradient = torch.func.grad(weighted)
    many = torch.func.vmap(gradient, (0, 0, None, None) if dense else (0, None, 0, 0))

    def run():
        theta, equal = torch.asarray(start), torch.full((BATCH,), 1 / BATCH)
        for _ in range(steps):
            if dense:
                z = torch.randn(NETS, N)
                weights = 1 / N + (z - z.mean(1, keepdim=True)) / (N * BATCH) ** 0.5
                theta = theta - RATE * many(theta, weights, x, y)
            else:
                i = torch.randint(N, (NETS, BATCH))
                theta = theta - RATE * many(theta, equal, x[i], y[i])

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


def linear(h, root):
    """4096 chains: diffrax a chain at a time under vmap, all as one state, and torchsde."""
    return _known(
        diffrax=partial(_each_by_diffrax, h, root),
        diffrax_best=partial(_all_by_diffrax, h, root),
        torchsde=partial(_linear_by_torchsde, h, root),
    )


def _solved(terms, start, steps, dt=1.0):
    import diffrax

    return diffrax.diffeqsolve(
        terms, diffrax.Euler(), 0.0, steps * dt, dt, start,
        saveat=diffrax.SaveAt(t1=True), adjoint=diffrax.DirectAdjoint(), max_steps=None,
    ).ys[0]  # fmt: skip


def _each_by_diffrax(h, root, steps):
    import diffrax

    def chain(key, start):
        path = diffrax.UnsafeBrownianPath((len(h),), key)
        kick = diffrax.ControlTerm(lambda *_: root, path)
        return _solved(
            diffrax.MultiTerm(diffrax.ODETerm(lambda _, y, __: -h @ y), kick), start, steps
        )

    go, start = jax.jit(jax.vmap(chain)), jnp.zeros((4096, len(h)), "f")
    keys = jax.random.split(jax.random.key(0), 4096)
    return lambda: go(keys, start).block_until_ready()


def _all_by_diffrax(h, root, steps):
    import diffrax
    import lineax

    shape = (len(h), 4096)
    like = jax.ShapeDtypeStruct(shape, "float32")
    kicked = lineax.FunctionLinearOperator(lambda z: root @ z, like)

    def chains(key, start):
        path = diffrax.UnsafeBrownianPath(shape, key)
        kick = diffrax.ControlTerm(lambda *_: kicked, path)
        return _solved(
            diffrax.MultiTerm(diffrax.ODETerm(lambda _, y, __: -h @ y), kick), start, steps
        )

    go, start = jax.jit(chains), jnp.zeros(shape, "f")
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


def _linear_by_torchsde(h, root, steps):
    h, root = torch.asarray(h), torch.asarray(root)
    sde = _Sde(lambda y: -y @ h.T, lambda _, z: z @ root.T)
    return _by_torchsde(sde, torch.zeros(4096, len(h)), len(h), steps, 1.0)


# --- networks: the equation of minibatches, which has the covariance of all examples ---


def equations(problem, loss, data, start):
    """Drift and diffusion apart, as these packages ask for them."""
    return _known(
        diffrax=partial(_equation_by_diffrax, problem, start),
        torchsde=partial(_equation_by_torchsde, loss, data, start),
    )


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

    go, keys = jax.jit(jax.vmap(chain)), jax.random.split(jax.random.key(0), NETS)
    return lambda: go(keys, jnp.asarray(start)).block_until_ready()


def _equation_by_torchsde(loss, data, start, steps):
    x, y = map(torch.asarray, data)
    n = len(x)
    pull = torch.func.grad(lambda theta, weights: (weights * loss(theta, x, y)).sum())
    many = torch.func.vmap(pull)
    equal = torch.full((NETS, n), 1 / n)

    def product(theta, z):
        return many(theta, (z - z.mean(1, keepdim=True)) * (RATE / (n * BATCH)) ** 0.5)

    sde = _Sde(lambda theta: -many(theta, equal), product)
    return _by_torchsde(sde, torch.asarray(start), n, steps, RATE)


# --- networks: SGD, which blackjax has as Langevin dynamics at temperature zero ---


def sgd_peers(problem, start):
    """A scan over steps and vmap over chains."""
    return _known(blackjax=partial(_sgd_by_blackjax, problem, start))


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
