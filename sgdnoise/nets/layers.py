"""The gradient of each example in the form its layer has it, and what can be had from that form."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch.nn.grad import conv1d_weight, conv2d_weight

__all__ = [
    "Convolution",
    "Lookup",
    "Outer",
    "Part",
    "Place",
    "Sums",
    "Table",
    "patches",
    "smaller",
    "table",
]

HELD = 1 << 24  # numbers of per-example gradients held at once


class Place(NamedTuple):
    """A parameter, or a block of its rows."""

    name: str
    rows: slice | None = None

    def of(self, views: dict):
        whole = views[self.name]
        return whole if self.rows is None else whole[self.rows]


@runtime_checkable
class Part(Protocol):
    """Gradients (n, *shape of the parameter) of one use of one parameter, or of weight and bias."""

    def names(self) -> set[str]: ...
    def only(self, names: set[str]) -> Any: ...  # a Part, or None where nothing is left
    def project(self, views: dict) -> Any: ...  # (n,)
    def combine(self, weights, views: dict) -> None: ...  # adds to the views
    def squares(self) -> Any: ...  # (n,)
    def column_squares(self, views: dict) -> None: ...  # adds to the views
    def chunks(self) -> Iterator[Any]: ...  # of the gradients as a matrix: (n, some columns)


@dataclass(frozen=True)
class Table:
    """The gradients themselves, (n, *shape)."""

    place: Place
    each: Any

    def names(self):
        return {self.place.name}

    def only(self, names):
        return self if self.place.name in names else None

    def project(self, views):
        return self.each.flatten(1) @ self.place.of(views).reshape(-1)

    def combine(self, weights, views):
        found = weights @ self.each.flatten(1)
        self.place.of(views).add_(found.view(self.each.shape[1:]))

    def squares(self):
        return self.each.flatten(1).square().sum(1)

    def column_squares(self, views):
        self.place.of(views).add_(self.each.square().sum(0))

    def chunks(self):
        yield self.each.flatten(1)


@dataclass(frozen=True)
class Outer:
    """A linear layer seen once an example: left_i right_i^T, and left_i for the bias."""

    weight: Place | None
    bias: Place | None
    left: Any  # (n, o)
    right: Any  # (n, i)

    def names(self):
        return {place.name for place in (self.weight, self.bias) if place}

    def only(self, names):
        weight, bias = (p if p and p.name in names else None for p in (self.weight, self.bias))
        return Outer(weight, bias, self.left, self.right) if weight or bias else None

    def project(self, views):
        found = torch.zeros_like(self.left[:, 0])
        if self.weight:
            matrix = self.weight.of(views)
            if self.left.shape[1] <= self.right.shape[1]:
                found += (self.right @ matrix.T * self.left).sum(1)
            else:
                found += (self.left @ matrix * self.right).sum(1)
        if self.bias:
            found += self.left @ self.bias.of(views)
        return found

    def combine(self, weights, views):
        left = weights[:, None] * self.left
        if self.weight:
            self.weight.of(views).addmm_(left.T, self.right)
        if self.bias:
            self.bias.of(views).add_(left.sum(0))

    def squares(self):
        right = self.right.square().sum(1) * bool(self.weight) + bool(self.bias)
        return self.left.square().sum(1) * right

    def column_squares(self, views):
        left = self.left.square()
        if self.weight:
            self.weight.of(views).addmm_(left.T, self.right.square())
        if self.bias:
            self.bias.of(views).add_(left.sum(0))

    def chunks(self):
        if self.bias:
            yield self.left
        if self.weight:
            yield from _products(self.left[:, None], self.right[:, None])

    def cross(self, mine, other, out):
        """Add the inner products of the gradients of some examples with those of others."""
        left = self.left[mine] @ self.left[other].T
        if not self.weight:
            out[mine, other] += left
            return
        one = left.new_full((), float(bool(self.bias)))
        right = torch.addmm(one, self.right[mine], self.right[other].T)
        out[mine, other].addcmul_(left, right)


@dataclass(frozen=True)
class Sums:
    """A linear layer at many positions of an example: sum_t left_it right_it^T."""

    weight: Place
    left: Any  # (n, T, o)
    right: Any  # (n, T, i)
    shape: Any  # of the weight

    def names(self):
        return {self.weight.name}

    def only(self, names):
        return self if self.weight.name in names else None

    def project(self, views):
        matrix = self.weight.of(views).flatten(1)
        if self.left.shape[2] <= self.right.shape[2]:
            return (self.right @ matrix.T * self.left).sum((1, 2))
        return (self.left @ matrix * self.right).sum((1, 2))

    def combine(self, weights, views):
        left = (weights[:, None, None] * self.left).flatten(0, 1)
        found = left.T @ self.right.flatten(0, 1)
        place = self.weight.of(views)
        place.add_(found.view(place.shape))

    def squares(self):
        return _squares(self.left.mT, self.right.mT)

    def column_squares(self, views):
        _column_squares(self, self.weight, views)

    def chunks(self):
        yield from _products(self.left, self.right)


@dataclass(frozen=True)
class Convolution:
    """A convolution: left the gradient to its output, right its input, in images."""

    weight: Place
    left: Any  # (n, o, *positions)
    right: Any  # (n, i, *pixels)
    shape: Any  # of the weight
    options: dict

    def names(self):
        return {self.weight.name}

    def only(self, names):
        return self if self.weight.name in names else None

    def project(self, views):
        run = F.conv1d if self.right.ndim == 3 else F.conv2d
        out = run(self.right, self.weight.of(views), None, **self.options)
        return (out * self.left).flatten(1).sum(1)

    def combine(self, weights, views):
        shape = (-1,) + (1,) * (self.left.ndim - 1)
        slopes = weights.view(shape) * self.left
        self.weight.of(views).add_(_kernel_gradient(self, slopes))

    def squares(self):
        left, right = self._grouped()
        return sum(_squares(a, b) for a, b in zip(left, right, strict=True))

    def column_squares(self, views):
        _column_squares(self, self.weight, views)

    def chunks(self):
        for left, right in zip(*self._grouped(), strict=True):
            yield from _products(left.mT, right.mT)

    def _grouped(self):
        """Outputs (n, o / g, T) and patches of inputs (n, i k / g, T), group by group."""
        groups = self.options["groups"]
        return self.left.flatten(2).chunk(groups, 1), patches(self).chunk(groups, 1)


@dataclass(frozen=True)
class Lookup:
    """An embedding: the gradient to the output, in the rows of the tokens."""

    weight: Place
    tokens: Any  # (n, T)
    left: Any  # (n, T, d)
    shape: Any  # of the weight

    def names(self):
        return {self.weight.name}

    def only(self, names):
        return self if self.weight.name in names else None

    def project(self, views):
        return (F.embedding(self.tokens, self.weight.of(views)) * self.left).sum((1, 2))

    def combine(self, weights, views):
        slopes = (weights[:, None, None] * self.left).flatten(0, 1)
        self.weight.of(views).index_add_(0, self.tokens.flatten(), slopes)

    def squares(self):
        same = self.tokens[:, :, None] == self.tokens[:, None, :]
        return (same * (self.left @ self.left.mT)).sum((1, 2))

    def column_squares(self, views):
        _column_squares(self, self.weight, views)

    def chunks(self):
        step = max(1, HELD // self.left[:, 0].numel())
        n, _, d = self.left.shape
        base = torch.arange(n, device=self.tokens.device)[:, None]
        for start in range(0, self.shape[0], step):
            count = min(step, self.shape[0] - start)
            here = (self.tokens >= start) & (self.tokens < start + count)
            place = torch.where(here, base * count + self.tokens - start, 0).flatten()
            each = self.left.new_zeros(n * count, d)
            each.index_add_(0, place, (here[..., None] * self.left).flatten(0, 1))
            yield each.view(n, count * d)


def patches(part: Convolution):
    """What the kernel sees at each position, (n, i k, T)."""
    seen, kernel, options = part.right, part.shape, part.options
    stride, padding, dilation = (options[name] for name in ("stride", "padding", "dilation"))
    if seen.ndim == 3:
        seen, kernel = seen[:, :, None], (1, *kernel[2:])
        stride, dilation = (1, *stride), (1, *dilation)
        padding = (0, *padding)
    else:
        kernel = kernel[2:]
    return F.unfold(seen, kernel, dilation=dilation, padding=padding, stride=stride)


def smaller(part: Any) -> Any:
    """The part, or its gradients themselves where these take less memory."""
    if not isinstance(part, (Sums, Convolution)):
        return part
    if part.shape.numel() > part.left[0].numel() + part.right[0].numel():
        return part
    return table(part)


def table(part: Any) -> Table:
    """The gradients of a part that has a weight alone, themselves."""
    each = torch.cat(list(part.chunks()), 1)
    return Table(part.weight, each.unflatten(1, part.shape))


def _products(left, right):
    """sum_t left_it right_it^T for some of the rows at a time: (n, T, o), (n, T, i) -> (n, r i)."""
    n, _, width = right.shape
    step = max(1, HELD // (n * width))
    for start in range(0, left.shape[2], step):
        yield torch.bmm(left[:, :, start : start + step].mT, right).flatten(1)


def _squares(left, right):
    """|sum_t left_it right_it^T|^2 by the cheaper of two orders: (n, o, T), (n, i, T) -> (n,)."""
    (o, positions), i = left.shape[1:], right.shape[1]
    if positions * (o + i) < o * i:
        return ((left.mT @ left) * (right.mT @ right)).sum((1, 2))
    return sum(each.square().sum(1) for each in _products(left.mT, right.mT))


def _column_squares(part, place, views):
    found = torch.cat([each.square().sum(0) for each in part.chunks()])
    whole = place.of(views)
    whole.add_(found.view(whole.shape))


def _kernel_gradient(part, slopes):
    how = part.options
    run = conv1d_weight if part.right.ndim == 3 else conv2d_weight
    return run(part.right, part.shape, slopes, **how)
