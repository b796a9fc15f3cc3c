"""Networks whose rectified linear units are averaged over jitter of their preactivations."""

import copy
import math

import torch
from torch import nn

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.core._checks import check_positive


@checked_by_annotation
def smooth_relus(net: nn.Module, inputs, share: float = 0.3) -> nn.Module:
    r"""A copy of a network in which every relu is its mean over Gaussian jitter of its input.

    A relu becomes a -> a Phi(a / w) + w phi(a / w), see `theory.smoothed_relu`.  Its width w is a
    share of the standard deviation of all its inputs a on some examples in the network as given,
    and a buffer, so that it stays fixed.  The copy is smooth: all its derivatives are those of
    autograd, and forces of kappa Tr H have no part at corners.
    inputs: examples (n, ...).  The network is unchanged and should be in eval.
    Raises ValueError for a share that is not positive, a network without modules nn.ReLU, and one
    whose relu is not used, is used twice, or has inputs that are all equal.

    Example:
        >>> from sgdnoise.nets.models import mlp
        >>> x = torch.randn(100, 4)
        >>> net = mlp([4, 8, 2], "relu", seed=0)
        >>> smooth = smooth_relus(net, x, share=1e-6)
        >>> torch.allclose(net(x), smooth(x), atol=1e-4)
        True
    """
    check_positive(share=share)
    relus = {name: module for name, module in net.named_modules() if isinstance(module, nn.ReLU)}
    if not relus:
        raise ValueError("the network has no modules nn.ReLU; relus of functional cannot be seen")
    seen: dict[nn.Module, list[torch.Tensor]] = {module: [] for module in relus.values()}
    hooks = [
        module.register_forward_pre_hook(lambda m, given: seen[m].append(given[0].std()))
        for module in seen
    ]
    try:
        with torch.no_grad():
            net(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    smoothed = {name: SmoothedReLU(share * _width(name, seen[m])) for name, m in relus.items()}
    if "" in smoothed:
        return smoothed[""]
    result = copy.deepcopy(net)
    for name, module in smoothed.items():
        parent, _, last = name.rpartition(".")
        setattr(result.get_submodule(parent), last, module)
    return result


def _width(name, deviations):
    if len(deviations) != 1:
        raise ValueError(f"{name} is used {len(deviations)} times; give each use its own nn.ReLU")
    if not deviations[0] > 0:
        raise ValueError(f"the inputs of {name} do not vary on these examples")
    return deviations[0]


class SmoothedReLU(nn.Module):
    """The mean of relu(a + width x) over standard normal x."""

    width: torch.Tensor

    def __init__(self, width):
        super().__init__()
        self.register_buffer("width", torch.as_tensor(width))

    def forward(self, a):
        return _Smoothed.apply(a, self.width)

    def extra_repr(self):
        return f"width={float(self.width):.3g}"


class _Smoothed(torch.autograd.Function):
    """a Phi(a / w) + w phi(a / w), whose derivative is Phi(a / w)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a, width):
        z = a / width
        density = torch.exp(z.square() / -2) / math.sqrt(2 * math.pi)
        return torch.addcmul(a * _cumulative(z), density, width)

    @staticmethod
    def setup_context(ctx, inputs, output):  # noqa: ARG004 (torch gives it by name)
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, slope):
        a, width = ctx.saved_tensors
        return slope * _cumulative(a / width), None

    @staticmethod
    def jvp(ctx, change, _):
        a, width = ctx.saved_tensors
        return change * _cumulative(a / width)


def _cumulative(z):
    return (1 + torch.erf(z * math.sqrt(0.5))) / 2
