"""A check, by behaviour, that the loss of an example depends on that example alone.

Batch statistics, and a dropout key that is fixed, make it depend on the other examples or on its
place among them.  The covariance of minibatches is then not that of gradients of examples.
"""

import sys
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from array_api_compat import is_torch_array

from sgdnoise._extras import require
from sgdnoise.core._arrays import as_numpy, same_library

EXAMPLES = 8  # that are tried in one batch, and each of them alone
TOLERANCE = {"float64": 1e-6, "float32": 3e-3}  # of the largest loss; 0.1 for half precision
SPREAD = 0.3  # of the parameters at which the losses are tried, where those of theta are unknown
_passed: WeakKeyDictionary[Any, set] = WeakKeyDictionary()


def check_independence(losses, examples, theta) -> None:
    """Raise ValueError if losses at random parameters are random or depend on other examples.

    Each function of losses is tried once for each shape of the examples.  Nothing is tried where
    the numbers are not known, because a compiled function is being traced.
    """
    key = tuple((tuple(array.shape), str(array.dtype)) for array in examples)
    if key in _known(losses) or not all(map(_is_concrete, examples)):
        return
    n = examples[0].shape[0]
    index = np.unique(np.linspace(0, n - 1, EXAMPLES).astype(int))
    in_library = _in_torch if is_torch_array(examples[0]) else _in_jax
    values = in_library(losses, examples, theta, index)
    if values is None:
        return
    tolerance = TOLERANCE.get(str(values[0].dtype), 0.1)
    batch, again, alone = (value.astype(float) for value in values)
    _check_repeated(index, batch, again, tolerance)
    _check_alone(index, batch, alone, tolerance)
    _known(losses).add(key)


def _in_torch(losses, examples, theta, index):
    """The losses of the examples at `index` in a batch, again, and each alone, in numpy."""
    torch = require("torch", "torch")
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return None  # torch.func is transforming a function, and numbers are not known
    point = same_library(_random_parameters(theta), theta)
    batches = [index, index, *index[:, None]]
    with torch.no_grad():
        values = [losses(point, *(array[places] for array in examples)) for places in batches]
    if not _one_for_each(values, batches):
        return None
    batch, again, *alone = map(as_numpy, values)
    return batch, again, np.concatenate(alone)


def _in_jax(losses, examples, theta, index):
    """The same by one compiled program, also while another function is being traced."""
    jax = require("jax", "jax")

    def alone(theta, *example):
        return losses(theta, *(array[None] for array in example))

    def compared(theta, batch):
        along = (None, *[0] * len(batch))
        return losses(theta, *batch), losses(theta, *batch), jax.vmap(alone, along)(theta, *batch)

    try:
        point = _random_parameters(theta)
        batch = tuple(np.asarray(array)[index] for array in examples)
        values = jax.jit(compared).lower(point, batch).compile()(point, batch)
    except Exception:  # the losses hold numbers that are being traced, or do not take a batch
        return None
    if not _one_for_each(values[:2], [index, index]) or values[2].size != len(index):
        return None
    first, again, single = map(np.asarray, values)
    return first, again, single.reshape(-1)


def _one_for_each(values, batches) -> bool:
    """Whether the losses are one number for each example; others are refused elsewhere."""
    shapes = [tuple(getattr(value, "shape", ())) for value in values]
    return shapes == [(len(places),) for places in batches]


def _check_repeated(index, first, second, tolerance):
    at = _first_difference(first, second, tolerance)
    if at is not None:
        raise ValueError(
            f"the loss of example {index[at]} changes from call to call, so a gradient of it is "
            "random; turn dropout and other random layers off"
        )


def _check_alone(index, in_batch, alone, tolerance):
    at = _first_difference(in_batch, alone, tolerance)
    if at is not None:
        raise ValueError(
            f"the loss of example {index[at]} is {alone[at]:.3g} alone and {in_batch[at]:.3g} in "
            "a batch; use no batch statistics and no random key, so that it depends on that "
            "example only"
        )


def _first_difference(first, second, tolerance):
    """The first place at which two arrays of losses differ, or None."""
    both = np.concatenate([first, second])
    size = np.max(np.abs(both[np.isfinite(both)]), initial=0.0)
    with np.errstate(invalid="ignore"):
        differ = ~(np.abs(first - second) <= tolerance * size)
    differ &= np.isfinite(first) & np.isfinite(second)
    return int(differ.argmax()) if differ.any() else None


def _random_parameters(theta) -> np.ndarray:
    """Normal parameters of the size of theta: there no loss is zero for a special reason."""
    size = SPREAD
    if _is_concrete(theta):
        size = float(np.sqrt(np.mean(as_numpy(theta).astype(float) ** 2))) or SPREAD
    white = np.random.default_rng(0).normal(size=theta.shape) * (size if np.isfinite(size) else 1)
    return white if is_torch_array(theta) else white.astype(theta.dtype)


def _known(losses) -> set:
    """The shapes of examples that passed; nothing is remembered of what cannot be referred to."""
    try:
        return _passed.setdefault(losses, set())
    except TypeError:
        return set()


def _is_concrete(array) -> bool:
    """Whether the numbers of an array are known: it is none of jax's tracers."""
    jax = sys.modules.get("jax")
    return jax is None or not isinstance(array, jax.core.Tracer)
