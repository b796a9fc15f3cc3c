"""A two-layer tanh network of flat parameters, its training with label noise, and its flow.

theta is (..., p) with any leading axes: W (d, h), V (h, o), and the biases b (h,) and c (o,).
"""

from typing import NamedTuple

import torch

from sgdnoise.theory import label_noise_covariance

VECTORS = 8  # random combinations of the covariance's rows in each step of the flow
UPDATES = (0, 5, 20, 60, 150)  # the first steps of the flow at which the covariance is computed
EVERY = 250  # steps between two later covariances


class Net(NamedTuple):
    """The widths of a network, and its data: x (n, d), y (n, o)."""

    widths: tuple[int, int, int]
    x: torch.Tensor
    y: torch.Tensor

    def layers(self, theta):
        """W, V, b, c of flat parameters."""
        d, h, o = self.widths
        parts = theta.split((d * h, h * o, h, o), dim=-1)
        shapes = (d, h), (h, o), (1, h), (1, o)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def hidden(self, theta, x):
        first, _, bias, _ = self.layers(theta)
        return torch.tanh(x @ first + bias)

    def outputs(self, theta, x):
        _, second, _, bias = self.layers(theta)
        return self.hidden(theta, x) @ second + bias

    def loss(self, theta):
        """Half the mean squared error over all examples."""
        return 0.5 * (self.outputs(theta, self.x) - self.y).square().sum(-1).mean(-1)

    def jacobian(self, theta):
        """The derivatives of the outputs of all examples, (n, o, p)."""
        return torch.func.jacrev(self.outputs)(theta, self.x)

    def trace(self, theta):
        """The trace of the Gauss-Newton matrix, mean_i |J_i|^2."""
        return self.jacobian(theta).square().sum() / len(self.x)

    def energy(self, theta, directions):
        r"""The mean of v^T H v / 2 over directions v (k, p), with H the Hessian of the loss."""
        first, second, bias, _ = self.layers(theta)
        along, readout, shift, offset = self.layers(directions)
        hidden = torch.tanh(self.x @ first + bias)
        slope = 1 - hidden.square()
        before = self.x @ along + shift  # (k, n, h)
        moved = slope * before
        change = moved @ second + hidden @ readout + offset
        bent = -2 * hidden * moved * before  # second derivative of the hidden units
        curved = bent @ second + 2 * moved @ readout
        residual = hidden @ second + self.layers(theta)[3] - self.y
        return 0.5 * (change.square() + residual * curved).sum(-1).mean()


def descend(loss, theta, rate: float, steps: int):
    """Gradient descent on a loss of flat parameters, or of each of several rows of them."""
    gradient = torch.func.grad(lambda t: loss(t).sum())
    for _ in range(steps):
        theta = theta - rate * gradient(theta)
    return theta


def sgd(net: Net, theta, rate, steps, *, batch, label_noise, generator):
    """Minibatch steps with fresh label noise for rows of parameters (r, p): their end, and E L.

    E L (r,) is the mean over the steps of the loss without label noise, of the batch of each step
    at the weights before it: on average the loss of all examples along the run.
    """

    def noisy_loss(t, x, y):
        outputs = net.outputs(t, x)
        return 0.5 * (outputs - y).square().sum() / batch, outputs.detach()

    gradient, total = torch.func.grad(noisy_loss, has_aux=True), torch.zeros(len(theta))
    for _ in range(steps):
        index = torch.randint(len(net.x), (len(theta), batch), generator=generator)
        x, targets = net.x[index], net.y[index]
        noise = torch.randn(targets.shape, generator=generator, dtype=targets.dtype)
        slope, outputs = gradient(theta, x, targets + label_noise * noise)
        total = total + 0.5 * (outputs - targets).square().sum((1, 2)).double() / batch
        theta = theta - rate * slope
    return theta, total / steps


class Flow:
    """Gradient descent on L(theta) + Tr(H(theta) S) / 2, S held in the derivative.

    S is `label_noise_covariance` at theta, computed again every EVERY steps, for the time in the
    middle of the steps in which it is used.  Each step replaces Tr(H S) by the mean over random
    combinations of the rows of S, which is unbiased.
    order: 1 for the covariance of first order, on which the force is that of kappa Tr H; 2 for that
    of the next order.
    """

    def __init__(self, net: Net, order: int, *, rate, batch, label_noise, generator):
        self.net, self.generator, self.steps = net, generator, 0
        self.noise = {"learning_rate": rate, "batch_size": batch, "label_noise": label_noise}
        if order == 1:
            self.noise |= {"discrete_steps": 0, "with_feedback": False}
        self.gradient = torch.func.grad(lambda t, v: net.loss(t) + net.energy(t, v))

    def advance(self, theta, rate: float, steps: int):
        """The parameters after some steps of a rate."""
        for _ in range(steps):
            if self.steps % EVERY == 0 or self.steps in UPDATES:
                self.rows = self.covariance(theta, rate * (self.steps + _next(self.steps)) / 2)
            self.steps += 1
            signs = torch.randint(2, (VECTORS, len(self.rows)), generator=self.generator)
            vectors = (2.0 * signs - 1).to(self.rows) @ self.rows
            theta = theta - rate * self.gradient(theta, vectors)
        return theta

    def excess(self, theta, time):
        """Tr(H S) / 2 at theta for a jitter that began at zero, with H the Hessian of the loss."""
        rows = self.covariance(theta, time)
        return len(rows) * self.net.energy(theta, rows)

    def covariance(self, theta, time):
        """The rows of S at theta, for a jitter that began at zero."""
        residual = self.net.outputs(theta, self.net.x) - self.net.y
        jacobian = self.net.jacobian(theta)
        factor = label_noise_covariance(jacobian, residual, time=time, **self.noise)
        return torch.as_tensor(factor.rows, dtype=theta.dtype)


def _next(step: int) -> int:
    """The step of the next covariance."""
    later = [update for update in UPDATES if update > step]
    return min([*later, step - step % EVERY + EVERY])
