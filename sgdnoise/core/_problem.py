"""What is minimised: a mean of losses over examples, and its derivatives."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from jaxtyping import Float

from sgdnoise.core._arrays import Array, namespace


@dataclass(frozen=True, eq=False)
class Problem:
    """L(theta) = mean_i l_i(theta), with theta one flat vector (p,).

    losses: (theta, *examples) -> (n,), each example's loss, from one batched forward pass.
    examples: arrays with one leading axis n; the last of them is the target.
    ft: who differentiates, `jax` or `torch.func`; their grad, jvp and vmap agree.
    rows: (theta, *examples) -> the gradients of the examples as an operator (rows.Rows),
    where somebody knows a better way than to hold them.
    backward: (theta, weights, shift, *examples) -> what `tilted` is, with shift None what
    `weighted` is, where somebody knows a faster way than automatic differentiation.
    """

    losses: Callable[..., Any]
    examples: tuple[Any, ...]
    ft: ModuleType
    rows: Callable[..., Any] | None = None
    backward: Callable[..., Any] | None = None

    def __len__(self):
        return self.examples[0].shape[0]

    def only(self, drawn) -> "Problem":
        """The same problem on some of its examples, repetitions allowed."""
        return replace(self, examples=tuple(part[drawn] for part in self.examples))

    def relabelled(self, shift) -> "Problem":
        """The same problem with `shift` added to its targets."""
        *inputs, targets = self.examples
        return replace(self, examples=(*inputs, targets + shift))

    def value(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """The mean loss."""
        return self.losses(theta, *self.examples).mean()

    def gradient(self, theta: Float[Array, " p"]) -> Float[Array, " p"]:
        """Gradient of the mean loss."""
        if self.backward is not None:
            return self.weighted(
                theta, namespace(theta).full((len(self),), 1 / len(self), dtype=theta.dtype)
            )
        return self.ft.grad(self.value)(theta)

    def weighted(
        self, theta: Float[Array, " p"], weights: Float[Array, " n"]
    ) -> Float[Array, " p"]:
        """Gradient of sum_i w_i l_i: one backward pass whatever the weights."""
        if self.backward is not None:
            return self.backward(theta, weights, None, *self.examples)
        return self.ft.grad(lambda t: (weights * self.losses(t, *self.examples)).sum())(theta)

    def tilted(
        self, theta: Float[Array, " p"], weights: Float[Array, " n"], shift
    ) -> Float[Array, " p"]:
        """Gradient of sum_i (w_i l_i + <shift_i, dl_i / dtarget_i>), still one backward pass."""
        if self.backward is not None:
            return self.backward(theta, weights, shift, *self.examples)
        *inputs, targets = self.examples

        def total(t):
            losses, slopes = self.ft.jvp(
                lambda labels: self.losses(t, *inputs, labels), (targets,), (shift,)
            )
            return (weights * losses + slopes).sum()

        return self.ft.grad(total)(theta)

    def gradients(self, theta: Float[Array, " p"]) -> Float[Array, "n p"]:
        """Gradient of each example's loss: n x p memory, for small problems."""

        def alone(t, *example):
            return self.losses(t, *(part[None] for part in example))[0]

        each = self.ft.vmap(self.ft.grad(alone), (None, *[0] * len(self.examples)))
        return each(theta, *self.examples)

    def curvature(
        self, theta: Float[Array, " p"], vector: Float[Array, " p"]
    ) -> Float[Array, " p"]:
        """Hessian of the mean loss times a vector."""
        return self.ft.jvp(self.gradient, (theta,), (vector,))[1]
