"""Covariances as operators: what noise does to a vector, without its p x p matrix."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from sgdnoise.arrays import Array, namespace

__all__ = ["Covariance", "Diagonal", "Factor", "Isotropic"]


class Covariance(Protocol):
    """A symmetric positive semi-definite operator on R^p that can colour white noise."""

    def __matmul__(self, vector): ...  # (p,) -> (p,)
    def colour(self, white): ...  # (width,) -> (p,), so that E[xi xi^T] = C
    def trace(self): ...  # ()
    def diagonal(self): ...  # (p,)

    @property
    def width(self) -> int: ...  # how many white numbers one draw takes


@dataclass(frozen=True)
class Isotropic:
    """C = variance * identity of R^width."""

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
    """C = diag(variances)."""

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
    """C = rows^T rows, from the rows of a thin matrix (width, p)."""

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
        """Eigenvalues of the Gram matrix rows rows^T, ascending: all of C's but zeros."""
        xp = namespace(self.rows)
        return xp.clip(xp.linalg.eigvalsh(self.rows @ self.rows.T), 0, None)
