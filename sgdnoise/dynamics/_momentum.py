"""SGD with momentum."""

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array
from sgdnoise.core._checks import check_below_one, check_non_negative, check_positive
from sgdnoise.dynamics._process import Process, scheduled
from sgdnoise.dynamics._sgd import Rate, decayed
from sgdnoise.noise._models import Noise


@checked
def heavy_ball(
    noise: Noise,
    learning_rate: Rate,
    momentum: float | Array,
    *,
    dampening: float = 0.0,
    weight_decay: float | Array = 0.0,
    decoupled: bool = False,
) -> Process:
    """SGD with momentum: v <- momentum v + (1 - dampening) g, theta <- theta - learning_rate v.

    The convention is that of torch.optim.SGD, where the first step is not dampened (Polyak, 1964).
    Directions of small curvature move as under SGD with the learning rate times (1 - dampening) /
    (1 - momentum); time advances by the learning rate itself.  weight_decay adds weight_decay theta
    to g, or shrinks theta if `decoupled`.
    Raises ValueError unless learning_rate > 0, 0 <= momentum, dampening < 1 and weight_decay >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = heavy_ball(noise.minibatch(problem, 1), 0.01, momentum=0.9)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    _check(learning_rate, momentum, weight_decay)
    check_below_one(dampening=dampening)

    def move(state, drawn, learning_rate, k):
        theta, velocity = state
        gradient = noise.gradient(theta, drawn)
        theta, gradient = decayed(theta, gradient, learning_rate, weight_decay, decoupled)
        velocity = momentum * velocity + (1 - dampening * (k > 0)) * gradient
        return theta - learning_rate * velocity, velocity

    return scheduled(move, noise.draw, learning_rate, memory=1, counted=dampening > 0)


@checked
def nesterov(
    noise: Noise,
    learning_rate: Rate,
    momentum: float | Array,
    *,
    weight_decay: float | Array = 0.0,
    decoupled: bool = False,
) -> Process:
    """Nesterov's momentum: v <- momentum v + g, theta <- theta - learning_rate (g + momentum v).

    The form is that of torch.optim.SGD(nesterov=True) (Nesterov, 1983; Sutskever et al., 2013).
    Raises ValueError as `heavy_ball`.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = nesterov(noise.minibatch(problem, 1), 0.01, momentum=0.9)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    _check(learning_rate, momentum, weight_decay)

    def move(state, drawn, learning_rate, _):
        theta, velocity = state
        gradient = noise.gradient(theta, drawn)
        theta, gradient = decayed(theta, gradient, learning_rate, weight_decay, decoupled)
        velocity = momentum * velocity + gradient
        return theta - learning_rate * (gradient + momentum * velocity), velocity

    return scheduled(move, noise.draw, learning_rate, memory=1)


def _check(learning_rate, momentum, weight_decay):
    check_positive(learning_rate=learning_rate)
    check_below_one(momentum=momentum)
    check_non_negative(weight_decay=weight_decay)
