"""Checks of arguments that many functions share; each raises ValueError in one sentence."""

import math
from numbers import Integral
from typing import Any

import numpy as np

from sgdnoise.core._scalars import described, has_axes, number_of

# Arrays, traced values and functions pass all checks: their values may not be known yet.


def check_positive(**values) -> None:
    """Raise ValueError unless each of the named numbers is above 0 and finite."""
    for name, number, value in _scalars(values):
        if not number > 0:
            raise ValueError(f"{name} must be positive, not {value}")
        if not math.isfinite(number):
            raise ValueError(f"{name} must be positive and finite, not {value}")


def check_non_negative(**values) -> None:
    """Raise ValueError unless each of the named numbers is 0 or more and finite."""
    for name, number, value in _scalars(values):
        if not (number >= 0 and math.isfinite(number)):
            raise ValueError(f"{name} must be 0 or more and finite, not {value}")


def check_below_one(**values) -> None:
    """Raise ValueError unless each of the named numbers is at least 0 and below 1."""
    for name, number, value in _scalars(values):
        if not 0 <= number < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, not {value}")


def _scalars(values):
    """(name, float, value) of the numbers and arrays without axes whose value is known."""
    for name, value in values.items():
        if value is None or callable(value) or has_axes(value):
            continue
        if (number := number_of(name, value)) is not None:
            yield name, number, value


def is_integer(value) -> bool:
    """Whether a value is an integer of Python or numpy, and no truth value."""
    return isinstance(value, Integral) and type(value) is not bool


def as_generator(rng) -> Any:
    """The generator that `rng` stands for: itself, or one seeded by an int or a list of them.

    What has the methods of a generator that draw is taken as it is.
    Raises ValueError for None, for a negative int, and for anything else.
    """
    if isinstance(rng, np.random.Generator) or hasattr(rng, "choice"):
        return rng
    if isinstance(rng, (np.random.SeedSequence, np.random.BitGenerator)):
        return np.random.default_rng(rng)
    if is_integer(rng) and rng >= 0:
        return np.random.default_rng(int(rng))
    if isinstance(rng, (list, tuple)) and rng and all(is_integer(n) and n >= 0 for n in rng):
        return np.random.default_rng(rng)
    kinds = "an int of 0 or more, a list of them, or a numpy Generator"
    raise ValueError(f"rng must be {kinds}, not {described(rng)}")
