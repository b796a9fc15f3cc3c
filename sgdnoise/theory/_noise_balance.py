r"""Isotropic noise against label noise in two-layer networks: what expands, and where they balance.

The network is f(x) = x W V with W (d, h), V (h, o), product M = W V and K = W^T Sx W.  Isotropic
noise of temperature T adds 2 T to the speed of each squared weight, so that it swells whichever
layer has more weights a unit; label noise of strength kappa = rate label_noise^2 / (4 batch) pulls
the two together.  Where both are weak, theta rests along the minima with the law

    delta(W V - M) exp(-Tr H / rho),  rho = T / kappa,  Tr H = o Tr K + Tr(Sx) |V|^2,

a function of rho alone: W is N Q^-1/2 and a Gaussian beside it, Q a matrix of generalized inverse
Gaussian law.  Under weight decay in place of label noise it is the same law.
"""

import math
from typing import NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.theory._label_noise_flow import hidden_imbalance, modes_at_rest

NONE = 1e-9  # of the largest singular value, below which one is zero


class NoiseBalance(NamedTuple):
    """Means at rest: hidden E Tr K, square E Tr K^2 and readout E |V|^2."""

    hidden: float
    square: float
    readout: float

    @property
    def ratio(self) -> float:
        """Participation ratio as a ratio of means, (E Tr K)^2 / E Tr K^2.

        The mean of the ratio is larger by the spread of Tr K, 0.7% where 10 inputs meet 16 units.
        """
        return self.hidden**2 / self.square


def imbalance_rate(
    first, second, moment, *, temperature: float = 0.0, decay: float = 0.0, strength: float = 0.0
):
    r"""Speed of D = W^T W - V V^T in time rate x steps, of its mean under isotropic noise.  (h, h)

    4 strength (Tr(Sx) V V^T - o W^T Sx W) + 2 temperature (d - o) 1 - 2 decay D.  The last two are
    exact for any temperature, loss of the product and data; the first, which has no scatter, where
    the covariance of gradients is label_noise^2 H (Ziyin, Li & Ueda, 2023).
    Raises ValueError where sizes do not chain, for an indefinite moment, or a negative strength.
    """
    _check_strengths(temperature=temperature, decay=decay, strength=strength)
    _check_inputs(first, moment)
    _check_chain(first, second)
    xp, (d, o) = namespace(first), (first.shape[0], second.shape[1])
    pull = xp.linalg.trace(moment) * second @ second.T - o * first.T @ moment @ first
    one = xp.eye(first.shape[1], dtype=first.dtype, device=device(first))
    return (
        4 * strength * pull
        + 2 * temperature * (d - o) * one
        - 2 * decay * hidden_imbalance(first, second)
    )


def imbalance_after(
    first, second, gradient, learning_rate: float, *, temperature: float = 0.0, decay: float = 0.0
):
    r"""Mean of D after one Euler step along a gradient G (d, o) of the product, at any rate.

    (1 - rate decay)^2 D + rate^2 (V G^T G V^T - W^T G G^T W) + 2 rate temperature (d - o) 1: only
    the middle is not in `imbalance_rate`, of the order of the rate beside it.
    Raises ValueError where sizes do not chain or for negative strengths.
    """
    _check_strengths(learning_rate=learning_rate, temperature=temperature, decay=decay)
    _check_chain(first, second)
    if tuple(gradient.shape) != (first.shape[0], second.shape[1]):
        raise ValueError(
            f"a gradient {tuple(gradient.shape)} is not of the product of weights "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    xp, (d, o) = namespace(first), (first.shape[0], second.shape[1])
    forth, back = gradient @ second.T, first.T @ gradient
    one = xp.eye(first.shape[1], dtype=first.dtype, device=device(first))
    return (
        (1 - learning_rate * decay) ** 2 * hidden_imbalance(first, second)
        + learning_rate**2 * (forth.T @ forth - back @ back.T)
        + 2 * learning_rate * temperature * (d - o) * one
    )


def imbalance_at_rest(fan_in: int, fan_out: int, temperature: float, decay: float) -> float:
    r"""E |w_in|^2 - E |w_out|^2 of each unit at rest: temperature (fan_in - fan_out) / decay.

    For linear and ReLU units, any data and loss, where fan_in counts the bias; linear units have
    E D = this times 1.  Euler's steps are off by the order of the rate.
    Raises ValueError unless decay is positive, temperature 0 or more, and fans 1 or more.
    """
    _check_fans(fan_in, fan_out, 1)
    _check_strengths(temperature=temperature, decay=decay)
    if decay == 0:
        raise ValueError("without decay the imbalance does not rest, so decay must be positive")
    return temperature * (fan_in - fan_out) / decay


def expansion_rate(fan_in: int, fan_out: int, width: int, temperature: float) -> float:
    r"""Speed of E Tr D under isotropic noise without decay: 2 temperature (fan_in - fan_out) width.

    The hidden layer swells if and only if fan_in > fan_out; it is exact, and so is zero where they
    are equal.  Raises ValueError for sizes below 1 or negative temperature.
    """
    _check_fans(fan_in, fan_out, width)
    _check_strengths(temperature=temperature)
    return 2 * temperature * (fan_in - fan_out) * width


def noise_balance(rho: float, moment, product, width: int) -> NoiseBalance:
    r"""Where label noise and isotropic noise balance, rho = T / kappa = 4 batch T / (rate sigma^2).

    With c = rho / (2 o), w_j = (Tr Sx / o)^1/2 s_j the modes at rho = 0 (`modes_at_rest`) and
    d >= o, K has the eigenvalues of A + c Z Z^T, Z (d, h - o) standard normal and A (o, o) of
    E A_jj = w_j + c ((d - h + 1) / 2 + sum_(i != j) w_j / (w_i + w_j) / 2), Var A_jj = c w_j,
    Var A_ij = c w_i w_j / (w_i + w_j); for d < o there is no Z, and d - h becomes h - o.
    In the limit of small rate, T and kappa, for Sx of any kind; A to first order in c / w.
    In regime for c <= 0.1 w and c |d - h| <= 0.25 w (d < o: |h - o|), where Tr K and the ratio are
    off by 1% or less, as c^2 ((d - h)^2 - 1) / (8 w) is of A with one output.  Jitter across the
    minima is not in it: some 2 kappa in each of o d directions, which must be small beside Tr K.
    Raises ValueError where sizes do not chain, for a moment that is not definite, negative rho, a
    product of rank above the width, or below d and o: minima have corners and the law no limit.
    """
    _check_strengths(rho=rho)
    moment, product = (as_numpy(part).astype(float) for part in (moment, product))
    _check_product(moment, product, width)
    (d, o), spread = product.shape, float(np.trace(moment))
    modes = modes_at_rest(moment, product)[: min(d, o)]
    return _balance(modes, modes * o / spread, rho / 2 / o, rho / 2 / spread, (d, o), width)


def balance_under_decay(temperature: float, decay: float, product, width: int) -> NoiseBalance:
    r"""The same under weight decay in place of label noise, for white inputs: Sx = 1.

    c = temperature / decay for both layers and w_j = s_j - decay (`soft_threshold`): what decay
    does is to compress, with temperature against it.  To first order in c / w, and the product's
    own jitter, of the order temperature (d + h) / w, is left out: in regime as `balance` if that
    is small beside w.  Raises ValueError as `balance`, or unless 0 < decay < all modes.
    """
    _check_strengths(temperature=temperature, decay=decay)
    if decay == 0:
        raise ValueError("without decay there is no rest under it, so decay must be positive")
    product = as_numpy(product).astype(float)
    _check_product(np.eye(len(product)), product, width)
    modes = soft_threshold(np.linalg.svd(product, compute_uv=False), decay)
    if modes.min() == 0:
        raise ValueError(f"a mode of the product is lost where decay is {decay:.3g} or more")
    c = temperature / decay
    return _balance(modes, modes, c, c, product.shape, width)


def sum_rule(rho: float, first, second, moment):
    r"""o W^T Sx W - Tr(Sx) V V^T - rho (d - o) / 2, of mean zero where the noises balance.  (h, h)

    rho = T / kappa; exact for any target, width and rho as the rate goes to zero, since it is
    `imbalance_rate` over -4 kappa.  Raises ValueError as that does, and for negative rho.
    """
    _check_strengths(rho=rho)
    return -imbalance_rate(first, second, moment, temperature=rho, strength=1.0) / 4


def soft_threshold(modes, decay: float):
    r"""Singular values of W V where decay alone leaves it, for white inputs: max(s - decay, 0).

    decay (|W|^2 + |V|^2) / 2 is decay times the nuclear norm of the product at best (Srebro, Rennie
    & Jaakkola, 2005).  Raises ValueError for negative modes or decay.
    """
    _check_strengths(decay=decay)
    xp = namespace(modes)
    if bool(xp.any(modes < 0)):
        raise ValueError(f"singular values are 0 or more, not {float(xp.min(modes)):.3g}")
    return xp.clip(modes - decay, 0, None)


def log_marginal(first, moment, cross, temperature: float, decay: float):
    r"""Logarithm of the law of W alone at rest under isotropic noise and decay, but a constant.

    -(decay / 2T) |W|^2 - (o / 2) log det(K + decay) + Tr A^T (K + decay)^-1 A / (2 T) with
    A = W^T cross, cross the mean of x^T y: V is Gaussian given W and is integrated out, exactly.
    So weights at rest pay T o / 2 times a log det, which counts dimensions softly.
    Raises ValueError where sizes do not chain, for an indefinite moment, or for temperature or
    decay that are not positive.
    """
    if temperature <= 0 or decay <= 0:
        raise ValueError(
            f"the law at rest needs positive temperature and decay, not {temperature} and {decay}"
        )
    _check_inputs(first, moment)
    if cross.shape[0] != first.shape[0]:
        raise ValueError(f"{cross.shape[0]} inputs of targets are not the {first.shape[0]} of W")
    xp = namespace(first)
    one = xp.eye(first.shape[1], dtype=first.dtype, device=device(first))
    stiff, pull = first.T @ moment @ first + decay * one, first.T @ cross
    gain = xp.sum(pull * xp.linalg.solve(stiff, pull)) - decay * xp.sum(first**2)
    volume = xp.linalg.slogdet(stiff)[1]
    return gain / (2 * temperature) - cross.shape[1] / 2 * volume


def _balance(modes, readouts, c, other, fans, width):
    """Moments of both layers from their modes and from the spread of their free weights."""
    d, o = fans
    hidden, square = _layer(modes, c, d, o, width)
    return NoiseBalance(hidden, square, _layer(readouts, other, o, d, width)[0])


def _layer(modes, c, fan, other, width):
    """E Tr and E Tr^2 of A + c Z Z^T, for a layer of some weights a unit beside one of others."""
    share = modes[:, None] / (modes[:, None] + modes)
    some = width - other if fan >= other else 0  # columns of Z
    drift = (fan - width if fan >= other else width - other) + share.sum(axis=1)
    middle = modes + c / 2 * (drift + 0.5)  # a mode's share with itself is one half
    scatter = c * (share * modes).sum() + c * modes.sum() / 2
    first = middle.sum() + c * fan * some
    bulk = c**2 * fan * some * (fan + some + 1)
    second = np.sum(middle**2) + scatter + 2 * c * some * middle.sum() + bulk
    return float(first), float(second)


def _check_strengths(**strengths):
    for name, value in strengths.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be 0 or more and finite, not {value}")


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


def _check_moment(moment, least=-1e-6):
    values = namespace(moment).linalg.eigvalsh(moment)
    low, high = float(values[0]), float(values[-1])
    if not low >= least * abs(high) or high <= 0:
        raise ValueError(f"a second moment cannot have eigenvalues from {low:.3g} to {high:.3g}")


def _check_product(moment, product, width):
    if product.ndim != 2 or product.shape[0] != len(moment):
        raise ValueError(f"a product {product.shape} does not chain from {len(moment)} inputs")
    _check_moment(moment, least=NONE)
    singular = modes_at_rest(moment, product)
    rank = int(np.sum(singular > NONE * max(singular[0], 1e-300)))
    if rank > width:
        raise ValueError(f"{width} hidden units cannot make a product of rank {rank}")
    if rank < min(product.shape):
        raise ValueError(
            f"a product of rank {rank} is below both of {product.shape}: the law has no limit there"
        )
