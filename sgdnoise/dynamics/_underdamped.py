"""The underdamped Langevin equation, the continuous-time limit of momentum."""

import math

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace
from sgdnoise.core._checks import check_below_one, check_non_negative, check_positive
from sgdnoise.core._problem import Problem
from sgdnoise.dynamics._process import Process
from sgdnoise.noise._draws import Normal, n_parameters
from sgdnoise.noise._models import Noise


@checked
def underdamped(
    noise: Noise,
    learning_rate: float | Array,
    friction: float | Array,
    dt: float | Array,
    weight_decay: float | Array = 0.0,
) -> Process:
    """The underdamped Langevin equation with the noise of SGD, by a symmetric splitting.

    d theta = v dt, dv = -(grad L + friction v) dt + sqrt(learning_rate C(theta)) dW, v = 0 at
    first.  A step is half a step of theta, half of the friction, the force with its noise, and
    back; it costs one backward pass.  Each part is solved in law, so the weak order is 2 for any
    C(theta); the strong order is 1.  Ito's and Stratonovich's equations are the same here.  Heavy
    ball is this
    integrator: see `underdamped_parameters`.
    Raises ValueError unless learning_rate, dt > 0 and friction, weight_decay >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = underdamped(noise.minibatch(problem, 1), 0.1, 0.5, 0.1)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    check_positive(learning_rate=learning_rate)
    _check(friction, dt)
    check_non_negative(weight_decay=weight_decay)
    strength = (learning_rate / dt) ** 0.5

    def step(state, white):
        theta, velocity = state
        keep = _exp(theta, -friction * dt / 2)
        theta = theta + dt / 2 * velocity
        force = noise.gaussian_gradient(theta, strength * white) + weight_decay * theta
        velocity = keep * (keep * velocity - dt * force)
        return theta + dt / 2 * velocity, velocity

    return Process(step, noise.normal, dt, _with_zero_velocity, lambda state: state[0])


@checked
def underdamped_parameters(learning_rate: float, momentum: float) -> dict[str, float]:
    """The learning_rate, friction and dt for which `underdamped` is exactly `heavy_ball`.

    dt^2 = learning_rate / momentum^{1/2}, friction = -log(momentum) / dt, and learning_rate = dt
    for the noise.  With the same Gaussian gradients, theta + dt v / 2 of `underdamped` is theta of
    heavy ball.  Heavy ball is thus a second-order integrator of this equation, at the temperature
    c learning_rate / (2 (1 - momentum)) for C = c I, to leading order.
    Raises ValueError unless learning_rate > 0 and 0 < momentum < 1.

    Example:
        >>> {name: round(value, 3) for name, value in underdamped_parameters(0.01, 0.9).items()}
        {'learning_rate': 0.103, 'friction': 1.026, 'dt': 0.103}
    """
    check_positive(learning_rate=learning_rate)
    check_below_one(momentum=momentum)
    check_positive(momentum=momentum)
    dt = (learning_rate / momentum**0.5) ** 0.5
    return {"learning_rate": dt, "friction": -math.log(momentum) / dt, "dt": dt}


@checked
def baoab(
    problem: Problem,
    temperature: float | Array,
    friction: float | Array,
    dt: float | Array,
) -> Process:
    """The underdamped Langevin equation at a temperature, by BAOAB steps.

    d theta = v dt, dv = -(grad L + friction v) dt + sqrt(2 friction temperature) dW.  A step is:
    half a kick, half a drift, the bath, half a drift, half a kick (Leimkuhler & Matthews, 2013).
    The weak order is 2.  In a harmonic well the stationary variance of theta is exactly
    temperature / curvature for any stable dt; that of v has an error O(dt^2).  A step costs one
    gradient.  v = 0 at first.
    Raises ValueError unless dt > 0 and temperature, friction >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = baoab(problem, 0.1, 0.5, 0.1)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    check_non_negative(temperature=temperature)
    _check(friction, dt)

    def begin(theta):
        return *_with_zero_velocity(theta), problem.gradient(theta)

    def step(state, white):
        theta, velocity, force = state
        keep = _exp(theta, -friction * dt)
        velocity = velocity - dt / 2 * force
        theta = theta + dt / 2 * velocity
        velocity = keep * velocity + (temperature * (1 - keep**2)) ** 0.5 * white
        theta = theta + dt / 2 * velocity
        force = problem.gradient(theta)
        return theta, velocity - dt / 2 * force, force

    return Process(step, Normal(problem.size or n_parameters), dt, begin, lambda state: state[0])


def _with_zero_velocity(theta):
    return theta, namespace(theta).zeros_like(theta)


def _exp(theta, exponent):
    xp = namespace(theta)
    return xp.exp(exponent * xp.ones_like(theta[:1]))


def _check(friction, dt):
    check_positive(dt=dt)
    check_non_negative(friction=friction)
