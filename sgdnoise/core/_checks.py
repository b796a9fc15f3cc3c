"""Checks of arguments that many functions share; each raises ValueError in one sentence."""

import math


def check_positive(**values) -> None:
    """Raise ValueError unless each of the named values is above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")


def check_non_negative(**values) -> None:
    """Raise ValueError unless each of the named values is 0 or more and finite."""
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be 0 or more and finite, not {value}")
