"""Gradients as they are stored, and those to which a multiple of one direction is added."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from sgdnoise.nets._per_example._layers import (
    Convolution,
    EmbeddingRows,
    ParameterBlock,
    RankOne,
    StoredGradients,
    SumOfOuters,
)
from sgdnoise.nets._per_example._lowrank import products


@dataclass(frozen=True)
class Multiples:
    """coefficient_i times one direction, (n, *shape)."""

    weight: ParameterBlock
    coefficients: Any  # (n,)
    direction: Any  # of the shape of the parameter


@dataclass(frozen=True)
class WithMultiples:
    """The gradients of one parameter in another form, plus coefficient_i times one direction."""

    # Stored, they would take n times the memory of the parameter.
    form: Any
    coefficients: Any  # (n,)
    direction: Any

    @property
    def weight(self):
        return self.form.parameter if isinstance(self.form, StoredGradients) else self.form.weight

    def names(self):
        return self.form.names()

    def restricted_to(self, names):
        return self if self.names() <= names else None

    def project(self, views):
        along = self.direction.flatten() @ self.weight.of(views).flatten()
        return self.form.project(views) + self.coefficients * along

    def combine(self, weights, views):
        self.form.combine(weights, views)
        view = self.weight.of(views)
        view.add_((weights @ self.coefficients) * self.direction.view(view.shape))

    def squares(self):
        twice = 2 * self.coefficients * self.along()
        return self.form.squares() + twice + self.coefficients**2 * self.direction.square().sum()

    def column_squares(self, views):
        self.form.column_squares(views)
        view = self.weight.of(views)
        direction, total = self.direction.view(view.shape), torch.zeros_like(view)
        self.form.combine(self.coefficients, {self.weight.name: total})
        view.add_(2 * direction * total + self.coefficients.square().sum() * direction**2)

    def along(self):
        """The inner products of the other form with the direction, (n,)."""
        return self.form.project({self.weight.name: self.direction})


def as_double(form) -> Any:
    """The form with its numbers in double precision."""
    changed: dict = {}
    for name, value in vars(form).items():
        if torch.is_tensor(value) and value.is_floating_point():
            changed[name] = value.double()
        elif name == "form":
            changed[name] = as_double(value)
    return replace(form, **changed)


def as_stored(form) -> StoredGradients:
    """The stored gradients of any form of one parameter."""
    if not isinstance(form, WithMultiples):
        return stored(form)
    multiples = torch.tensordot(form.coefficients[:, None], form.direction[None], 1)
    return StoredGradients(form.weight, stored(form.form).gradients + multiples)


def smaller(form: Any) -> Any:
    """The form, or the gradients themselves if these take less memory."""
    if not isinstance(form, (SumOfOuters, Convolution)):
        return form
    if form.shape.numel() > form.left[0].numel() + form.right[0].numel():
        return form
    return table(form)


def stored(form: Any) -> StoredGradients:
    """The stored gradients of a form of one parameter."""
    if isinstance(form, StoredGradients):
        return form
    if isinstance(form, RankOne) and form.bias:
        return StoredGradients(form.bias, form.left)
    if isinstance(form, RankOne) and form.weight:
        return StoredGradients(form.weight, form.left[:, :, None] * form.right[:, None])
    if isinstance(form, EmbeddingRows):
        gradients = torch.cat(list(form.chunks()), 1)
        return StoredGradients(form.weight, gradients.view(-1, *form.shape))
    return table(form)


def table(form: Any) -> StoredGradients:
    """The stored gradients of a form that has a weight and no bias."""
    gradients = form.left.new_empty(form.left.shape[0], *form.shape)
    for rows, block in products(form):
        gradients[rows] = block
    return StoredGradients(form.weight, gradients)
