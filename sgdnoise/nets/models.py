"""Small networks for studies: no buffers, and no example that another one's output depends on."""

import math
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn

__all__ = ["convnet", "mlp", "resnet", "transformer"]

# Everywhere: made on the CPU in torch's default type; seed, an int or a torch.Generator on the CPU,
# decides all parameters, and torch's own generator stays as it was.  Weights are normal with
# variance gain^2 / fan_in and biases 0, where 1 / gain^2 = E f(z)^2 for normal z and the activation
# f before the weights: a mean square of 1 stays so from layer to layer (He et al., 2015, for relu),
# less what padding and pooling take.  gain 1 where an input or a norm comes before.

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "linear": nn.Identity,
}


def mlp(widths: Sequence[int], activation: str = "relu", *, seed) -> nn.Sequential:
    """Fully connected: (n, ...) with widths[0] numbers an example -> (n, widths[-1]).

    activation: "relu", "tanh", "gelu", or "linear" for a deep linear network; none at the end.
    Raises ValueError for another activation, and for fewer than two widths or one below 1.
    """
    f = _activation(activation)
    _positive(widths=widths)
    if len(widths) < 2:
        raise ValueError(f"a network has a width of inputs and one of outputs, not {list(widths)}")
    with _seeded(seed):
        layers = [nn.Flatten(), _weighted(nn.Linear(widths[0], widths[1]))]
        for ends in pairwise(widths[1:]):
            layers += [f(), _weighted(nn.Linear(*ends), _gain(f))]
    return nn.Sequential(*layers)


def convnet(
    channels: Sequence[int] = (32, 32, 64, 64, 128, 128),
    classes: int = 10,
    size: int = 32,
    inputs: int = 3,
    activation: str = "relu",
    *,
    seed,
) -> nn.Sequential:
    """Plain convolutions, (n, inputs, size, size) -> (n, classes); as it stands 0.55 M parameters.

    3 x 3, with an average pool after each second one, and a head with one hidden layer as wide as
    the last: the shape of Simonyan & Zisserman (2015) at a quarter of its width, without dropout.
    Raises ValueError where the pools do not divide the size, and for an unknown activation.
    """
    f = _activation(activation)
    _positive(channels=channels, classes=[classes], size=[size], inputs=[inputs])
    small, left = divmod(size, 2 ** (len(channels) // 2))
    if left or not small:
        raise ValueError(f"a size of {size} is not halved {len(channels) // 2} times without rest")
    last = channels[-1]
    with _seeded(seed):
        layers: list[nn.Module] = []
        for i, ends in enumerate(pairwise([inputs, *channels])):
            layers += [_weighted(nn.Conv2d(*ends, 3, padding=1), _gain(f) if i else 1.0), f()]
            layers += [nn.AvgPool2d(2)] if i % 2 else []
        head = [nn.Linear(last * small**2, last), nn.Linear(last, classes)]
        one, two = (_weighted(part, _gain(f)) for part in head)
    return nn.Sequential(*layers, nn.Flatten(), one, f(), two)


def resnet(
    blocks: Sequence[int] = (2, 2, 2),
    width: int = 16,
    classes: int = 10,
    inputs: int = 3,
    norm: str = "group",
    *,
    seed,
) -> nn.Sequential:
    """Residual blocks, norm, relu, 3 x 3, twice (He et al., 2016): images -> (n, classes).

    Images (n, inputs, h, w) of any size.  blocks: how many in each stage; from the second stage on
    the first block halves the image and doubles the channels.  norm: over groups of 8 channels
    (Wu & He, 2018), or over the "layer"; both within an example, unlike batch norm.  As it stands
    0.18 M parameters.
    Raises ValueError for another norm, a width that groups do not divide, or an empty stage.
    """
    if norm not in ("group", "layer"):
        raise ValueError(f"the norms of a residual network are 'group' and 'layer', not {norm!r}")
    _positive(blocks=blocks, width=[width], classes=[classes], inputs=[inputs])
    if norm == "group" and width % 8:
        raise ValueError(f"groups of 8 channels do not divide a width of {width}")

    def normed(channels):
        return nn.GroupNorm(channels // 8 if norm == "group" else 1, channels)

    with _seeded(seed):
        layers: list[nn.Module] = [_weighted(nn.Conv2d(inputs, width, 3, padding=1, bias=False))]
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            for i in range(count):
                halve = stage > 0 and i == 0
                layers.append(_block(out // 2 if halve else out, out, normed))
        head = _weighted(nn.Linear(out, classes), 1.0)
    ending = [normed(out), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head]
    return nn.Sequential(*layers, *ending)


def transformer(
    vocabulary: int,
    length: int,
    width: int,
    heads: int,
    depth: int,
    classes: int | None = None,
    *,
    tied: bool = False,
    seed,
) -> nn.Sequential:
    """Pre-norm transformer on words (n, l), l <= length, whole numbers below `vocabulary`.

    With classes: (n, classes), from the mean over places, each of which sees all (Vaswani et al.,
    2017).  Without: a language model, (n, l, vocabulary), the logits of the word that comes next;
    a place sees itself and those before it.  tied: the embedding is also the last matrix (Press &
    Wolf, 2017), one part of theta.  Norms before attention and before the gelu layer of 4 width
    (Xiong et al., 2020), and at the end; positions learned; no dropout.
    Raises ValueError for heads that do not divide the width, and for tied ends with classes.
    """
    named = {"vocabulary": vocabulary, "length": length, "width": width, "heads": heads}
    _positive(**{name: [value] for name, value in (named | {"depth": depth}).items()})
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")
    if classes is not None:
        _positive(classes=[classes])
        if tied:
            raise ValueError(f"a classifier into {classes} classes has no last matrix to tie")
    with _seeded(seed):
        words = _Words(vocabulary, length, width)
        layers: list[nn.Module] = [words]
        for _ in range(depth):
            attention = _Attention(width, heads, causal=classes is None)
            hidden = _weighted(nn.Linear(width, 4 * width))
            back = _weighted(nn.Linear(4 * width, width), _gain(nn.GELU) / (2 * depth) ** 0.5)
            _weighted(attention.out, 1 / (2 * depth) ** 0.5)
            layers.append(_Sum(nn.Sequential(nn.LayerNorm(width), attention)))
            layers.append(_Sum(nn.Sequential(nn.LayerNorm(width), hidden, nn.GELU(), back)))
        layers += [nn.LayerNorm(width)] if classes is None else [nn.LayerNorm(width), _Mean()]
        head = _weighted(nn.Linear(width, classes or vocabulary, bias=classes is not None))
    if tied:
        head.weight = words.words.weight
    return nn.Sequential(*layers, head)


class _Sum(nn.Module):
    """shortcut(x) + change(x)."""

    def __init__(self, change, shortcut=None):
        super().__init__()
        self.change = change
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x):
        return self.shortcut(x) + self.change(x)


class _Words(nn.Module):
    """Words to vectors, with their places: normal of variance 1 / width."""

    def __init__(self, vocabulary, length, width):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.empty(length, width))
        for part in self.parameters():
            nn.init.normal_(part, std=width**-0.5)

    def forward(self, x):
        if x.shape[1] > len(self.places):
            raise ValueError(f"{x.shape[1]} words are more than the {len(self.places)} places")
        return self.words(x) + self.places[: x.shape[1]]


class _Attention(nn.Module):
    """softmax(Q K^T / sqrt d) V in each head, written out: torch's own has no second derivative."""

    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.into = _weighted(nn.Linear(width, 3 * width))
        self.out = _weighted(nn.Linear(width, width))

    def forward(self, x):
        n, length, width = x.shape
        split = self.into(x).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        match = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        if self.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            match = match.masked_fill(later, -math.inf)
        seen = match.softmax(3) @ value
        return self.out(seen.transpose(1, 2).reshape(n, length, width))


class _Mean(nn.Module):
    """Mean over places, (n, l, width) -> (n, width)."""

    def forward(self, x):
        return x.mean(1)


def _block(begin, out, normed):
    """A residual block; where it halves the image, so does an average pool beside it."""

    def convolution(begin, out, stride):
        return _weighted(nn.Conv2d(begin, out, 3, stride, 1, bias=False), _gain(nn.ReLU))

    halve = begin != out
    change = [
        *(normed(begin), nn.ReLU(), convolution(begin, out, stride=2 if halve else 1)),
        *(normed(out), nn.ReLU(), convolution(out, out, stride=1)),
    ]
    beside = nn.AvgPool2d(2, ceil_mode=True), _weighted(nn.Conv2d(begin, out, 1, bias=False))
    return _Sum(nn.Sequential(*change), nn.Sequential(*beside) if halve else None)


@contextmanager
def _seeded(seed):
    """Within, torch makes and draws on the CPU, by this seed; after it, all is as it was."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        if isinstance(seed, torch.Generator):
            seed = int(torch.randint(2**62, (), generator=seed))
        torch.default_generator.manual_seed(seed)
        yield


def _activation(name):
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation is called {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _positive(**sizes):
    for name, values in sizes.items():
        if not values or min(values) < 1:
            raise ValueError(f"the sizes in {name} must be 1 or more, not {list(values)}")


def _gain(activation):
    """(E f(z)^2)^(-1/2) for standard normal z, by the Gauss-Hermite rule of 100 nodes."""
    nodes, weights = map(torch.from_numpy, hermegauss(100))
    return float((weights.sum() / (weights * activation()(nodes) ** 2).sum()) ** 0.5)


def _weighted(layer, gain=1.0):
    """The layer with normal weights of variance gain^2 / fan_in, and biases 0."""
    nn.init.normal_(layer.weight, std=gain / layer.weight[0].numel() ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
