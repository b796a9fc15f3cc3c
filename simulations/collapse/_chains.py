"""Steps of the networks that may collapse, and the simulation of many of them at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

from sgdnoise.dynamics import Process, simulate
from sgdnoise.noise import Normal

SLOPE, LABEL_NOISE = 0.15, 1.0
LAYER_BATCH = 4
COLLAPSED = 1e-6  # weights below it are collapsed
TEACHER = (2.0, 0.2)  # y = tanh(2 x) + tanh(0.2 x), which two equal units cannot represent
TINY = 1e-80  # norm at which steps are linear, to which weights are rescaled
SEPARATION = 1e-6  # half the difference of two units, to which it is rescaled after each step


def simulate_chains(step, width, start, rates, key, *, steps, every, observe=None):
    """Observations of chains (chain, t, ...), as many at each rate, in double precision.

    step(rate, theta, normal) takes `width` standard normal numbers; key is a tuple of integers.
    """

    def process(rate):
        return Process(partial(step, rate), Normal(width), rate)

    def observer(rate):  # noqa: ARG001 - the same at every rate
        return observe or (lambda theta: theta)

    with jax.enable_x64(True):
        root = jax.random.key(key[0])
        for number in key[1:]:
            root = jax.random.fold_in(root, number)
        rate_of_chain = np.repeat(rates, len(start) // len(rates))
        setting = {"steps": steps, "every": every, "observe": observer, "given": rate_of_chain}
        return np.asarray(simulate(process, root, start, **setting))


def unit_step(rate, theta, normal, *, batch):
    """A step of SGD on y = w2 w1 x with targets SLOPE x + LABEL_NOISE eps."""
    x, eps = normal.reshape(2, batch)
    gradient = jnp.mean((theta[0] * theta[1] - SLOPE) * x**2 - LABEL_NOISE * eps * x)
    return theta - rate * gradient * theta[::-1]


def layer_step(rate, theta, normal, *, batch, width):
    """A step of SGD on one hidden linear unit with `width` inputs and outputs; targets noise."""
    x, eps = normal.reshape(2, batch, width)
    first, second = theta[:width], theta[width:]
    residual = (x @ first)[:, None] * second - LABEL_NOISE * eps
    gradients = (x.T @ (residual @ second) / batch, residual.T @ (x @ first) / batch)
    return theta - rate * jnp.concatenate(gradients)


def rescaled(step):
    """A step whose weights are rescaled to the norm TINY; the last number sums their log growth."""

    def rescaled_step(rate, theta, normal):
        after = step(rate, theta[:-1], normal)
        ratio = jnp.linalg.norm(after) / TINY
        return jnp.append(after / ratio, theta[-1] + jnp.log(ratio))

    return rescaled_step


def twins_step(rate, theta, normal, *, batch):
    """A step of two nearly equal units, with two observations of it.

    These are the curvature of the batch across the set where both units are equal, and the
    logarithm of the growth of their difference, which is then rescaled to SEPARATION.
    """
    x, eps = normal.reshape(2, batch)
    pair = theta[:2] - rate * jax.grad(_twins_loss)(theta[:2], x, eps)
    equal = jnp.full(2, (theta[0] + theta[1]) / 2)
    curvature = _across(jax.hessian(_twins_loss)(equal, x, eps))
    mean, half = (pair[0] + pair[1]) / 2, (pair[1] - pair[0]) / 2
    growth = jnp.log(jnp.abs(half) / SEPARATION)
    return jnp.stack([mean - SEPARATION, mean + SEPARATION, curvature, growth])


def curvatures(weight: float, examples) -> np.ndarray:
    """Curvature of the loss of each example across two units of equal weight.

    examples (2, n): inputs and label noise.
    """

    def across(x, eps):
        return _across(jax.hessian(_twins_loss)(pair, x[None], eps[None]))

    with jax.enable_x64(True):
        pair = jnp.asarray([weight, weight])
        return np.asarray(jax.jit(jax.vmap(across))(*examples))


def stationary_weight() -> float:
    """The weight of two equal units that are closest to the teacher."""
    x, weights = np.polynomial.hermite_e.hermegauss(100)
    target = sum(np.tanh(w * x) for w in TEACHER)
    result = minimize_scalar(lambda w: weights @ (2 * np.tanh(w * x) - target) ** 2, (0.1, 1.0))
    return float(result.x)


def _twins_loss(pair, x, eps):
    """Loss of y = tanh(w1 x) + tanh(w2 x), a mean over the batch."""
    target = sum(jnp.tanh(w * x) for w in TEACHER)
    output = jnp.tanh(pair[0] * x) + jnp.tanh(pair[1] * x)
    return jnp.mean((output - target - LABEL_NOISE * eps) ** 2) / 2


def _across(hessian):
    """Second derivative along (1, -1) / 2^1/2."""
    return (hessian[0, 0] - hessian[0, 1] - hessian[1, 0] + hessian[1, 1]) / 2
