"""Noise of labels that the model draws itself: its covariance is the Fisher information."""

from dataclasses import replace

from sgdnoise.core._arrays import namespace
from sgdnoise.core._covariance import Factor
from sgdnoise.core._problem import Problem
from sgdnoise.noise._draws import Normal, Uniform, WithReplacement
from sgdnoise.noise._models import Noise


def sampled_labels(problem: Problem, batch_size: int, choices) -> Noise:
    r"""The full gradient plus that of a batch whose labels are drawn from the model: Cov = F / B.

    choices: (K, ...), all that a target may be, of the targets' shape and type.  The losses must be
    -log p, as cross-entropy: label c of example i has p_ic = exp(-l_i(c)), gradients g_ic vanish on
    average over c, and F = mean_i sum_c p_ic g_ic g_ic^T is the Fisher information, which for a
    softmax is the Gauss-Newton matrix (Martens, 2020).  A step costs K passes forward over a batch
    and one back over batch and data; the twin K forward and one back over the data.
    Raises ValueError for a batch below 1, fewer than 2 choices, or choices of another shape.
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
    """Every example's loss under every label, (n, K)."""
    columns = [problem.losses(theta, *_relabelled(problem, label).examples) for label in choices]
    return namespace(theta).stack(columns, axis=1)


def _laws(problem, theta, choices):
    """The model's own probability of every label, (n, K)."""
    return namespace(theta).exp(-_losses(problem, theta, choices))


def _pick(laws, place):
    """The label in whose share of [0, 1) a uniform number lies, for each example."""
    xp = namespace(laws)
    ends = xp.cumulative_sum(laws, axis=1)
    inner = ends[:, :-1] <= (place[:, None] * ends[:, -1:])
    return xp.sum(xp.astype(inner, xp.int32), axis=1)
