"""Networks at their minima, their noises, and the marginal law of their first layer."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import Problem, jackknife, mean
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.noise import Normal
from sgdnoise.theory import (
    MLP,
    flow_excess,
    flow_regime,
    label_noise_task,
    log_marginal,
    noise_balance,
    products_around,
)

EXAMPLES, RECORDS, BURN_IN = 16, 240, 80  # records of a run, and the first, which are discarded
OFTEN = 6  # observations of the loss for each record, at most
BATCH = 16
NET, MODES, TILT = (6, 8, 2), (1.5, 1.0), 0.2  # of the network under both noises
WIDTH = 6  # of networks of eight inputs and outputs together
DECAY, DECAY_NET = 0.3, (8, 10, 2)
LEVELS = {"weak": (0.04, 1.0), "slow": (0.02, 2.0), "strong": (0.04, 1.7)}  # rate, label noise
LAW_T, LAW_DECAY = 0.1, 0.2
BASE: dict[str, Any] = {"discrete_steps": 0.0, "with_feedback": False}  # of kappa Tr H


def task(d: int, o: int, modes, tilt: float = 0.0, seed: int = 0):
    """Inputs (n, d) with a diagonal second moment of mean 1, targets, and the product M (d, o).

    `modes` are the singular values of Sx^1/2 M; `tilt` makes the moments unequal.
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
    """W, V of least Tr H at the minimum, as theta; W in free units is normal of a variance."""
    root = np.diag(np.diag(moment) ** 0.5)
    left, modes, right = np.linalg.svd(root @ goal, full_matrices=False)
    k, scale = len(modes), (np.trace(moment) / goal.shape[1]) ** 0.25
    w, v = np.zeros((len(goal), h)), np.zeros((h, goal.shape[1]))
    w[:, :k] = scale * np.linalg.solve(root, left * modes**0.5)
    v[:k] = (modes**0.5)[:, None] * right / scale
    if variance:
        w[:, k:] = variance**0.5 * rng.normal(size=(len(goal), h - k))
    return np.concatenate([w.ravel(), v.ravel()])


def with_temperature(model, temperature: float, rate: float, size: int):
    """A noise model with isotropic noise of this temperature added."""

    def gradient(theta, drawn):
        draw, normal = drawn
        return model.gradient(theta, draw) + (2 * temperature / rate) ** 0.5 * normal

    return model._replace(draw=(model.draw, Normal(size)), gradient=gradient)


def network(x, y, h: int, activation: str = "linear"):
    """The network and its problem, in single precision."""
    net = MLP((x.shape[1], h, y.shape[1]), activation)
    return net, Problem(net.losses, (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)))


def measures(net, problem, moment, theta):
    """Tr K, Tr K^2, |V|^2, Tr D, and what a step adds to Tr D, |dL/dW|^2 - |dL/dV|^2."""
    w, v = net.weights(theta)
    hidden = moment @ w @ w.T
    readout = (v**2).sum()
    squares = [(gradient**2).sum() for gradient in net.weights(problem.gradient(theta))]
    return {
        "hidden": jnp.trace(hidden),
        "square": (hidden * hidden.T).sum(),
        "readout": readout,
        "imbalance": (w**2).sum() - readout,
        "kick": squares[0] - squares[1],
    }


def batch_kick(net, problem, theta):
    """What sampling in minibatches adds to `kick`: its mean over single examples, less itself.

    A minibatch of B examples drawn with replacement has the kick of the full gradient and 1/B of
    this.
    """
    whole = problem.gradient(theta)
    squares = (problem.gradients(theta) ** 2).mean(0) - whole**2
    first, second = net.weights(squares)
    return first.sum() - second.sum()


def recorded(process, start, observe, steps: float, key, given=None):
    """Observations at RECORDS moments, (chain, watch), and the steps between them."""
    every = max(1, round(steps / RECORDS))
    setting = {"steps": RECORDS * every, "every": every, "observe": observe, "given": given}
    values = simulate(process, key, jnp.asarray(start, jnp.float32), **setting)
    return jax.tree.map(np.asarray, values), every


def recorded_with_loss(process, start, observe, loss, steps: float, key):
    """The same with the mean loss since the previous record, of OFTEN or fewer observations."""
    every = max(1, round(steps / RECORDS))
    often = max(k for k in range(1, OFTEN + 1) if every % k == 0)

    def both(theta):
        return observe(theta) | {"loss": loss(theta)}

    start = jnp.asarray(start, jnp.float32)
    values = simulate(
        process, key, start, steps=RECORDS * every, every=every // often, observe=both
    )
    losses = np.asarray(values.pop("loss"), float).reshape(len(start), RECORDS, often)
    records = {name: np.asarray(value)[:, often - 1 :: often] for name, value in values.items()}
    return records | {"loss": losses.mean(2)}, every


def stationary(values):
    """Means of chains after the burn-in, (chain,)."""
    return np.asarray(values, float)[:, BURN_IN:].mean(axis=1)


def ratio(hidden, square):
    """(E Tr K)^2 / E Tr K^2 from means of chains, with a jackknife error over them."""
    n = len(hidden)
    without = [(values.sum() - values) / (n - 1) for values in (hidden, square)]
    return jackknife(hidden.mean() ** 2 / square.mean(), without[0] ** 2 / without[1])


def excess_per_trace(loss, trace, kappa: float):
    """E L / (kappa E Tr H) from means of chains, with a jackknife error over them."""
    n = len(loss)
    without = [(values.sum() - values) / (n - 1) for values in (loss, kappa * trace)]
    return jackknife(loss.mean() / (kappa * trace.mean()), without[0] / without[1])


def predicted_excess(x, layers, trace: float, rate: float, label_noise: float, temperature: float):
    """E L / (kappa Tr H) of both noises where Tr H is `trace`, by the names that results store.

    Isotropic noise of theta moves the product as the covariance (2 B T / rate) K^-1 of the gradient
    of the product would.  Finite steps and the feedback of sampled residuals are those at `layers`:
    own_error has the relative size e = u + rate lambda_max / 2 of both times the fraction by which
    Tr H differs there, and the error of the slow flow.
    """
    task = label_noise_task(x, layers[-1].shape[1], label_noise)
    kernel = np.sum([np.kron(a @ a.T, c.T @ c) for a, c in products_around(layers)], axis=0)
    hotter = 2 * BATCH * temperature / rate * np.linalg.inv(kernel)
    both = task._replace(noise=task.noise + hotter)
    strength: dict[str, Any] = {"learning_rate": rate, "batch_size": BATCH}
    label, total = (float(flow_excess(t, layers, **strength)[0]) for t in (task, both))
    unit = float(flow_excess(task, layers, **strength | BASE)[0])  # kappa Tr H at the layers
    kappa = rate * label_noise**2 / (4 * BATCH)
    regime = flow_regime(both, layers, **strength)
    e = regime.amplification + regime.sharpness / 2
    by_label = label / unit
    return {
        "excess_label": by_label,
        "excess_predicted": by_label + (total - label) / (kappa * trace),
        "own_error": regime.error + e * abs(kappa * trace / unit - 1),
        "haste": regime.haste,
    }


def sharpness(goal, moment):
    """The largest curvature where Tr H is least, which belongs to both layers together."""
    root = np.diag(np.diag(moment) ** 0.5)
    mode = np.linalg.svd(root @ goal, compute_uv=False)[0]
    scale = (np.trace(moment) / goal.shape[1]) ** 0.5
    return float(mode * scale + np.max(np.diag(moment)) * mode / scale)


def mixed(shape, modes, tilt, level: str, rho: float, key, *, runs, relaxations, seed) -> dict:
    """Both noises; half of the runs start from a too small hidden layer, half from a too large.

    relaxations: the duration, in relaxation times of the slowest weights.
    """
    (d, h, o), (rate, sigma) = shape, LEVELS[level]
    x, y, goal = task(d, o, modes, tilt)
    moment, (net, problem) = x.T @ x / EXAMPLES, network(x, y, h)
    kappa = rate * sigma**2 / (4 * BATCH)
    model = noise.label_noise(problem, BATCH, sigma)
    process = sgd(with_temperature(model, rho * kappa, rate, net.size), rate)
    rng = np.random.default_rng(seed)
    variances = [rho / o * (run % 2) for run in range(runs)]
    start = [factors(goal, h, moment, variance, rng) for variance in variances]
    slowest = 1 / (2 * kappa * min(o * np.diag(moment).min(), np.trace(moment)))
    second_moment = jnp.asarray(moment, jnp.float32)

    def observe(theta):
        kick = batch_kick(net, problem, theta)
        return measures(net, problem, second_moment, theta) | {"batch_kick": kick}

    steps = relaxations * slowest / rate
    records, _ = recorded_with_loss(process, start, observe, problem.value, steps, key)
    means = {name: stationary(values) for name, values in records.items()}
    exact, power = noise_balance(rho, moment, goal, h), np.trace(moment)
    layers = [np.asarray(w, float) for w in net.weights(factors(goal, h, moment))]
    expected = predicted_excess(
        x, layers, o * exact.hidden + power * exact.readout, rate, sigma, rho * kappa
    )
    trace = o * means["hidden"] + power * means["readout"]
    gap = o * means["hidden"] - np.trace(moment) * means["readout"] - rho * (d - o) * h / 2
    kick = BATCH / sigma**2 * (means["kick"] + means["batch_kick"] / BATCH)
    pairs = {
        "ratio": (ratio(means["hidden"], means["square"]), exact.participation_ratio),
        "hidden": (mean(means["hidden"]), exact.hidden),
        "imbalance": (mean(means["imbalance"]), exact.hidden - exact.readout),  # of white inputs
        "gap": (mean(gap / (o * exact.hidden)), 0.0),
        "gap_exact": (mean((gap - kick) / (o * exact.hidden)), 0.0),
        "excess": (excess_per_trace(means["loss"], trace, kappa), expected["excess_predicted"]),
    }
    smallest = modes[-1] * (np.trace(moment) / o) ** 0.5
    free, distance = rho / 2 / o, abs(d - h) if d >= o else abs(h - o)
    return (
        expected
        | compared(pairs)
        | {
            "reach": free / smallest * max(1.0, distance / 2.5),
            "sharpness": rate * sharpness(goal, moment),
            "jitter": 2 * kappa * o * d / exact.hidden,
        }
    )


def integrals(moment, cross, h: int, with_volume: bool = True, nodes: int = 24) -> dict:
    """E Tr K and E log det(1 + K / decay) by quadrature over W W^T = L L^T, for 1 or 2 inputs.

    Without `with_volume` the log det is left out of the law, to show its effect.
    """
    d, o = cross.shape
    points, weights = np.polynomial.legendre.leggauss(nodes)
    reach = 1.5 + 5 * (LAW_T / LAW_DECAY) ** 0.5
    diagonal = (reach / 2 * (points + 1), reach / 2 * weights)
    below = (reach * points, reach * weights)
    axes = [diagonal] if d == 1 else [diagonal, below, diagonal]
    logs, values = [], []
    for index in product(range(nodes), repeat=len(axes)):
        w = np.zeros((d, h))
        entries = [axis[0][i] for axis, i in zip(axes, index, strict=True)]
        w[np.tril_indices(d)[0], np.tril_indices(d)[1]] = entries
        jacobian = sum((h - 1 - i) * np.log(w[i, i]) for i in range(d))
        volume = np.linalg.slogdet(np.eye(h) + w.T @ moment @ w / LAW_DECAY)[1]
        weight = sum(np.log(axis[1][i]) for axis, i in zip(axes, index, strict=True))
        values.append((np.trace(w.T @ moment @ w), volume))
        logs.append(log_marginal(w, moment, cross, LAW_T, LAW_DECAY) + jacobian + weight)
        logs[-1] += (not with_volume) * o / 2 * volume
    probability = np.exp(np.asarray(logs) - max(logs))
    hidden, volume = np.asarray(values).T @ probability / probability.sum()
    return {"hidden": float(hidden), "volume": float(volume)}


def key_of(seed: int, *point):
    """A random key for a point of a grid, the same on any machine."""
    words = np.random.SeedSequence([seed, *repr(point).encode()]).generate_state(1)
    return jax.random.key(int(words[0]))


def compared(pairs) -> dict[str, float]:
    """Measured numbers with their errors, and predicted numbers."""
    columns: dict[str, float] = {}
    for name, (estimate, predicted) in pairs.items():
        columns |= {name: float(estimate.value), f"{name}_stderr": float(estimate.stderr)}
        columns[f"{name}_predicted"] = float(predicted)
    return columns


def prefixed(prefix, values) -> xr.Dataset:
    """A Dataset of the numbers of an experiment, each under the name of the experiment."""
    return xr.Dataset({f"{prefix}_{name}": value for name, value in values.items()})
