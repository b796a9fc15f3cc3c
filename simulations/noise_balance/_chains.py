"""What the study of the balance runs and integrates: nets at their minima, noises, a marginal."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import Problem, jackknife, mean
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.noise import Normal
from sgdnoise.theory import TwoLayer, log_marginal, noise_balance

__all__ = [
    "BATCH",
    "EXAMPLES",
    "LAW_DECAY",
    "LAW_T",
    "LEVELS",
    "WATCHES",
    "factors",
    "integrals",
    "key_of",
    "mixed",
    "named",
    "network",
    "ratio",
    "rested",
    "run_of",
    "sharpest",
    "task",
    "told",
    "warmed",
    "watched",
]

EXAMPLES, WATCHES, BURN = 16, 240, 80  # moments seen of a run, and the first, which are left out
BATCH = 16
LEVELS = {"weak": (0.04, 1.0), "slow": (0.02, 2.0), "strong": (0.04, 1.7)}  # rate, label noise
LAW_T, LAW_DECAY = 0.1, 0.2


def task(d: int, o: int, modes, tilt: float = 0.0, seed: int = 0):
    """Inputs (n, d) of diagonal second moment, of mean 1, targets, and the product M (d, o).

    The singular values of Sx^1/2 M are `modes`.
    """
    rng = np.random.default_rng([seed, d, o])
    moment = np.linspace(1 - tilt, 1 + tilt, d)
    white = np.linalg.qr(rng.normal(size=(EXAMPLES, d)))[0] * EXAMPLES**0.5
    left = np.linalg.qr(rng.normal(size=(d, d)))[0][:, : len(modes)]
    right = np.linalg.qr(rng.normal(size=(o, o)))[0][: len(modes)]
    goal = (left * np.asarray(modes)) @ right / moment[:, None] ** 0.5
    x = white * moment**0.5
    return x, x @ goal, goal


def factors(goal, h: int, moment, variance=0.0, rng=None):
    """W, V of least Tr H at the minimum, as theta, with W in free units spread by a variance."""
    root = np.diag(np.diag(moment) ** 0.5)
    left, modes, right = np.linalg.svd(root @ goal, full_matrices=False)
    k, share = len(modes), (np.trace(moment) / goal.shape[1]) ** 0.25
    w, v = np.zeros((len(goal), h)), np.zeros((h, goal.shape[1]))
    w[:, :k] = share * np.linalg.solve(root, left * modes**0.5)
    v[:k] = (modes**0.5)[:, None] * right / share
    if variance:
        w[:, k:] = variance**0.5 * rng.normal(size=(len(goal), h - k))
    return np.concatenate([w.ravel(), v.ravel()])


def warmed(model, temperature: float, rate: float, size: int):
    """A noise with isotropic noise of this temperature besides."""

    def gradient(theta, drawn):
        own, white = drawn
        return model.gradient(theta, own) + (2 * temperature / rate) ** 0.5 * white

    return model._replace(draw=(model.draw, Normal(size)), gradient=gradient)


def network(x, y, h: int, activation: str = "linear"):
    """The net and its problem, in single precision."""
    net = TwoLayer(x.shape[1], h, y.shape[1], activation)
    return net, Problem(net.losses, (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)), jax)


def watched(net, problem, moment, theta):
    """Tr K, Tr K^2, |V|^2, Tr D, and the kick |dL/dW|^2 - |dL/dV|^2 of a step to Tr D."""
    w, v = net.weights(theta)
    hidden = moment @ w @ w.T
    readout = (v**2).sum()
    slopes = [(part**2).sum() for part in net.weights(problem.gradient(theta))]
    return {
        "hidden": jnp.trace(hidden),
        "square": (hidden * hidden.T).sum(),
        "readout": readout,
        "imbalance": (w**2).sum() - readout,
        "kick": slopes[0] - slopes[1],
    }


def run_of(process, start, look, steps: float, key, given=None):
    """What is seen at WATCHES moments, (chain, watch)."""
    every = max(1, round(steps / WATCHES))
    start = jnp.asarray(start, jnp.float32)
    how = {"steps": WATCHES * every, "every": every, "observe": look, "given": given}
    seen = simulate(process, key, start, **how)
    return jax.tree.map(np.asarray, seen), every


def rested(values):
    """Means of chains after what is left out, (chain,)."""
    return np.asarray(values, float)[:, BURN:].mean(axis=1)


def ratio(hidden, square):
    """E Tr K squared over E Tr K^2, from means of chains, their error by a jackknife over them."""
    n = len(hidden)
    left = [(values.sum() - values) / (n - 1) for values in (hidden, square)]
    return jackknife(hidden.mean() ** 2 / square.mean(), left[0] ** 2 / left[1])


def sharpest(goal, moment):
    """The largest curvature where Tr H is least: of the modes of both layers together."""
    root = np.diag(np.diag(moment) ** 0.5)
    mode = np.linalg.svd(root @ goal, compute_uv=False)[0]
    share = (np.trace(moment) / goal.shape[1]) ** 0.5
    return float(mode * share + np.max(np.diag(moment)) * mode / share)


def mixed(shape, modes, tilt, level: str, rho: float, size, key) -> dict:
    """Both noises at rest, half of the runs from a hidden layer too small, half from too large."""
    (d, h, o), (rate, sigma) = shape, LEVELS[level]
    x, y, goal = task(d, o, modes, tilt)
    moment, (net, problem) = x.T @ x / EXAMPLES, network(x, y, h)
    kappa = rate * sigma**2 / (4 * BATCH)
    model = noise.label_noise(problem, BATCH, sigma)
    process = sgd(warmed(model, rho * kappa, rate, net.size), rate)
    rng = np.random.default_rng(size.seed)
    wide = [rho / o * (run % 2) for run in range(size.runs)]
    start = [factors(goal, h, moment, variance, rng) for variance in wide]
    slow = 1 / (2 * kappa * min(o * np.diag(moment).min(), np.trace(moment)))
    look = partial(watched, net, problem, jnp.asarray(moment, jnp.float32))
    seen, _ = run_of(process, start, look, size.slow * slow / rate, key)
    found = {name: rested(values) for name, values in seen.items()}
    exact = noise_balance(rho, moment, goal, h)
    gap = o * found["hidden"] - np.trace(moment) * found["readout"] - rho * (d - o) * h / 2
    pairs = {
        "ratio": (ratio(found["hidden"], found["square"]), exact.ratio),
        "hidden": (mean(found["hidden"]), exact.hidden),
        "imbalance": (mean(found["imbalance"]), exact.hidden - exact.readout),  # of white inputs
        "gap": (mean(gap / (o * exact.hidden)), 0.0),
    }
    least = modes[-1] * (np.trace(moment) / o) ** 0.5
    free, far = rho / 2 / o, abs(d - h) if d >= o else abs(h - o)
    return told(pairs) | {
        "reach": free / least * max(1.0, far / 2.5),
        "sharpness": rate * sharpest(goal, moment),
        "jitter": 2 * kappa * o * d / exact.hidden,
    }


def integrals(moment, cross, h: int, with_volume: bool = True, nodes: int = 24) -> dict:
    """E Tr K and E log det(1 + K / decay) by quadrature over W W^T = L L^T, of 1 or 2 inputs.

    Where not `with_volume` the log det is left out of the law, to show what it does.
    """
    d, o = cross.shape
    points, weights = np.polynomial.legendre.leggauss(nodes)
    reach = 1.5 + 5 * (LAW_T / LAW_DECAY) ** 0.5
    up = (reach / 2 * (points + 1), reach / 2 * weights)
    off = (reach * points, reach * weights)
    axes = [up] if d == 1 else [up, off, up]
    logs, found = [], []
    for at in product(range(nodes), repeat=len(axes)):
        value = [axis[0][i] for axis, i in zip(axes, at, strict=True)]
        w = np.zeros((d, h))
        w[np.tril_indices(d)[0], np.tril_indices(d)[1]] = value
        space = sum((h - 1 - i) * np.log(w[i, i]) for i in range(d))
        stiff = np.linalg.slogdet(np.eye(h) + w.T @ moment @ w / LAW_DECAY)[1]
        volume = sum(np.log(axis[1][i]) for axis, i in zip(axes, at, strict=True))
        found.append((np.trace(w.T @ moment @ w), stiff))
        logs.append(log_marginal(w, moment, cross, LAW_T, LAW_DECAY) + space + volume)
        logs[-1] += (not with_volume) * o / 2 * stiff
    chance = np.exp(np.asarray(logs) - max(logs))
    hidden, volume = np.asarray(found).T @ chance / chance.sum()
    return {"hidden": float(hidden), "volume": float(volume)}


def key_of(size, *point):
    """A random key for a point of a grid, the same on any machine."""
    words = np.random.SeedSequence([size.seed, *repr(point).encode()]).generate_state(1)
    return jax.random.key(int(words[0]))


def told(pairs):
    """Predicted and measured numbers, with errors."""
    found: dict[str, float] = {}
    for name, (value, predicted) in pairs.items():
        found |= {name: float(value.value), f"{name}_stderr": float(value.stderr)}
        found[f"{name}_predicted"] = float(predicted)
    return found


def named(prefix, values) -> xr.Dataset:
    """A Dataset of a part's numbers, each under the part's name."""
    return xr.Dataset({f"{prefix}_{name}": value for name, value in values.items()})
