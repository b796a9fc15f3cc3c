"""The gradients of n examples as an operator."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from sgdnoise.core._arrays import as_numpy, namespace, widened


@runtime_checkable
class PerExampleGradients(Protocol):
    """The gradients of n examples, the rows of a matrix G (n, p), as an operator.

    `layer(name)` restricts them to the parameters of a layer; `by_parameter()` splits them.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import GradientMatrix
        >>> rows = GradientMatrix(np.asarray([[1.0, 0.0], [3.0, 2.0]]))
        >>> isinstance(rows, PerExampleGradients)
        True
        >>> rows.project(np.asarray([1.0, 1.0])).tolist(), rows.gram().tolist()
        ([1.0, 5.0], [[1.0, 3.0], [3.0, 13.0]])
    """

    @property
    def n(self) -> int: ...
    @property
    def p(self) -> int: ...

    def ones(self): ...  # (n,), of the library, type and device of all that follows
    def project(self, vectors): ...  # (p,) or (p, k) -> (n,) or (n, k): G v
    def combine(self, weights): ...  # (n,) or (n, k) -> (p,) or (p, k): G^T w
    def normal(self, vectors, shift): ...  # sum_i g_i (g_i v - shift), going through G once
    def squares(self): ...  # (n,): |g_i|^2
    def column_squares(self): ...  # (p,): sum_i g_i^2, each parameter by itself
    def gram(self): ...  # (n, n): G G^T, made anew, for the caller to change
    def layer(self, name: str): ...  # the Rows of some of the parameters
    def by_parameter(self): ...  # name -> Rows, parameter by parameter


@dataclass(frozen=True)
class GradientMatrix:
    """The rows of a matrix (n, p), whose parameters have no names.

    Integers become float64 and half precision becomes float32.
    Raises ValueError for an array that is not a matrix, or not of real numbers.

    Example:
        >>> import numpy as np
        >>> rows = GradientMatrix(np.asarray([[1.0, 0.0], [3.0, 2.0]]))
        >>> rows.n, rows.p
        (2, 2)
        >>> rows.combine(np.asarray([0.5, 0.5])).tolist()  # the mean gradient
        [2.0, 1.0]
    """

    rows: Any

    def __post_init__(self):
        rows = widened(self.rows)
        if rows.ndim != 2:
            raise ValueError(
                f"rows must be a matrix (n, p), one gradient for each example, "
                f"not an array of shape {tuple(rows.shape)}"
            )
        object.__setattr__(self, "rows", rows)

    @property
    def n(self):
        return self.rows.shape[0]

    @property
    def p(self):
        return self.rows.shape[1]

    def ones(self):
        return namespace(self.rows).ones_like(self.rows[:, 0])

    def project(self, vectors):
        return self.rows @ vectors

    def combine(self, weights):
        return self.rows.T @ weights

    def normal(self, vectors, shift):
        return self.combine(self.project(vectors) - shift)

    def squares(self):
        return namespace(self.rows).sum(self.rows**2, axis=1)

    def column_squares(self):
        return namespace(self.rows).sum(self.rows**2, axis=0)

    def gram(self):
        return self.rows @ self.rows.T

    def layer(self, name):
        raise ValueError(f"these gradients come without names, so there is no {name!r} in them")

    def by_parameter(self):
        return {"theta": self}

    def centred(self) -> "GradientMatrix":
        """The rows without their mean, subtracted twice: the mean itself is rounded."""
        xp = namespace(self.rows)
        centred = self.rows - xp.mean(self.rows, axis=0)
        return GradientMatrix(centred - xp.mean(centred, axis=0))


@dataclass(frozen=True)
class CentredGradients:
    """The gradients g_i - g of an operator whose rows are not held.

    Their squares are expanded, |g_i|^2 - 2 g_i g + |g|^2, and so lose what |g|^2 / |g_i - g|^2
    takes of the precision of |g_i|^2.
    """

    rows: PerExampleGradients
    mean: Any

    @property
    def n(self):
        return self.rows.n

    def ones(self):
        return self.rows.ones()

    @cached_property
    def along(self):
        """g_i g, (n,)."""
        return self.rows.project(self.mean)

    def project(self, vector):
        values = self.along if vector is self.mean else self.rows.project(vector)
        return values - namespace(values).mean(values)

    def combine(self, weights):
        return self.rows.combine(weights - namespace(weights).mean(weights))

    def squares(self):
        mean = as_numpy(self.mean).astype(float)
        along = as_numpy(self.along).astype(float)
        expanded = as_numpy(self.rows.squares()).astype(float) - 2 * along + mean @ mean
        return expanded.clip(0)


def centred(rows):
    """The mean of the gradients (p,), and the gradients without it."""
    mean = rows.combine(rows.ones() / rows.n)
    if isinstance(rows, GradientMatrix):
        return mean, rows.centred()
    return mean, rows.about(mean) if hasattr(rows, "about") else CentredGradients(rows, mean)
