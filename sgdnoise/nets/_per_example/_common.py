"""Gradients to which a multiple of one direction is added, as by a penalty on the parameters."""

from dataclasses import dataclass
from typing import Any

import torch

from sgdnoise.nets._per_example._layers import ParameterBlock, StoredGradients, stored


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


def as_stored(form) -> StoredGradients:
    """The stored gradients of any form of one parameter."""
    if not isinstance(form, WithMultiples):
        return stored(form)
    multiples = torch.tensordot(form.coefficients[:, None], form.direction[None], 1)
    return StoredGradients(form.weight, stored(form.form).gradients + multiples)
