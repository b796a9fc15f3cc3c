"""A network on some photographs: gradients of each, curvature products, and its layers."""

from functools import partial

import torch
import torch.nn.functional as F
from torch.func import functional_call, jvp

from sgdnoise.nets import as_problem

LOSSES = partial(F.cross_entropy, reduction="none")
CHUNK = 64  # photographs in one graph of second derivatives


class Place:
    """The mean cross-entropy of a network with frozen batch norm over n photographs.

    net: a network whose examples are independent.  inputs (n, c, h, w); labels (n,).
    theta: the weights as one vector (p,), in the order of `named_parameters`.
    """

    def __init__(self, net, inputs, labels):
        self.net, self.inputs, self.labels = net, inputs, labels
        self.problem, self.theta = as_problem(net, LOSSES, inputs, labels)
        self.weights = {name: w.detach() for name, w in net.named_parameters()}

    def __len__(self):
        return len(self.inputs)

    def pieces(self, vector):
        """A vector (p,) as tensors of the shapes of the weights."""
        sizes = [w.numel() for w in self.weights.values()]
        parts = zip(vector.split(sizes), self.weights.values(), strict=True)
        return [part.view_as(w) for part, w in parts]

    def loss(self, theta) -> float:
        """The mean loss at other weights."""
        with torch.no_grad():
            losses = self.problem.losses(theta, self.inputs, self.labels)
            return float(losses.double().mean())

    def logits(self):
        """The outputs of all photographs.  (n, classes)"""
        with torch.no_grad():
            return torch.cat([self.net(x) for x in self.inputs.split(CHUNK)])

    def gradients(self, labels=None):
        """The gradient of each photograph, with other labels if given.  (n, p)"""
        labels = self.labels if labels is None else labels
        rows = self.theta.new_empty(len(self), len(self.theta))
        weights = list(self.net.parameters())
        for i in range(len(self)):
            loss = F.cross_entropy(self.net(self.inputs[i : i + 1]), labels[i : i + 1])
            gradients = torch.autograd.grad(loss, weights)
            torch.cat([g.reshape(-1) for g in gradients], out=rows[i])
        return rows

    def gradients_by_label(self, count: int):
        """The gradients of the first photographs under every label.  (count, classes, p)"""
        weights = list(self.net.parameters())
        classes = self.net(self.inputs[:1]).shape[1]
        rows = self.theta.new_empty(count, classes, len(self.theta))
        for i in range(count):
            log_laws = self.net(self.inputs[i : i + 1])[0].log_softmax(0)
            for k in range(classes):
                more = k + 1 < classes
                gradients = torch.autograd.grad(-log_laws[k], weights, retain_graph=more)
                torch.cat([g.reshape(-1) for g in gradients], out=rows[i, k])
        return rows

    def hessian_products(self, vectors):
        """H v of the mean loss by autograd, which does not see corners of relus.  (p, k)"""
        products = torch.zeros_like(vectors)
        weights = list(self.net.parameters())
        for start in range(0, len(self), CHUNK):
            at = slice(start, start + CHUNK)
            total = F.cross_entropy(self.net(self.inputs[at]), self.labels[at], reduction="sum")
            slopes = torch.autograd.grad(total, weights, create_graph=True)
            for k, vector in enumerate(vectors.T):
                second = torch.autograd.grad(
                    slopes, weights, self.pieces(vector), retain_graph=True
                )
                products[:, k] += torch.cat([s.reshape(-1) for s in second]) / len(self)
        return products

    def output_slopes(self, vectors, count: int | None = None):
        """J v, slopes of the outputs of the first photographs along vectors.  (k, n, classes)"""
        names, inputs = list(self.weights), self.inputs[:count]
        primals = tuple(self.weights.values())

        def outputs(*weights):
            return functional_call(self.net, dict(zip(names, weights, strict=True)), (inputs,))

        rows = [jvp(outputs, primals, tuple(self.pieces(v)))[1].detach() for v in vectors.T]
        return torch.stack(rows)

    def gauss_newton(self, vectors, count: int | None = None):
        """v^T G v' for the Gauss-Newton matrix G of the first photographs.  (k, k)"""
        slopes = self.output_slopes(vectors, count).double()
        laws = self.logits()[:count].double().softmax(1)
        centred = slopes - (slopes * laws).sum(2, keepdim=True)
        weighted = (centred * laws.sqrt()).flatten(1)
        return weighted @ weighted.T / laws.shape[0]


def layers_of(net) -> dict[str, slice]:
    """Where the weights of stem, blocks and readout lie in theta, with those of their norms."""
    places: dict[str, slice] = {}
    start = 0
    for name, weight in net.named_parameters():
        parts = name.split(".")
        layer = ".".join(parts[:2]) if parts[0].startswith("layer") else parts[0]
        layer = "readout" if layer == "linear" else layer
        layer = "stem" if layer in ("conv1", "bn1") else layer
        stop = start + weight.numel()
        places[layer] = slice(places[layer].start if layer in places else start, stop)
        start = stop
    return places


def stages_of(net) -> dict[str, slice]:
    """The same for stem, three stages of blocks, and readout."""
    places: dict[str, slice] = {}
    for name, at in layers_of(net).items():
        stage = f"stage {name[5]}" if name.startswith("layer") else name
        start = places[stage].start if stage in places else at.start
        places[stage] = slice(start, at.stop)
    return places
