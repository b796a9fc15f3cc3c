"""Noise on the targets: fresh Gaussian numbers are added to them at each step."""

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace
from sgdnoise.core._operators import Factor
from sgdnoise.core._problem import Problem
from sgdnoise.noise._draws import Normal
from sgdnoise.noise._models import Noise
from sgdnoise.noise._weights import (
    check_exchangeable,
    gaussian_weights,
    spread_rows,
    with_replacement,
)


@checked
def label_noise(problem: Problem, batch_size: int, label_noise: float | Array, law=None) -> Noise:
    """Minibatches whose targets get fresh Gaussian noise of standard deviation `label_noise`.

    C = Cov(minibatch) + label_noise^2 / (n batch_size) sum_i J_i^T J_i, where J_i^T (p, o) is the
    derivative of grad l_i with respect to target i: for squared loss the Jacobian of the outputs.
    `gaussian_gradient` and `covariance` are exact where grad l_i is linear in the target, as there.
    law: a law of minibatches; sampling with replacement by default.
    Raises ValueError for negative label_noise, for targets that are not real numbers, and for a
    law of another batch size.

    Example:
        >>> import numpy as np
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[-1.0], [1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> y = jnp.asarray([[0.0], [1.0], [2.0]])
        >>> problem = Problem(lambda theta, x, y: ((x @ theta - y[:, 0]) ** 2) / 2, (x, y))
        >>> noise = label_noise(problem, batch_size=2, label_noise=0.5)
        >>> round(float(noise.covariance(jnp.zeros(1)).trace()), 3)
        3.903
    """
    law = with_replacement(len(problem), batch_size) if law is None else law
    check_exchangeable(law)
    targets = problem.examples[-1]
    _check(label_noise, targets, law, batch_size)
    width = targets[0].reshape(-1).shape[0]
    strength = label_noise / (law.n * law.batch_size) ** 0.5

    def gradient(theta, drawn):
        chosen, white = drawn
        index, weights = law.weights_of(chosen, theta.dtype)
        shift = label_noise * white.reshape(law.batch_size, *targets.shape[1:])
        return problem.subset(index).with_target_shift(shift).weighted_gradient(theta, weights)

    def gaussian_gradient(theta, white):
        _, weights = gaussian_weights(law).weights_of(white[: law.n], theta.dtype)
        shift = strength * white[law.n :].reshape(targets.shape)
        return problem.weighted_gradient(theta, weights, shift)

    def covariance(theta):
        from_sampling = spread_rows(problem.gradients(theta), law)
        from_labels = strength * _target_derivatives(problem, theta)
        return Factor(namespace(theta).concat([from_sampling, from_labels]))

    draw = (law.draw, Normal(law.batch_size * width))
    normal = Normal(law.n * (1 + width))
    return Noise(problem, draw, gradient, normal, gaussian_gradient, covariance)


def _target_derivatives(problem, theta):
    """Derivatives of each gradient with respect to each number of its target, (n o, p)."""
    *inputs, targets = problem.examples
    autodiff = problem.autodiff

    def derivative(target, *example):
        def loss(t, y):
            return problem.losses(t, *(x[None] for x in example), y[None])[0]

        def gradient(y):
            return autodiff.grad(lambda t: loss(t, y))(theta)

        return autodiff.jacfwd(gradient)(target).reshape(theta.shape[0], -1).T

    derivatives = autodiff.vmap(derivative)(targets, *inputs)
    return derivatives.reshape(-1, theta.shape[0])


def _check(label_noise, targets, law, batch_size):
    if isinstance(label_noise, (int, float)) and label_noise < 0:
        raise ValueError(f"label_noise is a standard deviation, it cannot be {label_noise}")
    if law.batch_size != batch_size:
        raise ValueError(
            f"label noise at a batch of {batch_size} needs a law of it, not of {law.batch_size}"
        )
    if not namespace(targets).isdtype(targets.dtype, "real floating"):
        raise ValueError(f"label noise needs real targets, not {targets.dtype}; use one-hot ones")
