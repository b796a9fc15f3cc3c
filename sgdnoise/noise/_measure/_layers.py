"""Signal-to-noise ratio of the gradient, layer by layer."""

from collections.abc import Callable

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import namespace, power_of_two
from sgdnoise.core._covariance import n_gradients_in
from sgdnoise.core._estimate import Estimate, mean
from sgdnoise.core._gradients import GradientMatrix
from sgdnoise.noise._measure._gradient_noise_scale import signal_to_noise


@checked
def gradient_norm(rows) -> Estimate:
    """The mean norm |g_i| of per-example gradients, with its error over examples.

    The mean of the norms is not the norm of the mean: it stays large if gradients cancel.
    Raises ValueError for fewer than 2 examples.

    Example:
        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(200, 5)) + 0.3
        >>> print(gradient_norm(rows))
        2.137 ± 0.051
    """
    rows = n_gradients_in(rows)
    if not isinstance(rows, GradientMatrix):
        squares = rows.squares()
        return mean(namespace(squares).sqrt(squares))
    unit = power_of_two(rows.rows)  # squares of large numbers would overflow
    squares = GradientMatrix(rows.rows / unit).squares()
    return mean(unit * namespace(squares).sqrt(squares))


@checked
def by_layer(rows, measure: Callable[..., Estimate] = signal_to_noise) -> dict[str, Estimate]:
    """A measure of the gradients of each parameter, by name.

    measure: rows -> Estimate, such as `signal_to_noise`, `gradient_norm` or `gradient_noise_scale`.
    The layers share their examples, so their errors are not independent.
    Raises ValueError as the measure does.

    Example:
        >>> import torch
        >>> from sgdnoise.nets import models, per_example_gradients
        >>> net = models.mlp([4, 3, 2], seed=0)
        >>> loss = torch.nn.CrossEntropyLoss(reduction="none")
        >>> rows = per_example_gradients(net, loss, torch.randn(20, 4), torch.arange(20) % 2)
        >>> sorted(by_layer(rows)) == sorted(name for name, _ in net.named_parameters())
        True
    """
    return {
        name: measure(gradients) for name, gradients in n_gradients_in(rows).by_parameter().items()
    }
