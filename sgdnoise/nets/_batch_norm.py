"""Batch norm whose statistics are constants."""

import copy
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from sgdnoise.core._arguments import checked_by_annotation

KINDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)  # whose formula in eval is known


@checked_by_annotation
def freeze_batch_norm(net: nn.Module) -> nn.Module:
    """A copy of a network in which every batch norm is a fixed affine map.

    The network is unchanged.  The copy computes, also in training, what the network computes in
    eval: in each channel y = w (x - m) / (v + eps)^(1/2) + b, where the running mean m and variance
    v are constants.  w and b remain parameters, with their names and values, if the batch norm has
    them; so gradients and Hessians are those of the network in eval.  An example no longer depends
    on others in its batch, and `as_problem`, `walk` and all noise apply.  A network without batch
    norm is copied as it is.
    Raises ValueError for a batch norm without running statistics (track_running_stats=False), one
    that has seen no batch and so has no size, one that is parametrised, and a class that changes
    the formula.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        >>> x, frozen = torch.randn(5, 3), freeze_batch_norm(net)
        >>> torch.equal(frozen(x), net.eval()(x))
        True
    """
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            _check(f"{name} ({type(module).__name__})" if name else type(module).__name__, module)
    result = copy.deepcopy(net)
    frozen: dict[nn.Module, nn.Module] = {}
    for module in result.modules():
        if isinstance(module, _BatchNorm):
            frozen[module] = FixedBatchNorm(module)
    for parent in list(result.modules()):
        for name, child in parent._modules.items():
            if child in frozen:
                parent._modules[name] = frozen[child]
    return frozen.get(result, result)


class FixedBatchNorm(nn.Module):
    """Batch norm in eval: y = w (x - m) / (v + eps)^(1/2) + b of each channel."""

    running_mean: Any
    running_var: Any

    def __init__(self, norm: _BatchNorm):
        super().__init__()
        self.eps, self.training = norm.eps, norm.training
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)

    def forward(self, x):
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, training=False, eps=self.eps)

    def extra_repr(self):
        return f"{len(self.running_mean)}, eps={self.eps}, affine={self.weight is not None}"


def _check(name, module):
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise ValueError(f"{name} has no size before a first batch: run one through the network")
    if module.running_mean is None or module.running_var is None:
        raise ValueError(
            f"{name} has no running statistics to freeze; make it with track_running_stats=True "
            "and train it"
        )
    if type(module).forward not in KINDS:
        raise ValueError(f"{name} has a forward of its own; only batch norm of torch can be frozen")
    if {"weight", "bias"} & {*getattr(module, "parametrizations", ())}:
        raise ValueError(f"{name} is parametrised; remove the parametrisation before freezing")
