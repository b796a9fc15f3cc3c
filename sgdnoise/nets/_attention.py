"""Transformers: of words, and of images in patches."""

import math

import torch
from torch import nn

from sgdnoise.nets._initialisation import Add, gain, positive, seeded, weighted


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
    """A pre-norm transformer on words (n, l), l <= length, which are integers below `vocabulary`.

    With `classes` it is a classifier, (n, classes), from the mean over positions, each of which
    attends to all (Vaswani et al., 2017).  Without, it is a language model, (n, l, vocabulary),
    the logits of the next word; a position attends to itself and those before it.  tied: the
    embedding is also the last matrix (Press & Wolf, 2017).  Norms stand before attention, before
    the gelu layer of 4 times the width (Xiong et al., 2020), and at the end.  Positions are
    learned; there is no dropout.
    Raises ValueError for heads that do not divide the width, and for tied ends with classes.

    Example:
        >>> import torch
        >>> words = torch.tensor([[0, 3, 1]])
        >>> transformer(5, length=4, width=8, heads=2, depth=1, seed=0)(words).shape
        torch.Size([1, 3, 5])
        >>> transformer(5, length=4, width=8, heads=2, depth=1, classes=3, seed=0)(words).shape
        torch.Size([1, 3])
    """
    named = {"vocabulary": vocabulary, "length": length, "width": width, "heads": heads}
    positive(**{name: [value] for name, value in (named | {"depth": depth}).items()})
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")
    if classes is not None:
        positive(classes=[classes])
        if tied:
            raise ValueError(f"a classifier into {classes} classes has no last matrix to tie")
    with seeded(seed):
        words = _Words(vocabulary, length, width)
        layers: list[nn.Module] = [words]
        layers += _blocks(width, heads, depth, causal=classes is None)
        layers += [nn.LayerNorm(width)] if classes is None else [nn.LayerNorm(width), _Mean()]
        head = weighted(nn.Linear(width, classes or vocabulary, bias=classes is not None))
    if tied:
        head.weight = words.words.weight
    return nn.Sequential(*layers, head)


def vision_transformer(
    size: int = 32,
    patch: int = 4,
    width: int = 64,
    heads: int = 4,
    depth: int = 4,
    classes: int = 10,
    inputs: int = 3,
    *,
    seed,
) -> nn.Sequential:
    """Images (n, inputs, size, size) in square patches as words (Dosovitskiy et al., 2021).

    (n, classes), from the mean over patches; otherwise as `transformer`: norms first, places
    learned, no dropout.  As it stands 0.21 M parameters.
    Raises ValueError for patches that do not divide the size, and heads that do not the width.

    Example:
        >>> import torch
        >>> net = vision_transformer(size=8, patch=4, width=8, heads=2, depth=1, classes=3, seed=0)
        >>> net(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3])
    """
    sizes = {"size": size, "patch": patch, "width": width, "heads": heads, "depth": depth}
    positive(**{name: [value] for name, value in sizes.items()}, classes=[classes], inputs=[inputs])
    if size % patch:
        raise ValueError(f"patches of {patch} pixels do not divide a size of {size}")
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")
    with seeded(seed):
        layers: list[nn.Module] = [_Patches(inputs, size, patch, width)]
        layers += _blocks(width, heads, depth, causal=False)
        head = weighted(nn.Linear(width, classes))
    return nn.Sequential(*layers, nn.LayerNorm(width), _Mean(), head)


def _blocks(width, heads, depth, causal):
    """Sums of attention and of a gelu layer, in turn; what is added is the smaller the deeper."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        attention = _Attention(width, heads, causal)
        hidden = weighted(nn.Linear(width, 4 * width))
        back = weighted(nn.Linear(4 * width, width), gain(nn.GELU) / (2 * depth) ** 0.5)
        weighted(attention.out, 1 / (2 * depth) ** 0.5)
        layers.append(Add(nn.Sequential(nn.LayerNorm(width), attention)))
        layers.append(Add(nn.Sequential(nn.LayerNorm(width), hidden, nn.GELU(), back)))
    return layers


class _Patches(nn.Module):
    """Each patch as a vector, with its place: (n, inputs, h, w) -> (n, patches, width)."""

    def __init__(self, inputs, size, patch, width):
        super().__init__()
        self.patch = weighted(nn.Conv2d(inputs, width, patch, patch))
        self.places = nn.Parameter(torch.empty((size // patch) ** 2, width))
        nn.init.normal_(self.places, std=width**-0.5)

    def forward(self, x):
        return self.patch(x).flatten(2).transpose(1, 2) + self.places


class _Words(nn.Module):
    """Words to vectors, with their places: normal of variance 1 / width."""

    def __init__(self, vocabulary, length, width):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.empty(length, width))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=width**-0.5)

    def forward(self, x):
        if x.shape[1] > len(self.places):
            raise ValueError(f"{x.shape[1]} words are more than the {len(self.places)} places")
        return self.words(x) + self.places[: x.shape[1]]


class _Attention(nn.Module):
    """softmax(Q K^T / sqrt d) V in each head, written out: torch's own has no second derivative."""

    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.into = weighted(nn.Linear(width, 3 * width))
        self.out = weighted(nn.Linear(width, width))

    def forward(self, x):
        n, length, width = x.shape
        split = self.into(x).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        match = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        if self.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            match = match.masked_fill(later, -math.inf)
        attended = match.softmax(3) @ value
        return self.out(attended.transpose(1, 2).reshape(n, length, width))


class _Mean(nn.Module):
    """Mean over places, (n, l, width) -> (n, width)."""

    def forward(self, x):
        return x.mean(1)
