"""The type of all data sets, and operations on them."""

from typing import Any, NamedTuple

import numpy as np


class Data(NamedTuple):
    """Inputs (n, ...) and targets (n, ...) of n examples, and their dimension if it is known."""

    inputs: Any
    targets: Any
    dimension: Any = None


def one_hot(labels, classes: int):
    """The one-hot encoding of labels.  (n,) -> (n, classes)

    Example:
        >>> one_hot([0, 2], 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return np.eye(classes)[labels]


def split(data: Data, size: int, *, rng) -> tuple[Data, Data]:
    """A random subset of `size` examples, and the other examples.

    rng: a numpy Generator or a seed.  Raises ValueError unless 1 <= size < n.

    Example:
        >>> import numpy as np
        >>> train, test = split(Data(np.eye(5), np.arange(5)), 3, rng=0)
        >>> len(train.inputs), len(test.inputs)
        (3, 2)
    """
    n = len(data.inputs)
    if not 1 <= size < n:
        raise ValueError(f"a subset of {n} examples has 1 to {n - 1} of them, not {size}")
    order = np.random.default_rng(rng).permutation(n)
    rows = order[:size], order[size:]
    first, second = (Data(data.inputs[i], data.targets[i], data.dimension) for i in rows)
    return first, second
