"""The paths of an optimiser under label noise, as simulated and as theory predicts them."""

from itertools import islice
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise import dynamics, noise
from sgdnoise.theory import adaptive_preconditioner, averaged_flow
from simulations.adaptive._network import Network

BATCH = 8
WARM_UP = 7000  # steps without motion, in which the average of squared gradients settles
PAIRS = 16  # of jitter, over which theory takes what is observed
LOSSES = 10  # looks at the loss between two records


class Optimiser(NamedTuple):
    """Its betas, and the label noise in units of that of the case.

    betas: beta_1 and beta_2 of Adam; beta_1 = 0 is RMSprop, and None is SGD.
    """

    betas: tuple[float, float] | None
    noise: float = 1.0

    @property
    def momentum(self) -> float:
        return 0.0 if self.betas is None else self.betas[0]


class Setting(NamedTuple):
    """Label noise, and the rate of an optimiser at the start of a network."""

    label_noise: float
    rate: float
    amplification: float
    preconditioner: np.ndarray


def setting_of(net: Network, optimiser: Optimiser, label_noise: float, sharpness: float) -> Setting:
    """The setting in which rate x largest curvature is `sharpness` at the noise of the case.

    The curvatures are those of P^(1/2) H P^(1/2).  Another noise has the same rate.
    """
    jacobian = np.asarray(net.jacobian(net.start))

    def curvatures(preconditioner):
        rows = (jacobian * preconditioner**0.5).reshape(-1, jacobian.shape[2])
        return np.linalg.svd(rows, compute_uv=False) ** 2 / len(jacobian)

    def preconditioner(factor):
        if optimiser.betas is None:
            return np.ones(jacobian.shape[2])
        return adaptive_preconditioner(jacobian, label_noise=factor * label_noise, batch_size=BATCH)

    rate = sharpness / curvatures(preconditioner(1.0)).max()
    p = preconditioner(optimiser.noise)
    u = rate * curvatures(p).sum() / (2 * BATCH * jacobian.shape[1])
    return Setting(optimiser.noise * label_noise, rate, u, p)


def predicted(net: Network, optimiser: Optimiser, setting: Setting, *, rng, **size):
    """Relative changes (quantity, watch), and mean losses (watch,) with their quadratic form.

    What is observed is averaged over pairs of jitter about the mean, each at its minimum.
    """
    beta = optimiser.momentum
    rng = np.random.default_rng(rng)
    path = averaged_flow(
        net.gradient,
        net.jacobian,
        np.asarray(net.start),
        label_noise=setting.label_noise,
        learning_rate=setting.rate,
        batch_size=BATCH,
        discrete_steps=(1 - beta) / (1 + beta),
        adaptive=None if optimiser.betas is None else optimiser.betas[1],
        rng=rng,
        **size,
    )
    changes, losses = [], []
    value = jax.jit(jax.vmap(net.problem.value))
    for theta, jitter, excess in zip(path.theta, path.jitter, path.excess, strict=True):
        away = orthogonal(jitter.width, PAIRS, rng) @ jitter.rows
        near = np.concatenate([theta + away, theta - away])
        changes.append(net.observed(near, setting.preconditioner).mean(0))
        seen = away @ np.asarray(net.jacobian(theta)).reshape(-1, len(theta)).T
        quadratic = np.mean(np.sum(seen**2, 1)) / (2 * len(net.inputs))
        losses.append((excess * float(np.mean(value(jnp.asarray(near)))) / quadratic, excess))
    return np.stack(changes, -1), *np.transpose(losses)


def orthogonal(width: int, count: int, rng) -> np.ndarray:
    """White numbers (count, width), orthogonal as far as there are enough of them."""
    q, _ = np.linalg.qr(rng.standard_normal((width, width)))
    return np.asarray([*islice(width**0.5 * q, count)])


def simulated(net: Network, optimiser: Optimiser, setting: Setting, *, steps, every, chains, key):
    """Relative changes (chain, quantity, watch) at minima, and mean losses (chain, watch)."""
    warm_up = 0 if optimiser.betas is None else WARM_UP
    look = every // LOSSES
    warm_up = -(-warm_up // look) * look

    def rate(step):
        return jnp.where(step < warm_up, 0.0, setting.rate)

    drawn = noise.label_noise(net.problem, BATCH, setting.label_noise)
    match optimiser.betas:
        case None:
            process = dynamics.sgd(drawn, setting.rate)
        case (0.0, beta):
            process = dynamics.rmsprop(drawn, rate, beta)
        case betas:
            process = dynamics.adam(drawn, rate, betas)
    start = jnp.tile(net.start, (chains, 1))
    run = dynamics.simulate(process, key, start, steps=warm_up + steps, every=look)
    thetas = run.theta[:, warm_up // look :]  # (chain, look, p)
    losses = jax.lax.map(jax.vmap(net.problem.value), thetas)
    losses = np.asarray(losses).reshape(chains, -1, LOSSES).mean(2)
    records = thetas[:, LOSSES - 1 :: LOSSES]
    values = net.observed(records.reshape(-1, records.shape[2]), setting.preconditioner)
    return np.moveaxis(values.reshape(*records.shape[:2], -1), 1, 2), losses
