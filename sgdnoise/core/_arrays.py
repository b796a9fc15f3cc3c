"""What the package asks of an array, whichever library made it."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace as namespace
from array_api_compat import device

__all__ = ["Array", "as_numpy", "concrete", "device", "namespace"]

Array = Any  # jaxtyping then checks shape and type of numpy, torch and jax arrays alike


def as_numpy(values) -> np.ndarray:
    """The numbers as numpy has them, off the device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def concrete(condition) -> bool:
    """Whether a condition is true; false where a compiled function cannot know."""
    try:
        return bool(condition)
    except TypeError:  # jax, tracing
        return False
