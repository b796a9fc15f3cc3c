"""Every derived equation with its laws and its use, in the order of the paper."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

from derivations import (
    balance,
    closure,
    collapse,
    decay,
    deep_flow,
    directions,
    effective_loss,
    escape,
    fisher,
    groups,
    imbalance,
    jumps,
    langevin,
    memory,
    modified_loss,
    momentum,
    neighbours,
    regression,
    relaxation,
    sampling,
    scale,
    slow_flow,
    spectra,
    stationary,
    tails,
    temperature,
    two_layer,
    weak,
)

__all__ = ["SUBJECTS", "Entry", "Proof", "entries", "prove"]

SUBJECTS = (
    sampling,
    stationary,
    momentum,
    regression,
    relaxation,
    memory,
    langevin,
    effective_loss,
    two_layer,
    closure,
    slow_flow,
    deep_flow,
    temperature,
    balance,
    decay,
    neighbours,
    directions,
    spectra,
    groups,
    scale,
    fisher,
    tails,
    collapse,
    imbalance,
    modified_loss,
    weak,
    escape,
    jumps,
)


class Entry(NamedTuple):
    """One equation: its label, the derivation, the laws it must obey, the code that computes it."""

    label: str
    derive: Callable[[], Any]
    checks: tuple[Callable[[], bool], ...]
    used: str


class Proof(NamedTuple):
    """What came of an equation's laws: the names of those that failed, and the seconds it took."""

    entry: Entry
    failed: list[str]
    seconds: float


def entries(subjects=SUBJECTS) -> list[Entry]:
    """The equations of some subjects, of all unless told."""
    return [
        Entry(label, derive, subject.CHECKS[label], subject.USED[label])
        for subject in subjects
        for label, derive in subject.EQUATIONS.items()
    ]


def prove(entry: Entry) -> Proof:
    """Derive an equation and try each of its laws."""
    start = perf_counter()
    entry.derive()
    failed = [check.__name__ for check in entry.checks if check() is not True]
    return Proof(entry, failed, perf_counter() - start)
