"""What drawing minibatches without replacement does to the variance of their mean."""

from sgdnoise.core._arguments import checked


@checked
def finite_population_factor(n: int, batch_size: int | float) -> float:
    """The variance of a mean without replacement over that with it: (n - B) / (n - 1).

    It is 1 for a batch of one example, and 0 for a batch of all n examples (Cochran, 1977).

    Example:
        >>> finite_population_factor(5, 3)
        0.5
    """
    return (n - batch_size) / max(n - 1, 1)
