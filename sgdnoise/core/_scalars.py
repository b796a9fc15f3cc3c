"""Numbers as arguments: what they are, before anything is computed with them."""

import inspect
from numbers import Integral, Real

import numpy as np

from sgdnoise.core._arrays import is_torch_array


def number_of(name, value) -> float | None:
    """A scalar as a float; None if a compiled function does not know it yet."""
    if value is None or isinstance(value, (bool, np.bool_, str, bytes, complex)):
        raise ValueError(f"{name} must be a number, not {value!r:.40}")
    if isinstance(value, (Real, Integral)):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} must be a number of float64, not {value!r:.40}") from None
    if not hasattr(value, "ndim"):
        return None
    if (is_torch_array(value) and value.dtype.is_complex) or str(value.dtype).startswith("complex"):
        raise ValueError(f"{name} must be a real number, not {shown(value)}")
    try:
        return float(value)
    except Exception:  # traced by jax or torch
        return None


LARGEST = 2**63  # of whole numbers, which are counts


def check_numbers(name: str, value) -> None:
    """Raise ValueError for an array of numpy that holds texts, dates or objects."""
    if getattr(value, "dtype", None) is not None and getattr(value.dtype, "kind", "f") in "OSUMm":
        raise ValueError(f"{name} must be a number, not {described(value)} of {value.dtype}")


def whole_of(name: str, value) -> int | None:
    """A scalar as an int; None if a compiled function does not know it yet."""
    number = number_of(name, value)
    if number is None:
        return None
    if not (abs(number) < LARGEST and number == int(number)):
        raise ValueError(f"{name} must be a whole number, not {shown(value)}")
    return int(number)


def has_axes(value):
    """Whether a value is an array with one axis or more."""
    return getattr(value, "ndim", 0) not in (0, None)


def shown(value) -> str:
    """The beginning of a value as text."""
    return f"{value}"[:40]


def described(value) -> str:
    """A value in a few words."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return f"{value!r:.40}"
    if isinstance(value, type):
        return f"the type {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    shape = getattr(value, "shape", None)
    of_shape = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
    return f"a {type(value).__name__}{of_shape}"
