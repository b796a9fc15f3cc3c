"""What one look at a network sees, and how it leaves no trace in its training."""

import random
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from sgdnoise.dimension._distance_ratios import levina_bickel, twonn
from sgdnoise.dimension._points import check_points, find_neighbours
from sgdnoise.dimension._spectral import participation_ratio

USUAL: dict[str, Callable] = {
    "participation_ratio": participation_ratio,
    "twonn": twonn,
    "levina_bickel": levina_bickel,
}
NEAR = 10  # neighbours, found once for those two of the usual that need any
FAILED = ValueError, ArithmeticError, torch.linalg.LinAlgError


class UnmeasuredWarning(UserWarning):
    """Something could not be measured at a step, and stands as nan."""


@contextmanager
def untouched(net: nn.Module, training: bool):
    """Within, a network in eval, or if `training` in the modes it is in; after it, all as it was.

    Put back, whatever happens: the mode of each module, the random numbers of torch (of CUDA where
    it has begun), numpy and python, and inference mode.  Autocast's casts of weights are neither
    used, which may be of an earlier step, nor kept.  Compiled parts run uncompiled.
    """
    modes = {module: module.training for module in net.modules()}
    cached = torch.is_autocast_cache_enabled()
    drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 - what others draw from
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), torch.inference_mode(False), _uncompiled():
        try:
            torch.set_autocast_cache_enabled(False)
            for module in modes:
                module.training = module.training and training
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            torch.set_autocast_cache_enabled(cached)
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])  # noqa: NPY002 - as above


def unwrapped(net: nn.Module) -> nn.Module:
    """The network within DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            net = net.module
        elif isinstance(inner := getattr(net, "_orig_mod", None), nn.Module):
            net = inner
        else:
            return net


def weighty(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Of modules by name those with a parameter of two axes or more of their own."""
    return {
        name: module
        for name, module in modules.items()
        if any(each.ndim > 1 for each in module.parameters(recurse=False))
        and "parametrizations" not in name.split(".")
    }


def activations(net: nn.Module, inputs: tuple, layers: dict[str, nn.Module], keep: Callable):
    """The outputs of the network, and layer -> keep(name, module, output) of its last call.

    One pass forward without autograd, on copies of inputs and buffers; the hooks go with it.
    """
    seen: dict[str, Any] = {}

    def hook(name, module, _, output):
        seen[name] = keep(name, module, output)

    with ExitStack() as hooks, torch.no_grad():
        for name, module in layers.items():
            hooks.callback(module.register_forward_hook(partial(hook, name)).remove)
        return called(net, inputs), seen


def called(net: nn.Module, inputs: tuple, tensors: dict | None = None):
    """What the network makes of copies of inputs, with copies of its buffers, and these tensors."""
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    return functional_call(net, {**buffers, **(tensors or {})}, tuple(x.clone() for x in inputs))


def points(name: str, module: nn.Module, output, n: int, pooled: bool = False) -> np.ndarray:
    """What a layer hands on, one row an example (n, d), in numpy, in float32 at least.

    pooled: the mean over places, all axes after channels, and of a sequence (n, l, d) those of l.
    Of a tuple, as of recurrent layers and attention, the first.
    Raises ValueError for what is not a tensor of real numbers, examples first.
    """
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not torch.is_tensor(output):
        raise ValueError(
            f"layer {name!r} hands on a {type(output).__name__}, not a tensor or a tuple that "
            "begins with one; name one before or within it"
        )
    if not output.is_floating_point() or not output.ndim or output.shape[0] != n:
        raise ValueError(
            f"layer {name!r} hands on {tuple(output.shape)} of {output.dtype}, not real numbers "
            f"of {n} examples, which come first"
        )
    if pooled and output.ndim > 2:
        words = output.ndim == 3 and not isinstance(module, nn.Conv1d)
        output = output.mean(1) if words else output.flatten(2).mean(2)
    wide = torch.promote_types(output.dtype, torch.float32)
    return output.detach().to("cpu", wide, copy=True).reshape(n, -1).numpy()


def dimensions(rows: dict[str, np.ndarray], estimators: dict[str, Callable]) -> dict[str, dict]:
    """estimator -> layer -> what it finds of the rows (n, d) of a layer: a number or an Estimate.

    What has no dimension, as where all rows coincide, is nan and warned of as `Unmeasured`.
    """
    found: dict[str, dict] = {name: {} for name in estimators}
    n = min((len(row) for row in rows.values()), default=NEAR + 1)
    if n <= NEAR and levina_bickel in estimators.values():
        raise ValueError(f"levina_bickel needs {NEAR + 1} examples, {NEAR} beside each, not {n}")
    for layer, row in rows.items():
        of = _sharing(row, estimators)
        for name, estimator in of.items():
            found[name][layer] = _attempted(f"{name} of layer {layer!r}", estimator, row)
    return found


def _uncompiled():
    """Nobody has compiled anything where the compiler has not been loaded."""
    loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if loaded else nullcontext()


def _sharing(row, estimators):
    """The estimators, those of a few neighbours with the same neighbours."""
    several = [name for name, each in estimators.items() if each in (twonn, levina_bickel)]
    try:
        near = find_neighbours(check_points(row), NEAR) if several else None
    except ValueError:  # which each of them will say in its turn
        return estimators
    return estimators | {name: partial(estimators[name], neighbours=near) for name in several}


def _attempted(what, measure, *given):
    try:
        return measure(*given)
    except FAILED as error:
        warnings.warn(f"{what} is not to be had: {error}", UnmeasuredWarning, stacklevel=2)
        return float("nan")
