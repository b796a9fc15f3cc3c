r"""Mean and covariance of SGD in any small network by a Gaussian moment closure.

The mean m and the covariance S of theta are propagated from step to step, and cumulants from the
third on are neglected.  It is valid far from a minimum too.  Derivatives come from the autodiff
library of the problem, which also compiles the step where it can.

Known: Gaussian closures of stochastic equations (Gardiner, 2009).  New here, as far as we know: one
for SGD with the covariance of its own minibatches, with the error that it makes.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, device, namespace
from sgdnoise.core._operators import Factor
from sgdnoise.core._problem import Problem


class Cumulants(NamedTuple):
    """Time (t,), mean (t, p) and, for each time, the covariance as a matrix or a Factor.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> from sgdnoise.noise import isotropic
        >>> from sgdnoise.theory import moment_closure
        >>> x = jnp.zeros((2, 1))
        >>> noise = isotropic(Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,)), 1.0)
        >>> path = moment_closure(noise, jnp.asarray([1.0]), learning_rate=0.5, steps=2)
        >>> path.time.tolist(), path.mean.tolist(), [float(s.trace()) for s in path.covariance]
        ([0.5, 1.0], [[0.5], [0.25]], [0.25, 0.3125])
    """

    time: Any
    mean: Any
    covariance: list[Any]


@checked
def moment_closure(
    noise,
    theta: Float[Array, " p"],
    covariance=None,
    *,
    learning_rate: float,
    steps: int,
    every: int = 1,
    stretch: int = 1,
    averaged: int = 0,
) -> Cumulants:
    r"""Mean m and covariance S of theta <- theta - rate (g(theta) + xi), recorded every few steps.

    m <- m - rate grad [L(m) + Tr(H(m') S) / 2 at m' = m],
    S <- (1 - rate H) S (1 - rate H)^T + rate^2 C, with H and the noise's covariance C at m:
    the moments of one step up to terms of order S^2 and rate^2 S, exact for quadratic losses and
    additive noise.  It needs no minimum and no slow flow; its error grows with `closure_error`, and
    on flat directions S grows without bound.
    noise: a Noise.  covariance: S at the start, (p, p), None if all start at theta, or a Factor of
    r rows; S is then kept at that rank, the largest modes after each step, which costs r products
    with the Hessian per step in place of p and omits the others.
    every: the number of steps between records.
    stretch: each step is taken as that many of rate / stretch whose noise has `stretch` times the
    covariance, as dynamics.svag does; large ones give the closure of the Langevin equation,
    dS = -(H S + S H) dt + rate C dt.
    averaged: the number of leading eigenvectors of S over which the Hessian and the noise's
    covariance are averaged.  S then follows H + D^2 H[S] / 2 and C + D^2 C[S] / 2, and what is
    neglected is of order S^3 and rate S^2.  Without averages, S grows too fast where the curvature
    is small, and the noise of sampling the residuals that S itself makes is missing.  For r
    eigenvectors a step costs r^2 third derivatives of the gradient more.
    Raises ValueError unless every divides steps, rate > 0, stretch >= 1 and 0 <= averaged <= p, for
    a covariance of another size than theta, or if the mean or the covariance diverges.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> from sgdnoise.noise import isotropic
        >>> x = jnp.zeros((2, 1))
        >>> noise = isotropic(Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,)), 1.0)
        >>> path = moment_closure(noise, jnp.asarray([1.0]), learning_rate=0.5, steps=2)
        >>> path.mean.tolist()  # halved at each step, as by (1 - rate) theta
        [[0.5], [0.25]]
    """
    _check(theta, covariance, learning_rate, steps, every, stretch, averaged)
    xp, low_rank = namespace(theta), hasattr(covariance, "rows")
    if covariance is None:
        covariance = xp.zeros((theta.shape[0],) * 2, dtype=theta.dtype, device=device(theta))
    current = covariance.rows if low_rank else covariance
    step = partial(_step, noise, learning_rate / stretch, stretch, low_rank, averaged)
    step = _compiled(noise.problem, step)
    means, covariances = [], []
    for _ in range(steps // every):
        for _ in range(every * stretch):
            theta, current = step(theta, current)
        _check_finite(xp, theta, current, learning_rate)
        means.append(theta)
        covariances.append(replace(covariance, rows=current) if low_rank else current)
    index = xp.arange(1, 1 + len(means), dtype=theta.dtype, device=device(theta))
    return Cumulants(learning_rate * every * index, xp.stack(means), covariances)


@checked
def second_order_mean(problem: Problem, observe, mean: Float[Array, " p"], covariance):
    r"""E f(theta) = f(m) + Tr(f''(m) S) / 2, for f = observe of one number or an array of them.

    covariance: (p, p), or a Factor.  The next terms, which are omitted, are D^3 f on the third
    cumulant / 6 and D^4 f[S, S] / 8.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1), (jnp.zeros((2, 1)),))
        >>> covariance = 0.5 * jnp.eye(2)
        >>> float(second_order_mean(problem, lambda theta: theta @ theta, jnp.ones(2), covariance))
        3.0
    """
    left, right = _factor_pairs(mean, covariance)

    def second_derivative(a, b):
        def first_derivative(t):
            return problem.autodiff.jvp(observe, (t,), (a,))[1]

        return problem.autodiff.jvp(first_derivative, (mean,), (b,))[1]

    curvatures = problem.autodiff.vmap(second_derivative)(left, right)
    return observe(mean) + namespace(mean).sum(curvatures, axis=0) / 2


@checked
def closure_error(problem: Problem, mean: Float[Array, " p"], covariance):
    r"""The relative change of the mean curvature over the covariance, which the closure neglects.

    (E Tr(H(theta) S) - Tr(H(m) S)) / Tr(H(m) S) = D^4 L[S, S] / (2 Tr(H S)): the first neglected
    term; zero for quadratic losses, and of first order in S.  It costs r^2 products with the
    Hessian for a Factor of r rows and p^2 for a matrix; the leading modes of S suffice.
    It is nan for a covariance of zero.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> problem = Problem(lambda theta, x: x * theta[0] ** 4, (jnp.ones(2),))
        >>> error = closure_error(problem, jnp.ones(1), 0.1 * jnp.eye(1))
        >>> round(float(error), 3)  # 24 S^2 / (2 12 S) with S = 0.1
        0.1
    """
    left, right = _factor_pairs(mean, covariance)

    def curvature(t):
        return namespace(t).sum(_hessian_products(problem, t, left) * right)

    return second_order_mean(problem, curvature, mean, covariance) / curvature(mean) - 1


def _step(noise, learning_rate, stretch, low_rank, averaged, mean, covariance):
    """One step of the mean, and of the covariance (p, p) or the rows (r, p) of its factor."""
    xp, problem = namespace(mean), noise.problem
    left, right = (covariance, covariance) if low_rank else (_identity(mean), covariance)

    def curvature(t):
        products = _hessian_products(problem, t, left)
        return xp.sum(products * right), products

    force, products = problem.autodiff.grad(curvature, has_aux=True)(mean)
    kicks = noise.covariance(mean)
    if averaged:
        rows = _leading_rows(covariance, averaged, low_rank)
        products = products + _average_change(problem, mean, rows, left)
        kicks = _average_noise(noise, mean, rows)
    contracted = left - learning_rate * products
    moved = mean - learning_rate * (problem.gradient(mean) + force / 2)
    if not low_rank:
        propagated = contracted @ covariance @ contracted.T
        return moved, propagated + learning_rate**2 * stretch * (kicks @ left)
    white = xp.eye(kicks.width, dtype=mean.dtype, device=device(mean))
    kick = learning_rate * stretch**0.5 * kicks.colour(white).T
    return moved, _largest_modes(xp.concat([contracted, kick]), covariance.shape[0])


def _leading_rows(covariance, rank, low_rank):
    """Rows s_a (rank, p) along the leading eigenvectors of S, with sum_a s_a s_a^T = S on them."""
    if low_rank:
        return _largest_modes(covariance, min(rank, covariance.shape[0]))
    xp = namespace(covariance)
    values, vectors = xp.linalg.eigh(covariance)
    values = xp.where(values > 0, values, xp.zeros_like(values))
    return values[-rank:, None] ** 0.5 * vectors[:, -rank:].T


def _average_change(problem, mean, rows, left):
    """D^2 H[S] / 2 along the directions of S, as products with each row of left: (r, p)."""
    xp = namespace(mean)
    lengths = xp.sum(rows**2, axis=1)[:, None] ** 0.5
    directions = rows / xp.where(lengths > 0, lengths, xp.ones_like(lengths))
    at = partial(_hessian_products, problem, directions=directions)
    change = second_order_mean(problem, at, mean, Factor(rows)) - at(mean)
    return (left @ directions.T) @ change


def _average_noise(noise, mean, rows):
    """C + D^2 C[S] / 2, positive semidefinite where C is: the rows G of its factor are expanded.

    E G^T G = M^T M + sum_a (DG s_a)^T (DG s_a), with M = E G to second order.
    """
    autodiff, xp = noise.problem.autodiff, namespace(mean)
    if not hasattr(noise.covariance(mean), "rows"):
        raise ValueError("averaged needs a noise whose covariance is made of rows for the examples")

    def factor(t):
        return noise.covariance(t).rows

    middle = second_order_mean(noise.problem, factor, mean, Factor(rows))
    changes = autodiff.vmap(lambda row: autodiff.jvp(factor, (mean,), (row,))[1])(rows)
    return Factor(xp.concat([middle, xp.reshape(changes, (-1, mean.shape[0]))]))


def _largest_modes(rows, rank):
    """Rows (rank, p) whose Gram matrix has the largest modes of rows^T rows."""
    xp = namespace(rows)
    basis = xp.linalg.eigh(rows @ rows.T)[1]
    return basis[:, -rank:].T @ rows


def _factor_pairs(mean, covariance):
    """Directions a_k, b_k (k, p) with S = sum_k a_k b_k^T."""
    if hasattr(covariance, "rows"):
        return covariance.rows, covariance.rows
    return _identity(mean), covariance


def _identity(theta):
    return namespace(theta).eye(theta.shape[0], dtype=theta.dtype, device=device(theta))


def _hessian_products(problem, theta, directions):
    """The Hessian times each of some directions, (k, p)."""
    return problem.autodiff.vmap(lambda v: problem.hvp(theta, v))(directions)


def _compiled(problem, function):
    return getattr(problem.autodiff, "jit", lambda f: f)(function)


def _check(theta, covariance, learning_rate, steps, every, stretch, averaged):
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"steps must be a multiple of every, not {steps} of {every}")
    if not learning_rate > 0:
        raise ValueError(f"the learning rate must be above 0, and {learning_rate} is not")
    if stretch < 1:
        raise ValueError(f"a step is stretched by at least 1, not by {stretch}")
    if not 0 <= averaged <= theta.shape[0]:
        raise ValueError(
            f"averaged must be from 0 to the {theta.shape[0]} parameters, not {averaged}"
        )
    if covariance is not None:
        p, shape = theta.shape[0], tuple(getattr(covariance, "rows", covariance).shape)
        if shape != ((shape[0], p) if hasattr(covariance, "rows") else (p, p)):
            raise ValueError(f"a covariance of {shape} does not fit {p} parameters")


def _check_finite(xp, mean, covariance, learning_rate):
    if not bool(xp.isfinite(xp.sum(mean) + xp.sum(covariance))):
        raise ValueError(
            f"at rate {learning_rate:.3g} the mean or the covariance of theta diverges"
        )
