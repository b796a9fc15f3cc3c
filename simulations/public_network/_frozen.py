"""A network on a few examples as functions of one vector of weights, and its minima."""

import torch
from torch import nn

SPEEDUP = 5  # rate of noiseless descent over that of SGD
PROJECTIONS = 1  # steps of Gauss and Newton onto the minima
SMALLEST = 1e-6  # curvature relative to the largest, below which nothing is seen


class Frozen:
    """A network whose examples are independent, and squared loss on its own first outputs.

    The loss is the mean over examples of |f(x) - y|^2 / 2 with y the outputs at the start, so that
    the start is a minimum without residuals.
    net: with blocks, whose outputs are averaged over positions.  inputs: (n, c, h, w).
    """

    def __init__(self, net: nn.Module, inputs, blocks: list[str]):
        self.net, self.inputs = net, inputs.contiguous(memory_format=torch.channels_last)
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.start = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self._theta = self.start.clone()
        sizes = [p.numel() for p in self.parameters]
        for parameter, piece in zip(self.parameters, self._theta.split(sizes), strict=True):
            parameter.data = piece.view_as(parameter)
        self.pooled: list[torch.Tensor] = []
        modules = dict(net.named_modules())
        for name in blocks:
            modules[name].register_forward_hook(self._pool)
        self._watching = False
        self.targets = self.outputs(self.start).detach()

    def _pool(self, _module, _given, output):
        if self._watching:
            self.pooled.append(output.mean((2, 3)))

    def at(self, theta) -> "Frozen":
        """This object, with the weights theta (p,)."""
        self._theta.copy_(theta)
        return self

    def outputs(self, theta):
        """The outputs of all examples.  (n, o)"""
        self.at(theta)
        return self.net(self.inputs)

    def gradient(self, theta, index=None, noise=0.0):
        """The gradient (p,) of the loss on some examples, and that loss without noise of labels.

        index: (b,), all examples without it.  noise: (b, o), added to the targets.
        """
        self.at(theta)
        index = slice(None) if index is None else index
        outputs = self.net(self.inputs[index])
        residuals = (outputs - self.targets[index]).detach()
        loss = residuals.square().sum(1).mean() / 2
        return self._pulled(outputs, (residuals - noise) / len(residuals)), loss

    def _pulled(self, outputs, vectors):
        """J^T v for vectors v of the outputs.  (p,)"""
        gradients = torch.autograd.grad(outputs, self.parameters, vectors)
        return torch.cat([g.reshape(-1) for g in gradients])

    def jacobian(self, theta):
        """J, the derivatives of the outputs of each example.  (n, o, p)"""
        self.at(theta)
        n, o = self.targets.shape
        rows = theta.new_empty(n, o, len(theta))
        for i in range(n):
            outputs = self.net(self.inputs[i : i + 1])
            for k in range(o):
                gradients = torch.autograd.grad(
                    outputs[0, k], self.parameters, retain_graph=k + 1 < o
                )
                torch.cat([g.reshape(-1) for g in gradients], out=rows[i, k])
        return rows

    def ratios(self, theta):
        """PR of the pooled output of each block and of the outputs of the network.  (blocks + 1,)

        They can be differentiated by the parameters of the network.
        """
        self._watching, self.pooled = True, []
        outputs = self.outputs(theta)
        self._watching = False
        return torch.stack([participation(rows) for rows in [*self.pooled, outputs]])

    def trace_gradient(self, theta, probes: int, generator):
        """Unbiased estimates of Tr H, by random signs of all outputs, and of its gradient.

        Hutchinson (1990).  Derivatives of relus are those of autograd: zero beyond the first.
        """
        self.at(theta)
        total, trace = torch.zeros_like(theta), 0.0
        for _ in range(probes):
            bits = torch.randint(2, self.targets.shape, generator=generator, device=theta.device)
            along = ((2.0 * bits - 1) * self.net(self.inputs)).sum()
            slopes = torch.autograd.grad(along, self.parameters, create_graph=True)
            square = torch.stack([s.square().sum() for s in slopes]).sum() / len(self.inputs)
            trace += float(square.detach()) / probes
            second = torch.autograd.grad(square, self.parameters, materialize_grads=True)
            total += torch.cat([g.reshape(-1) for g in second]) / probes
        return trace, total

    def minimum(self, theta, rate: float, steps: int):
        """The minimum that descent without noise reaches: some steps of it, then projections."""
        for _ in range(steps):
            theta = theta - SPEEDUP * rate * self.gradient(theta)[0]
        for _ in range(PROJECTIONS):
            rows = self.jacobian(theta).flatten(0, 1)
            residuals = (self.outputs(theta) - self.targets).detach().reshape(-1).double()
            values, vectors = spectrum(rows)
            weights = vectors @ (vectors.T @ residuals / (values + SMALLEST * values[-1]))
            theta = theta - rows.T @ weights.to(theta.dtype)
        return theta


def spectrum(rows):
    """Eigenvalues, ascending, and eigenvectors of J J^T for the rows of J, in double precision."""
    values, vectors = torch.linalg.eigh((rows @ rows.T).double())
    return values.clamp(min=0), vectors


def participation(rows):
    """(Tr K)^2 / Tr K^2 for the covariance K of some points.  (n, d) -> ()"""
    centred = (rows - rows.mean(0)).double()
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    return gram.trace() ** 2 / gram.square().sum()
