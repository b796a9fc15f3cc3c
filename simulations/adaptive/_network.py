"""Perceptrons at a minimum without residuals, and what is measured of them."""

from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise.core import Problem
from sgdnoise.data import digits, principal, split
from sgdnoise.dimension import participation_ratio
from sgdnoise.theory import MLP

LEARNING = 0.1  # rate of gradient descent before noise is switched on
ROUNDS = 4  # of Gauss and Newton, to a minimum


class Task(NamedTuple):
    """Classes of digits, widths of a tanh perceptron, examples, and whether inputs are whitened."""

    classes: int
    widths: tuple[int, ...]
    examples: int
    whiten: bool


class Network:
    """A perceptron that has learned digits, with its own outputs as targets from then on."""

    def __init__(self, task: Task, seed: int, learning: int):
        train, test = split(digits(task.classes), task.examples, rng=seed)
        data = principal(train, test, task.widths[0], whiten=task.whiten)[0]
        self.net, self.inputs = MLP(task.widths), jnp.asarray(np.asarray(data.inputs), float)
        key, parts = jax.random.key(seed), []
        for i, o in zip(task.widths, task.widths[1:], strict=False):
            key, own = jax.random.split(key)
            parts.append(jax.random.normal(own, (i * o,)) / i**0.5)
        problem = self._problem(jnp.asarray(np.asarray(data.targets), float))

        def descend(_, theta):
            return theta - LEARNING * problem.gradient(theta)

        self.start = jax.jit(partial(jax.lax.fori_loop, 0, learning, descend))(
            jnp.concatenate(parts)
        )
        self.targets = self.outputs(self.start)
        self.problem = self._problem(self.targets)

    def _problem(self, targets) -> Problem:
        return Problem(self.net.losses, (self.inputs, targets))

    def outputs(self, theta):
        """(n, o)."""
        return self.net.outputs(theta, self.inputs)

    @cached_property
    def gradient(self):
        """theta -> grad L (p,), compiled."""
        return jax.jit(self.problem.gradient)

    @cached_property
    def jacobian(self):
        """theta -> J (n, o, p), compiled."""
        return jax.jit(jax.jacrev(self.outputs))

    def hidden(self, theta) -> list:
        """The representation (n, h) of each hidden layer."""
        rows, layers = self.inputs, []
        for weights in self.net.weights(theta)[:-1]:
            rows = jnp.tanh(rows @ weights)
            layers.append(rows)
        return layers

    def quantities(self, theta):
        """PR of each hidden layer, Tr H, and the sum of the roots of its diagonal."""
        jacobian = jax.jacrev(self.outputs)(theta)
        diagonal = jnp.sum(jacobian**2, (0, 1)) / len(self.inputs)
        ratios = [participation_ratio(rows) for rows in self.hidden(theta)]
        return jnp.stack([*ratios, diagonal.sum(), jnp.sqrt(diagonal).sum()])

    def minimum(self, theta, preconditioner):
        """The nearest minimum in the metric 1 / P, by steps of Gauss and Newton."""
        for _ in range(ROUNDS):
            rows = jax.jacrev(self.outputs)(theta).reshape(-1, theta.shape[0])
            residuals = (self.outputs(theta) - self.targets).reshape(-1)
            move = rows.T @ jnp.linalg.solve((rows * preconditioner) @ rows.T, residuals)
            theta = theta - preconditioner * move
        return theta

    def observed(self, thetas, preconditioner) -> np.ndarray:
        """`quantities` at the minima of some theta (k, p), relative to the start less 1, (k, q)."""
        start = self.quantities(self.start)

        @jax.jit
        def observe(theta):
            return self.quantities(self.minimum(theta, preconditioner)) / start - 1

        return np.asarray(jax.lax.map(observe, jnp.asarray(thetas)))
