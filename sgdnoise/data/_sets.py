"""A set of examples, and cutting it in two."""

from typing import Any, NamedTuple

import numpy as np


class Data(NamedTuple):
    """Inputs (n, ...) and targets (n, ...) of n examples, and their dimension where it is known."""

    inputs: Any
    targets: Any
    dimension: Any = None


def one_hot(labels, classes: int):
    """Rows of the identity.  (n,) -> (n, classes)"""
    return np.eye(classes)[labels]


def split(data: Data, size: int, *, rng) -> tuple[Data, Data]:
    """`size` examples drawn at random, and the others.

    rng: a numpy Generator or a seed.  Raises ValueError unless 1 <= size < n.
    """
    n = len(data.inputs)
    if not 1 <= size < n:
        raise ValueError(f"{size} of {n} examples leave no two parts; take 1 to {n - 1}")
    order = np.random.default_rng(rng).permutation(n)
    parts = order[:size], order[size:]
    first, second = (Data(data.inputs[p], data.targets[p], data.dimension) for p in parts)
    return first, second
