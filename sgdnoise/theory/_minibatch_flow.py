r"""The mean path of SGD under the noise of its own minibatches, in any small network.

Theta scatters around its mean m by the noise of the gradients of the examples, e_i = grad l_i less
their mean.  The covariance S of that jitter moves along the path, and its mean force is that of
Tr(H S) / 2.  No label noise, no minimum and no small residual is needed.

Known: Gaussian closures of stochastic equations (Gardiner, 2009); the loss L + rate Tr C / (4 B) of
reshuffled epochs (Smith, Dherin, Barrett & De, 2021); noise that vanishes over an epoch (Kuehn &
Rosenow, 2023).  New here, as far as we know: one force for independent and for reshuffled batches,
which contains both, with averages over the jitter that need Hessians and gradients alone.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, device, namespace
from sgdnoise.core._checks import as_generator, check_positive
from sgdnoise.core._problem import Problem
from sgdnoise.core._sampling import finite_population_factor
from sgdnoise.theory._moment_closure import Cumulants, _compiled, second_order_mean

SAMPLINGS = "with_replacement", "without_replacement", "reshuffled"
EARLY = 20  # a window lasts at most this fraction of the steps before it


class _Batches(NamedTuple):
    """The noise of step s and of step t has the covariance within C, or between C in one epoch."""

    within: float
    between: float
    epoch: int  # steps; no window crosses its end


class _State(NamedTuple):
    """Mean (p,), covariance (p, p), and the response of theta to each example (n, p)."""

    mean: Any
    covariance: Any
    response: Any


@checked
def minibatch_flow(
    problem: Problem,
    theta: Float[Array, " p"],
    *,
    learning_rate: float,
    batch_size: int,
    steps: int,
    every: int = 1,
    sampling: str = "with_replacement",
    window: int = 10,
    pairs: int = 2,
    rng=0,
) -> Cumulants:
    r"""Mean m and covariance S of SGD from theta, by the noise of its minibatches alone.

    m <- m - rate [grad L + D^2(grad L)[S] / 2 + mean_i (H_i - H) u_i],
    S <- (1 - rate H) S (1 - rate H) + rate^2 w C - rate [(1 - rate H) Y + transposed],
    C = mean_i E e_i e_i^T, where H, e_i and C are averaged over theta of mean m and covariance S,
    so that C contains the noise of sampling the residuals that the jitter makes.  w is 1 / B for
    examples drawn with replacement, else (n - B) / (n - 1) / B.  The steps of a reshuffled epoch
    are anticorrelated: u_i, zero when an epoch starts, is the response of the mean of theta to
    example i, u_i <- (1 - rate H) u_i + rate e_i / (n - 1), and Y = mean_i u_i e_i^T.  Over an
    epoch that is short in units of 1 / (rate lambda_max), u is the force of L + rate Tr C / (4 B).
    For independent draws u is zero.
    sampling: with_replacement, without_replacement or reshuffled.
    window: steps, at most, over which H, C and the force are constant; the first ones are
    shorter.  every: the number of steps between records.
    pairs: H, e_i and C are the mean over that many pairs m + z, m - z, with z / sqrt(p) the
    columns of a random rotation of S^(1/2).  p pairs are exact to third order in z.  0: all at m,
    the first order in S.
    What is neglected are cumulants from the third on, and for reshuffled epochs the jitter's part
    of the correlation between steps.  A window needs 1 + 2 pairs Hessians and p^2 numbers.
    Raises ValueError unless every divides steps, for another sampling, numbers out of range,
    reshuffled batches that do not divide the examples, or if the mean or covariance diverges.

    Example:
        >>> import jax.numpy as jnp
        >>> y = jnp.asarray([1.0, 3.0])
        >>> problem = Problem(lambda theta, y: (theta[0] - y) ** 2 / 2, (y,))
        >>> options = {"learning_rate": 0.5, "batch_size": 1, "steps": 2, "pairs": 1}
        >>> path = minibatch_flow(problem, jnp.zeros(1), **options)
        >>> path.mean.tolist(), [s.tolist() for s in path.covariance]
        ([[1.0], [1.5]], [[[0.25]], [[0.3125]]])
        >>> path = minibatch_flow(problem, jnp.zeros(1), sampling="reshuffled", **options)
        >>> [s.tolist() for s in path.covariance]
        [[[0.25]], [[0.0625]]]
    """
    batches = _batches(sampling, len(problem), batch_size)
    _check(theta, learning_rate, steps, every, window, pairs)
    rng, xp = as_generator(rng), namespace(theta)
    options = {"dtype": theta.dtype, "device": device(theta)}
    p = theta.shape[0]
    state = _State(theta, xp.zeros((p, p), **options), xp.zeros((len(problem), p), **options))
    local = _Local(problem)
    means, covariances, done = [], [], 0
    while done < steps:
        if batches.between and done % batches.epoch == 0:
            state = state._replace(response=0 * state.response)
        length = min(window, 1 + done // EARLY, every - done % every)
        length = min(length, batches.epoch - done % batches.epoch)
        state = _window(local, batches, state, learning_rate, length, pairs if done else 0, rng)
        done += length
        if done % every == 0:
            _check_finite(xp, state, learning_rate)
            means.append(state.mean)
            covariances.append(state.covariance)
    index = xp.arange(1, 1 + len(means), **options)
    return Cumulants(learning_rate * every * index, xp.stack(means), covariances)


class _Local:
    """The derivatives of a problem at one theta, compiled where its library can."""

    def __init__(self, problem):
        self.problem = problem
        self.gradient = _compiled(problem, problem.gradient)
        self.gradients = _compiled(problem, problem.gradients)
        self.hessian = _compiled(problem, self._hessian)
        self.jitter_gradient = _compiled(problem, self._jitter_gradient)
        self.response_gradient = _compiled(problem, self._response_gradient)

    def _hessian(self, theta):
        unit = namespace(theta).eye(theta.shape[0], dtype=theta.dtype, device=device(theta))
        return self.problem.autodiff.vmap(lambda v: self.problem.hvp(theta, v))(unit)

    def _jitter_gradient(self, theta, covariance):
        """D^2(grad L)[S] / 2, the gradient of Tr(H S) / 2 with S held."""
        gradient = self.problem.gradient
        return second_order_mean(self.problem, gradient, theta, covariance) - gradient(theta)

    def _response_gradient(self, theta, response):
        """mean_i (H_i - H) u_i, for the responses u (n, p)."""
        autodiff, losses = self.problem.autodiff, self.problem.losses

        def product(u, *example):
            def loss(t):
                return losses(t, *(array[None] for array in example))[0]

            return autodiff.jvp(autodiff.grad(loss), (theta,), (u,))[1]

        products = autodiff.vmap(product)(response, *self.problem.examples)
        xp = namespace(theta)
        return xp.mean(products, axis=0) - self.problem.hvp(theta, xp.mean(response, axis=0))


def _window(local, batches, state, learning_rate, length, pairs, rng) -> _State:
    """The state after some steps with the same H, C and force."""
    mean, xp = state.mean, namespace(state.mean)
    hessian, examples, covariance = _averages(local, mean, state.covariance, pairs, rng)
    curvatures, basis = xp.linalg.eigh(hessian)
    rotated = _State(mean, basis.T @ state.covariance @ basis, state.response @ basis)
    steps = 1 - learning_rate * curvatures
    kicks = basis.T @ covariance @ basis, examples @ basis
    after, average = _propagate(batches, rotated, steps, learning_rate, kicks, length)
    force = local.jitter_gradient(mean, basis @ average.covariance @ basis.T)
    if batches.between:
        force = force + local.response_gradient(mean, average.response @ basis.T)
    for _ in range(length):
        mean = mean - learning_rate * (local.gradient(mean) + force)
    symmetric = (after.covariance + after.covariance.T) / 2
    return _State(mean, basis @ symmetric @ basis.T, after.response @ basis.T)


def _averages(local, mean, covariance, pairs, rng):
    """H (p, p), e (n, p) and C (p, p), averaged over theta of this mean and covariance."""
    xp = namespace(mean)
    places = _places(mean, covariance, pairs, rng)
    hessian = sum(local.hessian(t) for t in places) / len(places)
    examples = [local.gradients(t) for t in places]
    examples = [g - xp.mean(g, axis=0) for g in examples]
    scatter = sum(e.T @ e for e in examples) / (len(places) * examples[0].shape[0])
    return hessian, sum(examples) / len(places), scatter


def _places(mean, covariance, pairs, rng):
    """Pairs m + z, m - z whose covariance is S on average, and exactly for p pairs."""
    if not pairs:
        return [mean]
    xp, p = namespace(mean), mean.shape[0]
    values, vectors = xp.linalg.eigh(covariance)
    root = vectors * xp.where(values > 0, values, xp.zeros_like(values)) ** 0.5
    directions = np.linalg.qr(rng.normal(size=(p, pairs)))[0] * p**0.5
    shifts = root @ xp.asarray(directions, dtype=mean.dtype, device=device(mean))
    return [mean + sign * shifts[:, k] for k in range(pairs) for sign in (1, -1)]


def _propagate(batches, state, steps, learning_rate, kicks, length):
    """Covariance and responses, in the eigenvectors of H, after the steps, and their means."""
    covariance, examples = kicks
    s, u = state.covariance, state.response
    row, column = steps[None, :], steps[:, None]
    sums = 0 * s, 0 * u
    if batches.between:
        own = examples.T @ examples / examples.shape[0]
        crossed = u.T @ examples / examples.shape[0]  # of theta and the noise of the next step
    for _ in range(length):
        sums = sums[0] + s, sums[1] + u
        s = column * s * row + learning_rate**2 * batches.within * covariance
        if batches.between:
            moved = column * crossed
            s = s - learning_rate * (moved + moved.T)
            crossed = moved - learning_rate * batches.between * own
            u = u * row - learning_rate * batches.between * examples
    average = _State(state.mean, sums[0] / length, sums[1] / length)
    return _State(state.mean, s, u), average


def _batches(sampling, n, batch_size) -> _Batches:
    check_positive(batch_size=batch_size)
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, not {sampling!r}")
    endless = 2**62
    if sampling == "with_replacement":
        return _Batches(1 / batch_size, 0.0, endless)
    if batch_size > n:
        raise ValueError(f"batch_size must be at most the {n} examples, not {batch_size}")
    within = finite_population_factor(n, batch_size) / batch_size
    if sampling == "without_replacement":
        return _Batches(within, 0.0, endless)
    if n % batch_size:
        raise ValueError(f"batch_size must divide the {n} examples of an epoch, not {batch_size}")
    return _Batches(within, -1 / max(n - 1, 1), n // batch_size)


def _check(theta, learning_rate, steps, every, window, pairs):
    check_positive(learning_rate=learning_rate, steps=steps, every=every, window=window)
    if steps % every:
        raise ValueError(f"steps must be a multiple of every, not {steps} of {every}")
    if not 0 <= pairs <= theta.shape[0]:
        raise ValueError(f"pairs must be from 0 to the {theta.shape[0]} parameters, not {pairs}")


def _check_finite(xp, state, learning_rate):
    if not bool(xp.isfinite(xp.sum(state.mean) + xp.sum(state.covariance))):
        raise ValueError(
            f"at rate {learning_rate:.3g} the mean or the covariance of theta diverges"
        )
