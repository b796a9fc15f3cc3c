"""Steps of the networks that may collapse, and how many of them are run at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

from sgdnoise.dynamics import Process, simulate
from sgdnoise.noise import Normal

__all__ = [
    "APART",
    "FAR_BELOW",
    "LABEL_NOISE",
    "SLOPE",
    "TEACHER",
    "chains",
    "curvatures",
    "far_below",
    "layer_step",
    "resting",
    "twins_step",
    "unit_step",
]

SLOPE, LABEL_NOISE = 0.15, 1.0
TEACHER = (2.0, 0.2)  # y = tanh(2 x) + tanh(0.2 x), which two units alike cannot be
FAR_BELOW = 1e-80  # a size at which steps are linear, to which weights are set back
APART = 1e-6  # half the difference of two units, to which it is set back after each step


def chains(step, width, start, rates, key, *, steps, every, look=None):
    """What is seen of chains (chain, t, ...), an equal number at each rate, in double precision.

    step(rate, theta, white), white of `width` standard normal numbers; key: whole numbers.
    """

    def process(rate):
        return Process(partial(step, rate), Normal(width), rate)

    def observe(rate):  # noqa: ARG001 - the same at every rate
        return look or (lambda theta: theta)

    with jax.enable_x64(True):
        root = jax.random.key(key[0])
        for part in key[1:]:
            root = jax.random.fold_in(root, part)
        given = np.repeat(rates, len(start) // len(rates))
        how = {"steps": steps, "every": every, "observe": observe, "given": given}
        return np.asarray(simulate(process, root, start, **how))


def unit_step(rate, theta, white, *, batch):
    """Descent of y = w2 w1 x, targets SLOPE x + LABEL_NOISE eps."""
    x, eps = white.reshape(2, batch)
    pull = jnp.mean((theta[0] * theta[1] - SLOPE) * x**2 - LABEL_NOISE * eps * x)
    return theta - rate * pull * theta[::-1]


def layer_step(rate, theta, white, *, batch, width):
    """Descent of one hidden unit of a linear layer, `width` inputs and outputs, targets noise."""
    x, eps = white.reshape(2, batch, width)
    first, second = theta[:width], theta[width:]
    residual = (x @ first)[:, None] * second - LABEL_NOISE * eps
    slopes = (x.T @ (residual @ second) / batch, residual.T @ (x @ first) / batch)
    return theta - rate * jnp.concatenate(slopes)


def far_below(step):
    """Steps of weights that are set back to FAR_BELOW; the last number adds up their log growth."""

    def moved(rate, theta, white):
        after = step(rate, theta[:-1], white)
        ratio = jnp.linalg.norm(after) / FAR_BELOW
        return jnp.append(after / ratio, theta[-1] + jnp.log(ratio))

    return moved


def twins_step(rate, theta, white, *, batch):
    """Two units and what was seen of the step.

    That is the curvature of the batch across, where the two would be one, and the logarithm of the
    growth of their difference, which is then set back to APART.
    """
    drawn = white.reshape(2, batch)
    pair = theta[:2] - rate * jax.grad(_twins_loss)(theta[:2], *drawn)
    alike = jnp.full(2, (theta[0] + theta[1]) / 2)
    bend = _across(jax.hessian(_twins_loss)(alike, *drawn))
    middle, half = (pair[0] + pair[1]) / 2, (pair[1] - pair[0]) / 2
    growth = jnp.log(jnp.abs(half) / APART)
    return jnp.stack([middle - APART, middle + APART, bend, growth])


def curvatures(weight: float, drawn) -> np.ndarray:
    """Across two units of one weight, of the loss of each example: drawn (2, n), inputs, noise."""

    def across(x, eps):
        return _across(jax.hessian(_twins_loss)(pair, x[None], eps[None]))

    with jax.enable_x64(True):
        pair = jnp.asarray([weight, weight])
        return np.asarray(jax.jit(jax.vmap(across))(*drawn))


def resting() -> float:
    """The weight of two units alike that come closest to the teacher."""
    x, weights = np.polynomial.hermite_e.hermegauss(100)
    taught = sum(np.tanh(w * x) for w in TEACHER)
    found = minimize_scalar(lambda w: weights @ (2 * np.tanh(w * x) - taught) ** 2, (0.1, 1.0))
    return float(found.x)


def _twins_loss(pair, x, eps):
    """Of y = tanh(w1 x) + tanh(w2 x), a mean over the batch."""
    taught = sum(jnp.tanh(w * x) for w in TEACHER)
    found = jnp.tanh(pair[0] * x) + jnp.tanh(pair[1] * x)
    return jnp.mean((found - taught - LABEL_NOISE * eps) ** 2) / 2


def _across(bend):
    """Along (1, -1) / 2^1/2."""
    return (bend[0, 0] - bend[0, 1] - bend[1, 0] + bend[1, 1]) / 2
