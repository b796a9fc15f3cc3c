"""Squared gradient norms of single examples, taken in the backward pass of a training."""

import warnings
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sgdnoise.nets._examples import leaves
from sgdnoise.nets._watch._activations import UnmeasuredWarning, is_measuring

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
LAYERS = (nn.Linear, *NORMS)
TWICE = "it was called twice before a backward pass; other forward passes belong in torch.no_grad()"


class ExampleSquares:
    """Sums of the squared norms of what each example adds to the gradients of some layers.

    net: the network, whose first input has the examples along its first axis.
    layers: name -> Linear, LayerNorm, RMSNorm or GroupNorm with a trained parameter.
    Hooks are there between `open` and `close`, which gives the sums.  A layer is left out, with a
    warning at the first time, if it was called twice before a backward pass, if its first axis is
    not that of the examples, or if a Linear has more axes.  Calls of a watch do not count.
    """

    def __init__(self, net: nn.Module, layers: dict[str, nn.Module]):
        self.net, self.layers = net, layers
        self._left_out: dict[str, str] = {}
        self._told: set[str] = set()
        self._hooks: list = []
        self._sums: dict[str, list] = {}
        self._waiting: set[str] = set()
        self._examples: int | None = None
        self._budget: Any = None

    def open(self, budget) -> None:
        """Set the hooks, whose time the budget counts, and begin new sums."""
        self._budget, self._examples = budget, None
        self._sums = {name: [] for name in self.layers}
        self._waiting, self._left_out = set(), {}
        self._hooks.append(self.net.register_forward_pre_hook(self._begin, with_kwargs=True))
        for name, layer in self.layers.items():
            hook = partial(self._forward, name)
            self._hooks.append(layer.register_forward_hook(hook, with_kwargs=True))

    def close(self) -> tuple[int, list[nn.Parameter], torch.Tensor | None]:
        """Remove the hooks; the number of parts, their parameters, and the sum of the squares.

        Layers that saw no examples have no part; of others, those that saw the most count.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._tell()
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

    def _begin(self, _, args, kwargs):
        """Remember how many examples this pass of the network has."""
        tensors = [part for part in leaves((args, kwargs)) if torch.is_tensor(part) and part.ndim]
        self._examples = len(tensors[0]) if tensors else None

    def _forward(self, name, layer, args, kwargs, output):
        if is_measuring() or not torch.is_grad_enabled() or not output.requires_grad:
            return
        inputs = args[0] if args else kwargs.get("input")
        if name in self._waiting:
            self._left_out[name] = TWICE
        elif not torch.is_tensor(inputs) or self._examples not in (None, len(inputs)):
            self._left_out[name] = "the first axis of its input is not that of the examples"
        elif isinstance(layer, nn.Linear) and inputs.ndim != 2:
            self._left_out[name] = ""
        else:
            self._waiting.add(name)
            output.register_hook(partial(self._backward, name, layer, inputs.detach()))

    def _backward(self, name, layer, inputs, gradient):
        if name not in self._waiting:
            self._left_out[name] = "a second backward pass went through it"
            return
        self._waiting.discard(name)
        with self._budget.measuring(), torch.no_grad():
            square = squares(layer, inputs, gradient.detach())
        self._sums[name].append((len(gradient), square))

    def _tell(self):
        """Warn once of each layer that is left out for a reason that may surprise."""
        new = {n: why for n, why in self._left_out.items() if why and n not in self._told}
        self._told |= set(new)
        if new:
            name, why = next(iter(new.items()))
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            warnings.warn(
                f"the noise scale leaves out layer {name!r}{more}: {why}",
                UnmeasuredWarning,
                stacklevel=5,
            )


def squares(layer: nn.Module, inputs, gradient) -> torch.Tensor:
    """sum_i |d_i|^2 of the gradients d_i that the examples add to the parameters of a layer.

    inputs (n, ...) and gradient (n, ...): of the output, with the factor of the mean over examples.
    """
    weight, bias = (_is_trained(layer._parameters.get(name)) for name in ("weight", "bias"))
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
    """The trained weight and bias of a layer itself."""
    found = (layer._parameters.get(name) for name in ("weight", "bias"))
    return [parameter for parameter in found if parameter is not None and parameter.requires_grad]


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
