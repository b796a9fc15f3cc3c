"""The gradients of n examples as an operator."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sgdnoise.core._arrays import namespace


@runtime_checkable
class PerExampleGradients(Protocol):
    """The gradients of n examples, the rows of a matrix G (n, p), as an operator.

    `layer(name)` restricts them to the parameters of a layer; `by_parameter()` splits them.
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
    """The rows of a matrix (n, p), whose parameters have no names."""

    rows: Any

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
