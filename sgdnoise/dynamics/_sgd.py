"""Stochastic gradient descent."""

from collections.abc import Callable
from typing import Any

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, minus_multiple
from sgdnoise.core._checks import check_non_negative, check_positive
from sgdnoise.core._problem import Problem
from sgdnoise.dynamics._process import Process, scheduled
from sgdnoise.noise._models import Noise, from_weights
from sgdnoise.noise._weights import Weights, svag_weights

Rate = float | Array | Callable[[Any], Any]


@checked
def sgd(noise: Noise, learning_rate: Rate, weight_decay: float | Array = 0.0) -> Process:
    """SGD: theta <- theta - learning_rate (g(theta) + weight_decay theta), g the noisy gradient.

    learning_rate: a number, or a function of the integer step (from zero).  Time advances by the
    learning rate.  Coupled and decoupled weight decay are the same here.
    Raises ValueError unless learning_rate > 0 and weight_decay >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[0.0], [2.0]])
        >>> problem = Problem(lambda t, x: ((t - x) ** 2).sum(1) / 2, (x,))
        >>> process = sgd(noise.full_batch(problem), learning_rate=0.5)
        >>> process.step(jnp.zeros(1), ()).tolist()
        [0.5]
    """
    check_positive(learning_rate=learning_rate)
    check_non_negative(weight_decay=weight_decay)

    def move(theta, drawn, learning_rate, _):
        theta, gradient = decayed(theta, noise.gradient(theta, drawn), learning_rate, weight_decay)
        return minus_multiple(theta, learning_rate, gradient)

    return scheduled(move, noise.draw, learning_rate)


@checked
def svag(problem: Problem, law: Weights, learning_rate: Rate, stretch: int) -> Process:
    """SVAG of Li, Malladi & Arora (2021): SGD with steps of learning_rate / stretch.

    The covariance of the noise is multiplied by `stretch`.  The stochastic equation of SGD at
    `learning_rate` under `law` is its limit for large `stretch`; at stretch 1 it is SGD itself.  A
    schedule counts steps of SGD.  If large `stretch` departs from SGD, that equation does not
    describe SGD.
    Raises ValueError for stretch below 1, or a law without a batch size.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = svag(problem, noise.with_replacement(2, 1), 0.1, stretch=4)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    noise = from_weights(problem, svag_weights(law, stretch))
    if callable(learning_rate):
        return sgd(noise, lambda k: learning_rate(k // stretch) / stretch)
    return sgd(noise, learning_rate / stretch)


def decayed(theta, gradient, learning_rate, weight_decay, decoupled: bool = False):
    """Theta and gradient after weight decay has been applied to one of them.

    Coupled decay is the gradient of weight_decay |theta|^2 / 2 and enters what the method
    remembers.  Decoupled decay shrinks theta by learning_rate weight_decay (Loshchilov & Hutter,
    2019).
    """
    if isinstance(weight_decay, (int, float)) and weight_decay == 0:
        return theta, gradient
    if decoupled:
        return (1 - learning_rate * weight_decay) * theta, gradient
    return theta, gradient + weight_decay * theta
