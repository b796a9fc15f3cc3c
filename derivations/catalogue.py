"""All derived equations with their laws, in the order of the paper."""

from difflib import get_close_matches
from importlib import import_module
from time import perf_counter
from typing import NamedTuple

from derivations.equation import EQUATIONS, Equation

__all__ = ["SUBJECTS", "Proof", "entries", "entry_of", "prove"]

SUBJECTS = [
    import_module(f"derivations.{name}")
    for name in (
        "sampling",
        "batch_kurtosis",
        "stationary",
        "momentum",
        "regression",
        "relaxation",
        "memory",
        "langevin",
        "effective_loss",
        "label_noise_covariance",
        "adaptive",
        "corners",
        "two_layer",
        "closure",
        "minibatch",
        "edge",
        "slow_flow",
        "deep_flow",
        "temperature",
        "balance",
        "decay",
        "neighbours",
        "directions",
        "spectra",
        "groups",
        "scale",
        "fisher",
        "tails",
        "collapse",
        "imbalance",
        "modified_loss",
        "weak",
        "escape",
        "jumps",
    )
]


class Proof(NamedTuple):
    """The result of a proof: the names of the laws that failed, and the seconds it took."""

    equation: Equation
    failed: list[str]
    seconds: float


def entries(subjects=SUBJECTS) -> list[Equation]:
    """The equations of these subjects, by default of all."""
    return [entry for subject in subjects for entry in EQUATIONS[subject.__name__]]


def entry_of(label: str) -> Equation:
    """The equation with a label, such as "eq:stationary".  Raises ValueError for another one."""
    known = {entry.label: entry for entry in entries()}
    if label not in known:
        near = get_close_matches(label, known, 3) or ["python -m derivations --list"]
        raise ValueError(f"there is no equation {label!r}; see {', '.join(near)}")
    return known[label]


def prove(entry: Equation) -> Proof:
    """Derive an equation and test each of its laws."""
    start = perf_counter()
    entry.derive()
    failed = [law.__name__ for law in entry.laws if law() is not True]
    return Proof(entry, failed, perf_counter() - start)
