"""Inner channels of residual blocks: what they contribute, and their statistics when removed.

A channel of a block has a scale w and a shift b of its norm, which is frozen, and outgoing weights
v; it adds v * relu(w z + b) to the input of the second norm, with z its normalised preactivation.
Where (v, w, b) = 0 the channel is gone and no gradient brings it back: an invariant set.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

STAGES = 3
SMALLEST = 1e-4  # fraction of active units below which a channel is dead


class Channel(NamedTuple):
    """A channel by the name of its block and its number in it."""

    block: str
    number: int


def blocks_of(net: Any) -> dict[str, Any]:
    """Name -> residual block, in order."""
    names = [
        f"layer{stage}.{number}"
        for stage in range(1, 1 + STAGES)
        for number, _ in enumerate(net.get_submodule(f"layer{stage}").children())
    ]
    return {name: net.get_submodule(name) for name in names}


def channels_of(net: Any) -> list[Channel]:
    """All inner channels, block by block."""
    return [
        Channel(name, number)
        for name, block in blocks_of(net).items()
        for number in range(block.conv2.in_channels)
    ]


def groups_of(net: Any) -> list[list[Channel]]:
    """Channels in groups, of which each has at most one of each block."""
    channels = channels_of(net)
    numbers = sorted({channel.number for channel in channels})
    return [[c for c in channels if c.number == number] for number in numbers]


def scaled(net: Any, channels, factor: float) -> None:
    """Multiply (v, w, b) of some channels, in place."""
    with torch.no_grad():
        for block, number in channels:
            module = net.get_submodule(block)
            module.conv2.weight[:, number] *= factor
            module.bn1.weight[number] *= factor
            module.bn1.bias[number] *= factor


def norms(net: Any, channels) -> np.ndarray:
    """|(v, w, b)| of each channel."""
    values = []
    for block, number in channels:
        module = net.get_submodule(block)
        parts = (module.conv2.weight[:, number], module.bn1.weight[number], module.bn1.bias[number])
        values.append(sum(float(p.detach().double().square().sum()) for p in parts) ** 0.5)
    return np.asarray(values)


class Watched:
    """The forward pass of a network that keeps what its blocks compute."""

    def __init__(self, net: Any):
        self.net, self.blocks = net, blocks_of(net)
        self.first: dict[str, torch.Tensor] = {}  # after the first norm, before the relu
        self.second: dict[str, torch.Tensor] = {}  # after the second convolution
        self.hooks = []
        for name, block in self.blocks.items():
            self.hooks.append(block.bn1.register_forward_hook(self._keep(self.first, name)))
            self.hooks.append(block.conv2.register_forward_hook(self._keep(self.second, name)))

    def _keep(self, place, name):
        def hook(_module, _given, output):
            place[name] = output

        return hook

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self.hooks:
            hook.remove()


def contributions(net: Any, inputs) -> tuple[np.ndarray, np.ndarray]:
    """Of each channel: the fraction of active units, and the size of what it adds.

    The size is |v| times the standard deviation of relu(w z + b) over photographs and positions.
    """
    watched = Watched(net)
    with torch.no_grad():
        net(inputs)
    watched.close()
    active, sizes = [], []
    for name, block in watched.blocks.items():
        units = watched.first[name].relu()
        active.append((units > 0).float().mean((0, 2, 3)))
        outgoing = block.conv2.weight.detach().square().sum((0, 2, 3)).sqrt()
        sizes.append(outgoing * units.std((0, 2, 3)))
    return torch.cat(active).cpu().numpy(), torch.cat(sizes).cpu().numpy()


def statistics(net: Any, inputs, labels, group) -> list[np.ndarray]:
    """K_i of each photograph for channels that are removed together, each (n, 9 outputs, 2).

    Close to the set a step of a batch is v' = v - rate K s, s' = s - rate K^T v with s = (w, b) and
    K the mean of K_i over the batch: K_i is the gradient of the loss with respect to outgoing
    weights, for an activity z or 1 where w z + b > 0.
    """
    kept = [net.get_submodule(c.block).conv2.weight[:, c.number].detach().clone() for c in group]
    with torch.no_grad():
        for channel in group:
            net.get_submodule(channel.block).conv2.weight[:, channel.number] = 0
    watched = Watched(net)
    loss = F.cross_entropy(net(inputs), labels, reduction="sum")
    watched.close()
    slopes = torch.autograd.grad(loss, [watched.second[c.block] for c in group])
    result = []
    with torch.no_grad():
        for channel, slope, weights in zip(group, slopes, kept, strict=True):
            norm = net.get_submodule(channel.block).bn1
            outputs = watched.first[channel.block][:, channel.number]
            scale, shift = norm.weight[channel.number], norm.bias[channel.number]
            mask = (outputs > 0).to(outputs.dtype)
            z = (outputs - shift) / torch.where(scale == 0, torch.ones_like(scale), scale)
            features = torch.stack([mask * z, mask], 1)
            result.append(_pairs(features, slope).double().cpu().numpy())
            net.get_submodule(channel.block).conv2.weight[:, channel.number] = weights
    return result


def _pairs(features, slopes):
    """Gradients of 3 x 3 kernels from features (n, 2, h, w) to outputs.  (n, 9 outputs, 2)"""
    n, outputs = slopes.shape[:2]
    patches = F.unfold(features, 3, padding=1).reshape(n, 2, 9, -1)
    products = torch.einsum("nfkp,nop->nokf", patches, slopes.flatten(2))
    return products.reshape(n, 9 * outputs, 2)


def weights_of(net: Any, channel: Channel) -> tuple[np.ndarray, np.ndarray]:
    """v (9 outputs,) and s = (w, b) of a channel."""
    module = net.get_submodule(channel.block)
    v = module.conv2.weight[:, channel.number].detach().double().reshape(-1)
    s = torch.stack([module.bn1.weight[channel.number], module.bn1.bias[channel.number]])
    return v.cpu().numpy(), s.detach().double().cpu().numpy()
