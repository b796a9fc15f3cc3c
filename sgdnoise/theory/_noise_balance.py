r"""Isotropic noise against label noise in two-layer linear networks, and where they balance.

The network is f(x) = x W V with W (d, h), V (h, o), product M = W V and hidden second moment
K = W^T Sx W.  Isotropic noise of temperature T adds 2 T to the rate of change of each squared
weight, so that the layer with more weights per unit grows; label noise of strength
kappa = rate label_noise^2 / (4 B) pulls the two layers together.  If both are weak, theta has the
stationary density

    delta(W V - M) exp(-Tr H / rho),  rho = T / kappa,  Tr H = o Tr K + Tr(Sx) |V|^2,

a function of rho alone: W is N Q^-1/2 plus a Gaussian matrix, where Q has a matrix generalized
inverse Gaussian law.  Weight decay in place of label noise gives the same law.

Known: noise moves weights along a symmetry to an equilibrium of noises (Ziyin, Li & Ueda, 2023;
Ziyin, Wang, Li & Wu, 2024), an entropic force that balances gradients (Ziyin, Xu & Chuang, 2025).
New here, as far as we know: the stationary density of both layers with both noises.
"""

from typing import NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._checks import check_non_negative
from sgdnoise.theory._label_noise_flow import imbalances, stationary_hidden_modes

ZERO = 1e-9  # relative to the largest singular value, below which one counts as zero


class NoiseBalance(NamedTuple):
    """Stationary means: hidden E Tr K, square E Tr K^2 and readout E |V|^2.

    Example:
        >>> NoiseBalance(hidden=4.0, square=8.0, readout=1.0).participation_ratio
        2.0
    """

    hidden: float
    square: float
    readout: float

    @property
    def participation_ratio(self) -> float:
        """The participation ratio as a ratio of means, (E Tr K)^2 / E Tr K^2.

        The mean of the ratio is larger because Tr K fluctuates, by 0.7% for 10 inputs and 16 units.
        """
        return self.hidden**2 / self.square


@checked
def imbalance_rate(
    first, second, moment, *, temperature: float = 0.0, decay: float = 0.0, strength: float = 0.0
):
    r"""The rate of change of the mean of D = W^T W - V V^T in the time rate x steps.  (h, h)

    4 strength (Tr(Sx) V V^T - o W^T Sx W) + 2 temperature (d - o) 1 - 2 decay D.  The last two
    terms are exact for any temperature, loss of the product and data; the first, which has no
    variance, if the covariance of gradients is label_noise^2 H (Ziyin, Li & Ueda, 2023).
    Raises ValueError if sizes do not chain, the moment is indefinite, or a strength is negative.

    Example:
        >>> import numpy as np
        >>> first, second = np.eye(2), np.asarray([[1.0], [0.5]])
        >>> imbalance_rate(first, second, np.eye(2), temperature=0.1).shape
        (2, 2)
    """
    check_non_negative(temperature=temperature, decay=decay, strength=strength)
    _check_inputs(first, moment)
    _check_chain(first, second)
    xp, outputs = namespace(first), second.shape[1]
    pull = xp.linalg.trace(moment) * second @ second.T - outputs * first.T @ moment @ first
    return (
        4 * strength * pull
        + 2 * temperature * (first.shape[0] - outputs) * _identity(first)
        - 2 * decay * imbalances((first, second))[0]
    )


@checked
def imbalance_after(
    first, second, gradient, learning_rate: float, *, temperature: float = 0.0, decay: float = 0.0
):
    r"""The mean of D = W^T W - V V^T after one step along a gradient G (d, o) of the product.

    (1 - rate decay)^2 D + rate^2 (V G^T G V^T - W^T G G^T W) + 2 rate temperature (d - o) 1 at any
    rate: the middle term, of the order of the rate, is not in `imbalance_rate`.  It is exact for
    any G, without noise of first order (Ziyin, Li & Ueda, 2023, without decay).
    Raises ValueError if sizes do not chain or a strength is negative.

    Example:
        >>> import numpy as np
        >>> first, second, gradient = np.asarray([[2.0]]), np.asarray([[1.0]]), np.asarray([[1.0]])
        >>> imbalance_after(first, second, gradient, 0.1).tolist()  # 1.9^2 - 0.8^2
        [[2.97]]
    """
    check_non_negative(learning_rate=learning_rate, temperature=temperature, decay=decay)
    _check_chain(first, second)
    fans = (first.shape[0], second.shape[1])
    if tuple(gradient.shape) != fans:
        raise ValueError(
            f"a gradient {tuple(gradient.shape)} is not of the product of weights "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    forward, backward = gradient @ second.T, first.T @ gradient
    return (
        (1 - learning_rate * decay) ** 2 * imbalances((first, second))[0]
        + learning_rate**2 * (forward.T @ forward - backward @ backward.T)
        + 2 * learning_rate * temperature * (fans[0] - fans[1]) * _identity(first)
    )


@checked
def stationary_imbalance(fan_in: int, fan_out: int, temperature: float, decay: float) -> float:
    r"""The stationary E |w_in|^2 - E |w_out|^2 of a unit: temperature (fan_in - fan_out) / decay.

    It holds for linear and ReLU units, any data and any loss, where fan_in counts the bias; for
    linear units E D is this times 1.  Euler-Maruyama steps are off by the order of the rate.
    Raises ValueError unless decay is positive, temperature 0 or more, and fans 1 or more.

    Example:
        >>> stationary_imbalance(10, 4, temperature=0.5, decay=0.1)
        30.0
    """
    _check_fans(fan_in, fan_out, 1)
    check_non_negative(temperature=temperature, decay=decay)
    if decay == 0:
        raise ValueError("without decay no imbalance is stationary, so decay must be positive")
    return temperature * (fan_in - fan_out) / decay


@checked
def expansion_rate(fan_in: int, fan_out: int, width: int, temperature: float) -> float:
    r"""The rate of change of E Tr D under isotropic noise: 2 temperature (fan_in - fan_out) width.

    The hidden layer grows if and only if fan_in > fan_out.  It is exact without decay.
    Raises ValueError for sizes below 1 or a negative temperature.

    Example:
        >>> expansion_rate(10, 4, width=3, temperature=0.5)  # 2 0.5 (10 - 4) 3
        18.0
    """
    _check_fans(fan_in, fan_out, width)
    check_non_negative(temperature=temperature)
    return 2 * temperature * (fan_in - fan_out) * width


@checked
def noise_balance(rho: float, moment, product, width: int) -> NoiseBalance:
    r"""The stationary state of label and isotropic noise, rho = T / kappa = 4 B T / (rate sigma^2).

    With c = rho / (2 o), w_j = (Tr Sx / o)^1/2 s_j the modes at rho = 0 (`stationary_hidden_modes`)
    and d >= o, K has the eigenvalues of A + c Z Z^T, Z (d, h - o) standard normal and A (o, o) of
    E A_jj = w_j + c ((d - h + 1) / 2 + sum_(i != j) w_j / (w_i + w_j) / 2), Var A_jj = c w_j,
    Var A_ij = c w_i w_j / (w_i + w_j); for d < o there is no Z, and d - h becomes h - o.
    It holds for small rate, T and kappa and any Sx, and A to first order in c / w: for c <= 0.1 w
    and c |d - h| <= 0.25 w (d < o: |h - o|), Tr K and the ratio are off by 1% or less, as A is by
    c^2 ((d - h)^2 - 1) / (8 w) with one output.  It omits jitter across the minima, about 2 kappa
    in each of o d directions, which must be small beside Tr K.
    Raises ValueError if sizes do not chain, the moment is not definite, rho is negative, or the
    rank of the product is above the width or below d and o, where the law has no limit.

    Example:
        >>> import numpy as np
        >>> balance = noise_balance(0.0, np.eye(2), np.diag([3.0, 1.0]), 2)
        >>> round(balance.hidden, 6), round(balance.participation_ratio, 6)  # 3 + 1, 16 / 10
        (4.0, 1.6)
    """
    check_non_negative(rho=rho)
    moment, product = (as_numpy(array).astype(float) for array in (moment, product))
    _check_product(moment, product, width)
    (d, o), power = product.shape, float(np.trace(moment))
    modes = stationary_hidden_modes(moment, product)[0, : min(d, o)]
    return _balance(modes, modes * o / power, rho / 2 / o, rho / 2 / power, (d, o), width)


@checked
def balance_under_decay(temperature: float, decay: float, product, width: int) -> NoiseBalance:
    r"""The stationary state of isotropic noise and weight decay, for white inputs: Sx = 1.

    c = temperature / decay for both layers and w_j = s_j - decay (`soft_threshold`): decay
    compresses, and temperature opposes it.  To first order in c / w, without the jitter of the
    product, of the order temperature (d + h) / w; it holds as `noise_balance` if that is small
    beside w.  Raises ValueError as `noise_balance`, or unless 0 < decay < all modes.

    Example:
        >>> import numpy as np
        >>> balance = balance_under_decay(0.0, 0.1, np.diag([1.0, 0.5]), 2)
        >>> round(balance.hidden, 6)  # without noise the soft threshold: 0.9 + 0.4
        1.3
    """
    check_non_negative(temperature=temperature, decay=decay)
    if decay == 0:
        raise ValueError("without decay nothing is stationary under it, so decay must be positive")
    product = as_numpy(product).astype(float)
    _check_product(np.eye(len(product)), product, width)
    modes = soft_threshold(np.linalg.svd(product, compute_uv=False), decay)
    if modes.min() == 0:
        raise ValueError(f"a mode of the product is lost where decay is {decay:.3g} or more")
    c = temperature / decay
    return _balance(modes, modes, c, c, product.shape, width)


@checked
def sum_rule(rho: float, first, second, moment):
    r"""The matrix o W^T Sx W - Tr(Sx) V V^T - rho (d - o) / 2, whose stationary mean is zero.

    (h, h); rho = T / kappa.  It is exact for any target, width and rho as the rate goes to zero,
    since it is `imbalance_rate` over -4 kappa.  Raises ValueError as that does, or for negative
    rho.

    Example:
        >>> import numpy as np
        >>> sum_rule(1.0, np.asarray([[2.0]]), np.asarray([[3.0]]), np.eye(1)).tolist()  # 4 - 9
        [[-5.0]]
    """
    check_non_negative(rho=rho)
    return -imbalance_rate(first, second, moment, temperature=rho, strength=1.0) / 4


@checked
def soft_threshold(modes, decay: float):
    r"""The singular values of W V under decay alone, for white inputs: max(s - decay, 0).

    decay (|W|^2 + |V|^2) / 2 is at least decay times the nuclear norm of the product, and equals
    it for balanced factors (Srebro, Rennie & Jaakkola, 2005).  Raises ValueError for negative
    modes or decay.

    Example:
        >>> import numpy as np
        >>> soft_threshold(np.asarray([2.0, 0.5, 0.1]), 0.2)
        array([1.8, 0.3, 0. ])
    """
    check_non_negative(decay=decay)
    xp = namespace(modes)
    if bool(xp.any(modes < 0)):
        raise ValueError(f"singular values are 0 or more, not {float(xp.min(modes)):.3g}")
    return xp.clip(modes - decay, 0, None)


@checked
def log_marginal(first, moment, cross, temperature: float, decay: float):
    r"""The stationary log density of W alone under isotropic noise and decay, up to a constant.

    -(decay / 2T) |W|^2 - (o / 2) log det(K + decay) + Tr A^T (K + decay)^-1 A / (2 T) with
    A = W^T cross, cross (d, o) the mean of x^T y: V is Gaussian given W and integrated out exactly.
    Stationary weights are penalised by T o / 2 times a log det, a soft count of dimensions.
    Raises ValueError if sizes do not chain, the moment is indefinite, or temperature or decay are
    not positive.

    Example:
        >>> import numpy as np
        >>> moment, cross, weights = np.eye(1), np.zeros((1, 1)), np.ones((1, 1))
        >>> zero, one = (log_marginal(w * weights, moment, cross, 1.0, 1.0) for w in (0, 1))
        >>> round(float(one - zero), 4)  # -1 / 2 - log(2) / 2
        -0.8466
    """
    if temperature <= 0 or decay <= 0:
        raise ValueError(
            f"a stationary law needs positive temperature and decay, not {temperature} and {decay}"
        )
    _check_inputs(first, moment)
    if cross.shape[0] != first.shape[0]:
        raise ValueError(f"{cross.shape[0]} inputs of targets are not the {first.shape[0]} of W")
    xp = namespace(first)
    precision, force = first.T @ moment @ first + decay * _identity(first), first.T @ cross
    gain = xp.sum(force * xp.linalg.solve(precision, force)) - decay * xp.sum(first**2)
    volume = xp.linalg.slogdet(precision)[1]
    return gain / (2 * temperature) - cross.shape[1] / 2 * volume


def _balance(modes, readouts, c, readout_c, fans, width):
    """Moments of both layers from their modes and from the variance of their free weights."""
    d, o = fans
    hidden, square = _layer_moments(modes, c, d, o, width)
    return NoiseBalance(hidden, square, _layer_moments(readouts, readout_c, o, d, width)[0])


def _layer_moments(modes, c, fan, opposite_fan, width):
    """E Tr and E Tr^2 of A + c Z Z^T, for a layer of `fan` weights per unit."""
    weights = modes[:, None] / (modes[:, None] + modes)
    columns = width - opposite_fan if fan >= opposite_fan else 0  # of Z
    drift = fan - width if fan >= opposite_fan else width - opposite_fan
    # The weight of a mode with itself is one half, hence 0.5.
    means = modes + c / 2 * (drift + weights.sum(axis=1) + 0.5)
    variance = c * (weights * modes).sum() + c * modes.sum() / 2
    first = means.sum() + c * fan * columns
    bulk = c**2 * fan * columns * (fan + columns + 1)
    second = np.sum(means**2) + variance + 2 * c * columns * means.sum() + bulk
    return float(first), float(second)


def _identity(first):
    return namespace(first).eye(first.shape[1], dtype=first.dtype, device=device(first))


def _check_fans(fan_in, fan_out, width):
    if min(fan_in, fan_out, width) < 1:
        raise ValueError(f"layers have 1 unit or more, not {fan_in}, {width} and {fan_out}")


def _check_chain(first, second):
    if first.shape[1] != second.shape[0]:
        raise ValueError(f"weights {tuple(first.shape)} and {tuple(second.shape)} do not chain")


def _check_inputs(first, moment):
    if tuple(moment.shape) != (first.shape[0],) * 2:
        raise ValueError(
            f"a moment {tuple(moment.shape)} is not of the inputs of weights {tuple(first.shape)}"
        )
    _check_moment(moment)


def _check_moment(moment, tolerance=-1e-6):
    values = namespace(moment).linalg.eigvalsh(moment)
    low, high = float(values[0]), float(values[-1])
    if not low >= tolerance * abs(high) or high <= 0:
        raise ValueError(f"a second moment cannot have eigenvalues from {low:.3g} to {high:.3g}")


def _check_product(moment, product, width):
    if product.ndim != 2 or product.shape[0] != len(moment):
        raise ValueError(f"a product {product.shape} does not chain from {len(moment)} inputs")
    _check_moment(moment, tolerance=ZERO)
    modes = stationary_hidden_modes(moment, product)[0]
    rank = int(np.sum(modes > ZERO * max(modes[0], 1e-300)))
    if rank > width:
        raise ValueError(f"{width} hidden units cannot make a product of rank {rank}")
    if rank < min(product.shape):
        raise ValueError(
            f"a product of rank {rank} is below both of {product.shape}: the law has no limit there"
        )
