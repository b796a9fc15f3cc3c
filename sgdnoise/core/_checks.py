"""Checks of arguments that many functions share; each raises ValueError in one sentence."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

# Arrays, traced values and functions pass all checks: their values may not be known yet.


def check_positive(**values) -> None:
    """Raise ValueError unless each of the named numbers is above 0."""
    for name, value in values.items():
        if isinstance(value, Real) and not float(value) > 0:
            raise ValueError(f"{name} must be positive, not {value}")


def check_non_negative(**values) -> None:
    """Raise ValueError unless each of the named numbers is 0 or more and finite."""
    for name, value in values.items():
        if isinstance(value, Real) and not (float(value) >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be 0 or more and finite, not {value}")


def check_below_one(**values) -> None:
    """Raise ValueError unless each of the named numbers is at least 0 and below 1."""
    for name, value in values.items():
        if isinstance(value, Real) and not 0 <= float(value) < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, not {value}")


def is_integer(value) -> bool:
    """Whether a value is an integer of Python or numpy, and no truth value."""
    return isinstance(value, Integral) and type(value) is not bool


def as_generator(rng) -> Any:
    """The generator that `rng` stands for: itself, or one that is seeded by an int.

    What has the methods of a generator that draw is taken as it is.
    Raises ValueError for None, for a negative int, and for anything else.
    """
    if isinstance(rng, np.random.Generator) or hasattr(rng, "choice"):
        return rng
    if isinstance(rng, (np.random.SeedSequence, np.random.BitGenerator)):
        return np.random.default_rng(rng)
    if is_integer(rng) and rng >= 0:
        return np.random.default_rng(int(rng))
    raise ValueError(f"rng must be an int of 0 or more, or a numpy Generator, not {rng!r:.60}")
