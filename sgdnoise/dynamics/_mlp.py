"""The gradient of dense networks written by hand, for chains of many small ones.

It takes about half the time of automatic differentiation.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array
from sgdnoise.core._problem import Problem
from sgdnoise.theory._mlp import MLP


@checked
def mlp_problem(net: MLP, inputs: Float[Array, "n d"], targets: Float[Array, "n o"]) -> Problem:
    """The mean of |f(x) - y|^2 / 2 as a Problem in jax, with a fast gradient.

    Raises ValueError unless the sizes chain and the activation is known.

    Example:
        >>> import jax.numpy as jnp
        >>> problem = mlp_problem(MLP((2, 3, 1)), jnp.eye(2), jnp.zeros((2, 1)))
        >>> problem.gradient(jnp.zeros(9)).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    net.activations()
    ends = inputs.shape[-1], targets.shape[-1]
    if len(net.widths) < 2 or ends != (net.widths[0], net.widths[-1]):
        raise ValueError(f"layers {net.widths} do not lead from {ends[0]} numbers to {ends[1]}")
    return Problem(
        net.losses, (inputs, targets), size=net.size, backward=partial(_weighted_gradient, net)
    )


def _weighted_gradient(net, theta, weights, shift, inputs, targets):
    """Gradient of sum_i (w_i l_i + <shift_i, dl_i / dtarget_i>); shift may be None.  (p,)

    Few examples lie along the first axis of the layers, many along the last: batched products are
    fastest so on a CPU, as they are where no left factor is a transposed view.
    """
    layers, layout = net.weights(theta), COLUMNS if len(inputs) > max(net.widths) else ROWS
    phi, derivative = net.activations()
    inputs_of = [layout.lay(inputs)]
    for w in layers[:-1]:
        inputs_of.append(phi(jnp, layout.forward(inputs_of[-1], w)))
    outputs = layout.forward(inputs_of[-1], layers[-1])
    error = layout.examples(weights) * (outputs - layout.lay(targets))
    error = error if shift is None else error - layout.lay(shift)
    gradients = []
    for k in reversed(range(len(layers))):
        gradients.append(layout.gradient(inputs_of[k], error).ravel())
        if k:
            error = layout.back(error, layers[k]) * derivative(jnp, inputs_of[k])
    return jnp.concatenate(gradients[::-1])


def _transposed(matrix):
    """The transpose, written out: batched products of transposed views are several times slower."""
    return lax.optimization_barrier(matrix.T)


class Layout(NamedTuple):
    """Which axis the examples lie along, and the three products of a layer h W there."""

    lay: Callable[[Any], Any]
    examples: Callable[[Any], Any]  # weights of examples, to multiply with
    forward: Callable[[Any, Any], Any]
    gradient: Callable[[Any, Any], Any]  # h^T error, (in, out)
    back: Callable[[Any, Any], Any]  # error W^T


ROWS = Layout(
    lay=lambda x: x,
    examples=lambda weights: weights[:, None],
    forward=lambda h, w: h @ w,
    gradient=lambda h, error: _transposed(h) @ error,
    back=lambda error, w: error @ _transposed(w),
)
COLUMNS = Layout(
    lay=lambda x: x.T,
    examples=lambda weights: weights,
    forward=lambda h, w: _transposed(w) @ h,
    gradient=lambda h, error: (error @ h.T).T,
    back=lambda error, w: w @ error,
)
