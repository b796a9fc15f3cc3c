"""The activations of layers and their dimension, without an effect on the training."""

import random
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from sgdnoise.dimension._distance_ratios import levina_bickel, twonn
from sgdnoise.dimension._points import check_points, find_neighbours
from sgdnoise.dimension._spectral import participation_ratio
from sgdnoise.nets._network import uncompiled

DEFAULT_ESTIMATORS: dict[str, Callable] = {
    "participation_ratio": participation_ratio,
    "twonn": twonn,
    "levina_bickel": levina_bickel,
}
N_NEIGHBORS = 10  # neighbours, searched once for the two default estimators that need them
FAILURES = ValueError, ArithmeticError, torch.linalg.LinAlgError


class UnmeasuredWarning(UserWarning):
    """Something could not be measured at a step, and is nan in the record.

    Example:
        >>> import warnings
        >>> import torch
        >>> from sgdnoise.nets import watch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
        >>> _ = torch.nn.init.constant_(net[0].weight, 0.0)  # all rows of its outputs are alike
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     watcher = watch(net, torch.randn(20, 2))
        >>> {warning.category.__name__ for warning in said}
        {'UnmeasuredWarning'}
    """


CHANNELS_SECOND = (  # modules whose outputs (n, c, l) have the positions last
    *(nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
)
_MEASURING = [0]  # how many measurements are under way


def is_measuring() -> bool:
    """Whether a network is run for a measurement, and not for its training."""
    return _MEASURING[0] > 0


@contextmanager
def preserved(net: nn.Module, training: bool):
    """A context in which the network is in eval, or in its present modes if `training`.

    Afterwards everything is restored: the mode of each module, the random numbers of torch (and of
    CUDA if it is initialised), numpy and python, and inference mode.  The cast weights of autocast
    are not used, since they may be of an earlier step, and not stored.  Compiled parts run
    uncompiled.
    """
    modes = {module: module.training for module in net.modules()}
    cached = torch.is_autocast_cache_enabled()
    random_states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what others draw from
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), torch.inference_mode(False), uncompiled():
        _MEASURING[0] += 1
        try:
            torch.set_autocast_cache_enabled(False)
            for module in modes:
                module.training = module.training and training
            yield
        finally:
            _MEASURING[0] -= 1
            for module, mode in modes.items():
                module.training = mode
            torch.set_autocast_cache_enabled(cached)
            random.setstate(random_states[0])
            np.random.set_state(random_states[1])  # noqa: NPY002 - as above


def with_weights(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules, by name, that directly hold a parameter of two axes or more."""
    return {
        name: module
        for name, module in modules.items()
        if any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
        and "parametrizations" not in name.split(".")
    }


def activations(net: nn.Module, inputs, layers: dict[str, nn.Module], keep: Callable):
    """The outputs of the network, and layer -> keep(name, module, output) of its last call.

    One forward pass without autograd, on copies of inputs and buffers.  The hooks are then removed.
    """
    kept_outputs: dict[str, Any] = {}

    def hook(name, module, _, output):
        kept_outputs[name] = keep(name, module, output)

    with ExitStack() as hooks, torch.no_grad():
        for name, module in layers.items():
            hooks.callback(module.register_forward_hook(partial(hook, name)).remove)
        return call_network(net, inputs), kept_outputs


def call_network(net: nn.Module, inputs, tensors: dict | None = None):
    """The outputs for copies of the inputs, with copies of the buffers, and with these tensors.

    inputs: a tuple of tensors, or a dictionary by the arguments of the network.
    """
    state = {name: buffer.clone() for name, buffer in net.named_buffers()} | (tensors or {})
    copies = mapped_inputs(torch.clone, inputs)
    if isinstance(copies, Mapping):
        return functional_call(net, state, (), dict(copies))
    return functional_call(net, state, copies)


def mapped_inputs(function: Callable, inputs):
    """A function of each tensor of a tuple or a dictionary."""
    if isinstance(inputs, Mapping):
        return {name: function(tensor) for name, tensor in inputs.items()}
    return tuple(function(tensor) for tensor in inputs)


def points_of(name: str, module: nn.Module, output, n: int, pooled: bool = False) -> np.ndarray:
    """The output of a layer, one row for each example (n, d), in numpy, in float32 or float64.

    pooled: the mean over positions: all axes after the channels, or l in a sequence (n, l, d).
    Of a tuple, as from recurrent layers and attention, the first element is taken.
    Raises ValueError for an output that is not a tensor of real numbers, examples first.
    """
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not torch.is_tensor(output):
        raise ValueError(
            f"layer {name!r} returns a {type(output).__name__}, but a watched layer must return a "
            "tensor, or a tuple whose first element is a tensor; name a layer before or within it"
        )
    if not output.is_floating_point() or not output.ndim or output.shape[0] != n:
        raise ValueError(
            f"layer {name!r} returns {tuple(output.shape)} of {output.dtype}, not real numbers "
            f"of {n} examples, which come first"
        )
    if pooled and output.ndim > 2:
        sequence = output.ndim == 3 and not isinstance(module, CHANNELS_SECOND)
        output = output.mean(1) if sequence else output.flatten(2).mean(2)
    dtype = torch.promote_types(output.dtype, torch.float32)
    return output.detach().to("cpu", dtype, copy=True).reshape(n, -1).numpy()


def dimensions(rows: dict[str, np.ndarray], estimators: dict[str, Callable]) -> dict[str, dict]:
    """estimator -> layer -> the dimension of the rows (n, d), a number or an Estimate.

    It is nan, with an UnmeasuredWarning, if it does not exist, as when all rows coincide.
    """
    results: dict[str, dict] = {name: {} for name in estimators}
    n = min((len(points_of_layer) for points_of_layer in rows.values()), default=N_NEIGHBORS + 1)
    if n <= N_NEIGHBORS and levina_bickel in estimators.values():
        raise ValueError(
            f"levina_bickel needs {N_NEIGHBORS + 1} examples, {N_NEIGHBORS} beside each, not {n}"
        )
    for layer, points_of_layer in rows.items():
        sharing = _sharing_neighbours(points_of_layer, estimators)
        for name, estimator in sharing.items():
            results[name][layer] = _or_nan(f"{name} of layer {layer!r}", estimator, points_of_layer)
    return results


def _sharing_neighbours(row, estimators):
    """The estimators, of which those that need neighbours share one search."""
    neighbour_estimators = [
        name for name, estimator in estimators.items() if estimator in (twonn, levina_bickel)
    ]
    try:
        neighbours = (
            find_neighbours(check_points(row), N_NEIGHBORS) if neighbour_estimators else None
        )
    except ValueError:  # each estimator raises it again
        return estimators
    return estimators | {
        name: partial(estimators[name], neighbours=neighbours) for name in neighbour_estimators
    }


def _or_nan(what, measure, *given):
    try:
        return measure(*given)
    except FAILURES as error:
        warnings.warn(f"{what} could not be measured: {error}", UnmeasuredWarning, stacklevel=2)
        return float("nan")
