"""The covariance of a weighted sum of example gradients as an operator, without a p x p matrix."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arrays import Array, device, namespace, power_of_two
from sgdnoise.core._checks import as_generator
from sgdnoise.core._eigen import largest_eigenpairs
from sgdnoise.core._gradients import GradientMatrix, PerExampleGradients
from sgdnoise.core._operators import taken


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues (k,), largest first, and their vectors as weighted sums of example gradients.

    weights (n, k): the vectors are G^T weights (p, k), computed when they are asked for.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import GradientMatrix, Gram
        >>> rows = GradientMatrix(np.asarray([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        >>> pairs = Gram(rows, var_within=1 / 4).top(2)
        >>> pairs.values.round(6).tolist(), abs(pairs.vectors.round(6)).tolist()
        ([2.0, 0.5], [[1.0, 0.0], [0.0, 1.0]])
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

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import GradientMatrix
        >>> rows = GradientMatrix(np.asarray([[1.0, 0.0], [3.0, 2.0]]))
        >>> covariance = Gram(rows, var_within=1 / 2)  # 1 / n: that of the gradient of one example
        >>> float(covariance.trace()), (covariance @ np.asarray([1.0, 0.0])).tolist()
        (2.0, [1.0, 1.0])
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
        vectors = taken(vectors, self.rows.p, self.mean)
        along = self.mean @ vectors
        centred = self._normal(vectors, along)
        if not self.var_mean:
            return self.var_within * centred
        mean = self.mean if along.ndim == 0 else self.mean[:, None]
        return self.var_within * centred + self.var_mean * self.width * mean * along

    def quadratic(self, vector):
        """v^T C v."""
        vector = taken(vector, self.rows.p, self.mean)
        xp, projections = namespace(vector), self.rows.project(vector)
        mean = xp.mean(projections)
        centred = projections - mean if self._centred is None else self._centred.project(vector)
        return self.var_within * xp.sum(centred**2) + self.var_mean * self.width * mean**2

    def colour(self, white):
        """(n,) -> (p,), one weighted backward pass: E[xi xi^T] = C for white numbers."""
        return self.rows.combine(self._dressed(taken(white, self.width, self.mean)))

    def draw(self, *, rng):
        """Gaussian noise of exactly this covariance, (p,).  rng: an int or a numpy Generator."""
        white = as_generator(rng).normal(size=self.width)
        dtype = self.mean.dtype
        return self.colour(
            namespace(self.mean).asarray(white, dtype=dtype, device=device(self.mean))
        )

    def trace(self):
        xp, along = namespace(self.mean), self.width * _square(self.mean)
        if self._centred is None:
            within = xp.clip(xp.sum(self.rows.squares()) - along, 0)
        else:
            within = xp.sum(self._centred.squares())
        return self.var_within * within + self.var_mean * along

    def diagonal(self):
        xp, along = namespace(self.mean), self.width * self.mean**2
        if self._centred is None:  # rounding goes no lower than zero
            within = xp.clip(self.rows.column_squares() - along, 0)
        else:
            within = self._centred.column_squares()
        return self.var_within * within + self.var_mean * along

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
        held, n = self._centred is not None, self.width
        gram = self._dressed_rows.gram() if held else self._gram()
        xp = namespace(gram)
        start = np.random.default_rng(0).normal(size=(n, min(n, k + 2)))
        start = xp.asarray(start, dtype=gram.dtype, device=device(gram))

        def operator(block):
            return gram @ block if held else self._dressed(gram @ self._dressed(block))

        values, vectors = largest_eigenpairs(operator, start, k)
        values = xp.clip(values, 0, None)
        real = values > n * xp.finfo(values.dtype).eps * values[0]
        scale = xp.where(real, 1 / xp.sqrt(xp.where(real, values, 1)), 0)
        rows = self._centred if held and not self.var_mean else self.rows
        return Eigenpairs(values, rows, self._dressed(vectors) * scale)

    def frobenius(self):
        """(Tr C^2)^(1/2)."""
        unit = power_of_two(self._small)
        return unit * namespace(self._small).linalg.vector_norm(self._small / unit)

    def participation_ratio(self):
        """(Tr C)^2 / Tr C^2, how many directions the noise has."""
        xp, small = namespace(self._small), self._small / power_of_two(self._small)
        return xp.sum(xp.linalg.diagonal(small)) ** 2 / xp.sum(small**2)

    def layer(self, name: str) -> "Gram":
        """The covariance of the gradients of one parameter, or of all below a module's name.

        Raises ValueError for a name that none of them has.
        """
        return Gram(self.rows.layer(name), self.var_within, self.var_mean)

    @cached_property
    def _small(self):
        """The matrix (n, n) that has the eigenvalues of C: G G^T, dressed on both sides."""
        if self._centred is not None:
            return self._dressed_rows.gram()
        gram, within, along = self._gram(), self.var_within**0.5, self.var_mean**0.5
        xp = namespace(gram)
        means = xp.mean(gram, axis=0)
        constant = (along - within) ** 2 * xp.mean(means)
        row = within * (along - within) * means
        # In place where the library can, so that twice n^2 numbers are not held.
        gram *= self.var_within
        gram += row[:, None]
        gram += row + constant
        return gram

    def _gram(self):
        """The inner products of the gradients, made anew."""
        return self.rows.gram()

    @cached_property
    def _centred(self):
        """The gradients without their mean where they are held as a matrix, else None.

        A square of a gradient loses the noise if the mean is large; that of its deviation does not.
        """
        return self.rows.centred() if isinstance(self.rows, GradientMatrix) else None

    @property
    def _dressed_rows(self):
        """The rows R with R^T R = C, of the gradients that are held as a matrix."""
        rows = self.var_within**0.5 * self._centred.rows
        return GradientMatrix(rows + self.var_mean**0.5 * self.mean if self.var_mean else rows)

    def _normal(self, vectors, along):
        """(G - J G)^T (G - J G) times vectors, whose products with the mean are `along`."""
        if self._centred is None:
            return self.rows.normal(vectors, along)
        return self._centred.normal(vectors, 0)

    def _dressed(self, weights):
        """The symmetric root of Cov(w) times weights (n,) or (n, k)."""
        xp = namespace(weights)
        mean = xp.mean(weights, axis=0)
        return self.var_within**0.5 * (weights - mean) + self.var_mean**0.5 * mean


def _square(vector):
    return namespace(vector).sum(vector**2)


def n_gradients_in(given) -> Any:
    """The per-example gradients of a Gram, of an array (n, p), or those given.

    Raises ValueError for an array that is not a matrix of real numbers.
    """
    if isinstance(given, Gram):
        return given.rows
    if hasattr(given, "shape") or isinstance(given, (list, tuple)):
        return GradientMatrix(given)
    if not (hasattr(given, "project") or hasattr(given, "by_parameter")):
        raise ValueError(
            f"rows must be an array (n, p), PerExampleGradients or a Gram, "
            f"not {type(given).__name__}"
        )
    return given
