"""The random numbers that a step asks for; whoever drives the steps draws them."""

from dataclasses import dataclass

__all__ = ["Choice", "Index", "Normal", "Shuffle", "Sign", "Step", "Three", "Uniform"]


@dataclass(frozen=True)
class Normal:
    """Independent standard normal numbers."""

    size: int


@dataclass(frozen=True)
class Sign:
    """Independent signs, -1 or 1: the first three moments of normal numbers."""

    size: int


@dataclass(frozen=True)
class Three:
    """Independent -3^1/2, 0, 3^1/2 with weights 1/6, 2/3, 1/6: the first five moments."""

    size: int


@dataclass(frozen=True)
class Step:
    """Nothing random: the number of the step, from zero."""


@dataclass(frozen=True)
class Uniform:
    """Independent numbers uniform on [0, 1)."""

    size: int


@dataclass(frozen=True)
class Index:
    """Independent uniform indices 0, ..., below - 1: drawing with replacement."""

    size: int
    below: int


@dataclass(frozen=True)
class Choice:
    """Distinct indices 0, ..., below - 1, all subsets alike: drawing without replacement."""

    size: int
    below: int


@dataclass(frozen=True)
class Shuffle:
    """The next `size` entries of a permutation, renewed when fewer are left: one epoch."""

    size: int
    below: int
