r"""Weight decay and label noise in a two-layer linear network: what each shrinks, and how fast.

f(x) = x W V, inputs with a second moment Sx, theta <- theta - rate (g + decay theta).  Decay
shrinks all weights alike; noise shrinks what comes from an input in proportion to its variance.
A useless input is one that the product W V does not use and that is uncorrelated with the others;
a useless unit is one without a readout.
"""

from typing import NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, namespace


class Mode(NamedTuple):
    """One mode of the product at rest: its strength w v, and the squares of w and of v."""

    product: float
    first: float
    second: float


def shrink_rates(variances, powers, readout, *, label_noise, learning_rate, batch_size, decay=0.0):
    r"""Decay, a step, of weights from useless inputs to useless units: exp(-r_j steps).  (k,)

    variances, powers: (k,), s_j of each input and |w_j|^2 of all weights from it; readout: (o,),
    eigenvalues of V^T V.  With curvatures h_ja = s_j (v_a + |w_j|^2),

        r_j = rate decay + rate^2 label_noise^2 s_j / batch sum_a h_ja / (c_ja (2 - rate c_ja)),

    c_ja = h_ja + decay: decay alone is the same for all, noise alone `slow_flow.irrelevant_rate`
    at small rates, rate^2 label_noise^2 o s_j / (2 batch), and both add up to a share decay / h.
    Exact for the jitter of label noise where the used part fits; that decay keeps it from fitting
    changes r by the square of what is missing, and noise that residuals feed adds a share of about
    `slow_flow.amplification`.  Raises ValueError for negative numbers or an unstable rate.
    """
    xp = namespace(variances)
    _check_rates(variances, powers, readout, label_noise, learning_rate, batch_size, decay)
    curved = variances[:, None] * (readout + powers[:, None])
    held = curved + decay
    if float(xp.max(held)) * learning_rate >= 2:
        raise ValueError(
            f"rate {learning_rate:.3g} is not stable at a curvature of {float(xp.max(held)):.3g}: "
            f"it must stay below {2 / float(xp.max(held)):.3g}"
        )
    still = xp.where(curved > 0, held * (2 - learning_rate * held), xp.ones_like(held))
    jitter = xp.sum(curved / still, axis=1)
    return (
        learning_rate * decay + learning_rate**2 * label_noise**2 / batch_size * variances * jitter
    )


def equal_decay(variances, powers, outputs: int, label_noise, learning_rate, batch_size) -> float:
    """The decay that shrinks the hidden power of useless inputs as fast as label noise, at first.

    rate label_noise^2 o / (2 batch) sum s_j^2 |w_j|^2 / sum s_j |w_j|^2: a mean of what noise does.
    """
    xp, hidden = namespace(variances), variances * powers
    middle = float(xp.sum(variances * hidden) / xp.sum(hidden))
    return learning_rate * label_noise**2 * outputs * middle / (2 * batch_size)


def variance_slope(variances, rates):
    """Slope of log rates against log variances, by least squares: 0 under decay, 1 under noise.

    Between them lies the share of noise in the rates.  rates: (..., k), above 0; nothing fitted
    tells one from the other, as neither strength enters.  Raises ValueError for fewer than two
    variances that differ.
    """
    xp = namespace(variances)
    away = xp.log(variances) - xp.mean(xp.log(variances))
    length = float(xp.sum(away**2))
    if not length > 1e-12:
        raise ValueError(f"a slope needs variances that differ, not {as_numpy(variances).tolist()}")
    return xp.sum(xp.log(rates) * away, axis=-1) / length


def shrinkage(variance, spread, outputs: int, *, decay=0.0, kappa=0.0) -> float:
    r"""By how much a mode of the product, read from an input of this variance, is too weak.

    ((decay + 2 kappa Tr Sx) (decay + 2 kappa o s))^1/2 / s, spread = Tr Sx and
    kappa = rate label_noise^2 / (4 batch): decay / s under decay alone, the soft threshold of the
    nuclear norm.  Of the mean product, where L + decay |theta|^2 / 2 + kappa Tr H is least, for
    modes along the axes of Sx; right to first order, for modes much stronger than it.
    """
    first, second = _prices(variance, spread, outputs, decay, kappa)
    return float((first * second) ** 0.5 / variance)


def mode_with_decay(strength, variance, spread, outputs: int, *, decay=0.0, kappa=0.0) -> Mode:
    """Where decay and label noise leave a mode that the data give this strength.

    product = strength - `threshold`, or nothing; the squares w^2 and v^2 of its weights have
    (decay + 2 kappa o s) w^2 = (decay + 2 kappa Tr Sx) v^2: alike under decay, at
    `slow_flow.modes_at_rest` under noise.  Raises ValueError where neither acts.
    """
    first, second = _prices(variance, spread, outputs, decay, kappa)
    if not (first > 0 and second > 0):
        raise ValueError(f"a decay of {decay} and kappa of {kappa} leave layers where they are")
    low = shrinkage(variance, spread, outputs, decay=decay, kappa=kappa)
    product = max(float(strength) - low, 0.0)
    share = float((second / first) ** 0.5)
    return Mode(product, product * share, product / share)


def decay_imbalance_after(first, second, slope, *, learning_rate, decay=0.0):
    """W^T W - V V^T after a step along a gradient `slope` (d, o) in the product, with decay.

    (1 - rate decay)^2 (W^T W - V V^T) + rate^2 (V G^T G V^T - W^T G G^T W), exactly: no noise of
    first order, for any G (Ziyin, Li & Ueda, 2023, without decay).
    """
    kept = (1 - learning_rate * decay) ** 2 * (first.T @ first - second @ second.T)
    back, ahead = second @ slope.T, first.T @ slope
    return kept + learning_rate**2 * (back @ back.T - ahead @ ahead.T)


def _prices(variance, spread, outputs, decay, kappa):
    """What the weights w and v of a mode cost: half of these times their squares."""
    if not (variance > 0 and spread >= variance):
        raise ValueError(f"an input of variance {variance} is no part of a total of {spread}")
    if not (decay >= 0 and kappa >= 0):
        raise ValueError(f"decay and kappa cannot be negative, like {decay} and {kappa}")
    return decay + 2 * kappa * outputs * variance, decay + 2 * kappa * spread


def _check_rates(variances, powers, readout, label_noise, learning_rate, batch_size, decay):
    least = [float(namespace(part).min(part)) for part in (variances, powers, readout)]
    numbers = (label_noise, decay, *least)
    if min(numbers) < 0 or not learning_rate > 0 or not batch_size > 0:
        raise ValueError(
            f"variances, powers, strengths cannot be negative nor rate and batch 0: "
            f"{np.round([*numbers, learning_rate, batch_size], 6).tolist()}"
        )
