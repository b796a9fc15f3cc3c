r"""Weight decay and label noise in a two-layer linear network: which weights each shrinks.

The network is f(x) = x W V, its inputs have a second moment Sx, and a step is
theta <- theta - rate (g + decay theta).  Decay shrinks all weights alike; label noise shrinks the
weights from an input in proportion to its variance.  An irrelevant input is one that the product
W V does not use and that is uncorrelated with the others; an irrelevant unit has no readout.

Known: decay is the nuclear norm of the product (Srebro, Rennie & Jaakkola, 2005), and label noise
shrinks the weights of two layers (Zhang et al., 2026).  New here, as far as we know: rates of both
for each input, which tell them apart.
"""

from typing import NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, namespace
from sgdnoise.theory._linear_task import check_stable


class Mode(NamedTuple):
    """A stationary mode of the product: its strength w v, and the squares of w and of v.

    Example:
        >>> from sgdnoise.theory import mode_with_decay
        >>> mode = mode_with_decay(1.0, 1.0, 3.0, 2, decay=0.1)
        >>> mode.product, mode.first, mode.second  # balanced: w^2 = v^2 = w v
        (0.9, 0.9, 0.9)
    """

    product: float
    first: float
    second: float


@checked
def shrink_rates(
    variances,
    powers,
    readout,
    *,
    label_noise,
    learning_rate,
    batch_size,
    decay=0.0,
    amplification=0.0,
):
    r"""The decay rates, per step, of weights from irrelevant inputs to irrelevant units.  (k,)

    variances, powers: (k,), s_j of each input and |w_j|^2 of all weights from it; readout: (o,),
    eigenvalues of V^T V.  Weights decay as exp(-r_j steps).  With curvatures
    h_ja = s_j (v_a + |w_j|^2) and c_ja = h_ja + decay,

        r_j = rate decay + rate^2 sigma^2 s_j / B sum_a h_ja / (c_ja (2 - rate c_ja)),

    and sigma^2 = label_noise^2 / (1 - u), where u is the `amplification` of label noise by the
    residuals that the jitter of all weights makes: that of the whole network, to first order.
    Decay alone is the same for all weights, noise alone is `irrelevant_rate` at small rates, and
    both add up to a relative error decay / h.  It is exact for the jitter of label noise if the
    relevant weights fit the data; because decay keeps them from fitting, r changes by the square of
    the misfit.
    Raises ValueError for negative numbers, an amplification of 1 or more, or an unstable rate.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.theory import irrelevant_rate
        >>> one, settings = np.ones(1), {"label_noise": 1.0, "learning_rate": 1e-4, "batch_size": 4}
        >>> rates = shrink_rates(one, 0 * one, one, **settings)
        >>> round(float(rates[0] / irrelevant_rate(1.0, 1, **settings)), 3)  # 1 at small rates
        1.0
    """
    xp = namespace(variances)
    if not 0 <= amplification < 1:
        raise ValueError(f"an amplification is from 0 to below 1, not {amplification}")
    _check_rates(variances, powers, readout, label_noise, learning_rate, batch_size, decay)
    curvatures = variances[:, None] * (readout + powers[:, None])
    total = curvatures + decay
    check_stable(learning_rate, float(xp.max(total)))
    denominators = xp.where(
        curvatures > 0, total * (2 - learning_rate * total), xp.ones_like(total)
    )
    jitter = xp.sum(curvatures / denominators, axis=1)
    noise = label_noise**2 / (1 - amplification)
    return learning_rate * decay + learning_rate**2 * noise / batch_size * variances * jitter


@checked
def equal_decay(variances, powers, outputs: int, label_noise, learning_rate, batch_size) -> float:
    """The decay that initially shrinks the hidden power of irrelevant inputs as label noise does.

    rate label_noise^2 o / (2 B) sum s_j^2 |w_j|^2 / sum s_j |w_j|^2, with s_j and |w_j|^2 those of
    `shrink_rates`.

    Example:
        >>> import numpy as np
        >>> variances, powers = np.asarray([1.0, 0.5]), np.asarray([1.0, 1.0])
        >>> round(equal_decay(variances, powers, 2, 0.5, 0.1, 4), 5)
        0.00521
    """
    xp, hidden = namespace(variances), variances * powers
    mean_variance = float(xp.sum(variances * hidden) / xp.sum(hidden))
    return learning_rate * label_noise**2 * outputs * mean_variance / (2 * batch_size)


@checked
def variance_slope(variances, rates):
    """The slope of log rates against log variances by least squares: 0 for decay, 1 for noise.

    Between them it measures the contribution of noise to the rates without any fitted strength.
    rates: (..., k), above 0.  Raises ValueError for fewer than two variances that differ.

    Example:
        >>> import numpy as np
        >>> round(float(variance_slope(np.asarray([1.0, 2.0]), np.asarray([3.0, 6.0]))), 6)
        1.0
    """
    xp = namespace(variances)
    centred = xp.log(variances) - xp.mean(xp.log(variances))
    square = float(xp.sum(centred**2))
    if not square > 1e-12:
        raise ValueError(f"a slope needs variances that differ, not {as_numpy(variances).tolist()}")
    return xp.sum(xp.log(rates) * centred, axis=-1) / square


@checked
def shrinkage(variance, total_variance, outputs: int, *, decay=0.0, kappa=0.0) -> float:
    r"""The amount by which a mode of the product, read from an input of this variance, shrinks.

    ((decay + 2 kappa Tr Sx) (decay + 2 kappa o s))^1/2 / s, with total_variance = Tr Sx and
    kappa = rate label_noise^2 / (4 B): decay / s under decay alone, the soft threshold of the
    nuclear norm.  It is that of the mean product, where L + decay |theta|^2 / 2 + kappa Tr H is
    least, for modes along the axes of Sx and much stronger than it, to first order.

    Example:
        >>> shrinkage(2.0, 5.0, 3, decay=0.1)  # decay / s
        0.05
    """
    first, second = _penalties(variance, total_variance, outputs, decay, kappa)
    return float((first * second) ** 0.5 / variance)


@checked
def mode_with_decay(
    strength, variance, total_variance, outputs: int, *, decay=0.0, kappa=0.0
) -> Mode:
    """The stationary mode under decay and label noise, where the data have this strength.

    product = max(strength - `shrinkage`, 0), and the squares w^2 and v^2 of its weights obey
    (decay + 2 kappa o s) w^2 = (decay + 2 kappa Tr Sx) v^2: they are equal under decay, and those
    of `stationary_hidden_modes` under noise.  Raises ValueError if neither acts.

    Example:
        >>> mode_with_decay(1.0, 1.0, 3.0, 2, decay=0.01)._fields
        ('product', 'first', 'second')
    """
    first, second = _penalties(variance, total_variance, outputs, decay, kappa)
    if not (first > 0 and second > 0):
        raise ValueError(f"a decay of {decay} and kappa of {kappa} leave layers where they are")
    threshold = shrinkage(variance, total_variance, outputs, decay=decay, kappa=kappa)
    product = max(float(strength) - threshold, 0.0)
    ratio = float((second / first) ** 0.5)
    return Mode(product, product * ratio, product / ratio)


def _penalties(variance, total_variance, outputs, decay, kappa):
    """The penalties on the weights w and v of a mode: half of these times their squares."""
    if not (variance > 0 and total_variance >= variance):
        raise ValueError(
            f"an input of variance {variance} is no part of a total of {total_variance}"
        )
    if not (decay >= 0 and kappa >= 0):
        raise ValueError(f"decay and kappa cannot be negative, like {decay} and {kappa}")
    return decay + 2 * kappa * outputs * variance, decay + 2 * kappa * total_variance


def _check_rates(variances, powers, readout, label_noise, learning_rate, batch_size, decay):
    minima = [float(namespace(array).min(array)) for array in (variances, powers, readout)]
    numbers = (label_noise, decay, *minima)
    if min(numbers) < 0 or not learning_rate > 0 or not batch_size > 0:
        raise ValueError(
            f"variances, powers, strengths cannot be negative nor learning rate and batch size 0: "
            f"{np.round([*numbers, learning_rate, batch_size], 6).tolist()}"
        )
