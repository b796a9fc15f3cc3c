"""Inputs in their principal axes, scaled."""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.data._sets import Data


@checked
def principal(
    train: Data, test: Data, width: int, *, whiten: bool, power: float = 4.0
) -> tuple[Data, Data]:
    """Both sets in the first `width` principal axes of the training inputs, (n, width).

    Inputs are centred on the training mean, optionally whitened to equal variances, and scaled so
    that the mean of |x|^2 over the training set is `power`.  Nothing depends on the test set.
    Raises ValueError for more axes than the training inputs have.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> train, test = (Data(rng.normal(size=(n, 5)), np.zeros(n)) for n in (50, 20))
        >>> [data.inputs.shape for data in principal(train, test, 2, whiten=True)]
        [(50, 2), (20, 2)]
    """
    mean = train.inputs.mean(axis=0)
    _, sizes, axes = np.linalg.svd(train.inputs - mean, full_matrices=False)
    rank = int((sizes > 1e-9 * sizes[0]).sum())
    if not 1 <= width <= rank:
        raise ValueError(f"the training inputs have {rank} principal axes, not {width}")
    stretch = 1 / sizes[:width] if whiten else np.ones(width)

    def project(inputs):
        return (inputs - mean) @ axes[:width].T * stretch

    scale = (power / (project(train.inputs) ** 2).sum(axis=1).mean()) ** 0.5
    first, second = (data._replace(inputs=scale * project(data.inputs)) for data in (train, test))
    return first, second
