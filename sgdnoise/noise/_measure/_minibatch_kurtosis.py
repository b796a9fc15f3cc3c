"""The excess kurtosis of a mean over a minibatch."""

import numpy as np

from sgdnoise.core._arguments import checked


@checked
def minibatch_kurtosis(kurtosis, batch_size: int, n: int | None = None):
    r"""The excess kurtosis of a mean over a batch, from that of a single example.

    With replacement it is kurtosis / B.  Of n examples without replacement, with m = B (n - B), it
    is

    [kurtosis (n - 1) (n (n + 1) - 6 m) + 6 n (n - 1 - m)] / (m (n - 2) (n - 3))

    and changes its sign near B = 0.21 n.  Both are exact.
    kurtosis: E x^4 / (E x^2)^2 - 3 of the n numbers x themselves about their mean, a number or an
    array.  n: the examples of which a batch is drawn without replacement; with replacement if None.
    Raises ValueError for batch_size below 1, and unless batch_size < n and n > 3.

    Example:
        >>> minibatch_kurtosis(40.0, 8), round(minibatch_kurtosis(40.0, 8, 256), 2)
        (5.0, 4.29)
    """
    if isinstance(kurtosis, (list, tuple)):
        kurtosis = np.asarray(kurtosis, float)
    if np.ndim(batch_size):
        raise ValueError("batch_size must be one whole number, not an array")
    if batch_size < 1:
        raise ValueError(f"a batch needs at least one example, not {batch_size}")
    if n is None:
        return kurtosis / batch_size
    if not (n > 3 and batch_size < n):
        raise ValueError(f"a batch of {batch_size} of {n} examples without replacement has no law")
    m = batch_size * (n - batch_size)
    numerator = kurtosis * (n - 1) * (n * (n + 1) - 6 * m) + 6 * n * (n - 1 - m)
    return numerator / (m * (n - 2) * (n - 3))
