"""Covariances that a few arrays hold: of one variance, of one a parameter, of a thin matrix."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arrays import Array, namespace, same_library, widened


class Covariance(Protocol):
    """A symmetric positive semi-definite operator C on R^p that can draw noise of covariance C.

    `C @ vector` is the product with (p,) or with each column of (p, k).  `colour` maps `width`
    independent standard normal numbers to noise (p,), and `trace` () and `diagonal` (p,) are those
    of C.  Vectors of another library are converted.  Vectors of another length raise ValueError.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import Diagonal
        >>> covariance: Covariance = Diagonal(np.asarray([1.0, 4.0]))
        >>> float(covariance.trace()), (covariance @ np.ones(2)).tolist()
        (5.0, [1.0, 4.0])
        >>> covariance.colour(np.ones(covariance.width)).tolist()  # the roots of the variances
        [1.0, 2.0]
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
        return self.variance * taken(vector, self.width, self.variance)

    def colour(self, white):
        return self.variance**0.5 * taken(white, self.width, self.variance)

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

    def __post_init__(self):
        object.__setattr__(self, "variances", widened(self.variances, "variances"))

    @property
    def width(self):
        return self.variances.shape[0]

    def __matmul__(self, vector):
        vector = taken(vector, self.width, self.variances)
        return self.variances * vector if vector.ndim == 1 else self.variances[:, None] * vector

    def colour(self, white):
        white = taken(white, self.width, self.variances)
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

    def __post_init__(self):
        object.__setattr__(self, "rows", widened(self.rows))

    @property
    def width(self):
        return self.rows.shape[0]

    def __matmul__(self, vector):
        return self.rows.T @ (self.rows @ taken(vector, self.rows.shape[1], self.rows))

    def colour(self, white):
        return self.rows.T @ taken(white, self.width, self.rows)

    def trace(self):
        return namespace(self.rows).sum(self.rows**2)

    def diagonal(self):
        return namespace(self.rows).sum(self.rows**2, axis=0)

    def eigenvalues(self) -> Float[Array, " width"]:
        """Eigenvalues of the Gram matrix rows rows^T, largest first: all of C's but zeros."""
        xp = namespace(self.rows)
        return xp.flip(xp.clip(xp.linalg.eigvalsh(self.rows @ self.rows.T), 0, None))


def taken(vector, width, reference):
    """A vector (width,) or columns (width, k), in the library of a covariance."""
    vector = vector if hasattr(vector, "shape") else np.asarray(vector, dtype=float)
    if vector.ndim not in (1, 2) or vector.shape[0] != width:
        raise ValueError(
            f"this covariance takes vectors of {width} numbers, "
            f"not an array of shape {tuple(vector.shape)}"
        )
    return same_library(vector, reference) if hasattr(reference, "shape") else vector
