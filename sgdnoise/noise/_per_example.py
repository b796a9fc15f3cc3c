"""Per-example gradients of any problem as an operator, by forward and backward derivatives."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jaxtyping import Shaped

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, concrete, namespace
from sgdnoise.core._covariance import Gram
from sgdnoise.core._problem import Problem
from sgdnoise.noise._weights import (
    Weights,
    check_exchangeable,
    with_replacement,
    without_replacement,
)


@checked
def gradient_covariance(
    problem: Problem,
    theta: Shaped[Array, " p"],
    *,
    batch_size: int = 1,
    replacement: bool = True,
    law: Weights | None = None,
    block: int = 64,
) -> Gram:
    """The covariance of the minibatch gradient of a problem in jax or torch, an operator (p, p).

    C = (1/B) (1/n) sum_i (g_i - g)(g_i - g)^T with B = batch_size, times (n - B) / (n - 1) without
    replacement; or G^T Cov(w) G for another law of example weights.  A product with C costs one
    forward and one backward derivative.  Trace, diagonal and spectrum store the gradients of
    `block` examples at a time.  For a torch module, `nets.gradient_covariance` is faster.
    Raises ValueError for fewer than 2 examples, a batch size that the law refuses, a law of another
    number of examples, losses that are not one finite number for each example, and losses that are
    random or depend on other examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from sgdnoise.core import Problem
        >>> x = jnp.asarray([[1.0], [3.0]])
        >>> problem = Problem(lambda theta, x: ((theta - x) ** 2).sum(1) / 2, (x,))
        >>> float(gradient_covariance(problem, jnp.zeros(1), batch_size=2).trace())  # 1 / B
        0.5
    """
    n = len(problem)
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 examples, not {n}")
    if block < 1:
        raise ValueError(f"a block holds at least one example, not {block}")
    _check_losses(problem, theta)
    if law is None:
        laws = with_replacement if replacement else without_replacement
        law = laws(n, batch_size)
    if law.n != n:
        raise ValueError(f"a law for {law.n} examples cannot weigh {n}")
    check_exchangeable(law)
    return Gram(Implicit(problem, theta, block), law.var_within, law.var_mean)


def _check_losses(problem, theta):
    """Raise ValueError unless each example has a finite loss of its own."""
    losses = problem.example_losses(theta)
    finite = namespace(losses).isfinite(losses)
    if concrete(~finite.all()):
        raise ValueError(
            f"the loss of example {int(as_numpy(finite).argmin())} is not finite; "
            "is a label out of range?"
        )
    problem.check_independence(theta)


@dataclass(frozen=True, eq=False)
class Implicit:
    """The gradients (n, p) of the examples of a problem, as PerExampleGradients.

    shift: what is subtracted from each gradient before it is squared; none by default.
    """

    problem: Problem
    theta: Any
    block: int
    shift: Any = None

    @property
    def n(self):
        return len(self.problem)

    @property
    def p(self):
        return self.theta.shape[0]

    def ones(self):
        xp = namespace(self.theta)
        return xp.ones_like(self.problem.losses(self.theta, *self.problem.examples))

    def about(self, mean) -> "Implicit":
        """The gradients without their mean."""
        return replace(self, shift=mean)

    def project(self, vectors):
        values = _columns(vectors, self._forward)
        return values if self.shift is None else values - self.shift @ vectors

    def combine(self, weights):
        if self.shift is not None:
            weights = weights - namespace(weights).mean(weights, axis=0)
        return _columns(weights, lambda w: self.problem.weighted_gradient(self.theta, w))

    def normal(self, vectors, shift):
        return self.combine(self.project(vectors) - shift)

    def squares(self):
        xp = namespace(self.theta)
        return xp.concat([xp.sum(rows**2, axis=1) for rows in self._blocks()])

    def column_squares(self):
        return sum(namespace(rows).sum(rows**2, axis=0) for rows in self._blocks())

    def gram(self):
        xp = namespace(self.theta)
        columns = [
            xp.concat([rows @ block_rows.T for rows in self._blocks()], axis=0)
            for block_rows in self._blocks()
        ]
        return xp.concat(columns, axis=1)

    def curvature(self, kind):
        """v -> Hv for the Hessian of the mean loss: see `NetworkGradients.curvature`."""
        if kind == "gauss_newton":
            raise ValueError(
                "a Problem has losses and no outputs, so no Gauss-Newton matrix: "
                "use curvature='hessian', or a function v -> Gv"
            )
        if kind != "hessian":
            raise ValueError(f"the curvature is 'hessian' or a function, not {kind!r}")
        return partial(self.problem.hvp, self.theta)

    def layer(self, name):
        raise ValueError(f"this theta comes without names, so there is no {name!r} in it")

    def by_parameter(self):
        return {"theta": self}

    def _forward(self, vector):
        problem = self.problem
        return problem.autodiff.jvp(
            lambda theta: problem.losses(theta, *problem.examples), (self.theta,), (vector,)
        )[1]

    def _blocks(self) -> Iterator[Any]:
        """The gradients of `block` examples at a time, (b, p)."""
        for start in range(0, self.n, self.block):
            rows = self.problem.subset(slice(start, start + self.block)).gradients(self.theta)
            yield rows if self.shift is None else rows - self.shift


def _columns(several, one):
    if several.ndim == 1:
        return one(several)
    xp = namespace(several)
    return xp.stack([one(several[:, i]) for i in range(several.shape[1])], axis=1)
