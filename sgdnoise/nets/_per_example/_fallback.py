"""Per-example gradients by torch.func, for whatever torch can differentiate."""

import warnings
from collections.abc import Callable

import torch
from torch.func import grad, vmap


def one_by_one(losses: Callable, tensors: dict, names: list[str], examples: tuple) -> dict:
    """name -> gradients (n, *shape) of some of the parameters, stored.

    losses: (parameters by name, *examples) -> (n,).  They are computed by torch.func.vmap, or in a
    loop if vmap cannot transform the network.
    """
    fixed = {name: tensor for name, tensor in tensors.items() if name not in names}
    free = {name: tensors[name] for name in names}

    def alone(free, *example):
        return losses({**fixed, **free}, *(array[None] for array in example))[0]

    try:
        with warnings.catch_warnings():  # of operations that vmap can only do one by one
            warnings.simplefilter("ignore", UserWarning)
            return vmap(grad(alone), (None, *[0] * len(examples)))(free, *examples)
    except RuntimeError:  # an operation that vmap does not know
        rows = [grad(alone)(free, *example) for example in zip(*examples, strict=True)]
        return {name: torch.stack([row[name] for row in rows]) for name in names}
