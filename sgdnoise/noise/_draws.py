"""The random numbers that a step asks for; the loop that runs the steps draws them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Size = int | Callable[[Any], int]  # a number, or a function of theta that gives it


def n_parameters(theta) -> int:
    """The size of draws that need one number for each parameter."""
    return theta.shape[0]


def with_sizes(draws, theta):
    """The same draws with every size a number, for parameters like theta.

    draws: a draw, or tuples and dicts of draws.  Dicts of draws go with dicts of theta.
    """
    if isinstance(draws, dict):
        thetas = theta if isinstance(theta, dict) else dict.fromkeys(draws, theta)
        return {name: with_sizes(draw, thetas[name]) for name, draw in draws.items()}
    if isinstance(draws, tuple):
        return tuple(with_sizes(draw, theta) for draw in draws)
    if callable(getattr(draws, "size", None)):
        return replace(draws, size=draws.size(theta))
    return draws


@dataclass(frozen=True)
class Normal:
    """Independent standard normal numbers."""

    size: Size


@dataclass(frozen=True)
class Rademacher:
    """Independent signs, -1 or 1: the first three moments of normal numbers."""

    size: Size


@dataclass(frozen=True)
class ThreePoint:
    """Independent -3^1/2, 0, 3^1/2 with weights 1/6, 2/3, 1/6: the first five moments."""

    size: Size


@dataclass(frozen=True)
class StepNumber:
    """Nothing random: the number of the step, from zero."""


@dataclass(frozen=True)
class Uniform:
    """Independent numbers uniform on [0, 1)."""

    size: Size


@dataclass(frozen=True)
class Sampled:
    """Numbers from a function of yours: how a step gets noise of any law.

    sample: (key, shape, dtype) -> numbers of that shape in jax, as those of jax.random; for a walk
    in torch (generator, shape, dtype) -> numbers.  It is called with shape (size,), and must be
    the same object each time, or programs are compiled again.
    """

    size: Size
    sample: Callable[..., Any]


@dataclass(frozen=True)
class WithReplacement:
    """Independent uniform indices 0, ..., below - 1: drawing with replacement."""

    size: int
    below: int


@dataclass(frozen=True)
class WithoutReplacement:
    """Distinct indices 0, ..., below - 1, all subsets alike: drawing without replacement."""

    size: int
    below: int


@dataclass(frozen=True)
class Permutation:
    """The next `size` entries of a permutation, renewed when fewer are left: one epoch."""

    size: int
    below: int
