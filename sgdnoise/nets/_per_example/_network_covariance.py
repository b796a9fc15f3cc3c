"""The covariance of the gradient noise of a network."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import nn

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.core._covariance import Gram
from sgdnoise.nets._per_example._operator import (
    HIDING,
    GradientsAboutMean,
    NetworkGradients,
    per_example_gradients,
)
from sgdnoise.noise._weights import (
    Weights,
    check_exchangeable,
    with_replacement,
    without_replacement,
)


class NetworkCovariance(Gram):
    """The covariance of the gradients of a network, computed without autocast.

    Where the mean of the gradients is so large that its square hides the noise in single
    precision, they are centred in double precision.
    """

    rows: NetworkGradients

    def layer(self, name):
        return NetworkCovariance(self.rows.layer(name), self.var_within, self.var_mean)

    def trace(self):
        value, along = super().trace(), self.var_within * self.width * (self.mean @ self.mean)
        if self.var_mean or along <= HIDING * value:
            return value
        return (self.var_within * GradientsAboutMean(self.rows, self.mean).squares().sum()).to(
            value.dtype
        )

    def diagonal(self):
        value, along = super().diagonal(), self.var_within * self.width * self.mean**2
        if self.var_mean or bool((along <= HIDING * value).all()):
            return value
        centred = GradientsAboutMean(self.rows, self.mean).column_squares()
        return (self.var_within * centred).to(value.dtype)

    def _gram(self):
        gram = super()._gram()
        if not bool(gram.isfinite().all()):
            raise ValueError(
                f"products of gradients exceed {gram.dtype}; scale the losses, or use double()"
            )
        mean = gram.mean()
        if self.var_mean or mean <= HIDING * (gram.diagonal().mean() - mean):
            return gram
        return GradientsAboutMean(self.rows, self.mean).gram().to(gram.dtype)


def _without_autocast(method):
    @wraps(method)
    def inner(self, *args, **kwargs):
        with torch.autocast(self.rows.device.type, enabled=False):
            return method(self, *args, **kwargs)

    return inner


for _name in ("__matmul__", "quadratic", "colour", "draw", "trace", "diagonal", "eigenvalues"):
    setattr(NetworkCovariance, _name, _without_autocast(getattr(NetworkCovariance, _name)))
for _name in ("top", "frobenius", "participation_ratio"):
    setattr(NetworkCovariance, _name, _without_autocast(getattr(NetworkCovariance, _name)))


@checked_by_annotation
def gradient_covariance(
    net: nn.Module,
    losses: Callable,
    inputs,
    targets=None,
    *,
    batch_size: int = 1,
    replacement: bool = True,
    law: Weights | None = None,
    block: int | None = None,
) -> Gram:
    """The covariance of the minibatch gradient of a network, an operator (p, p).

    C = (1/B) (1/n) sum_i (g_i - g)(g_i - g)^T with B = batch_size, times (n - B) / (n - 1) without
    replacement, for the gradients g_i of `losses(net(inputs), targets)` (n,) with respect to all
    trainable parameters; or G^T Cov(w) G for another law of example weights.
    Arguments and errors are those of `per_example_gradients`.

    Example:
        >>> net = nn.Linear(3, 1)
        >>> x, y = torch.randn(20, 3), torch.randn(20, 1)
        >>> c = gradient_covariance(net, lambda out, y: ((out - y) ** 2).sum(1), x, y, batch_size=4)
        >>> c.eigenvalues().shape
        torch.Size([4])
    """
    rows = per_example_gradients(net, losses, inputs, targets, block=block)
    if law is None:
        laws = with_replacement if replacement else without_replacement
        law = laws(rows.n, batch_size)
    if law.n != rows.n:
        raise ValueError(f"a law for {law.n} examples cannot weigh {rows.n}")
    check_exchangeable(law)
    return NetworkCovariance(rows, law.var_within, law.var_mean)
