r"""How a step weighs the examples: laws of w with E w_i = 1/n, gradient sum_i w_i grad l_i.

Every law here is exchangeable, hence Cov(w) = own (I - J) + shared J with J = 11^T / n, and
Cov(gradient) = G^T Cov(w) G for the matrix G (n, p) of per-example gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sgdnoise.core._arrays import device, namespace
from sgdnoise.noise._draws import Normal, Permutation, Uniform, WithoutReplacement, WithReplacement


class Weights(NamedTuple):
    """A law of example weights.

    pick: (drawn, dtype) -> (indices, weights of that dtype); a sparse law names only the examples
    it uses, a dense one says None for all of them.  `own` and `shared` are the two eigenvalues of
    Cov(w): across and along (1, ..., 1).  `batch_size` is None where it is not fixed.
    """

    n: int
    draw: Any
    pick: Callable[[Any, Any], tuple[Any, Any]]
    own: float
    shared: float
    batch_size: int | None


def with_replacement(n: int, batch_size: int) -> Weights:
    """Minibatches of independent examples: own = 1 / (n batch)."""
    _check(n, batch_size, most=None)
    return Weights(
        n, WithReplacement(batch_size, n), _equal(batch_size), 1 / (n * batch_size), 0.0, batch_size
    )


def without_replacement(n: int, batch_size: int) -> Weights:
    """Minibatches of distinct examples: own = (n - batch) / (n - 1) / (n batch)."""
    _check(n, batch_size, most=n)
    own = (n - batch_size) / max(n - 1, 1) / (n * batch_size)
    return Weights(n, WithoutReplacement(batch_size, n), _equal(batch_size), own, 0.0, batch_size)


def reshuffled(n: int, batch_size: int) -> Weights:
    """Random reshuffling: each epoch runs through a fresh permutation.

    One step has the law of `without_replacement`; the steps of an epoch are anticorrelated.
    Where batch does not divide n, the last n mod batch examples of a permutation are left out.
    """
    return without_replacement(n, batch_size)._replace(draw=Permutation(batch_size, n))


def bernoulli(n: int, batch_size: int) -> Weights:
    """Each example with probability batch / n by itself, weight 1 / batch: shared = own."""
    _check(n, batch_size, most=n)
    own = (1 - batch_size / n) / (n * batch_size)

    def pick(drawn, dtype):
        return None, namespace(drawn).astype(drawn < batch_size / n, dtype) / batch_size

    return Weights(n, Uniform(n), pick, own, own, None)


def gaussian_weights(law: Weights) -> Weights:
    """The Gaussian law with the mean and covariance of another."""

    def pick(drawn, dtype):
        white = namespace(drawn).astype(drawn, dtype)
        middle = namespace(white).mean(white)
        return None, 1 / law.n + law.own**0.5 * (white - middle) + law.shared**0.5 * middle

    return law._replace(draw=Normal(law.n), pick=pick, batch_size=None)


def svag_weights(law: Weights, stretch: int) -> Weights:
    """Stochastic variance-amplified gradient of Li, Malladi & Arora (2021): covariance x stretch.

    w = (1 + s) / 2 w' + (1 - s) / 2 w'' with s = sqrt(2 stretch - 1) and w', w'' two draws of a
    sparse law; with rate / stretch it follows the same stochastic equation, closer.
    Raises ValueError for stretch below 1 or a law that fixes no batch.
    """
    if stretch < 1:
        raise ValueError(f"svag can stretch a covariance by 1 or more, not by {stretch}")
    if law.batch_size is None:
        raise ValueError("svag needs a law of minibatches, not one whose batch is None")
    s = (2 * stretch - 1) ** 0.5

    def pick(drawn, dtype):
        (one, w1), (two, w2) = (law.pick(each, dtype) for each in drawn)
        xp = namespace(w1)
        return xp.concat([one, two]), xp.concat([(1 + s) / 2 * w1, (1 - s) / 2 * w2])

    own, shared = stretch * law.own, stretch * law.shared
    return law._replace(
        draw=(law.draw, law.draw), pick=pick, own=own, shared=shared, batch_size=None
    )


def _equal(batch_size):
    def pick(drawn, dtype):
        xp = namespace(drawn)
        return drawn, xp.full(batch_size, 1 / batch_size, dtype=dtype, device=device(drawn))

    return pick


def _check(n, batch_size, most):
    if batch_size < 1:
        raise ValueError(f"a batch needs at least one example, not {batch_size}")
    if most is not None and batch_size > most:
        raise ValueError(f"a batch of {batch_size} cannot be drawn from {n} distinct examples")
