"""Per-example gradients of whatever torch can differentiate, without formulas for layers."""

import warnings

import torch
from torch.func import grad, vmap

from sgdnoise.nets._network import Network
from sgdnoise.nets._per_example._probing import check_same


def by_vmap(network: Network, names: list[str], index) -> dict:
    """name -> gradients (n, *shape) of some of the parameters, by torch.func; raises anything."""
    tensors, examples = network.tensors, network.examples.at(index)
    fixed = {name: tensor for name, tensor in tensors.items() if name not in names}
    free = {name: tensors[name] for name in names}

    def alone(free, example):
        single = examples.with_tensors(tensor[None] for tensor in example)
        return network.value({**fixed, **free}, single)[0]

    with warnings.catch_warnings():  # of operations that vmap can only do one by one
        warnings.simplefilter("ignore", UserWarning)
        return vmap(grad(alone), (None, 0))(free, examples.tensors())


def one_by_one(network: Network, names: list[str], index: slice, losses) -> dict:
    """name -> gradients (n, *shape) of some of the parameters, by plain autograd in a loop.

    losses: those of the examples in their batch.
    Raises ValueError if an example has another loss alone.
    """
    numbers = range(index.start, index.start + len(losses))
    values, rows = zip(*(_alone(network, names, slice(i, i + 1)) for i in numbers), strict=True)
    check_same(network, torch.cat(values), losses, index)
    return {name: torch.stack([row[name] for row in rows]) for name in names}


def _alone(network, names, index):
    """The loss of one example, (1,), and its gradients by name."""
    leaves = network.leaves()
    loss = network.value(leaves, network.examples.at(index))
    wanted = [leaves[name] for name in names]
    try:
        with network.at(leaves):
            gradients = _gradients(loss.sum(), wanted)
    except RuntimeError as error:
        if "checkpoint" not in str(error).lower():
            raise
        # Reentrant checkpoints allow no other call.  It writes to the leaves, which are ours.
        with network.at(leaves):
            network.value(leaves, network.examples.at(index)).sum().backward()
        gradients = [leaf.grad for leaf in wanted]
    pairs = zip(names, gradients, strict=True)
    return loss.detach(), {n: _dense(g, network.tensors[n]) for n, g in pairs}


def _gradients(loss, leaves):
    """The gradients of a loss; None for a leaf that has no part in it."""
    if not loss.requires_grad:
        return [None] * len(leaves)
    return torch.autograd.grad(loss, leaves, allow_unused=True)


def _dense(gradient, like):
    if gradient is None:
        return torch.zeros_like(like)
    return (gradient.to_dense() if gradient.is_sparse else gradient).detach()
