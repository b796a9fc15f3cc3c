"""Random initial weights of the networks of `models`, and the sum that ends a block."""

from contextlib import contextmanager

import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn

# Weights are normal with variance gain^2 / fan_in, and biases are 0.  1 / gain^2 = E f(z)^2 for
# normal z and the activation f before the weights, so that a mean square of 1 is kept from layer to
# layer (He et al., 2015, for relu), except for padding and pooling.  gain is 1 after an input or a
# norm.

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "linear": nn.Identity,
}


class Add(nn.Module):
    """The sum shortcut(x) + change(x)."""

    def __init__(self, change, shortcut=None):
        super().__init__()
        self.change = change
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x):
        return self.shortcut(x) + self.change(x)


@contextmanager
def seeded(seed):
    """A context in which torch draws on the CPU with this seed; its state is restored after it."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        if isinstance(seed, torch.Generator):
            seed = int(torch.randint(2**62, (), generator=seed))
        torch.default_generator.manual_seed(seed)
        yield


def activated(name):
    """The module class of an activation of that name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation is called {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def positive(**sizes):
    """Raise ValueError if a size is below 1, or if there is none."""
    for name, values in sizes.items():
        if not values or min(values) < 1:
            raise ValueError(f"the sizes in {name} must be 1 or more, not {list(values)}")


def gain(activation):
    """(E f(z)^2)^(-1/2) for standard normal z, by the Gauss-Hermite rule with 100 nodes."""
    nodes, weights = map(torch.from_numpy, hermegauss(100))
    return float((weights.sum() / (weights * activation()(nodes) ** 2).sum()) ** 0.5)


def weighted(layer, gain=1.0):
    """The layer with normal weights of variance gain^2 / fan_in and zero biases."""
    nn.init.normal_(layer.weight, std=gain / layer.weight[0].numel() ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
