"""SGD as a stochastic differential equation."""

from functools import partial

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array
from sgdnoise.core._checks import check_non_negative, check_positive
from sgdnoise.core._problem import Problem
from sgdnoise.dynamics._process import Process, scheduled
from sgdnoise.dynamics._sgd import Rate, decayed
from sgdnoise.noise._models import Noise, isotropic


@checked
def langevin(
    noise: Noise,
    learning_rate: Rate,
    dt: float | Array | None = None,
    *,
    order: int = 1,
    weight_decay: float | Array = 0.0,
) -> Process:
    """The Langevin equation of SGD, by Euler-Maruyama steps (Li, Tai & E, 2017).

    d theta = -grad L dt + sqrt(learning_rate C(theta)) dW in Ito's sense, where C is the covariance
    of the noise.  Drift and noise come from one backward pass.  With dt = learning_rate, the
    default, a step has the mean and covariance of a step of SGD; the exact solution does not.
    order: 2 replaces L by L + (learning_rate / 4) |grad L|^2, at the cost of one Hessian-vector
    product.  If the equation is solved to second order, as by `heun`, averages at fixed times are
    then closer to SGD, but stationary variances are twice as far.
    weight_decay adds weight_decay |theta|^2 / 2 to L.  learning_rate may be a function of the step
    if order = 1.  The weak order in dt is 1; the strong order is 1/2, and 1 for constant C.
    Raises ValueError unless learning_rate, dt > 0, weight_decay >= 0 and order is 1 or 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = langevin(noise.minibatch(problem, 1), 0.1)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    _check(learning_rate, dt, order, weight_decay)

    def move(theta, white, learning_rate, _):
        h = learning_rate if dt is None else dt
        force = noise.gaussian_gradient(theta, (learning_rate / h) ** 0.5 * white)
        _, force = decayed(theta, force, learning_rate, weight_decay)
        if order == 2:
            force = force + learning_rate / 2 * _hessian_times_gradient(
                noise.problem, theta, weight_decay
            )
        return theta - h * force

    return scheduled(move, noise.normal, learning_rate, dt)


@checked
def heun(
    noise: Noise,
    learning_rate: Rate,
    dt: float | Array | None = None,
    *,
    order: int = 1,
    weight_decay: float | Array = 0.0,
) -> Process:
    """The Langevin equation of SGD, by Heun steps: the mean of the drifts before and after.

    theta <- theta + dt (b(theta) + b(theta_E)) / 2 + sqrt(learning_rate dt C(theta)) z, where
    theta_E is Euler's step.  It costs three backward passes.  The weak order is 2 for constant C;
    for C(theta) the weak error is O(dt^2 + learning_rate dt), as small as that of the second-order
    equation itself once dt <= learning_rate (Milstein & Tretyakov, 1997).  Arguments and errors
    are those of `langevin`.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = heun(noise.minibatch(problem, 1), 0.1)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
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


@checked
def overdamped_langevin(
    problem: Problem,
    temperature: float | Array,
    dt: float | Array,
    weight_decay: float | Array = 0.0,
) -> Process:
    """The overdamped Langevin equation at a temperature, by Euler-Maruyama steps.

    d theta = -grad L dt + sqrt(2 temperature) dW, with the same noise in all directions.  Its
    stationary law is exp(-L / temperature) up to O(dt) (Welling & Teh, 2011), where L includes
    weight_decay |theta|^2 / 2.
    Raises ValueError unless dt > 0 and the other numbers are >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = overdamped_langevin(problem, 0.1, 0.1)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    check_positive(dt=dt)
    check_non_negative(temperature=temperature)
    noise = isotropic(problem, 2 * temperature / dt)
    return langevin(noise, dt, weight_decay=weight_decay)


def _drift(problem, theta, learning_rate, order, weight_decay):
    _, force = decayed(theta, problem.gradient(theta), learning_rate, weight_decay)
    return (
        force
        if order == 1
        else force + learning_rate / 2 * _hessian_times_gradient(problem, theta, weight_decay)
    )


def _hessian_times_gradient(problem, theta, weight_decay):
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
