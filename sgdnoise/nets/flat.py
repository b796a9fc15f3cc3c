"""A torch module as a pure function of one flat vector."""

import torch
from torch.func import functional_call

from sgdnoise.problem import Problem

__all__ = ["flatten"]


def flatten(net, loss, inputs, targets):
    """The Problem of fitting `net`, and its present parameters as theta (p,).

    loss: (outputs, targets) -> (n,), one number an example, say with reduction="none".
    The network runs in the mode, train or eval, that it is in.
    Raises ValueError for a network with buffers, such as batch norm's running means: a step would
    change them behind theta's back, and batch norm mixes the examples; for one without parameters;
    and for a loss of another shape than (n,).
    """
    buffers = [name for name, _ in net.named_buffers()]
    if buffers:
        raise ValueError(f"buffers are not part of theta: {', '.join(buffers)}; use layer norm")
    if not any(True for _ in net.parameters()):
        raise ValueError(f"{type(net).__name__} has no parameters, and so no theta")
    names, tensors = zip(*net.named_parameters(), strict=True)
    sizes = [t.numel() for t in tensors]

    def losses(theta, x, y):
        parts = theta.split(sizes)
        named = {n: v.view_as(t) for n, v, t in zip(names, parts, tensors, strict=True)}
        each = loss(functional_call(net, named, (x,)), y)
        if each.shape != x.shape[:1]:
            raise ValueError(
                f"the loss must return one number an example, {tuple(x.shape[:1])}, "
                f'not {tuple(each.shape)}; with torch losses use reduction="none"'
            )
        return each

    theta = torch.cat([t.detach().reshape(-1) for t in tensors])
    return Problem(losses, (inputs, targets), torch.func), theta
