r"""Batch sharpness: the curvature of a minibatch along its own gradient, over all minibatches.

Andreyev & Beneventano (2024) find that SGD keeps it at 2 / rate, where the largest curvature of the
mean loss stays below.  New here, as far as we know: its exact value over all batches of any size
from four moments over the examples, without a drawn batch.
"""

from functools import partial

from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace
from sgdnoise.core._checks import check_positive
from sgdnoise.core._problem import Problem

BLOCK = 32  # gradients that are multiplied with the Hessian at once


@checked
def batch_sharpness(
    problem: Problem, theta: Float[Array, " p"], batch_size: int, *, with_replacement: bool = True
) -> Float[Array, ""]:
    r"""Batch sharpness E[g_B^T H_B g_B] / E[|g_B|^2] over all minibatches of B examples.

    With g and H of the mean loss, g_i and H_i of the examples, and means over examples, it is
    [(B - 1) (B - 2) q_0 + (B - 1) (q_1 + 2 q_2) + q_3] / (B [(B - 1) |g|^2 + mean |g_i|^2]), where
    q_0 = g^T H g, q_1 = mean g_i^T H g_i, q_2 = mean g_i^T H_i g and q_3 = mean g_i^T H_i g_i, for
    batches with replacement; without, the moments are over different examples.  SGD keeps it near
    2 / rate (Andreyev & Beneventano, 2024).  A number that jax and torch can trace, such as for
    `moments(of=...)` of chains.  It costs n products with the Hessian.
    Raises ValueError for a batch_size below 1, or above n without replacement.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.asarray([1.0, 2.0])
        >>> problem = Problem(lambda theta, x: (x * (theta[0] - 1)) ** 2 / 2, (x,))
        >>> round(float(batch_sharpness(problem, jnp.zeros(1), 1)), 3)
        3.824
    """
    n = len(problem)
    check_positive(batch_size=batch_size)
    if not with_replacement and batch_size > n:
        raise ValueError(f"batch_size must be at most the {n} examples, not {batch_size}")
    squared, norms, full, own, mixed, alone = _moments(problem, theta)
    b = batch_size
    if with_replacement:
        return _ratio(b, squared, norms, full, own, mixed, alone)
    if n > 1:  # means over pairs of different examples
        squared = (n * squared - norms) / (n - 1)
        triples = n**2 * full - n * (own + 2 * mixed) + 2 * alone
        full = triples / ((n - 1) * (n - 2)) if n > 2 else 0 * full
        own, mixed = ((n * moment - alone) / (n - 1) for moment in (own, mixed))
    return _ratio(b, squared, norms, full, own, mixed, alone)


def _ratio(b, squared, norms, full, own, mixed, alone):
    above = (b - 1) * (b - 2) * full + (b - 1) * (own + 2 * mixed) + alone
    return above / (b * ((b - 1) * squared + norms))


def _moments(problem, theta):
    """|g|^2, mean |g_i|^2, and q_0 to q_3."""
    xp, autodiff = namespace(theta), problem.autodiff
    gradients = problem.gradients(theta)
    gradient = xp.mean(gradients, axis=0)
    along = autodiff.vmap(partial(_example_product, problem, theta), (0, *_axes(problem)))
    alone = xp.mean(xp.sum(gradients * along(gradients, *problem.examples), axis=1))
    image = problem.hvp(theta, gradient)
    shared = xp.broadcast_to(gradient, gradients.shape)
    mixed = xp.mean(xp.sum(gradients * along(shared, *problem.examples), axis=1))
    blocks = [gradients[k : k + BLOCK] for k in range(0, len(problem), BLOCK)]
    products = [autodiff.vmap(lambda v: problem.hvp(theta, v))(block) for block in blocks]
    own = sum(xp.sum(a * b) for a, b in zip(blocks, products, strict=True)) / len(problem)
    squares = xp.sum(gradient**2), xp.mean(xp.sum(gradients**2, axis=1))
    return (*squares, xp.sum(gradient * image), own, mixed, alone)


def _axes(problem):
    return [0] * len(problem.examples)


def _example_product(problem, theta, vector, *example):
    """H_i of one example times a vector."""

    def loss(t):
        return problem.losses(t, *(array[None] for array in example))[0]

    return problem.autodiff.jvp(problem.autodiff.grad(loss), (theta,), (vector,))[1]
