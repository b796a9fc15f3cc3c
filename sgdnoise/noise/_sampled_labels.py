"""Noise of labels that the model draws itself: its covariance is the Fisher information."""

from dataclasses import replace

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import namespace
from sgdnoise.core._operators import Factor
from sgdnoise.core._problem import Problem
from sgdnoise.noise._draws import Normal, Uniform, WithReplacement
from sgdnoise.noise._models import Noise


@checked
def sampled_labels(problem: Problem, batch_size: int, choices) -> Noise:
    """Noise of labels that are drawn from the model: C = F / batch_size, F the Fisher information.

    A step uses the full gradient plus that of a batch with drawn labels.
    choices: (K, ...), all values that a target may have.  The losses must be -log p, as
    cross-entropy
    is: label c of example i has the probability p_ic = exp(-l_i(c)), the mean of the gradients g_ic
    over c is zero, and F = mean_i sum_c p_ic g_ic g_ic^T, which for a softmax is the Gauss-Newton
    matrix (Martens, 2020).  A step costs K forward passes over a batch and one backward pass over
    batch and data; `gaussian_gradient` costs K forward passes and one backward pass over the data.
    Raises ValueError for batch_size below 1, fewer than 2 choices, or choices of another shape.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> def losses(theta, x, y):  # logistic regression with labels -1 and 1
        ...     return jax.nn.softplus(-y * (x @ theta))
        >>> problem = Problem(losses, (jnp.asarray([[1.0], [-1.0]]), jnp.asarray([1.0, -1.0])))
        >>> noise = sampled_labels(problem, 1, jnp.asarray([-1.0, 1.0]))
        >>> float(noise.covariance(jnp.zeros(1)).trace())  # p (1 - p) x^2 = 1 / 4
        0.25
    """
    count, targets = len(choices), problem.examples[-1]
    if batch_size < 1:
        raise ValueError(f"a batch needs at least one example, not {batch_size}")
    if count < 2 or choices.shape[1:] != targets.shape[1:]:
        raise ValueError(
            f"labels are drawn from 2 or more of shape {tuple(targets.shape[1:])}, "
            f"not from an array of shape {tuple(choices.shape)}"
        )
    n = len(problem)

    def gradient(theta, drawn):
        chosen, place = drawn
        batch = problem.subset(chosen)
        relabelled = _relabelled(batch, choices[_pick(_laws(batch, theta, choices), place)])
        return problem.autodiff.grad(lambda t: problem.value(t) + relabelled.value(t))(theta)

    def gaussian_gradient(theta, white):
        xp = namespace(theta)
        laws = _laws(problem, theta, choices)
        weights = (laws / (n * batch_size)) ** 0.5 * xp.reshape(white, laws.shape)

        def total(t):
            return problem.value(t) + xp.sum(weights * _losses(problem, t, choices))

        return problem.autodiff.grad(total)(theta)

    def covariance(theta):
        xp = namespace(theta)
        scales = (_laws(problem, theta, choices) / (n * batch_size)) ** 0.5
        gradients = [_relabelled(problem, label).gradients(theta) for label in choices]
        return Factor(xp.concat([scales[:, c, None] * g for c, g in enumerate(gradients)]))

    draw = (WithReplacement(batch_size, n), Uniform(batch_size))
    return Noise(problem, draw, gradient, Normal(n * count), gaussian_gradient, covariance)


def _relabelled(problem, labels):
    """The same inputs with other targets, one for all or one for each."""
    *inputs, targets = problem.examples
    fresh = namespace(targets).broadcast_to(labels, targets.shape)
    return replace(problem, examples=(*inputs, fresh))


def _losses(problem, theta, choices):
    """The loss of every example under every label, (n, K)."""
    columns = [problem.losses(theta, *_relabelled(problem, label).examples) for label in choices]
    return namespace(theta).stack(columns, axis=1)


def _laws(problem, theta, choices):
    """The probability of every label under the model, (n, K)."""
    return namespace(theta).exp(-_losses(problem, theta, choices))


def _pick(laws, place):
    """The label whose part of [0, 1) contains a uniform number, for each example."""
    xp = namespace(laws)
    ends = xp.cumulative_sum(laws, axis=1)
    inner = ends[:, :-1] <= (place[:, None] * ends[:, -1:])
    return xp.sum(xp.astype(inner, xp.int32), axis=1)
