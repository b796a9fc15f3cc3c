"""What the package asks of an array, whichever library made it."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace as namespace
from array_api_compat import device, is_jax_array, is_torch_array

__all__ = [
    "Array",
    "as_numpy",
    "concrete",
    "device",
    "namespace",
    "power_of_two",
    "same_library",
    "widened",
]

WIDE = ("float32", "float64", "float128", "longdouble")

Array = Any  # jaxtyping then checks shape and type of numpy, torch and jax arrays alike


def as_numpy(values) -> np.ndarray:
    """The numbers as numpy has them, off the device; torch's bfloat16 as float32."""
    if is_torch_array(values):
        values = values.detach().cpu()
        values = values.float() if _kind(values) == "bfloat16" else values
    return np.asarray(values)


def widened(array, name: str = "rows"):
    """Numbers in float32 or float64: integers as float64, half precision as float32.

    In jax without 64 bits, integers become float32.  Lists become arrays of numpy.
    Raises ValueError for complex numbers, and for what is not a number.
    """
    array = array if hasattr(array, "dtype") else _as_array(array, name)
    kind = _kind(array)
    if kind in WIDE:
        return array
    if kind.startswith(("float", "bfloat")):
        return namespace(array).astype(array, namespace(array).float32)
    if kind.startswith(("int", "uint", "bool")):
        return array.double() if is_torch_array(array) else array * 1.0
    wrong = "complex" if kind.startswith("complex") else f"of type {kind}"
    raise ValueError(f"{name} must be an array of real numbers, and these are {wrong}")


def same_library(array, reference):
    """An array in the library of another one; of torch also its type and its device."""
    if is_torch_array(reference):
        if is_torch_array(array):
            return array.to(reference.device, reference.dtype)
        values = np.array(array)
        return namespace(reference).asarray(values, dtype=reference.dtype, device=device(reference))
    if is_torch_array(array) or not hasattr(array, "dtype"):
        array = as_numpy(array)
    return namespace(reference).asarray(array) if is_jax_array(reference) else array


def minus_multiple(array, factor, other):
    """array - factor * other; torch then makes no array in between, as in torch.optim.SGD."""
    if is_torch_array(array) and is_torch_array(other) and isinstance(factor, float):
        return array.sub(other, alpha=factor)
    return array - factor * other


def power_of_two(values, axis=None, keepdims: bool = False):
    """The power of two below the largest |value|, 1 where all are zero: division by it is exact."""
    xp = namespace(values)
    largest = xp.max(xp.abs(values), axis=axis, keepdims=keepdims)
    usable = (largest > 0) & xp.isfinite(largest)
    return 2.0 ** xp.floor(xp.log2(xp.where(usable, largest, 1)))


def _kind(array) -> str:
    """The type of the entries, by the same name in each library."""
    return str(array.dtype).rpartition(".")[2]


def _as_array(values, name):
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array, and these are lists of unequal length"
        ) from error


def concrete(condition) -> bool:
    """Whether a condition is true; false where a compiled function cannot know."""
    try:
        return bool(condition)
    except TypeError:  # jax, tracing
        return False
