"""How heavy multiplicative noise makes the tails of the parameters that descent leaves behind."""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, lambertw, logsumexp

REACH = 13  # beyond this many from its peak an integrand is below exp(-REACH^2 / 2) of it
LARGEST = 32.0  # index of several inputs that the rule for chi-squared resolves
PANEL_NODES, PANEL_WEIGHTS = np.polynomial.legendre.leggauss(60)
PANELS, FAR = 12, 12.0  # of that rule, and how many deviations they reach beyond the last peak
TINY = 1e-300
EDGE = 1e-9  # below this a growth cannot be told from none
_T = np.linspace(-4, 4, 301)  # the rule of Takahasi & Mori (1974), for kinks at an end
_NODES = 1 / (1 + np.exp(-np.pi * np.sinh(_T)))
_WEIGHTS = np.pi * np.cosh(_T) * _NODES * (1 - _NODES) * (_T[1] - _T[0])


def kesten_index(learning_rate: float, batch_size: int, curvature: float = 1.0) -> float:
    r"""Tail index alpha of theta at rest, for regression on one Gaussian input.

    A step is theta <- (1 - rate curvature chi^2_B / B) theta + kick, with chi^2_B / B the mean of
    the B squared inputs of a fresh batch, and alpha solves E|1 - rate curvature chi^2_B / B|^alpha
    = 1 (Kesten, 1973; Gurbuzbalaban, Simsekli & Zhu, 2021; Hodgkinson & Mahoney, 2021), whatever
    the law of the kick, if its own tails are lighter.  Moments of theta of order alpha and above
    are infinite: its variance where rate curvature >= 2 B / (B + 2).  Raises ValueError unless
    rate curvature > 0, batch >= 1 and E log|1 - rate curvature chi^2_B / B| < 0, without which
    there is no law at rest.
    """
    pull = _pull(learning_rate, batch_size, curvature)
    drift = _mean_log(pull, batch_size)
    if drift > -EDGE:
        raise ValueError(
            f"rate x curvature {pull:.3g} at batch {batch_size} has no law at rest: "
            f"log|theta| grows by {drift:.3g} a step"
        )
    high = max(1.0, kesten_index_small(pull, batch_size))
    while _log_moment(high, pull, batch_size) < 0:
        high *= 2
    low = high
    while _log_moment(low, pull, batch_size) >= 0:
        low /= 2
    return float(brentq(lambda a: _log_moment(a, pull, batch_size) / a, low, 2 * low, rtol=1e-10))


def kesten_index_small(learning_rate: float, batch_size: int, curvature: float = 1.0) -> float:
    """What alpha tends to at a small learning rate: s B / (2 rate curvature), s (log s - 1) = 1.

    s = 3.591, which at batch 1 is 0.4% too much at rate curvature = 0.01 and 4% at 0.1.
    """
    return batch_size / (2 * learning_rate * curvature * lambertw(math.exp(-1)).real)


def radial_index(
    learning_rate: float, batch_size: int, dimension: int, curvature: float = 1.0
) -> float:
    r"""Tail index of |theta| at rest, regression on `dimension` normal inputs of one variance.

    A step multiplies theta far out by 1 - rate X^T X / B, whose law no rotation changes: lengths
    are multiplied by independent numbers whatever the direction, and alpha solves
    E[((1 - c q / B)^2 + c^2 q w / B^2)^(alpha / 2)] = 1, c = rate curvature, with q and w
    chi-squared of B and d - 1 degrees of freedom (Gurbuzbalaban, Simsekli & Zhu, 2021); with d = 1
    it is `kesten_index`.  Two where the variance begins to be infinite, c = 2 B / (B + d + 1).  For
    inputs that are all alike alone.  Raises ValueError as `kesten_index`, for dimension below 1, or
    for an index beyond 32, whose moments this quadrature cannot see.
    """
    if dimension < 1:
        raise ValueError(f"regression needs 1 input or more, not {dimension}")
    pull = _pull(learning_rate, batch_size, curvature)
    if dimension == 1:
        return kesten_index(learning_rate, batch_size, curvature)
    logs, weights = _radial_law(pull, batch_size, dimension)
    drift = float(np.sum(np.exp(weights) * logs))
    if drift > -EDGE:
        raise ValueError(
            f"rate x curvature {pull:.3g}, batch {batch_size} and {dimension} inputs have "
            f"no law at rest: log|theta| grows by {drift:.3g} a step"
        )

    def growth(order):
        return float(logsumexp(order * logs + weights))

    high = 1.0
    while growth(high) < 0:
        high *= 2
        if high > LARGEST:
            raise ValueError(
                f"at rate x curvature {pull:.3g}, batch {batch_size} and {dimension} inputs "
                "the tail "
                f"index is beyond {LARGEST:g}, too light for this quadrature"
            )
    low = high / 2
    while growth(low) >= 0:
        low /= 2
    return float(brentq(lambda order: growth(order) / order, low, 2 * low, rtol=1e-9))


def _pull(learning_rate, batch_size, curvature):
    pull = learning_rate * curvature
    if not 0 < pull < math.inf or batch_size < 1:
        raise ValueError(
            f"a tail index needs rate x curvature > 0 and a batch >= 1, not {pull} and {batch_size}"
        )
    return pull


def _radial_law(pull, batch_size, dimension):
    """Logarithms of the lengths of a unit vector after a step, and log weights of each."""
    q, log_q = _chi_squared(batch_size)
    w, log_w = _chi_squared(dimension - 1)
    logs = np.log((1 - pull * q / batch_size) ** 2 + pull**2 * q * w[:, None] / batch_size**2) / 2
    return logs, log_q + log_w[:, None]


def _chi_squared(freedom):
    """Nodes and log weights of chi-squared, by its root, panel by panel."""
    edges = np.linspace(0, (freedom - 1) ** 0.5 + FAR, PANELS + 1)
    half = np.diff(edges)[:, None] / 2
    z = (edges[:-1, None] + half * (PANEL_NODES + 1)).ravel()
    law = (freedom - 1) * np.log(z) - z**2 / 2 - (freedom / 2 - 1) * math.log(2)
    return z**2, law - gammaln(freedom / 2) + np.log((half * PANEL_WEIGHTS).ravel())


def _log_moment(order, pull, batch_size):
    """log E|1 - pull z^2 / B|^order for chi z of B degrees of freedom.

    Each side of the zero the integrand is log-concave with a peak no wider than a normal law's;
    the squares w of both peaks solve w^2 - w (zero^2 + 2 order + B - 1) + (B - 1) zero^2 = 0.
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
    """E log|1 - pull z^2 / B|: by how much log|theta| grows in a step."""
    zero, middle = (batch_size / pull) ** 0.5, batch_size**0.5
    first, last = max(0.0, middle - REACH), middle + REACH
    z, w = _rule([first, middle, min(max(zero, first), last), last])
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
