"""Exact moments of linear regression under SGD and its equations, and chains in a parabola."""

import jax
import jax.numpy as jnp
import numpy as np

from sgdnoise import noise
from sgdnoise.core import Problem
from sgdnoise.dynamics import sgd, simulate, svag
from sgdnoise.noise import with_replacement
from sgdnoise.theory import (
    AffineGradients,
    euler_maruyama_map,
    propagate_moments,
    regression_gradients,
    sde_map,
    sgd_map,
    talay_tubaro,
)

TIME, START = 2.0, 1.0
RATES = tuple(2.0**-k for k in range(3, 11))
WEAK_ORDERS = {  # approximation -> claimed order
    "no noise": 1,
    "first order": 1,
    "second order": 2,
    "Euler, a fifth of a step": 1,
    "extrapolated": 2,
}
RATE, CURVATURE = 0.6, 2.0  # of the chains: rate x curvature 1.2
STRETCHES = (1, 2, 4, 16)


def problem() -> AffineGradients:
    """Twelve examples of three inputs, in minibatches of two."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(12, 3)) * [1.0, 0.7, 0.5]
    return regression_gradients(x, x @ [1.0, -1.0, 0.5] + 0.5 * rng.normal(size=12), 2)


def distances(rate: float) -> dict[str, float]:
    """The largest difference of first and second moments from SGD at TIME, by approximation."""
    gradients, steps, start = problem(), round(TIME / rate), np.full(3, START)
    exact = propagate_moments(sgd_map(gradients, rate), start, steps)

    def distance(moments):
        return float(np.max(np.abs(moments - exact)))

    def euler(substeps, **order):
        step = euler_maruyama_map(gradients, rate, rate / substeps, **order)
        return propagate_moments(step, start, substeps * steps)

    orders = {"no noise": 0, "first order": 1, "second order": 2}
    of_equations = {
        name: distance(propagate_moments(sde_map(gradients, rate, TIME, order=order), start, 1))
        for name, order in orders.items()
    }
    return of_equations | {
        "Euler, a step a rate": distance(euler(1)),
        "Euler, a fifth of a step": distance(euler(5)),
        "extrapolated": distance(talay_tubaro(euler(1, order=2), euler(2, order=2))),
    }


def chains(stretch: int, count: int) -> np.ndarray:
    """Stationary mean squares of theta in a parabola over the equation's, one of each chain.

    Of SVAG with this stretch, which is SGD for 1: means over the later three quarters of 60 steps
    of SGD, recorded twice a step of SGD or once a step.
    """
    centres = np.random.default_rng(5).normal(size=16)
    centres -= centres.mean()

    def losses(theta, centre):
        return CURVATURE / 2 * (theta[0] - centre) ** 2

    parabola = Problem(losses, (jnp.asarray(centres, jnp.float32),))
    if stretch == 1:
        process = sgd(noise.minibatch(parabola, 4), RATE)
    else:
        process = svag(parabola, with_replacement(16, 4), RATE, stretch)
    steps, every = 60 * stretch, max(1, stretch // 2)
    squares = simulate(
        process,
        jax.random.key(stretch),
        jnp.zeros((count, 1), jnp.float32),
        steps=steps,
        every=every,
        observe=lambda t: t[0] ** 2,
    )
    equation = RATE * CURVATURE * centres.var() / 8  # rate C / (2 h B), C = h^2 Var c
    later = np.asarray(squares)[:, steps // every // 4 :]
    return later.mean(1, dtype=float) / equation
