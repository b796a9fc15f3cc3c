"""The moment closure with averages over all of the covariance, by normal draws.

`moment_closure` averages the Hessian and the noise over the leading eigenvectors of S, at a cost of
their number squared.  Averages over draws cost the same at any number of eigenvectors, and have all
orders of a normal law.
"""

from functools import partial

import jax
import jax.numpy as jnp

from sgdnoise.theory import Cumulants

PAIRS = 8, 32  # draws of opposite sign in each step, for the Hessian and for the noise


def closure_over_draws(model, start, *, learning_rate, steps, every, pairs=PAIRS, seed=0):
    """Mean and covariance of SGD as `moment_closure` has them, averaged over new draws each step.

    model: a Noise whose covariance is made of rows.  pairs: for the Hessian, and for the noise.
    """
    step = jax.jit(partial(_step, model, learning_rate, pairs))
    mean, covariance = start, jnp.zeros((len(start),) * 2, start.dtype)
    key, means, covariances = jax.random.key(seed), [], []
    for index in range(steps):
        mean, covariance = step(mean, covariance, jax.random.fold_in(key, index))
        if (index + 1) % every == 0:
            means.append(mean)
            covariances.append(covariance)
    time = learning_rate * every * jnp.arange(1.0, 1 + len(means))
    return Cumulants(time, jnp.stack(means), covariances)


def _step(model, learning_rate, pairs, mean, covariance, key):
    """One step of the mean (p,) and of the covariance (p, p)."""
    problem, unit = model.problem, jnp.eye(len(mean), dtype=mean.dtype)

    def hessian(theta):
        return jax.vmap(lambda v: problem.hvp(theta, v))(unit)

    def noise(theta):
        rows = model.covariance(theta).rows
        return rows.T @ rows

    values, vectors = jnp.linalg.eigh(covariance)
    factor = jnp.sqrt(jnp.clip(values, 0)) * vectors
    draws = jax.random.normal(key, (max(pairs), len(mean)), mean.dtype) @ factor.T

    def average(function, pairs):
        both = jnp.concatenate([draws[:pairs], -draws[:pairs]])
        return jax.lax.map(lambda z: function(mean + z), both).mean(0)

    force = jax.grad(lambda t: jnp.sum(hessian(t) * covariance))(mean)
    contracted = unit - learning_rate * average(hessian, pairs[0])
    propagated = contracted @ covariance @ contracted.T
    moved = mean - learning_rate * (problem.gradient(mean) + force / 2)
    return moved, propagated + learning_rate**2 * average(noise, pairs[1])
