r"""Mean and covariance of noisy descent in any small network, far from a minimum as near it.

Of the law of theta after each step a middle m and a spread S are kept, and cumulants from the third
on are taken for zero.  Derivatives come from the problem's own library, which also compiles the
step where it can.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from jaxtyping import Float

from sgdnoise.core._arrays import Array, device, namespace
from sgdnoise.core._problem import Problem


class Cumulants(NamedTuple):
    """Time (t,), mean (t, p) and, for each time, the covariance as a matrix or a Factor."""

    time: Any
    mean: Any
    spread: list[Any]


def moment_closure(
    noise,
    theta: Float[Array, " p"],
    spread=None,
    *,
    learning_rate: float,
    steps: int,
    every: int = 1,
    stretch: int = 1,
) -> Cumulants:
    r"""Mean m and covariance S of theta <- theta - rate (g(theta) + xi), each `every` steps.

    m <- m - rate grad [L(m) + Tr(H(m') S) / 2 at m' = m],
    S <- (1 - rate H) S (1 - rate H)^T + rate^2 C, with H and the noise's covariance C at m:
    the moments of one step up to terms of order S^2 and rate^2 S, exact for quadratic losses and
    additive noise.  It needs no minimum and no slow flow; its error grows with `strain`, and on
    flat directions S grows without end.
    noise: a noise.Noise.  spread: S at the start, (p, p), nothing where all start at theta, or a
    covariance.Factor of r rows; S is then kept at that rank, the largest modes after each step,
    which costs r products with the Hessian a step in place of p and misses what it drops.
    stretch: each step is taken as that many of rate / stretch whose noise has `stretch` times the
    covariance, as dynamics.svag does; large ones give the closure of the Langevin equation,
    dS = -(H S + S H) dt + rate C dt.
    Raises ValueError unless every | steps, rate > 0 and stretch >= 1, for a spread of another size
    than theta, or where the mean or the covariance runs away.
    """
    _check(theta, spread, learning_rate, steps, every, stretch)
    xp, thin = namespace(theta), hasattr(spread, "rows")
    if spread is None:
        spread = xp.zeros((theta.shape[0],) * 2, dtype=theta.dtype, device=device(theta))
    held = spread.rows if thin else spread
    step = _compiled(noise.problem, partial(_step, noise, learning_rate / stretch, stretch, thin))
    means, spreads = [], []
    for _ in range(steps // every):
        for _ in range(every * stretch):
            theta, held = step(theta, held)
        _check_finite(xp, theta, held, learning_rate)
        means.append(theta)
        spreads.append(replace(spread, rows=held) if thin else held)
    time = (
        learning_rate
        * every
        * xp.arange(1, 1 + len(means), dtype=theta.dtype, device=device(theta))
    )
    return Cumulants(time, xp.stack(means), spreads)


def second_order_mean(problem: Problem, observe, mean: Float[Array, " p"], spread):
    r"""E f(theta) = f(m) + Tr(f''(m) S) / 2, for f of one number or an array of them.

    spread: (p, p), or a covariance.Factor.  The next terms, left out, are D^3 f against the third
    cumulant / 6 and D^4 f[S, S] / 8.
    """
    left, right = _pairs(mean, spread)

    def second(a, b):
        def along(t):
            return problem.ft.jvp(observe, (t,), (a,))[1]

        return problem.ft.jvp(along, (mean,), (b,))[1]

    bent = problem.ft.vmap(second)(left, right)
    return observe(mean) + namespace(mean).sum(bent, axis=0) / 2


def closure_error(problem: Problem, mean: Float[Array, " p"], spread):
    r"""How much the curvature that the spread feels differs from that at its middle, as a share.

    (E Tr(H(theta) S) - Tr(H(m) S)) / Tr(H(m) S) = D^4 L[S, S] / (2 Tr(H S)): the first of what the
    closure takes for zero; zero for quadratic losses, and of first order in S.  It costs r^2
    products with the Hessian for a covariance.Factor of r rows and p^2 for a matrix: the leading
    modes of S tell enough.  nan without spread.
    """
    left, right = _pairs(mean, spread)

    def felt(t):
        return namespace(t).sum(_bent(problem, t, left) * right)

    return second_order_mean(problem, felt, mean, spread) / felt(mean) - 1


def _step(noise, learning_rate, stretch, thin, mean, held):
    """One step of the mean, and of the covariance (p, p) or the rows (r, p) of its factor."""
    xp, problem = namespace(mean), noise.problem
    left, right = (held, held) if thin else (_one(mean), held)

    def felt(t):
        bent = _bent(problem, t, left)
        return xp.sum(bent * right), bent

    pull, bent = problem.ft.grad(felt, has_aux=True)(mean)
    kept, covariance = left - learning_rate * bent, noise.covariance(mean)
    moved = mean - learning_rate * (problem.gradient(mean) + pull / 2)
    if not thin:
        return moved, kept @ held @ kept.T + learning_rate**2 * stretch * (covariance @ left)
    white = xp.eye(covariance.width, dtype=mean.dtype, device=device(mean))
    kick = learning_rate * stretch**0.5 * covariance.colour(white).T
    return moved, _largest(xp.concat([kept, kick]), held.shape[0])


def _largest(rows, rank):
    """Rows (rank, p) whose Gram matrix has the largest modes of rows^T rows."""
    xp = namespace(rows)
    turned = xp.linalg.eigh(rows @ rows.T)[1]
    return turned[:, -rank:].T @ rows


def _pairs(mean, spread):
    """Directions a_k, b_k (k, p) with S = sum_k a_k b_k^T."""
    return (spread.rows,) * 2 if hasattr(spread, "rows") else (_one(mean), spread)


def _one(theta):
    return namespace(theta).eye(theta.shape[0], dtype=theta.dtype, device=device(theta))


def _bent(problem, theta, directions):
    """The Hessian times each of some directions, (k, p)."""
    return problem.ft.vmap(lambda v: problem.curvature(theta, v))(directions)


def _compiled(problem, function):
    return getattr(problem.ft, "jit", lambda f: f)(function)


def _check(theta, spread, learning_rate, steps, every, stretch):
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"steps must be a multiple of every, not {steps} of {every}")
    if not learning_rate > 0:
        raise ValueError(f"the learning rate must be above 0, and {learning_rate} is not")
    if stretch < 1:
        raise ValueError(f"a step is stretched by at least 1, not by {stretch}")
    if spread is not None:
        p, shape = theta.shape[0], tuple(getattr(spread, "rows", spread).shape)
        if shape != ((shape[0], p) if hasattr(spread, "rows") else (p, p)):
            raise ValueError(f"a spread of {shape} does not fit {p} parameters")


def _check_finite(xp, mean, held, learning_rate):
    if not bool(xp.isfinite(xp.sum(mean) + xp.sum(held))):
        raise ValueError(
            f"at rate {learning_rate:.3g} the mean or the covariance of theta runs away"
        )
