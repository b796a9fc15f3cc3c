"""Descent, gradient flow and SGD of a network, with what is observed in windows of steps."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sgdnoise.noise import batch_sharpness
from simulations.edge._networks import Net, sharpness_of

SUBSTEPS = 4  # of Euler in the gradient flow, for each step of descent
BELOW = 0.95  # of 2 / rate, at which the largest curvature is when the study begins
LOOK, LONGEST = 20, 4000  # steps from one look at the curvature to the next, and at most


class Records(NamedTuple):
    """Windows (t,) of a path: of its mean weights, but for the mean loss of all steps.

    theta: the mean weights (t, p).  sharpness: the largest curvatures (t, 3).  ratios: (t, layers).
    """

    theta: Any
    sharpness: np.ndarray
    ratios: np.ndarray
    loss: np.ndarray


class Course:
    """A network, its compiled derivatives, and the rate of its descent."""

    def __init__(self, net: Net, rate: float):
        self.net, self.rate, self.problem = net, rate, net.problem()
        self.gradient = jax.jit(self.problem.gradient)
        self.value = jax.jit(self.problem.value)
        self.ratios = jax.jit(net.ratios)
        self.sharpness = sharpness_of(self.problem)

    def begin(self, seed: int):
        """Weights on the gradient flow, whose largest curvature nears the edge for the first time.

        Raises ValueError if it stays below.
        """
        theta, early = self.net.start(seed), True
        for _ in range(LONGEST // LOOK):
            theta = self._flow(theta, LOOK)
            largest = self.sharpness(theta)[0][0] * self.rate / 2
            early = early and largest > BELOW  # large at random weights, before any learning
            if not early and largest > BELOW:
                return theta
        raise ValueError(f"at rate {self.rate} the curvature does not reach the edge")

    @partial(jax.jit, static_argnums=(0, 2))
    def _flow(self, theta, steps):
        step = self.rate / SUBSTEPS
        return lax.fori_loop(
            0, steps * SUBSTEPS, lambda _, t: t - step * self.problem.gradient(t), theta
        )

    def flow(self, theta, every: int, windows: int) -> Records:
        """The gradient flow, at the middle of each window."""
        places, theta = [], self._flow(theta, every // 2)
        for _ in range(windows):
            places.append(theta)
            theta = self._flow(theta, every)
        return self.records(jnp.stack(places), None)

    def descent(self, theta, every: int, windows: int) -> Records:
        """Gradient descent: means over the steps of each window."""

        def step(theta, _):
            new = theta - self.rate * self.problem.gradient(theta)
            return new, (theta, self.problem.value(theta))

        window = jax.jit(lambda t: lax.scan(step, t, None, length=every))
        means, losses = [], []
        for _ in range(windows):
            theta, (path, values) = window(theta)
            means.append(path.mean(0))
            losses.append(float(values.mean()))
        return self.records(jnp.stack(means), np.asarray(losses))

    def sgd(self, theta, every: int, windows: int, *, batch: int, chains: int, seed: int):
        """Chains of SGD with independent batches: Records of each, and batch sharpness (chain, t).

        The latter is that of the last weights of the windows of the second half.
        """
        n, (x, y) = len(self.problem), self.problem.examples

        def gradient(t, index):
            losses = self.problem.losses
            return jax.grad(lambda t: losses(t, x[index], y[index]).mean())(t)

        def step(state, key):
            theta, total, loss = state
            index = jax.random.randint(key, (chains, batch), 0, n)
            total, loss = total + theta, loss + jax.vmap(self.problem.value)(theta)
            return (theta - self.rate * jax.vmap(gradient)(theta, index), total, loss), None

        @jax.jit
        def window(theta, key):
            start = theta, jnp.zeros_like(theta), jnp.zeros(chains)
            end, total, loss = lax.scan(step, start, jax.random.split(key, every))[0]
            return end, total / every, loss / every

        def sharpness_of_batches(t):
            return batch_sharpness(self.problem, t, batch)

        measure = jax.jit(sharpness_of_batches)
        state, key = jnp.tile(theta, (chains, 1)), jax.random.key(seed)
        means, losses, sharp = [], [], []
        for number in range(windows):
            state, mean, loss = window(state, jax.random.fold_in(key, number))
            means.append(mean)
            losses.append(loss)
            late = number >= windows // 2
            sharp.append([float(measure(t)) if late else np.nan for t in state])
        paths = jnp.stack(means, 1)  # (chain, t, p)
        records = [
            self.records(path, np.asarray(loss))
            for path, loss in zip(paths, np.asarray(losses).T, strict=True)
        ]
        return records, np.asarray(sharp).T

    def records(self, thetas, losses) -> Records:
        """What is observed at weights (t, p); the loss there, if no other is given."""
        losses = np.asarray([float(self.value(t)) for t in thetas]) if losses is None else losses
        sharpness = np.stack([self.sharpness(t)[0] for t in thetas])
        ratios = np.stack([np.asarray(self.ratios(t)) for t in thetas])
        return Records(thetas, sharpness, ratios, losses)

    def trace(self, theta) -> float:
        """The mean over the images of Tr J^T J, with the Jacobian J of the outputs."""

        def squares(image):
            jacobian = jax.jacrev(lambda t: self.net.layers(t, image[None])[-1][0])(theta)
            return (jacobian**2).sum()

        return float(jax.jit(lambda images: lax.map(squares, images))(self.net.inputs).mean())
