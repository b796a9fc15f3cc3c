"""Networks of dense layers whose gradient is written by hand, for chains of many small ones."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from sgdnoise.core._arrays import Array
from sgdnoise.core._problem import Problem


class MLP(NamedTuple):
    """Dense layers without biases, `activation` between them: f(x) = phi(x W_1) ... W_L.

    widths: inputs, hidden units of each layer, outputs; theta (p,) holds W_1, W_2, ... row by row,
    each (in, out), as `theory.two_layer.TwoLayer` does.  activation: tanh, relu or linear.
    """

    widths: tuple[int, ...]
    activation: str = "tanh"

    @property
    def size(self) -> int:
        """Number p of parameters."""
        return sum(i * o for i, o in pairwise(self.widths))

    def problem(self, inputs: Float[Array, "n d"], targets: Float[Array, "n o"]) -> Problem:
        """1/2 |f(x) - y|^2, with a gradient of about half the time of automatic differentiation.

        Raises ValueError unless sizes chain and the activation is known.
        """
        self._check(inputs, targets)
        return Problem(self.losses, (inputs, targets), jax, backward=self.backward)

    def weights(self, theta: Float[Array, " p"]) -> list:
        """W_1, W_2, ..."""
        shapes, layers = [*pairwise(self.widths)], []
        for i, o in shapes:
            layers.append(theta[: i * o].reshape(i, o))
            theta = theta[i * o :]
        return layers

    def outputs(self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]):
        """f(x).  (n, o)"""
        return self._seen(self.weights(theta), inputs, ROWS)[-1]

    def losses(self, theta: Float[Array, " p"], inputs, targets) -> Float[Array, " n"]:
        """1/2 |f(x) - y|^2 of each example."""
        return 0.5 * jnp.sum((self.outputs(theta, inputs) - targets) ** 2, 1)

    def backward(self, theta: Float[Array, " p"], weights, shift, inputs, targets):
        """Gradient of sum_i (w_i l_i + <shift_i, dl_i / dtarget_i>); shift may be None.  (p,)

        Few examples lie along the first axis of the layers, many along the last: so batched
        products are fastest on CPU, as they are where no left factor is a transposed view.
        """
        layers, form = self.weights(theta), COLUMNS if len(inputs) > max(self.widths) else ROWS
        slope, seen = ACTIVATIONS[self.activation][1], self._seen(layers, inputs, form)
        error = form.examples(weights) * (seen.pop() - form.lay(targets))
        error = error if shift is None else error - form.lay(shift)
        found = []
        for k in reversed(range(len(layers))):
            found.append(form.pull(seen[k], error).ravel())
            if k:
                error = form.back(error, layers[k]) * slope(seen[k])
        return jnp.concatenate(found[::-1])

    def _seen(self, layers, inputs, form):
        """What each layer is given, and last the outputs."""
        act, seen = ACTIVATIONS[self.activation][0], [form.lay(inputs)]
        for w in layers[:-1]:
            seen.append(act(form.forward(seen[-1], w)))
        return [*seen, form.forward(seen[-1], layers[-1])]

    def _check(self, inputs, targets):
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"an activation is tanh, relu or linear, not {self.activation!r}")
        ends = inputs.shape[-1], targets.shape[-1]
        if len(self.widths) < 2 or ends != (self.widths[0], self.widths[-1]):
            raise ValueError(
                f"layers {self.widths} do not lead from {ends[0]} numbers to {ends[1]}"
            )


def _turned(matrix):
    """The transpose, written out: batched products of transposed views are several times slower."""
    return lax.optimization_barrier(matrix.T)


class Form(NamedTuple):
    """Where examples lie, and the three products of a layer h W there, with its error."""

    lay: Callable[[Any], Any]
    examples: Callable[[Any], Any]  # weights of examples, to multiply with
    forward: Callable[[Any, Any], Any]
    pull: Callable[[Any, Any], Any]  # h^T error, (in, out)
    back: Callable[[Any, Any], Any]  # error W^T


ROWS = Form(
    lay=lambda x: x,
    examples=lambda weights: weights[:, None],
    forward=lambda h, w: h @ w,
    pull=lambda h, error: _turned(h) @ error,
    back=lambda error, w: error @ _turned(w),
)
COLUMNS = Form(
    lay=lambda x: x.T,
    examples=lambda weights: weights,
    forward=lambda h, w: _turned(w) @ h,
    pull=lambda h, error: (error @ h.T).T,
    back=lambda error, w: w @ error,
)
# phi, and phi' told by phi
ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tanh": (jnp.tanh, lambda h: 1 - h**2),
    "relu": (jax.nn.relu, lambda h: (h > 0).astype(h.dtype)),
    "linear": (lambda h: h, lambda _: 1),
}
