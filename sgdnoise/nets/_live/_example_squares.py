"""Squared gradient norms of single examples, taken in the backward pass of a training."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sgdnoise.nets._watch._activations import is_measuring

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
LAYERS = (nn.Linear, *NORMS)


class ExampleSquares:
    """Sums of the squared norms of what each example adds to the gradients of some layers.

    layers: name -> Linear, LayerNorm, RMSNorm or GroupNorm with a trained parameter.
    Hooks are there between `open` and `close`, which gives the sums.  A layer that was called twice
    before a backward pass, or whose input is not (n, d) for a Linear, has no sum.  Calls of a watch
    do not count.
    """

    def __init__(self, layers: dict[str, nn.Module]):
        self.layers = layers
        self._left_out: set[str] = set()
        self._hooks: list = []
        self._sums: dict[str, list] = {}
        self._waiting: set[str] = set()
        self._budget: Any = None

    def open(self, budget) -> None:
        """Set the hooks, whose time the budget counts, and begin new sums."""
        self._budget = budget
        self._sums = {name: [] for name in self.layers}
        self._waiting, self._left_out = set(), set()
        for name, layer in self.layers.items():
            self._hooks.append(layer.register_forward_hook(partial(self._forward, name)))

    def close(self) -> tuple[int, list[nn.Parameter], torch.Tensor | None]:
        """Remove the hooks; the number of parts, their parameters, and the sum of the squares.

        Layers that saw no examples have no part; of others, those that saw the most count.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        counts = {
            name: sum(n for n, _ in sums)
            for name, sums in self._sums.items()
            if name not in self._left_out
        }
        n = max(counts.values(), default=0)
        names = [name for name in counts if counts[name] == n]
        if not n:
            return 0, [], None
        parameters = {id(p): p for name in names for p in trained(self.layers[name])}
        total = torch.stack([square for name in names for _, square in self._sums[name]]).sum()
        return n, [*parameters.values()], total

    def _forward(self, name, layer, inputs, output):
        if is_measuring() or not torch.is_grad_enabled() or not output.requires_grad:
            return
        if name in self._waiting or (isinstance(layer, nn.Linear) and inputs[0].ndim != 2):
            self._left_out.add(name)
            return
        self._waiting.add(name)
        output.register_hook(partial(self._backward, name, layer, inputs[0].detach()))

    def _backward(self, name, layer, inputs, gradient):
        self._waiting.discard(name)
        with self._budget.measuring(), torch.no_grad():
            square = squares(layer, inputs, gradient.detach())
        self._sums[name].append((len(gradient), square))


def squares(layer: nn.Module, inputs, gradient) -> torch.Tensor:
    """sum_i |d_i|^2 of the gradients d_i that the examples add to the parameters of a layer.

    inputs (n, ...) and gradient (n, ...): of the output, with the factor of the mean over examples.
    """
    weight, bias = (_is_trained(getattr(layer, name, None)) for name in ("weight", "bias"))
    gradient = gradient.float() if gradient.dtype.itemsize < 4 else gradient
    inputs = inputs.to(gradient.dtype)
    if isinstance(layer, nn.Linear):
        sizes = gradient.square().sum(1)
        return (sizes * (inputs.square().sum(1) * weight + bias)).sum()
    total = gradient.new_zeros(())
    if weight:
        total = total + _over_positions(layer, gradient * _normalised(layer, inputs)).square().sum()
    return total + _over_positions(layer, gradient).square().sum() if bias else total


def trained(layer: nn.Module) -> list[nn.Parameter]:
    """The trained parameters of a layer itself."""
    return [p for p in layer.parameters(recurse=False) if p.requires_grad]


def _is_trained(parameter):
    return parameter is not None and parameter.requires_grad


def _normalised(layer, inputs):
    """The output of a norm before its weight and bias."""
    if isinstance(layer, nn.GroupNorm):
        return functional.group_norm(inputs, layer.num_groups, None, None, layer.eps)
    shape = list(layer.normalized_shape)
    if isinstance(layer, nn.RMSNorm):
        return functional.rms_norm(inputs, shape, None, layer.eps)
    return functional.layer_norm(inputs, shape, None, None, layer.eps)


def _over_positions(layer, values):
    """The sum over all axes that the parameters of the norm do not have, but the examples."""
    if isinstance(layer, nn.GroupNorm):
        return values.flatten(2).sum(2) if values.ndim > 2 else values
    axes = tuple(range(1, values.ndim - len(layer.normalized_shape)))
    return values.sum(axes) if axes else values
