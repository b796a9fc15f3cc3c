r"""Laws of example weights w with E w_i = 1/n, by which a step's gradient is sum_i w_i grad l_i.

Most laws here are exchangeable, so Cov(w) = var_within (I - J) + var_mean J with J = 11^T / n, and
Cov(gradient) = G^T Cov(w) G for the matrix G (n, p) of per-example gradients.  Laws that treat
examples differently have a factor R with R^T R = Cov(w) instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace, same_library, widened
from sgdnoise.core._sampling import finite_population_factor
from sgdnoise.noise._draws import (
    Normal,
    Permutation,
    Uniform,
    WithoutReplacement,
    WithReplacement,
)


class Weights(NamedTuple):
    """A law of example weights.

    n: the number of examples.  draw: the random numbers that one step takes.
    weights_of: (drawn, dtype) -> (index, weights of that dtype).  A sparse law returns only the
    examples that it uses; a dense law returns None for the index and n weights.
    var_within, var_mean: the two eigenvalues of Cov(w), across and along (1, ..., 1).
    batch_size: None if the number of examples of a step is not fixed.
    factor: (m, n) with factor^T factor = Cov(w), for a law that is not exchangeable; the two
    eigenvalues are then not used.

    Example:
        >>> from sgdnoise.noise import with_replacement
        >>> law: Weights = with_replacement(10, batch_size=2)
        >>> law.n, law.batch_size, law.var_within  # 1 / (n B), across (1, ..., 1)
        (10, 2, 0.05)
    """

    n: int
    draw: Any
    weights_of: Callable[[Any, Any], tuple[Any, Any]]
    var_within: float
    var_mean: float
    batch_size: int | None
    factor: Any = None


@checked
def with_replacement(n: int, batch_size: int) -> Weights:
    """Minibatches of independent examples: var_within = 1 / (n batch_size).

    An example may be in a minibatch several times, and batch_size may be larger than n.
    Raises ValueError for a batch_size below 1.

    Example:
        >>> law = with_replacement(5, 4)
        >>> law.var_within, law.var_mean
        (0.05, 0.0)
    """
    _check(n, batch_size, largest=None)
    draw, variance = WithReplacement(batch_size, n), 1 / (n * batch_size)
    return Weights(n, draw, _equal(batch_size), variance, 0.0, batch_size)


@checked
def without_replacement(n: int, batch_size: int) -> Weights:
    """Minibatches of distinct examples: var_within = (n - batch_size) / (n - 1) / (n batch_size).

    Raises ValueError for a batch_size below 1 or above n.

    Example:
        >>> law = without_replacement(5, 3)
        >>> round(law.var_within, 4), law.var_mean
        (0.0333, 0.0)
    """
    _check(n, batch_size, largest=n)
    variance = finite_population_factor(n, batch_size) / (n * batch_size)
    draw = WithoutReplacement(batch_size, n)
    return Weights(n, draw, _equal(batch_size), variance, 0.0, batch_size)


@checked
def reshuffled(n: int, batch_size: int) -> Weights:
    """Random reshuffling: each epoch runs through a new permutation of the examples.

    A single step has the law of `without_replacement`; the steps of one epoch are anticorrelated.
    If batch_size does not divide n, the last n mod batch_size examples of a permutation are unused.

    Example:
        >>> reshuffled(12, 4).batch_size
        4
    """
    return without_replacement(n, batch_size)._replace(draw=Permutation(batch_size, n))


@checked
def bernoulli(n: int, batch_size: int) -> Weights:
    """Each example independently with probability batch_size / n and weight 1 / batch_size.

    var_within = var_mean = (1 - batch_size / n) / (n batch_size).

    Example:
        >>> law = bernoulli(10, 4)
        >>> law.n
        10
    """
    _check(n, batch_size, largest=n)
    variance = (1 - batch_size / n) / (n * batch_size)

    def weights_of(drawn, dtype):
        return None, namespace(drawn).astype(drawn < batch_size / n, dtype) / batch_size

    return Weights(n, Uniform(n), weights_of, variance, variance, None)


@checked
def importance(probabilities, batch_size: int) -> Weights:
    """Minibatches of independent examples, of which i is drawn with probability p_i.

    The weight of an example is 1 / (n p_i batch_size) each time that it is drawn, so that the
    gradient is unbiased, and Cov(w) = (diag(1 / p_i) - 11^T) / (n^2 batch_size).
    For class-balanced batches multiply the losses by n p_i: the gradient is then that of the
    balanced loss, with equal weights 1 / batch_size.
    probabilities (n,): positive, and scaled to the sum 1.  In float32 those below 1e-6 are drawn
    at a wrong rate.
    Raises ValueError for a batch_size below 1, and for probabilities that are not positive.

    Example:
        >>> law = importance([0.1, 0.2, 0.3, 0.4], 2)
        >>> (law.factor.T @ law.factor).round(3)[0, :2].tolist()
        [0.281, -0.031]
    """
    p = np.asarray(as_numpy(probabilities), float)
    if p.ndim != 1 or not len(p) or not (np.isfinite(p) & (p > 0)).all():
        raise ValueError("probabilities must be an array (n,) of positive numbers")
    n, p = len(p), p / p.sum()
    _check(n, batch_size, largest=None)
    ends, each = np.cumsum(p)[:-1], 1 / (n * p * batch_size)
    factor = (np.diag(p**-0.5) - p[:, None] ** 0.5) / (n * batch_size**0.5)

    def weights_of(drawn, dtype):
        xp = namespace(drawn)
        index = xp.searchsorted(xp.astype(same_library(ends, drawn), drawn.dtype), drawn)
        return index, xp.astype(same_library(each, drawn), dtype)[index]

    return Weights(n, Uniform(batch_size), weights_of, 0.0, 0.0, batch_size, factor)


@checked
def custom_weights(draw, weights_of: Callable, covariance) -> Weights:
    """A law of example weights of your own, from its random numbers and its covariance.

    draw: the random numbers of a step, such as `noise.Uniform(8)` or a `noise.Sampled`.
    weights_of: (drawn, dtype) -> (index, weights of that dtype), or (None, all n weights); their
    mean must be 1 / n for every example, which is not checked.
    covariance (n, n): Cov(w), symmetric and without negative eigenvalues.
    Raises ValueError for another covariance.

    Example:
        >>> from sgdnoise.noise import Uniform
        >>> def weights_of(drawn, dtype):  # each example by itself, with another scatter
        ...     return None, (1 + (drawn - 0.5) * np.asarray([0.5, 1.0])) / 2
        >>> law = custom_weights(Uniform(2), weights_of, np.diag([0.25, 1.0]) / 48)
        >>> law.n, law.batch_size
        (2, None)
    """
    given = as_numpy(widened(covariance, "the covariance"))
    matrix, precision = given.astype(float), np.finfo(given.dtype).eps
    if (
        not matrix.size
        or matrix.ndim != 2
        or matrix.shape[0] != matrix.shape[1]
        or not np.isfinite(matrix).all()
    ):
        raise ValueError(f"the covariance must be a matrix (n, n), not of shape {matrix.shape}")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    small = len(matrix) * precision * max(np.abs(values).max(), 0.0)
    if not np.allclose(matrix, matrix.T, atol=small) or values.min() < -small:
        raise ValueError("the covariance must be symmetric, without negative eigenvalues")
    factor = np.maximum(values, 0)[:, None] ** 0.5 * vectors.T
    return Weights(len(matrix), draw, weights_of, 0.0, 0.0, None, factor)


def spread_rows(gradients, law: Weights):
    """Rows R with R^T R = G^T Cov(w) G, from the gradients G (n, ...)."""
    if law.factor is not None:
        factor = same_library(law.factor, gradients)
        return namespace(gradients).astype(factor, gradients.dtype) @ gradients
    mean = namespace(gradients).mean(gradients, axis=0)
    return law.var_within**0.5 * (gradients - mean) + law.var_mean**0.5 * mean


def check_exchangeable(law: Weights) -> None:
    """Raise ValueError for a law that treats examples differently."""
    if law.factor is not None:
        raise ValueError(
            "this needs a law that treats all examples alike; for others use "
            "noise.from_weights(problem, law).covariance(theta)"
        )


@checked
def gaussian_weights(law: Weights) -> Weights:
    """The Gaussian law with the mean and covariance of another law.

    It gives a weight to all n examples, some of them negative, and has no batch size.

    Example:
        >>> gaussian_weights(with_replacement(5, 4)).var_within
        0.05
    """

    if law.factor is not None:
        return _gaussian_of_factor(law)

    def weights_of(drawn, dtype):
        white = namespace(drawn).astype(drawn, dtype)
        mean = namespace(white).mean(white)
        within, along = law.var_within**0.5 * (white - mean), law.var_mean**0.5 * mean
        return None, 1 / law.n + within + along

    return law._replace(draw=Normal(law.n), weights_of=weights_of, batch_size=None)


@checked
def svag_weights(law: Weights, stretch: int) -> Weights:
    """Stochastic variance-amplified gradient of Li, Malladi & Arora (2021): covariance x stretch.

    w = (1 + s) / 2 w' + (1 - s) / 2 w'' with s = sqrt(2 stretch - 1), where w' and w'' are two
    independent draws of a sparse law.  With learning_rate / stretch it follows the same stochastic
    equation more closely.
    Raises ValueError for stretch below 1 or a law without a batch size.

    Example:
        >>> from sgdnoise.noise import with_replacement
        >>> svag_weights(with_replacement(10, 4), stretch=4).n
        10
    """
    if stretch < 1:
        raise ValueError(f"svag can stretch a covariance by 1 or more, not by {stretch}")
    if law.batch_size is None:
        raise ValueError("svag needs a law of minibatches, not one whose batch_size is None")
    s = (2 * stretch - 1) ** 0.5

    def weights_of(drawn, dtype):
        (first, w1), (second, w2) = (law.weights_of(numbers, dtype) for numbers in drawn)
        xp = namespace(w1)
        return xp.concat([first, second]), xp.concat([(1 + s) / 2 * w1, (1 - s) / 2 * w2])

    return law._replace(
        draw=(law.draw, law.draw),
        weights_of=weights_of,
        var_within=stretch * law.var_within,
        var_mean=stretch * law.var_mean,
        batch_size=None,
        factor=None if law.factor is None else stretch**0.5 * law.factor,
    )


def _gaussian_of_factor(law):
    def weights_of(drawn, dtype):
        xp = namespace(drawn)
        factor = xp.astype(same_library(law.factor, drawn), dtype)
        return None, 1 / law.n + factor.T @ xp.astype(drawn, dtype)

    return law._replace(draw=Normal(len(law.factor)), weights_of=weights_of, batch_size=None)


def _equal(batch_size):
    def weights_of(drawn, dtype):
        xp = namespace(drawn)
        return drawn, xp.full(batch_size, 1 / batch_size, dtype=dtype, device=device(drawn))

    return weights_of


def _check(n, batch_size, largest):
    if batch_size < 1:
        raise ValueError(f"a batch needs at least one example, not {batch_size}")
    if largest is not None and batch_size > largest:
        raise ValueError(f"a batch of {batch_size} cannot be drawn from {n} distinct examples")
