r"""Laws of example weights w with E w_i = 1/n, by which a step's gradient is sum_i w_i grad l_i.

Every law here is exchangeable, so Cov(w) = var_within (I - J) + var_mean J with J = 11^T / n, and
Cov(gradient) = G^T Cov(w) G for the matrix G (n, p) of per-example gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import device, namespace
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
    """

    n: int
    draw: Any
    weights_of: Callable[[Any, Any], tuple[Any, Any]]
    var_within: float
    var_mean: float
    batch_size: int | None


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


def gaussian_weights(law: Weights) -> Weights:
    """The Gaussian law with the mean and covariance of another law.

    It gives a weight to all n examples, some of them negative, and has no batch size.

    Example:
        >>> gaussian_weights(with_replacement(5, 4)).var_within
        0.05
    """

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
    )


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
