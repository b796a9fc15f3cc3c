"""Squared norms of the gradients of whole backward passes, as of accumulated batches."""

from functools import partial

import torch
from torch import nn


class BatchSquares:
    """Sums of the squared norms of what each backward pass adds to the gradients of a network."""

    def __init__(self, parameters: list[nn.Parameter]):
        self.parameters = parameters
        self._hooks: list = []
        self._sums: list[list] = []

    def open(self, budget) -> None:
        """Set the hooks, whose time the budget counts, and begin new sums."""
        self._sums = [[] for _ in self.parameters]
        for parameter, sums in zip(self.parameters, self._sums, strict=True):
            self._hooks.append(parameter.register_hook(partial(_add, sums, budget)))

    def close(self) -> tuple[int, list[nn.Parameter], torch.Tensor | None]:
        """Remove the hooks; the number of passes, the parameters that were in all, the sum."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        n = max(map(len, self._sums), default=0)
        found = [(p, s) for p, s in zip(self.parameters, self._sums, strict=True) if len(s) == n]
        if not n:
            return 0, [], None
        total = torch.stack([square for _, sums in found for square in sums]).sum()
        return n, [parameter for parameter, _ in found], total


def _add(sums, budget, gradient):
    with budget.measuring():
        sums.append(squared(gradient))


def squared(gradient) -> torch.Tensor:
    """The squared norm of a gradient, also of a sparse one, in single precision or better."""
    gradient = gradient.detach()
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return (values.float() if values.dtype.itemsize < 4 else values).square().sum()
