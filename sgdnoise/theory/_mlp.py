"""Two-layer networks f(x) = phi(x W) V: what they compute, and their Gauss-Newton matrix.

theta (p,) holds W (d, h) and then V (h, o), row by row.  With J_i (o, p) the Jacobian at example
i, the Gauss-Newton matrix is the mean of J_i^T J_i, which is the Hessian of the mean squared loss
where all residuals vanish, and for rectified units away from their kinks.
"""

from typing import NamedTuple

from jaxtyping import Float

from sgdnoise.core._arrays import Array, namespace


class TwoLayer(NamedTuple):
    """A two-layer network without biases: d inputs, h hidden units, o outputs.

    activation: tanh, relu or linear.  Raises ValueError for another when it is used.
    """

    d: int
    h: int
    o: int
    activation: str = "tanh"

    @property
    def size(self) -> int:
        """Number p of parameters, h (d + o)."""
        return self.h * (self.d + self.o)

    def weights(self, theta: Float[Array, " p"]):
        """W (d, h) and V (h, o)."""
        cut = self.d * self.h
        return theta[:cut].reshape(self.d, self.h), theta[cut:].reshape(self.h, self.o)

    def hidden(self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]) -> Float[Array, "n h"]:
        """The hidden representation phi(x W)."""
        xp, before = namespace(theta), inputs @ self.weights(theta)[0]
        match self.activation:
            case "tanh":
                return xp.tanh(before)
            case "relu":
                return xp.where(before > 0, before, xp.zeros_like(before))
            case "linear":
                return before
        raise ValueError(f"an activation is tanh, relu or linear, not {self.activation!r}")

    def outputs(
        self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]
    ) -> Float[Array, "n o"]:
        """phi(x W) V."""
        return self.hidden(theta, inputs) @ self.weights(theta)[1]

    def losses(
        self,
        theta: Float[Array, " p"],
        inputs: Float[Array, "n d"],
        targets: Float[Array, "n o"],
    ) -> Float[Array, " n"]:
        """1/2 |f(x) - y|^2 of each example."""
        return 0.5 * namespace(theta).sum((self.outputs(theta, inputs) - targets) ** 2, axis=1)

    def traces(self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]) -> Float[Array, " n"]:
        """|J_i|^2 = o |phi_i|^2 + |x_i|^2 sum_a phi'_ia^2 |V_a|^2, whose mean is Tr H."""
        xp, hidden = namespace(theta), self.hidden(theta, inputs)
        readout = xp.sum(self.weights(theta)[1] ** 2, axis=1)
        gates = self._slope(hidden) ** 2 @ readout
        return self.o * xp.sum(hidden**2, axis=1) + xp.sum(inputs**2, axis=1) * gates

    def diagonal(
        self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]
    ) -> Float[Array, " p"]:
        """Diagonal of the Gauss-Newton matrix, the mean of squared Jacobian entries."""
        xp = namespace(theta)
        gates = self._slope(self.hidden(theta, inputs)) ** 2
        readout = xp.sum(self.weights(theta)[1] ** 2, axis=1)
        first = (inputs**2).T @ gates * readout
        second = xp.sum(self.hidden(theta, inputs) ** 2, axis=0)
        both = [first.reshape(-1), xp.repeat(second, self.o)]
        return xp.concat(both) / inputs.shape[0]

    def label_noise_diagonal(
        self,
        theta: Float[Array, " p"],
        inputs: Float[Array, "n d"],
        targets: Float[Array, "n o"],
        batch_size: int,
        label_noise: float,
    ) -> Float[Array, " p"]:
        """Diagonal of the covariance of a minibatch gradient under label noise, with replacement.

        (Var_i J_i^T r_i + label_noise^2 mean_i (J_i^T J_i)_aa) / batch, r_i = f(x_i) - y_i: what
        noise.label holds as an operator, here without per-example gradients.
        """
        xp, hidden = namespace(theta), self.hidden(theta, inputs)
        residual, back, mean = self._slopes(theta, inputs, targets)
        squares = [(inputs**2).T @ back**2, (hidden**2).T @ residual**2]
        second = xp.concat([part.reshape(-1) for part in squares]) / inputs.shape[0]
        spread = xp.clip(second - mean**2, 0, None)
        return (spread + label_noise**2 * self.diagonal(theta, inputs)) / batch_size

    def label_noise_trace(
        self,
        theta: Float[Array, " p"],
        inputs: Float[Array, "n d"],
        targets: Float[Array, "n o"],
        batch_size: int,
        label_noise: float,
    ) -> Float[Array, ""]:
        """Sum of `label_noise_diagonal`, from the norms of per-example gradients alone."""
        xp, hidden = namespace(theta), self.hidden(theta, inputs)
        residual, back, mean = self._slopes(theta, inputs, targets)
        first = xp.sum(inputs**2, axis=1) * xp.sum(back**2, axis=1)
        second = xp.sum(hidden**2, axis=1) * xp.sum(residual**2, axis=1)
        spread = xp.clip(xp.mean(first + second) - xp.sum(mean**2), 0, None)
        return (spread + label_noise**2 * xp.mean(self.traces(theta, inputs))) / batch_size

    def _slope(self, hidden):
        """phi' where phi has these values."""
        xp = namespace(hidden)
        match self.activation:
            case "tanh":
                return 1 - hidden**2
            case "relu":
                return xp.astype(hidden > 0, hidden.dtype)
        return xp.ones_like(hidden)

    def _slopes(self, theta, inputs, targets):
        """Residuals (n, o), what they send back to the hidden layer (n, h), mean gradient (p,)."""
        hidden, readout = self.hidden(theta, inputs), self.weights(theta)[1]
        residual = hidden @ readout - targets
        back = residual @ readout.T * self._slope(hidden)
        parts = [(inputs.T @ back).reshape(-1), (hidden.T @ residual).reshape(-1)]
        return residual, back, namespace(theta).concat(parts) / inputs.shape[0]
