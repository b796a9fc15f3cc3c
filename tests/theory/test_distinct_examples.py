"""Descent on distinct examples, with label noise and residuals that stay, against its flow."""

import jax
import jax.numpy as jnp
import numpy as np
from witnesses import SURE

from sgdnoise import noise
from sgdnoise.core import Problem, finite_population_factor
from sgdnoise.dynamics import sgd, simulate
from sgdnoise.theory import MLP, flow_regime, label_noise_flow, residual_task

N, BATCH, RATE, LABEL, STEPS, RUNS = 20, 10, 0.05, 0.5, 6000, 64


def test_the_factor_of_distinct_examples_acts_on_residuals_and_not_on_fresh_labels(rng):
    """The PR at the end: with batch / f in the place of B all noise would be smaller."""
    x = rng.normal(size=(N, 5))
    w, v = rng.normal(size=(5, 8)) / 5**0.5, rng.normal(size=(8, 1)) / 8**0.5
    y = x @ w @ v + 0.3 * rng.normal(size=(N, 1))
    task, product = residual_task(x, y, LABEL)
    v = v + np.linalg.pinv(w) @ (product - w @ v)
    net = MLP((5, 8, 1), "linear")
    problem = Problem(net.losses, tuple(jnp.asarray(a, jnp.float32) for a in (x, y)))
    moment = jnp.asarray(task.moment, jnp.float32)

    def ratio(theta):
        first, _ = net.weights(theta)
        hidden = first.T @ moment @ first
        return jnp.trace(hidden) ** 2 / jnp.sum(hidden**2)

    model = noise.label_noise(problem, BATCH, LABEL, noise.without_replacement(N, BATCH))
    theta = jnp.asarray(np.concatenate([w.ravel(), v.ravel()]), jnp.float32)
    start, key = jnp.tile(theta, (RUNS, 1)), jax.random.key(3)
    chains = simulate(sgd(model, RATE), key, start, steps=STEPS, every=STEPS, observe=ratio)
    measured = np.asarray(chains, float)[:, -1]
    f = finite_population_factor(N, BATCH)

    def predicted(**arguments):
        flow = label_noise_flow(task, [w, v], [0, RATE * STEPS], learning_rate=RATE, **arguments)
        (hidden,) = flow.hidden_moments(task.moment)
        return np.trace(hidden[-1]) ** 2 / np.sum(hidden[-1] ** 2)

    right = predicted(batch_size=BATCH, population_factor=f)
    strength = {"learning_rate": RATE, "batch_size": BATCH, "population_factor": f}
    own = flow_regime(task, [w, v], **strength).error
    allowed = SURE * measured.std(ddof=1) / RUNS**0.5 + own * right
    assert abs(measured.mean() - right) < allowed
    for wrong in (predicted(batch_size=BATCH / f), predicted(batch_size=BATCH)):
        assert abs(measured.mean() - wrong) > allowed
