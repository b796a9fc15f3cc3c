"""Chains of a two-layer network on digits, under noises that are matched to label noise."""

from contextlib import suppress
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdnoise import noise
from sgdnoise.core import Diagonal, Isotropic, Problem
from sgdnoise.data import digits, principal, split
from sgdnoise.dimension import participation_ratio, twonn
from sgdnoise.dynamics import sgd, side_by_side, simulate_resumable
from sgdnoise.theory import (
    MLP,
    label_noise_strength,
    network_regime,
    residual_amplification,
)

LEARNING = 4  # chunks of the noiseless training that comes first
MODES = ("none", "label", "gaussian", "diagonal", "isotropic", "prediction")


class Setting(NamedTuple):
    """A task and the noise on it; rates and times in units of the loss with its factor 1/2."""

    title: str
    classes: int
    whiten: bool
    learning_rate: float
    steps: int
    label_noise: float = 1.0
    batch_size: int = 8
    hidden: int = 40
    inputs: int = 20
    examples: int = 128
    descent_rate: float = 0.1
    descent_steps: int = 40_000
    quench: int = 500
    watches: int = 20
    modes: tuple[str, ...] = MODES
    allowed: float = 0.1  # relative tolerance of the theory in its regime


class Row(NamedTuple):
    """The examples of one chain, and those on which it is tested."""

    inputs: jax.Array
    targets: jax.Array
    test_inputs: jax.Array
    test_targets: jax.Array


def network(setting: Setting) -> MLP:
    """The network of a setting."""
    return MLP((setting.inputs, setting.hidden, setting.classes))


def rows(setting: Setting, seeds) -> Row:
    """Training and test examples of each seed, drawn from the digits by that seed."""
    chains = []
    for seed in seeds:
        train, test = split(digits(setting.classes), setting.examples, rng=seed)
        train, test = principal(train, test, setting.inputs, whiten=setting.whiten)
        chains.append((*train[:2], *test[:2]))
    return Row(
        *(jnp.asarray(np.stack(column), jnp.float32) for column in zip(*chains, strict=True))
    )


def initial_weights(setting: Setting, key):
    """Initial weights: independent normal of variance 1 / fan-in.  -> (p,)"""
    d, h, o = network(setting).widths
    first_key, second_key = jax.random.split(key)
    first = jax.random.normal(first_key, (d * h,), jnp.float32) / d**0.5
    return jnp.concatenate([first, jax.random.normal(second_key, (h * o,), jnp.float32) / h**0.5])


def problem(setting: Setting, row: Row, kappa: float = 0.0) -> Problem:
    """L + kappa Tr H on the examples of one chain."""
    net = network(setting)

    def losses(theta, inputs, targets):
        plain = net.losses(theta, inputs, targets)
        return plain + kappa * net.traces(theta, inputs) if kappa else plain

    return Problem(losses, (row.inputs, row.targets))


def noises(setting: Setting, row: Row) -> dict[str, noise.Noise]:
    """The noise of each mode; those of another shape are matched to label noise at each theta."""
    net, plain = network(setting), problem(setting, row)
    label = noise.label_noise(plain, setting.batch_size, setting.label_noise)
    kappa = label_noise_strength(setting.learning_rate, setting.label_noise, setting.batch_size)

    arguments = row.inputs, row.targets, setting.batch_size, setting.label_noise

    def diagonal(theta):
        return Diagonal(net.label_noise_diagonal(theta, *arguments))

    def isotropic(theta):
        return Isotropic(net.label_noise_trace(theta, *arguments) / net.size, net.size)

    return {
        "none": noise.full_batch(plain),
        "label": label,
        "gaussian": noise.gaussian(label),
        "diagonal": noise.additive(plain, diagonal),
        "isotropic": noise.additive(plain, isotropic),
        "prediction": noise.full_batch(problem(setting, row, kappa)),
    }


def probe(setting: Setting, row: Row, theta) -> dict:
    """Measures of one chain: the loss as it is, and others after a quench on the plain loss."""
    net, plain = network(setting), problem(setting, row)

    def descend(_, t):
        return t - setting.learning_rate * plain.gradient(t)

    quenched = jax.lax.fori_loop(0, setting.quench, descend, theta)
    scores = net.outputs(quenched, row.test_inputs)
    correct = jnp.argmax(scores, axis=1) == jnp.argmax(row.test_targets, axis=1)
    return {
        "loss": plain.value(theta),
        "loss_quenched": plain.value(quenched),
        "dimension": participation_ratio(net.hidden(quenched, row.inputs)),
        "dimension_unquenched": participation_ratio(net.hidden(theta, row.inputs)),
        "dimension_test": participation_ratio(net.hidden(quenched, row.test_inputs)),
        "twonn": twonn(net.hidden(quenched, row.test_inputs)),
        "trace": jnp.mean(net.traces(quenched, row.inputs)),
        "accuracy": jnp.mean(correct),
    }


@cache
def chain_functions(setting: Setting):
    """Process and observable of a chain from its Row; cached, so that each is compiled once."""
    modes = setting.modes

    def process(row):
        models = noises(setting, row)
        return side_by_side({mode: sgd(models[mode], setting.learning_rate) for mode in modes})

    def observe(row):
        measure = jax.vmap(partial(probe, setting, row))
        return lambda theta: measure(jnp.stack([theta[mode] for mode in modes]))

    def learning(row):
        return sgd(noise.full_batch(problem(setting, row)), setting.descent_rate)

    def sharpness(row):
        return lambda theta: _sharpness(problem(setting, row), theta)

    return process, observe, learning, sharpness


def _sharpness(plain, theta):
    """Largest curvature, by power iteration."""

    def iterate(_, v):
        v = plain.hvp(theta, v)
        return v / jnp.linalg.norm(v)

    v = jax.lax.fori_loop(0, 100, iterate, jnp.ones_like(theta) / theta.shape[0] ** 0.5)
    return v @ plain.hvp(theta, v)


def trained(setting: Setting, data: Row, keys, folder):
    """Weights after gradient descent, (chain, p), and the largest curvature there, (chain,)."""
    _, _, learning, sharpness = chain_functions(setting)
    start = jax.vmap(lambda key: initial_weights(setting, jax.random.fold_in(key, 0)))(keys)
    steps = setting.descent_steps // LEARNING
    state, sharpnesses = simulate_resumable(
        learning,
        keys,
        start,
        steps=steps * LEARNING,
        every=steps,
        chunk=steps,
        folder=folder,
        observe=sharpness,
        given=data,
    )
    return state.theta, sharpnesses[:, -1]


def run(setting: Setting, seeds, *, folder) -> xr.Dataset:
    """All modes of some seeds, recorded (mode, seed, watch) from the same trained weights on.

    Finished chunks are stored in `folder` and not computed again.
    """
    modes = setting.modes
    data, keys = rows(setting, seeds), jax.vmap(jax.random.key)(jnp.asarray(seeds))
    theta, sharpness = trained(setting, data, keys, folder / "learning")
    process, observe, *_ = chain_functions(setting)
    every = setting.steps // setting.watches
    state, records = simulate_resumable(
        process,
        keys,
        {mode: theta for mode in modes},
        steps=setting.steps,
        every=every,
        chunk=every,
        folder=folder / "noise",
        observe=observe,
        given=data,
    )
    first = jax.jit(jax.vmap(partial(probe, setting)))(data, theta)
    result = _dataset(setting, seeds, first, records, state.n_finite, sharpness)
    return result.assign(small_parameters(setting, data, theta, result))


def small_parameters(setting: Setting, data: Row, theta, result: xr.Dataset) -> dict:
    """Slow rate over curvature, and share of the jitter, of each seed at the start; see claims.

    theta: (seed, p), the weights at the start.  result: with the predicted paths.  Both numbers are
    missing where no prediction was run, and where the rate is unstable.
    """
    rows = np.full((2, len(theta)), np.nan)
    for seed, weights in enumerate(theta if "prediction" in result.mode else ()):
        path = result.isel(seed=seed).sel(mode="prediction")
        paths = np.stack([path.dimension.values, path.trace.values])
        row = Row(*(array[seed] for array in data))
        times = setting.learning_rate * path.step.values
        with suppress(ValueError):
            regime = regime_of(setting, row, weights, times, paths)
            rows[:, seed] = regime.haste, regime.jitter
    return {name: ("seed", values) for name, values in zip(("haste", "jitter"), rows, strict=True)}


def regime_of(setting: Setting, row: Row, theta, times, paths):
    """The FlowRegime of one chain for the paths (observable, t) that theory predicts."""
    net = network(setting)

    def slopes(function):
        return np.asarray(jax.jit(jax.jacobian(function))(theta, row.inputs))

    return network_regime(
        slopes(net.outputs),
        [(np.asarray(net.hidden(theta, row.inputs)), slopes(net.hidden))],
        times,
        paths,
        label_noise=setting.label_noise,
        learning_rate=setting.learning_rate,
        batch_size=setting.batch_size,
        residuals=np.asarray(net.outputs(theta, row.inputs) - row.targets),
    )


def _dataset(setting, seeds, first, records, lasted, sharpness) -> xr.Dataset:
    """The records with names; `first` (seed,) is the start that all modes share."""
    modes = setting.modes

    def series(name):
        """The start and the records, (seed, watch, mode) -> (mode, seed, watch)."""
        start = np.broadcast_to(np.asarray(first[name])[:, None, None], (len(seeds), 1, len(modes)))
        return np.moveaxis(np.concatenate([start, records[name]], axis=1), 2, 0)

    arguments = (
        setting.learning_rate,
        np.asarray(first["trace"]),
        setting.batch_size,
        setting.classes,
    )
    step = np.linspace(0, setting.steps, setting.watches + 1).round().astype(int)
    return xr.Dataset(
        {name: (("mode", "seed", "watch"), series(name)) for name in first}
        | {
            "lasted": (("mode", "seed"), np.stack([lasted[mode] for mode in modes])),
            "step": ("watch", step),
            "kappa": label_noise_strength(
                setting.learning_rate, setting.label_noise, setting.batch_size
            ),
            "rate": setting.learning_rate,
            "steps": setting.steps,
            "allowed": setting.allowed,
            "amplification": ("seed", residual_amplification(*arguments)),
            "sharpness": ("seed", np.asarray(sharpness)),
        },
        {"mode": list(modes), "seed": list(seeds)},
    )
