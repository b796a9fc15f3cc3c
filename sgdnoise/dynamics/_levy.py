"""SGD driven by jumps: symmetric alpha-stable noise."""

import math

from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace
from sgdnoise.core._checks import check_non_negative, check_positive
from sgdnoise.core._problem import Problem
from sgdnoise.dynamics._process import Process
from sgdnoise.noise._draws import Uniform, n_parameters


@checked
def levy_sgd(
    problem: Problem,
    alpha: float,
    scale: float | Array,
    dt: float | Array,
    weight_decay: float | Array = 0.0,
) -> Process:
    """Gradient descent with symmetric alpha-stable noise, independent in each direction.

    d theta = -grad L dt + scale dL^alpha, by Euler's steps:
    theta <- theta - dt grad L + scale dt^{1/alpha} S with E exp(i s S) = exp(-|s|^alpha).  alpha =
    2 is `overdamped_langevin` of temperature scale^2, since S is then normal of variance 2; alpha
    = 1 is Cauchy noise.  Gradient noise sigma S at a learning rate has scale = sigma
    learning_rate^{1 - 1/alpha} (Simsekli, Sagun & Gurbuzbalaban, 2019).  The noise has no variance
    below alpha = 2 and no mean at alpha <= 1: a jump in a steep loss may diverge at any dt.
    weight_decay acts as in `langevin`.
    Raises ValueError unless 0 < alpha <= 2, dt > 0 and the other numbers are >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise import noise
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> from sgdnoise.dynamics import simulate
        >>> process = levy_sgd(problem, 1.5, 0.1, 0.01)
        >>> simulate(process, 0, jnp.zeros((4, 1)), steps=20, every=20).theta.shape
        (4, 1, 1)
    """
    size = problem.size or n_parameters
    _check(alpha)
    check_positive(dt=dt)
    check_non_negative(scale=scale)
    check_non_negative(weight_decay=weight_decay)

    def step(theta, drawn):
        first, second = drawn
        force = problem.gradient(theta) + weight_decay * theta
        return (
            theta - dt * force + scale * dt ** (1 / alpha) * stable_variates(first, second, alpha)
        )

    return Process(step, (Uniform(size), Uniform(size)), dt)


@checked
def stable_variates(
    first: Float[Array, " n"], second: Float[Array, " n"], alpha: float
) -> Float[Array, " n"]:
    """Symmetric alpha-stable numbers from uniform numbers on [0, 1), both (n,).

    E exp(i s S) = exp(-|s|^alpha).  S = sin(alpha U) cos(U)^{-1/alpha}
    (cos((1 - alpha) U) / W)^{1/alpha - 1} with U = pi (first - 1/2) and W = -log(1 - second)
    (Chambers, Mallows & Stuck, 1976).  Uniform numbers within the precision of 0 or 1 are moved
    there, which cuts the tail near precision^{-1/alpha}: 10^7 for Cauchy numbers in float32.
    Raises ValueError unless 0 < alpha <= 2.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> first, second = rng.uniform(size=(2, 1000))
        >>> stable_variates(first, second, 1.5).shape
        (1000,)
    """
    _check(alpha)
    xp = namespace(first)
    smallest = float(xp.finfo(first.dtype).eps) / 2
    first, second = xp.clip(first, smallest, 1 - smallest), xp.clip(second, smallest, 1 - smallest)
    angle, wait = math.pi * (first - 0.5), -xp.log1p(-second)
    cosine = xp.sin(math.pi * xp.minimum(first, 1 - first))  # of the angle, with no digit lost
    factor = (xp.cos((1 - alpha) * angle) / wait) ** (1 / alpha - 1)
    return xp.sin(alpha * angle) / cosine ** (1 / alpha) * factor


def _check(alpha):
    if not 0 < alpha <= 2:
        raise ValueError(f"a stable law has alpha above 0 and up to 2, not {alpha}")
