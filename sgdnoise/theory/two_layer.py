"""Two-layer networks f(x) = phi(x W) V: what they compute, and their Gauss-Newton matrix.

theta (p,) holds W (d, h) and then V (h, o), row by row; phi is tanh.  With J_i (o, p) the Jacobian
at example i, the Gauss-Newton matrix is the mean of J_i^T J_i, which is the Hessian of the mean
squared loss where all residuals vanish.
"""

from typing import NamedTuple

from jaxtyping import Float

from sgdnoise.arrays import Array, namespace

__all__ = ["TwoLayer"]


class TwoLayer(NamedTuple):
    """Sizes of a two-layer tanh network without biases: d inputs, h hidden units, o outputs."""

    d: int
    h: int
    o: int

    @property
    def size(self) -> int:
        """Number p of parameters, h (d + o)."""
        return self.h * (self.d + self.o)

    def weights(self, theta: Float[Array, " p"]):
        """W (d, h) and V (h, o)."""
        cut = self.d * self.h
        return theta[:cut].reshape(self.d, self.h), theta[cut:].reshape(self.h, self.o)

    def hidden(self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]) -> Float[Array, "n h"]:
        """The hidden representation tanh(x W)."""
        return namespace(theta).tanh(inputs @ self.weights(theta)[0])

    def outputs(
        self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]
    ) -> Float[Array, "n o"]:
        """tanh(x W) V."""
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
        gates = (1 - hidden**2) ** 2 @ readout
        return self.o * xp.sum(hidden**2, axis=1) + xp.sum(inputs**2, axis=1) * gates

    def diagonal(
        self, theta: Float[Array, " p"], inputs: Float[Array, "n d"]
    ) -> Float[Array, " p"]:
        """Diagonal of the Gauss-Newton matrix, the mean of squared Jacobian entries."""
        ones = namespace(theta).ones_like(self.outputs(theta, inputs))
        each = self.gradient_squares(theta, inputs, ones, together=False)
        return each / inputs.shape[0]

    def gradient_squares(
        self,
        theta: Float[Array, " p"],
        inputs: Float[Array, "n d"],
        errors: Float[Array, "n o"],
        together: bool = True,
    ) -> Float[Array, " p"]:
        """Sum over examples of the squared entries of J_i^T e_i, or of its o terms one by one."""
        xp, hidden = namespace(theta), self.hidden(theta, inputs)
        readout = self.weights(theta)[1]
        back = (errors @ readout.T) ** 2 if together else errors**2 @ (readout**2).T
        first = (inputs**2).T @ ((1 - hidden**2) ** 2 * back)
        second = (hidden**2).T @ errors**2
        return xp.concat([first.reshape(-1), second.reshape(-1)])
