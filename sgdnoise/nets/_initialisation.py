"""How the weights of the networks of `models` are drawn, and the sum that blocks end in."""

from contextlib import contextmanager

import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn

# Weights are normal with variance gain^2 / fan_in and biases 0, where 1 / gain^2 = E f(z)^2 for
# normal z and the activation f before the weights: a mean square of 1 stays so from layer to layer
# (He et al., 2015, for relu), less what padding and pooling take.  gain 1 where an input or a norm
# comes before.

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "linear": nn.Identity,
}


class Add(nn.Module):
    """shortcut(x) + change(x)."""

    def __init__(self, change, shortcut=None):
        super().__init__()
        self.change = change
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x):
        return self.shortcut(x) + self.change(x)


@contextmanager
def seeded(seed):
    """Within, torch makes and draws on the CPU, by this seed; after it, all is as it was."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        if isinstance(seed, torch.Generator):
            seed = int(torch.randint(2**62, (), generator=seed))
        torch.default_generator.manual_seed(seed)
        yield


def activated(name):
    """The module of an activation of that name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation is called {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def positive(**sizes):
    """Raises ValueError where a size is below 1, or there is none."""
    for name, values in sizes.items():
        if not values or min(values) < 1:
            raise ValueError(f"the sizes in {name} must be 1 or more, not {list(values)}")


def gain(activation):
    """(E f(z)^2)^(-1/2) for standard normal z, by the Gauss-Hermite rule of 100 nodes."""
    nodes, weights = map(torch.from_numpy, hermegauss(100))
    return float((weights.sum() / (weights * activation()(nodes) ** 2).sum()) ** 0.5)


def weighted(layer, gain=1.0):
    """The layer with normal weights of variance gain^2 / fan_in, and biases 0."""
    nn.init.normal_(layer.weight, std=gain / layer.weight[0].numel() ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
