"""A torch module as a Problem, a function of one flat vector."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial

import torch
from torch.func import functional_call

from sgdnoise.core._problem import Problem
from sgdnoise.nets._checks import check_fit, check_shape, listed
from sgdnoise.nets._per_example._operator import gradients_by_plan, trainable
from sgdnoise.nets._per_example._plan import Network


def as_problem(net, loss, inputs, targets, *, autocast=None):
    """The Problem of fitting a network, and its trainable parameters as theta (p,).

    loss: (outputs, targets) -> (n,), one number for each example, for example reduction="none".
    The network runs in its present mode, train or eval.  autocast: a type such as torch.bfloat16 in
    which the products of the network are computed; losses, theta and covariances keep their own.
    Raises ValueError for a network with buffers, such as the running means of batch norm, since a
    step would change them; for one without parameters; for inputs that are not finite, that the
    network does not take, or of another length than the targets; for targets that the loss does
    not take, and for a loss of another shape than (n,).

    Example:
        >>> net = torch.nn.Linear(3, 1)
        >>> x, y = torch.randn(20, 3), torch.randn(20, 1)
        >>> problem, theta = as_problem(net, lambda out, y: ((out - y) ** 2).sum(1), x, y)
        >>> problem.size, problem.gradient(theta).shape
        (4, torch.Size([4]))
    """
    buffers = [name for name, _ in net.named_buffers()]
    if buffers:
        raise ValueError(f"buffers are not part of theta: {listed(buffers)}; use layer norm")
    if not trainable(net):
        raise ValueError(f"{type(net).__name__} has no parameters to train, and so no theta")
    names, tensors = zip(*trainable(net).items(), strict=True)
    check_fit(net, loss, inputs, targets, tensors[0].device)
    sizes = [t.numel() for t in tensors]
    forms = [_form(t) for t in tensors]
    kind = tensors[0].device.type
    passing = nullcontext if autocast is None else partial(torch.autocast, kind, autocast)

    def named(theta):
        pieces = zip(names, theta.split(sizes), tensors, forms, strict=True)
        return {
            name: piece.view_as(tensor).contiguous(memory_format=memory_format)
            for name, piece, tensor, memory_format in pieces
        }

    def losses(theta, x, y):
        return losses_of(named(theta).values(), x, y)

    def losses_of(tensors_, x, y):
        with passing():
            outputs = functional_call(net, dict(zip(names, tensors_, strict=True)), (x,))
        values = loss(outputs if autocast is None else outputs.to(tensors[0].dtype), y)
        check_shape(values, len(x))
        return values

    theta = torch.cat([t.detach().reshape(-1) for t in tensors])

    @cache
    def routes():
        return Network.of(net, loss, (inputs,), targets, named(theta)).plan()

    def rows(at, x, y):
        plan = routes()
        return gradients_by_plan(replace(plan, network=Network.of(net, loss, (x,), y, named(at))))

    def backward(at, weights, shift, x, y):
        problem = Problem(losses, (x, y), len(at))
        if shift is not None:
            return problem.weighted_gradient(at, weights, shift)
        if any(map(_transformed, (at, weights, x, y))):
            return problem.weighted_gradient(at, weights)
        with torch.enable_grad():
            leaves = [tensor.requires_grad_() for tensor in named(at.detach()).values()]
            values = losses_of(leaves, x, y)
            gradients = torch.autograd.grad(
                (weights * values).sum(), leaves, materialize_grads=True
            )
        return torch.cat([tensor.reshape(-1) for tensor in gradients])

    return Problem(losses, (inputs, targets), len(theta), rows, backward), theta


def _form(tensor):
    """How the numbers of a weight lie in memory."""
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return (
        torch.channels_last
        if channels_last and not tensor.is_contiguous()
        else torch.contiguous_format
    )


def _transformed(tensor):
    """Whether somebody differentiates or maps over it, which plain autograd does not see."""
    wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", lambda _: True)
    return torch.is_tensor(tensor) and (tensor.requires_grad or wrapped(tensor))
