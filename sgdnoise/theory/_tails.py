r"""Tail indices of the stationary parameters of SGD under multiplicative noise.

Root searches need each moment dozens of times, so that quadratures are written out here: the
double-exponential rule agrees with scipy.integrate.tanhsinh to 1e-14 in a fifteenth of its time.

Known: random recursions have power laws (Kesten, 1973), and so has SGD (Gurbuzbalaban, Simsekli &
Zhu, 2021; Hodgkinson & Mahoney, 2021).  New here: the indices as fast and exact quadratures.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, lambertw, logsumexp

from sgdnoise.core._arguments import checked

REACH = 13  # farther than this from its peak an integrand is below exp(-REACH^2 / 2) of it
MAX_INDEX = 32.0  # of several inputs, that the rule for chi-squared resolves
PANEL_NODES, PANEL_WEIGHTS = np.polynomial.legendre.leggauss(60)
PANELS = 12  # of that rule
MARGIN = 12.0  # standard deviations beyond the last peak up to which they extend
TINY = 1e-300
MIN_DRIFT = 1e-9  # a smaller growth is indistinguishable from zero
_T = np.linspace(-4, 4, 301)  # the rule of Takahasi & Mori (1974), for kinks at an end
_NODES = 1 / (1 + np.exp(-np.pi * np.sinh(_T)))
_WEIGHTS = np.pi * np.cosh(_T) * _NODES * (1 - _NODES) * (_T[1] - _T[0])


@checked
def kesten_index(learning_rate: float, batch_size: int, curvature: float = 1.0) -> float:
    r"""The tail index alpha of the stationary theta, for regression on one Gaussian input.

    A step is theta <- (1 - rate curvature chi^2_B / B) theta + kick, with chi^2_B / B the mean of
    the B squared inputs of a fresh batch, and alpha solves E|1 - rate curvature chi^2_B / B|^alpha
    = 1 (Kesten, 1973; Gurbuzbalaban, Simsekli & Zhu, 2021; Hodgkinson & Mahoney, 2021), for any law
    of the kick with lighter tails.  Moments of theta of order alpha and above are infinite: its
    variance for rate curvature >= 2 B / (B + 2).  Raises ValueError unless rate curvature > 0,
    batch_size >= 1 and E log|1 - rate curvature chi^2_B / B| < 0, without which there is no
    stationary law.

    Example:
        >>> round(kesten_index(1.0, batch_size=2), 6)
        2.0
    """
    pull = _relative_rate(learning_rate, batch_size, curvature)
    drift = _mean_log(pull, batch_size)
    if drift > -MIN_DRIFT:
        raise ValueError(
            f"rate x curvature {pull:.3g} at batch {batch_size} has no stationary law: "
            f"log|theta| grows by {drift:.3g} a step"
        )
    high = max(1.0, kesten_index_small(pull, batch_size))
    while _log_moment(high, pull, batch_size) < 0:
        high *= 2
    low = high
    while _log_moment(low, pull, batch_size) >= 0:
        low /= 2
    return float(brentq(lambda a: _log_moment(a, pull, batch_size) / a, low, 2 * low, rtol=1e-10))


@checked
def kesten_index_small(learning_rate: float, batch_size: int, curvature: float = 1.0) -> float:
    """The limit of alpha for a small learning rate: s B / (2 rate curvature), s (log s - 1) = 1.

    s = 3.591; for a batch size of 1 it is 0.4% too large at rate curvature = 0.01, and 4% at 0.1.

    Example:
        >>> round(float(kesten_index_small(0.01, 4)), 1)  # 3.591 4 / 0.02
        718.2
    """
    return batch_size / (2 * learning_rate * curvature * lambertw(math.exp(-1)).real)


@checked
def radial_index(
    learning_rate: float, batch_size: int, dimension: int, curvature: float = 1.0
) -> float:
    r"""The tail index of the stationary |theta|, for regression on several equal normal inputs.

    A step multiplies a large theta by 1 - rate X^T X / B, whose law is invariant under rotations:
    lengths are multiplied by independent numbers in any direction, and alpha solves
    E[((1 - c q / B)^2 + c^2 q w / B^2)^(alpha / 2)] = 1, c = rate curvature, with q and w
    chi-squared of B and d - 1 degrees of freedom (Gurbuzbalaban, Simsekli & Zhu, 2021); with d = 1
    it is `kesten_index`.  It is 2 where the variance becomes infinite, c = 2 B / (B + d + 1).  It
    holds for inputs of one variance only.  Raises ValueError as `kesten_index`, for dimension below
    1, or for an index above 32, whose moments this quadrature does not resolve.

    Example:
        >>> round(radial_index(0.5, batch_size=2, dimension=5), 6)
        2.0
    """
    if dimension < 1:
        raise ValueError(f"regression needs 1 input or more, not {dimension}")
    pull = _relative_rate(learning_rate, batch_size, curvature)
    if dimension == 1:
        return kesten_index(learning_rate, batch_size, curvature)
    logs, weights = _radial_law(pull, batch_size, dimension)
    drift = float(np.sum(np.exp(weights) * logs))
    if drift > -MIN_DRIFT:
        raise ValueError(
            f"rate x curvature {pull:.3g}, batch {batch_size} and {dimension} inputs have "
            f"no stationary law: log|theta| grows by {drift:.3g} a step"
        )

    def growth(order):
        return float(logsumexp(order * logs + weights))

    high = 1.0
    while growth(high) < 0:
        high *= 2
        if high > MAX_INDEX:
            raise ValueError(
                f"at rate x curvature {pull:.3g}, batch {batch_size} and {dimension} inputs "
                "the tail "
                f"index is beyond {MAX_INDEX:g}, too light for this quadrature"
            )
    low = high / 2
    while growth(low) >= 0:
        low /= 2
    return float(brentq(lambda order: growth(order) / order, low, 2 * low, rtol=1e-9))


def _relative_rate(learning_rate, batch_size, curvature):
    pull = learning_rate * curvature
    if not 0 < pull < math.inf or batch_size < 1:
        raise ValueError(
            f"a tail index needs rate x curvature > 0 and a batch >= 1, not {pull} and {batch_size}"
        )
    return pull


def _radial_law(pull, batch_size, dimension):
    """Log lengths of a unit vector after a step at the nodes of the quadrature, and log weights."""
    q, log_q = _chi_squared(batch_size)
    w, log_w = _chi_squared(dimension - 1)
    logs = np.log((1 - pull * q / batch_size) ** 2 + pull**2 * q * w[:, None] / batch_size**2) / 2
    return logs, log_q + log_w[:, None]


def _chi_squared(dof):
    """Nodes and log weights of a quadrature over chi-squared, in panels of its square root."""
    edges = np.linspace(0, (dof - 1) ** 0.5 + MARGIN, PANELS + 1)
    half = np.diff(edges)[:, None] / 2
    z = (edges[:-1, None] + half * (PANEL_NODES + 1)).ravel()
    log_density = (dof - 1) * np.log(z) - z**2 / 2 - (dof / 2 - 1) * math.log(2)
    return z**2, log_density - gammaln(dof / 2) + np.log((half * PANEL_WEIGHTS).ravel())


def _log_moment(order, pull, batch_size):
    """log E|1 - pull z^2 / B|^order for chi z of B degrees of freedom.

    On each side of the zero the integrand is log-concave with a peak no wider than a normal
    density's; the squares w of both peaks solve
    w^2 - w (zero^2 + 2 order + B - 1) + (B - 1) zero^2 = 0.
    """
    zero = (batch_size / pull) ** 0.5
    half = (zero**2 + 2 * order + batch_size - 1) / 2
    upper = half + (half**2 - (batch_size - 1) * zero**2) ** 0.5
    below, above = ((batch_size - 1) * zero**2 / upper) ** 0.5, upper**0.5
    inner = _rule([max(0.0, below - REACH), below, min(below + REACH, zero)])
    outer = _rule([max(zero, above - REACH), above, above + REACH])
    z, w = np.concatenate([inner, outer], axis=1)
    return float(logsumexp(order * _log_gap(z, zero) + _log_chi(z, batch_size), b=w))


def _mean_log(pull, batch_size):
    """E log|1 - pull z^2 / B|, the mean growth of log|theta| per step."""
    zero, peak = (batch_size / pull) ** 0.5, batch_size**0.5
    first, last = max(0.0, peak - REACH), peak + REACH
    z, w = _rule([first, peak, min(max(zero, first), last), last])
    return float(np.sum(w * _log_gap(z, zero) * np.exp(_log_chi(z, batch_size))))


def _rule(ends):
    """Nodes and weights between each of these points and the next."""
    ends = sorted(set(ends))
    lengths = np.diff(ends)[:, None]
    return (np.asarray(ends[:-1])[:, None] + lengths * _NODES).ravel(), (lengths * _WEIGHTS).ravel()


def _log_gap(z, zero):
    return np.log(np.maximum(abs(1 - (z / zero) ** 2), TINY))


def _log_chi(z, batch_size):
    """Log density of the root of chi-squared with `batch_size` degrees of freedom."""
    scale = (batch_size / 2 - 1) * math.log(2) + gammaln(batch_size / 2)
    return (batch_size - 1) * np.log(np.maximum(z, TINY)) - z**2 / 2 - scale
