"""A torch module as a pure function of one flat vector."""

from dataclasses import replace
from functools import cache

import torch
from torch.func import functional_call

from sgdnoise.nets.checks import listed
from sgdnoise.nets.gradients import gradients_by, trainable
from sgdnoise.nets.routes import Network
from sgdnoise.problem import Problem

__all__ = ["flatten"]


def flatten(net, loss, inputs, targets):
    """The Problem of fitting `net`, and its present trainable parameters as theta (p,).

    loss: (outputs, targets) -> (n,), one number an example, say with reduction="none".
    The network runs in the mode, train or eval, that it is in.
    Raises ValueError for a network with buffers, such as batch norm's running means: a step would
    change them behind theta's back, and batch norm mixes the examples; for one without parameters;
    and for a loss of another shape than (n,).
    """
    buffers = [name for name, _ in net.named_buffers()]
    if buffers:
        raise ValueError(f"buffers are not part of theta: {listed(buffers)}; use layer norm")
    if not trainable(net):
        raise ValueError(f"{type(net).__name__} has no parameters to train, and so no theta")
    names, tensors = zip(*trainable(net).items(), strict=True)
    sizes = [t.numel() for t in tensors]

    def named(theta):
        parts = zip(names, theta.split(sizes), tensors, strict=True)
        return {name: part.view_as(tensor) for name, part, tensor in parts}

    def losses(theta, x, y):
        return losses_of(named(theta).values(), x, y)

    def losses_of(parts, x, y):
        each = loss(functional_call(net, dict(zip(names, parts, strict=True)), (x,)), y)
        if each.shape != x.shape[:1]:
            raise ValueError(
                f"the loss must return one number an example, {tuple(x.shape[:1])}, "
                f'not {tuple(each.shape)}; with torch losses use reduction="none"'
            )
        return each

    theta = torch.cat([t.detach().reshape(-1) for t in tensors])

    @cache
    def routes():
        return Network.of(net, loss, (inputs,), targets, named(theta)).plan()

    def rows(at, x, y):
        plan = routes()
        return gradients_by(replace(plan, network=Network.of(net, loss, (x,), y, named(at))))

    def backward(at, weights, shift, x, y):
        plain = Problem(losses, (x, y), torch.func)
        if shift is not None:
            return plain.tilted(at, weights, shift)
        if any(map(_transformed, (at, weights, x, y))):
            return plain.weighted(at, weights)
        with torch.enable_grad():
            leaves = [part.requires_grad_() for part in named(at.detach()).values()]
            each = losses_of(leaves, x, y)
            found = torch.autograd.grad((weights * each).sum(), leaves, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in found])

    return Problem(losses, (inputs, targets), torch.func, rows, backward), theta


def _transformed(tensor):
    """Whether somebody differentiates or maps over it, which plain autograd does not see."""
    wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", lambda _: True)
    return torch.is_tensor(tensor) and (tensor.requires_grad or wrapped(tensor))
