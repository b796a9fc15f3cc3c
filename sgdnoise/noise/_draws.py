"""The random numbers that a step asks for; whoever drives the steps draws them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Normal:
    """Independent standard normal numbers."""

    size: int


@dataclass(frozen=True)
class Rademacher:
    """Independent signs, -1 or 1: the first three moments of normal numbers."""

    size: int


@dataclass(frozen=True)
class ThreePoint:
    """Independent -3^1/2, 0, 3^1/2 with weights 1/6, 2/3, 1/6: the first five moments."""

    size: int


@dataclass(frozen=True)
class StepNumber:
    """Nothing random: the number of the step, from zero."""


@dataclass(frozen=True)
class Uniform:
    """Independent numbers uniform on [0, 1)."""

    size: int


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
