"""The decorator that makes the result of a derivation an equation of the paper."""

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["EQUATIONS", "Equation", "equation"]


class Equation(NamedTuple):
    """An equation: its label, the derivation, the public function that computes it, its laws."""

    label: str
    derive: Callable[[], Any]
    computed_by: str
    laws: tuple[Callable[[], bool], ...]


EQUATIONS: dict[str, list[Equation]] = {}  # of each module, in the order of the file


def equation(label: str, *, computed_by: str, laws: tuple[Callable[[], bool], ...]):
    r"""Register a derivation, which returns a sympy equation, under its label in LaTeX.

    computed_by: the public name of the function or method of the package that computes it, such as
    "sgdnoise.theory.stationary_covariance".  laws: functions without arguments that return True if
    the equation obeys a law.  The first line of the docstring is its caption.
    """

    def register(derive):
        EQUATIONS.setdefault(derive.__module__, []).append(
            Equation(label, derive, computed_by, laws)
        )
        return derive

    return register
