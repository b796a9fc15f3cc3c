"""Which layers of a network hear their gradient above its noise."""

from collections.abc import Callable

from sgdnoise.core._arrays import namespace
from sgdnoise.core._covariance import n_gradients_in
from sgdnoise.core._estimate import Estimate, mean
from sgdnoise.noise._measure._gradient_noise_scale import signal_to_noise


def gradient_norm(rows) -> Estimate:
    """Mean norm |g_i| of per-example gradients, with its error over examples.

    The mean of norms is not the norm of the mean: it stays up where gradients cancel.
    Raises ValueError for fewer than 2 examples.
    """
    squares = n_gradients_in(rows).squares()
    return mean(namespace(squares).sqrt(squares))


def by_layer(rows, measure: Callable[..., Estimate] = signal_to_noise) -> dict[str, Estimate]:
    """A measure of each parameter's own gradients, by name, in the order of `rows.by_parameter()`.

    measure: rows -> Estimate: `signal_to_noise`, |g|^2 / Tr C, `gradient_norm`, or `scale`.
    The layers share their examples, so their errors are not independent of one another.
    Raises ValueError as the measure does.
    """
    return {name: measure(part) for name, part in n_gradients_in(rows).by_parameter().items()}
