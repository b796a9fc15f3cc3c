"""The gradients of all examples, as factors that depend on the kind of layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from sgdnoise.nets._per_example._lowrank import (
    ALL,
    MAX_HELD,
    MAX_WIDE,
    column_squares,
    patches,
    squares,
    steps,
)


class ParameterBlock(NamedTuple):
    """A parameter, or a block of its rows."""

    name: str
    rows: slice | None = None

    def of(self, views: dict):
        view = views[self.name]
        return view if self.rows is None else view[self.rows]


@runtime_checkable
class GradientForm(Protocol):
    """Gradients (n, *shape of the parameter) of one use of one parameter, or of weight and bias."""

    def names(self) -> set[str]: ...
    def restricted_to(self, names: set[str]) -> Any: ...  # a form, or None
    def project(self, views: dict) -> Any: ...  # (n,)
    def combine(self, weights, views: dict) -> None: ...  # adds to the views
    def squares(self) -> Any: ...  # (n,)
    def column_squares(self, views: dict) -> None: ...  # adds to the views
    def chunks(self) -> Iterator[Any]: ...  # of the gradients as a matrix: (n, some columns)


@dataclass(frozen=True)
class StoredGradients:
    """The gradients themselves, (n, *shape)."""

    parameter: ParameterBlock
    gradients: Any

    def names(self):
        return {self.parameter.name}

    def restricted_to(self, names):
        return self if self.parameter.name in names else None

    def project(self, views):
        return self.gradients.flatten(1) @ self.parameter.of(views).reshape(-1)

    def combine(self, weights, views):
        total = weights @ self.gradients.flatten(1)
        self.parameter.of(views).add_(total.view(self.gradients.shape[1:]))

    def squares(self):
        slices = steps(self.gradients.shape[0], self.gradients[0].numel(), MAX_HELD)
        return torch.cat([self.gradients[rows].flatten(1).square().sum(1) for rows in slices])

    def column_squares(self, views):
        for rows in steps(self.gradients.shape[0], self.gradients[0].numel(), MAX_HELD):
            self.parameter.of(views).add_(self.gradients[rows].square().sum(0))

    def chunks(self):
        yield self.gradients.flatten(1)


@dataclass(frozen=True)
class RankOne:
    """A linear layer at one position of each example: left_i right_i^T, and left_i for the bias."""

    weight: ParameterBlock | None
    bias: ParameterBlock | None
    left: Any  # (n, o)
    right: Any  # (n, i)

    def names(self):
        return {parameter.name for parameter in (self.weight, self.bias) if parameter}

    def restricted_to(self, names):
        weight, bias = (p if p and p.name in names else None for p in (self.weight, self.bias))
        return RankOne(weight, bias, self.left, self.right) if weight or bias else None

    def project(self, views):
        # left^T V right: the product with V is taken from the side that leaves the smaller result.
        products = torch.zeros_like(self.left[:, 0])
        if self.weight:
            matrix = self.weight.of(views)
            if self.left.shape[1] <= self.right.shape[1]:
                products += (self.right @ matrix.T * self.left).sum(1)
            else:
                products += (self.left @ matrix * self.right).sum(1)
        if self.bias:
            products += self.left @ self.bias.of(views)
        return products

    def combine(self, weights, views):
        # Weights go into one factor: the weighted sum is then a single matrix product.
        left = weights[:, None] * self.left
        if self.weight:
            self.weight.of(views).addmm_(left.T, self.right)
        if self.bias:
            self.bias.of(views).add_(left.sum(0))

    def squares(self):
        # |l r^T|^2 + |l|^2 = |l|^2 (|r|^2 + 1), with weight and bias as they are present.
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
            for rows in steps(self.left.shape[1], self.right.numel(), MAX_WIDE):
                yield (self.left[:, rows, None] * self.right[:, None]).flatten(1)


@dataclass(frozen=True)
class SumOfOuters:
    """A linear layer at many positions of an example: sum_t left_it right_it^T."""

    weight: ParameterBlock
    left: Any  # (n, T, o)
    right: Any  # (n, T, i)
    shape: Any  # of the weight

    def names(self):
        return {self.weight.name}

    def restricted_to(self, names):
        return self if self.weight.name in names else None

    def project(self, views):
        matrix = self.weight.of(views).flatten(1)
        if self.left.shape[2] <= self.right.shape[2]:
            return (self.right @ matrix.T * self.left).sum((1, 2))
        return (self.left @ matrix * self.right).sum((1, 2))

    def combine(self, weights, views):
        left = (weights[:, None, None] * self.left).flatten(0, 1)
        total = left.T @ self.right.flatten(0, 1)
        parameter = self.weight.of(views)
        parameter.add_(total.view(parameter.shape))

    def squares(self):
        return squares(self)

    def column_squares(self, views):
        column_squares(self, views)

    def chunks(self):
        n, _, width = self.right.shape
        for rows in steps(self.left.shape[2], n * width, MAX_WIDE):
            yield (self.left[:, :, rows].mT @ self.right).flatten(1)

    def factors(self, rows):
        """Of some examples, outputs (m, 1, o, T) and inputs (m, 1, i, T)."""
        return self.left[rows].mT[:, None], self.right[rows].mT[:, None]


@dataclass(frozen=True)
class Convolution:
    """A convolution: left the gradient to its output, right its input, in images."""

    weight: ParameterBlock
    left: Any  # (n, o, *positions)
    right: Any  # (n, i, *pixels)
    shape: Any  # of the weight
    options: dict

    def names(self):
        return {self.weight.name}

    def restricted_to(self, names):
        return self if self.weight.name in names else None

    def project(self, views):
        # The derivative of the output along V is the convolution of the input with V.
        run = _CONVOLUTIONS[self.right.ndim][0]
        out = run(self.right, self.weight.of(views), None, **self.options)
        return (out * self.left).flatten(1).sum(1)

    def combine(self, weights, views):
        weighted_gradients = weights.view(-1, *[1] * (self.left.ndim - 1)) * self.left
        run = _CONVOLUTIONS[self.right.ndim][1]
        self.weight.of(views).add_(run(self.right, self.shape, weighted_gradients, **self.options))

    def squares(self):
        return squares(self)

    def column_squares(self, views):
        column_squares(self, views)

    def chunks(self):
        n, o, *_ = self.left.shape
        kernel, groups = self.shape[2:].numel(), self.options["groups"]
        numbers_per_channel = n * kernel * (o + groups * self.left[0, 0].numel())
        for channels in steps(self.shape[1], numbers_per_channel, MAX_WIDE):
            left, right = self.factors(ALL, channels)
            yield (left @ right.mT).flatten(1)

    def factors(self, rows, channels=ALL):
        """Of some examples, outputs (m, g, o / g, T) and patches of inputs (m, g, i k / g, T)."""
        split = (self.options["groups"], -1)
        left = self.left[rows].unflatten(1, split).flatten(3)
        return left, patches(self, rows, channels).unflatten(1, split)


_CONVOLUTIONS: dict[int, tuple] = {  # axes of the inputs -> convolution, gradient to its weight
    3: (F.conv1d, conv1d_weight),
    4: (F.conv2d, conv2d_weight),
    5: (F.conv3d, conv3d_weight),
}


@dataclass(frozen=True)
class EmbeddingRows:
    """An embedding: the gradient to the output, in the rows of the tokens."""

    weight: ParameterBlock
    tokens: Any  # (n, T)
    left: Any  # (n, T, d)
    shape: Any  # of the weight

    def names(self):
        return {self.weight.name}

    def restricted_to(self, names):
        return self if self.weight.name in names else None

    def project(self, views):
        return (F.embedding(self.tokens, self.weight.of(views)) * self.left).sum((1, 2))

    def combine(self, weights, views):
        weighted_gradients = (weights[:, None, None] * self.left).flatten(0, 1)
        self.weight.of(views).index_add_(0, self.tokens.flatten(), weighted_gradients)

    def squares(self):
        # A token that is repeated has one row, whose gradient is the sum over its positions.
        return torch.cat([(left * total).sum((1, 2)) for _, left, _, total in self._added()])

    def column_squares(self, views):
        for tokens, _, times, total in self._added():
            # Each repetition has the same sum, and so each adds its share of one square.
            squares = (total.square() / times).flatten(0, 1)
            self.weight.of(views).index_add_(0, tokens.flatten(), squares)

    def chunks(self):
        n, _, d = self.left.shape
        base = torch.arange(n, device=self.tokens.device)[:, None]
        for rows in steps(self.shape[0], n * d, MAX_WIDE):
            count = rows.stop - rows.start
            # Tokens outside these rows add zero to the first row, which keeps shapes fixed.
            inside = (self.tokens >= rows.start) & (self.tokens < rows.stop)
            row = torch.where(inside, base * count + self.tokens - rows.start, 0).flatten()
            block = self.left.new_zeros(n * count, d)
            block.index_add_(0, row, (inside[..., None] * self.left).flatten(0, 1))
            yield block.view(n, count * d)

    def _added(self):
        """For some examples at a time, at each position the sum of the gradients of its token."""
        positions = self.tokens.shape[1]
        for rows in steps(len(self.tokens), positions * (positions + self.left.shape[2]), MAX_HELD):
            tokens, left = self.tokens[rows], self.left[rows]
            same = (tokens[:, :, None] == tokens[:, None]).to(left.dtype)
            yield tokens, left, same.sum(2, keepdim=True), same @ left
