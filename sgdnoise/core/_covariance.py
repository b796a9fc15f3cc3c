"""Covariances as operators, without a p x p matrix."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arrays import Array, device, namespace
from sgdnoise.core._eigen import largest_eigenpairs
from sgdnoise.core._gradients import GradientMatrix, PerExampleGradients


class Covariance(Protocol):
    """A symmetric positive semi-definite operator C on R^p that can draw noise of covariance C.

    `C @ vector` is the product with (p,), `colour` maps `width` independent standard normal
    numbers to noise (p,), and `trace` () and `diagonal` (p,) are those of C.
    """

    def __matmul__(self, vector): ...  # (p,) -> (p,)
    def colour(self, white): ...  # (width,) -> (p,), so that E[xi xi^T] = C
    def trace(self): ...  # ()
    def diagonal(self): ...  # (p,)

    @property
    def width(self) -> int: ...  # how many white numbers one draw takes


@dataclass(frozen=True)
class Isotropic:
    """The covariance C = variance * identity of R^width.

    Example:
        >>> Isotropic(0.5, 3).trace()
        1.5
    """

    variance: Any
    width: int

    def __matmul__(self, vector):
        return self.variance * vector

    def colour(self, white):
        return self.variance**0.5 * white

    def trace(self):
        return self.variance * self.width

    def diagonal(self):
        xp = namespace(self.variance) if hasattr(self.variance, "shape") else np
        return xp.tile(xp.asarray(self.variance), (self.width,))


@dataclass(frozen=True)
class Diagonal:
    """The covariance C = diag(variances), variances (p,).

    Example:
        >>> import numpy as np
        >>> Diagonal(np.asarray([1.0, 4.0])).colour(np.asarray([1.0, 1.0]))
        array([1., 2.])
    """

    variances: Any

    @property
    def width(self):
        return self.variances.shape[0]

    def __matmul__(self, vector):
        return self.variances * vector

    def colour(self, white):
        return namespace(self.variances).sqrt(self.variances) * white

    def trace(self):
        return namespace(self.variances).sum(self.variances)

    def diagonal(self):
        return self.variances


@dataclass(frozen=True)
class Factor:
    """The covariance C = rows^T rows, from a thin matrix rows (width, p).

    Example:
        >>> import numpy as np
        >>> c = Factor(np.asarray([[1.0, 2.0]]))
        >>> (c @ np.asarray([1.0, 0.0])).tolist(), float(c.trace())
        ([1.0, 2.0], 5.0)
    """

    rows: Any

    @property
    def width(self):
        return self.rows.shape[0]

    def __matmul__(self, vector):
        return self.rows.T @ (self.rows @ vector)

    def colour(self, white):
        return self.rows.T @ white

    def trace(self):
        return namespace(self.rows).sum(self.rows**2)

    def diagonal(self):
        return namespace(self.rows).sum(self.rows**2, axis=0)

    def eigenvalues(self) -> Float[Array, " width"]:
        """Eigenvalues of the Gram matrix rows rows^T, largest first: all of C's but zeros."""
        xp = namespace(self.rows)
        return xp.flip(xp.clip(xp.linalg.eigvalsh(self.rows @ self.rows.T), 0, None))


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues (k,), largest first, and their vectors as weighted sums of example gradients.

    weights (n, k): the vectors are G^T weights (p, k), computed when they are asked for.
    """

    values: Any
    rows: PerExampleGradients
    weights: Any

    @cached_property
    def vectors(self):
        return self.rows.combine(self.weights)


@dataclass(frozen=True, eq=False)
class Gram:
    """The covariance of a weighted sum of example gradients, for an exchangeable law of weights.

    C = var_within (G - J G)^T (G - J G) + var_mean (J G)^T (J G), with G (n, p) the per-example
    gradients and J = 11^T / n.  A law of example weights with Cov(w) = var_within (1 - J) +
    var_mean J gives the gradient sum_i w_i g_i this covariance.
    """

    rows: PerExampleGradients
    var_within: Any
    var_mean: Any = 0.0

    @property
    def width(self):
        return self.rows.n

    @cached_property
    def mean(self):
        """The mean of the gradients, (p,)."""
        return self.rows.combine(self.rows.ones() / self.width)

    def __matmul__(self, vectors):
        along = self.mean @ vectors
        centred = self.rows.normal(vectors, along)
        if not self.var_mean:
            return self.var_within * centred
        mean = self.mean if along.ndim == 0 else self.mean[:, None]
        return self.var_within * centred + self.var_mean * self.width * mean * along

    def quadratic(self, vector):
        """v^T C v."""
        xp, projections = namespace(vector), self.rows.project(vector)
        mean = xp.mean(projections)
        return (
            self.var_within * xp.sum((projections - mean) ** 2)
            + self.var_mean * self.width * mean**2
        )

    def colour(self, white):
        """(n,) -> (p,), one weighted backward pass: E[xi xi^T] = C for white numbers."""
        return self.rows.combine(self._dressed(white))

    def draw(self, *, rng: int | np.random.Generator):
        """Gaussian noise of exactly this covariance, (p,)."""
        white = np.random.default_rng(rng).normal(size=self.width)
        ones = self.rows.ones()
        return self.colour(namespace(ones).asarray(white, dtype=ones.dtype, device=device(ones)))

    def trace(self):
        squares = namespace(self.mean).sum(self.rows.squares())
        return self._centred(squares, self.width * _square(self.mean))

    def diagonal(self):
        return self._centred(self.rows.column_squares(), self.width * self.mean**2)

    def eigenvalues(self) -> Float[Array, " n"]:
        """All that are not zero for want of examples, largest first; n^2 numbers of memory."""
        xp = namespace(self._small)
        values = xp.linalg.eigvalsh(self._small)
        return xp.flip(xp.clip(values, 0, None))[: self.rows.p]

    def top(self, k: int) -> Eigenpairs:
        """The k largest eigenvalues and their vectors; n^2 numbers of memory.

        The vector of an eigenvalue that is only rounding is zero.
        Raises ValueError for k below 1 or above the number of examples.
        """
        gram, n = self.rows.gram(), self.width
        xp = namespace(gram)
        start = np.random.default_rng(0).normal(size=(n, min(n, k + 2)))
        start = xp.asarray(start, dtype=gram.dtype, device=device(gram))
        values, vectors = largest_eigenpairs(
            lambda block: self._dressed(gram @ self._dressed(block)), start, k
        )
        values = xp.clip(values, 0, None)
        real = values > n * xp.finfo(values.dtype).eps * values[0]
        scale = xp.where(real, 1 / xp.sqrt(xp.where(real, values, 1)), 0)
        return Eigenpairs(values, self.rows, self._dressed(vectors) * scale)

    def frobenius(self):
        """(Tr C^2)^(1/2)."""
        return namespace(self._small).linalg.vector_norm(self._small)

    def participation_ratio(self):
        """(Tr C)^2 / Tr C^2, how many directions the noise has."""
        xp = namespace(self._small)
        return xp.sum(xp.linalg.diagonal(self._small)) ** 2 / xp.sum(self._small**2)

    def layer(self, name: str) -> "Gram":
        """The covariance of the gradients of one parameter, or of all below a module's name.

        Raises ValueError for a name that none of them has.
        """
        return Gram(self.rows.layer(name), self.var_within, self.var_mean)

    @cached_property
    def _small(self):
        """The matrix (n, n) that has the eigenvalues of C: G G^T, dressed on both sides."""
        gram, within, along = self.rows.gram(), self.var_within**0.5, self.var_mean**0.5
        xp = namespace(gram)
        means = xp.mean(gram, axis=0)
        constant = (along - within) ** 2 * xp.mean(means)
        row = within * (along - within) * means
        gram *= (
            self.var_within
        )  # in place where the library can, and twice n^2 numbers are not held
        gram += row[:, None]
        gram += row + constant
        return gram

    def _dressed(self, weights):
        """The symmetric root of Cov(w) times weights (n,) or (n, k)."""
        xp = namespace(weights)
        mean = xp.mean(weights, axis=0)
        return self.var_within**0.5 * (weights - mean) + self.var_mean**0.5 * mean

    def _centred(self, total, square_of_mean):
        """Of squares summed over examples and n times that of the mean; rounding goes no lower."""
        return (
            self.var_within * namespace(total).clip(total - square_of_mean, 0)
            + self.var_mean * square_of_mean
        )


def _square(vector):
    return namespace(vector).sum(vector**2)


def n_gradients_in(given) -> Any:
    """The per-example gradients of a Gram, of an array (n, p), or those given."""
    if isinstance(given, Gram):
        return given.rows
    return GradientMatrix(given) if hasattr(given, "shape") else given
