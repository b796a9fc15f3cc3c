"""The excess kurtosis of a mean over a minibatch."""

from sgdnoise.core._arguments import checked


@checked
def minibatch_kurtosis(kurtosis, batch_size: int, n: int | None = None):
    r"""The excess kurtosis of a mean over a batch, from that of a single example.

    With replacement it is kurtosis / B.  Of n examples without replacement, with p_k the
    probability B (B - 1) ... (B - k + 1) / (n (n - 1) ... (n - k + 1)) that a batch has k given
    examples, it is

    [(kurtosis + 3) (p_1 - 7 p_2 + 12 p_3 - 6 p_4) / n + 3 (p_2 - 2 p_3 + p_4)] / (p_1 - p_2)^2
    - 3

    and changes its sign near B = 0.21 n.  Both are exact.
    kurtosis: E x^4 / (E x^2)^2 - 3 of the n numbers x themselves about their mean, a number or an
    array.  n: the examples of which a batch is drawn without replacement; with replacement if None.
    Raises ValueError for batch_size below 1, and unless batch_size < n and n > 3.

    Example:
        >>> minibatch_kurtosis(40.0, 8), round(minibatch_kurtosis(40.0, 8, 256), 2)
        (5.0, 4.29)
    """
    if batch_size < 1:
        raise ValueError(f"a batch needs at least one example, not {batch_size}")
    if n is None:
        return kurtosis / batch_size
    if not (n > 3 and batch_size < n):
        raise ValueError(f"a batch of {batch_size} of {n} examples without replacement has no law")
    p, joint = [], 1.0
    for k in range(4):
        joint *= (batch_size - k) / (n - k)
        p.append(joint)
    fourth = (kurtosis + 3) * (p[0] - 7 * p[1] + 12 * p[2] - 6 * p[3]) / n
    fourth = fourth + 3 * (p[1] - 2 * p[2] + p[3])
    return fourth / (p[0] - p[1]) ** 2 - 3
