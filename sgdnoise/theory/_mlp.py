"""Networks of dense layers, and closed forms of the Gauss-Newton matrix of those with two.

theta (p,) holds W_1, W_2, ... row by row, each (in, out).  With J_i (o, p) the Jacobian of the
outputs at example i, the Gauss-Newton matrix is the mean of J_i^T J_i, which is the Hessian of the
mean squared loss where all residuals vanish, and for ReLU units away from their kinks.

Known: the Gauss-Newton matrix and its traces (Martens, 2020).  New here: nothing but closed forms.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from jaxtyping import Float

from sgdnoise.core._arrays import Array, namespace

# phi, and phi' as a function of phi, for the namespace of an array library
ACTIVATIONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "tanh": (lambda xp, z: xp.tanh(z), lambda _, h: 1 - h**2),
    "relu": (
        lambda xp, z: xp.where(z > 0, z, xp.zeros_like(z)),
        lambda xp, h: xp.astype(h > 0, h.dtype),
    ),
    "linear": (lambda _, z: z, lambda xp, h: xp.ones_like(h)),
}


class MLP(NamedTuple):
    """Dense layers without biases and an activation between them: f(x) = phi(x W_1) ... W_L.

    widths: the numbers of inputs, of hidden units of each layer, and of outputs.  activation: tanh,
    relu or linear; another raises ValueError when it is used.  `dynamics.mlp_problem` makes a
    Problem of it with a fast gradient.

    Example:
        >>> import numpy as np
        >>> net = MLP((2, 3, 1))
        >>> net.size, net.outputs(np.ones(net.size), np.eye(2)).round(3).tolist()
        (9, [[2.285], [2.285]])
    """

    widths: tuple[int, ...]
    activation: str = "tanh"

    @property
    def size(self) -> int:
        """The number p of parameters."""
        return sum(i * o for i, o in pairwise(self.widths))

    def weights(self, theta: Float[Array, " p"]) -> list:
        """W_1, W_2, ..., each (in, out)."""
        layers = []
        for i, o in pairwise(self.widths):
            layers.append(theta[: i * o].reshape(i, o))
            theta = theta[i * o :]
        return layers

    def hidden(self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]) -> Float[Array, "n h"]:
        """The last hidden representation, phi(... phi(x W_1) ...)."""
        xp, (phi, _) = namespace(theta), self.activations()
        for weights in self.weights(theta)[:-1]:
            inputs = phi(xp, inputs @ weights)
        return inputs

    def outputs(
        self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]
    ) -> Float[Array, "n o"]:
        """The outputs f(x)."""
        return self.hidden(theta, inputs) @ self.weights(theta)[-1]

    def losses(
        self,
        theta: Float[Array, " p"],
        inputs: Float[Array, "n d"],
        targets: Float[Array, "n o"],
    ) -> Float[Array, " n"]:
        """|f(x) - y|^2 / 2 of each example."""
        return 0.5 * namespace(theta).sum((self.outputs(theta, inputs) - targets) ** 2, axis=1)

    def activations(self) -> tuple[Callable, Callable]:
        """phi and phi', as functions of the namespace of an array library and of z or phi(z)."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"an activation is tanh, relu or linear, not {self.activation!r}")
        return ACTIVATIONS[self.activation]

    # --- closed forms for two layers, W (d, h) and V (h, o) ---

    def traces(self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]) -> Float[Array, " n"]:
        """|J_i|^2 = o |phi_i|^2 + |x_i|^2 sum_a phi'_ia^2 |V_a|^2, whose mean is Tr H.

        For two layers only, as the three methods that follow; they raise ValueError for others.
        """
        xp, hidden, gates, readout = self._two_layers(theta, inputs)
        powers = xp.sum(readout**2, axis=1)
        return self.widths[-1] * xp.sum(hidden**2, axis=1) + xp.sum(inputs**2, axis=1) * (
            gates**2 @ powers
        )

    def diagonal(
        self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]
    ) -> Float[Array, " p"]:
        """The diagonal of the Gauss-Newton matrix, the mean of squared Jacobian entries."""
        xp, hidden, gates, readout = self._two_layers(theta, inputs)
        first = (inputs**2).T @ gates**2 * xp.sum(readout**2, axis=1)
        second = xp.repeat(xp.sum(hidden**2, axis=0), self.widths[-1])
        return xp.concat([first.reshape(-1), second]) / inputs.shape[0]

    def label_noise_diagonal(
        self,
        theta: Float[Array, " p"],
        inputs: Float[Array, "n d"],
        targets: Float[Array, "n o"],
        batch_size: int,
        label_noise: float,
    ) -> Float[Array, " p"]:
        """The diagonal of the covariance of a minibatch gradient under label noise.

        (Var_i J_i^T r_i + label_noise^2 mean_i (J_i^T J_i)_aa) / B, r_i = f(x_i) - y_i, with
        replacement: that of `noise.label_noise`, without per-example gradients.
        """
        xp, hidden, residual, error, mean = self._gradients(theta, inputs, targets)
        squares = [(inputs**2).T @ error**2, (hidden**2).T @ residual**2]
        second = xp.concat([block.reshape(-1) for block in squares]) / inputs.shape[0]
        variance = xp.clip(second - mean**2, 0, None)
        return (variance + label_noise**2 * self.diagonal(theta, inputs)) / batch_size

    def label_noise_trace(
        self,
        theta: Float[Array, " p"],
        inputs: Float[Array, "n d"],
        targets: Float[Array, "n o"],
        batch_size: int,
        label_noise: float,
    ) -> Float[Array, ""]:
        """The sum of `label_noise_diagonal`, from the norms of per-example gradients."""
        xp, hidden, residual, error, mean = self._gradients(theta, inputs, targets)
        first = xp.sum(inputs**2, axis=1) * xp.sum(error**2, axis=1)
        second = xp.sum(hidden**2, axis=1) * xp.sum(residual**2, axis=1)
        variance = xp.clip(xp.mean(first + second) - xp.sum(mean**2), 0, None)
        return (variance + label_noise**2 * xp.mean(self.traces(theta, inputs))) / batch_size

    def _two_layers(self, theta, inputs):
        """The namespace, the hidden representation, phi' there, and the readout V."""
        if len(self.widths) != 3:
            raise ValueError(f"the closed form holds for two layers, not for widths {self.widths}")
        xp, hidden = namespace(theta), self.hidden(theta, inputs)
        return xp, hidden, self.activations()[1](xp, hidden), self.weights(theta)[1]

    def _gradients(self, theta, inputs, targets):
        """Residuals (n, o), the error at the hidden layer (n, h) and the mean gradient (p,)."""
        xp, hidden, gates, readout = self._two_layers(theta, inputs)
        residual = hidden @ readout - targets
        error = residual @ readout.T * gates
        blocks = [(inputs.T @ error).reshape(-1), (hidden.T @ residual).reshape(-1)]
        return xp, hidden, residual, error, xp.concat(blocks) / inputs.shape[0]
