"""Descent as a stochastic differential equation."""

from functools import partial

from sgdnoise.core._arrays import Array
from sgdnoise.core._checks import check_non_negative, check_positive
from sgdnoise.core._problem import Problem
from sgdnoise.dynamics._process import Process, scheduled
from sgdnoise.dynamics._sgd import Rate, decayed
from sgdnoise.noise._models import Noise, isotropic


def langevin(
    noise: Noise,
    learning_rate: Rate,
    dt: float | Array | None = None,
    *,
    order: int = 1,
    weight_decay: float | Array = 0.0,
) -> Process:
    r"""Euler-Maruyama for d theta = -grad L dt + sqrt(rate C(theta)) dW, Ito (Li, Tai & E, 2017).

    C is the covariance of the noise at theta, taken before the step as Ito wants it; drift and kick
    come from one backward pass.  With dt = rate, the default, a step has the mean and covariance
    of a step of descent, which the exact solution has not.  order = 2 puts L + (rate / 4)
    |grad L|^2 for L, at one Hessian-vector product: a step closer to descent for averages over
    fixed times when the equation is solved to second order, as by `heun`, but twice as far for
    stationary variances.  weight_decay adds weight_decay |theta|^2 / 2 to L.  rate may be a
    function of the step if order = 1.  Weak order 1 in dt; strong order 1/2, and 1 for constant C.
    Raises ValueError unless rate, dt > 0, weight_decay >= 0 and order is 1 or 2.
    """
    _check(learning_rate, dt, order, weight_decay)

    def move(theta, white, learning_rate, _):
        h = learning_rate if dt is None else dt
        force = noise.gaussian_gradient(theta, (learning_rate / h) ** 0.5 * white)
        _, force = decayed(theta, force, learning_rate, weight_decay)
        if order == 2:
            force = force + learning_rate / 2 * _bend(noise.problem, theta, weight_decay)
        return theta - h * force

    return scheduled(move, noise.normal, learning_rate, dt)


def heun(
    noise: Noise,
    learning_rate: Rate,
    dt: float | Array | None = None,
    *,
    order: int = 1,
    weight_decay: float | Array = 0.0,
) -> Process:
    r"""The equation of `langevin` with the mean of two drifts, before and after an Euler step.

    theta <- theta + dt (b(theta) + b(theta_E)) / 2 + sqrt(rate dt C(theta)) z, theta_E Euler's:
    three backward passes.  Weak order 2 for constant C; for C(theta) the weak error is O(dt^2 +
    rate dt), as small as that of the second-order equation itself once dt <= rate (Milstein &
    Tretyakov, 1997).  Strong order as Euler's.  Raises ValueError as `langevin`.
    """
    _check(learning_rate, dt, order, weight_decay)
    drift = partial(_drift, noise.problem, order=order, weight_decay=weight_decay)

    def move(theta, white, learning_rate, _):
        h = learning_rate if dt is None else dt
        before = drift(theta, learning_rate)
        kick = noise.gaussian_gradient(
            theta, (learning_rate / h) ** 0.5 * white
        ) - noise.problem.gradient(theta)
        after = drift(theta - h * (before + kick), learning_rate)
        return theta - h * ((before + after) / 2 + kick)

    return scheduled(move, noise.normal, learning_rate, dt)


def overdamped_langevin(
    problem: Problem,
    temperature: float | Array,
    dt: float | Array,
    weight_decay: float | Array = 0.0,
) -> Process:
    r"""Euler-Maruyama for d theta = -grad L dt + sqrt(2 temperature) dW, alike in all directions.

    At rest its law is exp(-L / temperature) up to O(dt) (Welling & Teh, 2011), L with weight_decay
    |theta|^2 / 2.  Raises ValueError unless dt > 0 and the others are >= 0.
    """
    check_positive(dt=dt)
    check_non_negative(temperature=temperature)
    noise = isotropic(problem, 2 * temperature / dt)
    return langevin(noise, dt, weight_decay=weight_decay)


def _drift(problem, theta, learning_rate, order, weight_decay):
    _, force = decayed(theta, problem.gradient(theta), learning_rate, weight_decay)
    return force if order == 1 else force + learning_rate / 2 * _bend(problem, theta, weight_decay)


def _bend(problem, theta, weight_decay):
    """Half the gradient of |grad L|^2: the Hessian times the gradient."""
    force = problem.gradient(theta) + weight_decay * theta
    return problem.hvp(theta, force) + weight_decay * force


def _check(learning_rate, dt, order, weight_decay):
    check_positive(learning_rate=learning_rate)
    check_positive(dt=dt)
    check_non_negative(weight_decay=weight_decay)
    if order not in (1, 2):
        raise ValueError(f"the stochastic modified equation has order 1 or 2, not {order}")
    if order == 2 and callable(learning_rate):
        raise ValueError("the second-order equation wants a constant learning rate, not a schedule")
