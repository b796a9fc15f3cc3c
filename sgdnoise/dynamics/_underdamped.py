"""Langevin's equation with inertia, the continuous time of momentum."""

import math

from sgdnoise.core._arrays import Array, namespace
from sgdnoise.core._checks import check_below_one, check_non_negative, check_positive
from sgdnoise.core._problem import Problem
from sgdnoise.dynamics._process import Process
from sgdnoise.noise._draws import Normal, n_parameters
from sgdnoise.noise._models import Noise


def underdamped(
    noise: Noise,
    learning_rate: float | Array,
    friction: float | Array,
    dt: float | Array,
    weight_decay: float | Array = 0.0,
) -> Process:
    r"""d theta = v dt, dv = -(grad L + friction v) dt + sqrt(rate C(theta)) dW, v = 0 at first.

    A symmetric splitting: half a step of theta, half of the friction, the force and its noise
    together, and back, at one backward pass.  Each part is solved in law, so that it has weak
    order 2 whatever C(theta); strong order 1.  As theta has no quadratic variation Ito's and
    Stratonovich's equation are one.  It is heavy ball seen between its steps: see `inertia`.
    Raises ValueError unless rate, dt > 0 and friction, weight_decay >= 0.
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

    return Process(step, noise.normal, dt, _at_rest, lambda state: state[0])


def underdamped_parameters(learning_rate: float, momentum: float) -> dict[str, float]:
    r"""rate, friction and dt with which `underdamped` is heavy ball of this rate and momentum.

    dt^2 = rate / momentum^{1/2}, friction = -log(momentum) / dt, and rate = dt for the noise:
    with the same Gaussian gradients theta + dt v / 2 of the one is theta of the other, exactly.
    So heavy ball is a second-order integrator of this equation, of temperature c rate / (2 (1 -
    momentum)) for C = c I to leading order.  Raises ValueError unless rate > 0, 0 < momentum < 1.
    """
    check_positive(learning_rate=learning_rate)
    check_below_one(momentum=momentum)
    check_positive(momentum=momentum)
    dt = (learning_rate / momentum**0.5) ** 0.5
    return {"learning_rate": dt, "friction": -math.log(momentum) / dt, "dt": dt}


def baoab(
    problem: Problem,
    temperature: float | Array,
    friction: float | Array,
    dt: float | Array,
) -> Process:
    r"""d theta = v dt, dv = -(grad L + friction v) dt + sqrt(2 friction temperature) dW, by BAOAB.

    Kick, drift, bath, drift, kick (Leimkuhler & Matthews, 2013): weak order 2, and in a harmonic
    well the variance of theta at rest is exactly temperature / curvature for any stable dt; v has
    an error O(dt^2).  One gradient a step, remembered for the next; v = 0 at first.
    Raises ValueError unless dt > 0 and temperature, friction >= 0.
    """
    check_non_negative(temperature=temperature)
    _check(friction, dt)

    def begin(theta):
        return *_at_rest(theta), problem.gradient(theta)

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


def _at_rest(theta):
    return theta, namespace(theta).zeros_like(theta)


def _exp(theta, exponent):
    xp = namespace(theta)
    return xp.exp(exponent * xp.ones_like(theta[:1]))


def _check(friction, dt):
    check_positive(dt=dt)
    check_non_negative(friction=friction)
