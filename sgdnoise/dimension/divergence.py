"""Dimension whose neighbours lie, in length and in angle, as those of points in a ball."""

from functools import cache, partial

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize_scalar
from scipy.special import betainc, digamma, i0e, i1e

from sgdnoise.arrays import as_numpy, device, namespace
from sgdnoise.dimension.angles import cosines, gram_matrices
from sgdnoise.dimension.cloud import Neighbours, nearest

__all__ = ["ball_statistics", "danco"]

SEED = 20140801  # of the reference, always the same
STRATA = 64  # radii at which reference points lie
DRAWS = 1 << 22  # scalar products of reference neighbours held at once


def danco(points, k: int = 10, *, integer: bool = False, neighbours: Neighbours | None = None):
    r"""Angle and norm concentration of Ceruti et al. (2014).  (n, D) -> ()

    The d at which n uniform points of the unit d-ball look most like these: least sum of two
    Kullback-Leibler divergences, of the law k d r^(d-1) (1 - r^d)^(k-1) of r = r_1 / r_(k+1), at
    its likeliest d, and of von Mises' law of the angles between the k nearest, at its likeliest
    direction and concentration, each averaged over the points.  Reference values are simulated at
    some d (`ball_statistics`, from a fixed seed) and interpolated between: d is real unless
    `integer`.  Curved or uneven clouds come out too large.
    Raises ValueError for k < 3, fewer than k + 2 points, or neighbours all equally far or seen
    at equal angles.
    """
    if k < 3:
        raise ValueError(f"angles need k of 3 or more neighbours, not {k}")
    near = nearest(points, k + 1, neighbours)
    xp = namespace(near.points)
    closest = near.distances[:, 0] / near.distances[:, -1]
    found = _summary(as_numpy(closest), _mean_angles(near.first(k)), k)
    d = _most_alike(found, near.points.shape[0], k, integer)
    return xp.asarray(d, dtype=near.points.dtype, device=device(near.points))


@cache
def ball_statistics(n: int, k: int, d: int) -> tuple[float, float, float]:
    """What `danco` measures of n points uniform in the unit d-ball.

    No ball is filled: the law of the k + 1 nearest of a point at a given radius is known.
    Distances come from order statistics of the volume that two balls share, directions from the
    part of the sphere inside the ball, so that the cost does not depend on n, nor on d.
    """
    rng = np.random.default_rng(SEED)
    radius = ((np.arange(STRATA) + 0.5) / STRATA) ** (1 / d)
    shape = (STRATA, int(np.clip(DRAWS // (STRATA * k * k), 2, 64)), 1)
    last = rng.beta(k + 1, n - 1 - k, shape)
    volume = last * rng.uniform(size=(*shape[:2], k))
    log_far = _log_distances(d, radius, np.concatenate([volume, last], axis=2))
    far = np.exp(log_far[..., :k])
    closest = np.exp(log_far[..., :k].min(2) - log_far[..., k])
    along = _cosines_inside(d, radius[:, None, None], far, rng)
    across = np.sqrt(1 - along**2)
    angles = along[..., None] * along[..., None, :]
    if d > 1:
        across = across[..., None] * _directions(d - 1, shape[:2], k, rng)
        angles = angles + across @ np.swapaxes(across, -1, -2)
    return _summary(closest.ravel(), _mean_angle(np.clip(angles, -1, 1).reshape(-1, k, k)), k)


def _mean_angles(near):
    parts = [_mean_angle(cosines(gram)) for gram in gram_matrices(near)]
    return tuple(
        np.concatenate([as_numpy(part) for part in side]) for side in zip(*parts, strict=True)
    )


def _mean_angle(cosine):
    """Mean cosine and mean sine over the pairs of each neighbourhood."""
    xp, k = namespace(cosine), cosine.shape[1]
    pairs = k * (k - 1)
    sine = xp.sqrt(1 - cosine**2)
    both = xp.sum(sine, axis=(1, 2)) - xp.sum(xp.linalg.diagonal(sine), axis=1)
    return (xp.sum(cosine, axis=(1, 2)) - k) / pairs, both / pairs


def _summary(closest, angles, k):
    """Likeliest d of r_1 / r_(k+1), mean likeliest direction and mean likeliest concentration.

    Neighbourhoods where all angles but agree (the end of a curve) have no concentration.
    """
    exponent, (cosine, sine) = _exponent(closest, k), angles
    direction, length = np.arctan2(sine, cosine), np.hypot(sine, cosine)
    spread = length < 1 - 1e-4
    if not spread.any():
        raise ValueError("all angles between the neighbours of a point agree, and have no spread")
    tau = _concentration(np.asarray(length[spread], np.float64))
    return exponent, float(direction[spread].mean()), float(tau.mean())


def _exponent(closest, k):
    """The d that makes k d r^(d-1) (1 - r^d)^(k-1) likeliest for these r."""
    log = -np.log(np.asarray(closest, np.float64))
    mean = log.mean()
    if not mean > 1e-12:
        raise ValueError("the neighbours of every point are all equally far, and have no dimension")
    log = np.maximum(log, 1e-12 * mean)  # equally far
    return brentq(
        lambda d: 1 / d - mean + (k - 1) * np.mean(log / np.expm1(np.minimum(d * log, 700.0))),
        1 / mean,
        k / mean,
    )


def _concentration(length):
    """Von Mises' tau whose mean resultant length I1(tau) / I0(tau) is this."""
    tau = np.maximum(length * (2 - length**2) / (1 - length**2), 1e-6)
    for _ in range(6):
        reached = i1e(tau) / i0e(tau)
        tau = np.maximum(tau - (reached - length) / (1 - reached**2 - reached / tau), 1e-6)
    return tau


def _most_alike(found, n, k, integer):
    """The d at which the divergence is least, between 1 and, if need be, ever larger d."""
    least = _least_integer if integer else _least
    for times in (3, 12, 48):
        nodes = _nodes(times * found[0] + 4)
        table = np.log([ball_statistics(n, k, node) for node in nodes])
        curve = CubicSpline(np.log(nodes), table)
        d = least(partial(_divergence_at, found, curve, k), nodes[-1])
        if d < 0.9 * nodes[-1]:
            break
    return float(d)


def _nodes(top):
    """Every d to 10, then some 12% apart, until one is above the top."""
    nodes = list(range(1, 11))
    while nodes[-1] < top:
        nodes.append(round(1.12 * nodes[-1]) + 1)
    return nodes


def _least(curve, top):
    """The real d from 1 to the top at which a function of it is least.

    A minimum is known to the root of the rounding only: the last step is the vertex of a parabola.
    """
    grid = np.linspace(0, np.log(top), 400)
    at = int(np.argmin(curve(np.exp(grid))))
    edges = grid[max(at - 1, 0)], grid[min(at + 1, 399)]
    x = minimize_scalar(lambda x: curve(np.exp(x)), bounds=edges, method="bounded").x
    h = 1e-3
    left, here, right = curve(np.exp(np.asarray([x - h, x, x + h])))
    return np.exp(np.clip(x + h / 2 * (left - right) / (left - 2 * here + right), *edges))


def _least_integer(curve, top):
    return 1 + np.argmin(curve(np.arange(1, top + 1)))


def _divergence_at(found, log_reference, k, d):
    """Kullback-Leibler divergences of the reference laws at d from those found, summed."""
    other, nu, tau = np.moveaxis(np.exp(log_reference(np.log(d))), -1, 0)
    return _norm_divergence(found[0], other, k) + _angle_divergence(found[1:], (nu, tau))


def _norm_divergence(d, other, k):
    """Of k b r^(b-1) (1 - r^b)^(k-1), b other, from that with a = d.

    H_k b/a - 1 - H_(k-1) - log(b/a) - (k-1) sum_i (-1)^i C(k, i) psi(1 + i a/b), whose sum
    is E log(1 - u^(b/a)), u ~ Beta(1, k), here by quadrature, since it loses digits as 2^k.
    """
    q = np.asarray(other / d)[..., None]
    s, weight = np.polynomial.legendre.leggauss(60)
    s, weight = ((s + 1) / 2) ** 3, weight * 3 * ((s + 1) / 2) ** 2 / 2
    log_u = np.log1p(-(s ** (1 / k)))
    mean = np.sum(weight * np.log(-np.expm1(q * log_u)), axis=-1)
    harmonic = digamma(k + 1) - digamma(1)
    q = q[..., 0]
    return harmonic * q - 1 - (harmonic - 1 / k) - np.log(q) - (k - 1) * mean


def _angle_divergence(found, other):
    """Of von Mises' law of direction nu' and concentration tau' from that of nu and tau."""
    (nu, tau), (nu_other, tau_other) = found, other
    lengths = np.log(i0e(tau_other) / i0e(tau)) + tau_other - tau
    return lengths + i1e(tau) / i0e(tau) * (tau - tau_other * np.cos(nu - nu_other))


def _log_distances(d, radius, volume):
    """log of the distances at which a ball about a point shares these volumes with the unit ball.

    The point is at this radius, one for each row, and the volume of the unit ball is 1.
    """
    found = np.log(volume) / d
    for row, at in enumerate(radius):
        table = np.linspace(np.log(1 - at), np.log(1 + at), 400)
        shared = np.log(np.maximum(_shared(d, at, np.exp(table)), 1e-300))
        outside = found[row] > table[0]  # of the sphere about the point, some
        found[row][outside] = np.interp(d * found[row][outside], shared, table)
    return found


def _shared(d, radius, distance):
    """The part of the unit d-ball within these distances, 1 - radius or more, of a point."""
    plane = (1 + radius**2 - distance**2) / (2 * radius)
    other = (radius**2 + distance**2 - 1) / (2 * radius * distance)
    return _cap(d, plane) + distance**d * _cap(d, other)


def _cap(d, height):
    """The part of the unit d-ball above a height."""
    half = betainc((d + 1) / 2, 0.5, np.clip(1 - height**2, 0, 1)) / 2
    return np.where(height > 0, half, 1 - half)


def _cosines_inside(d, radius, distance, rng):
    """Cosine to the radius of directions uniform where they stay within the unit ball."""
    most = np.clip((1 - radius**2 - distance**2) / (2 * radius * distance), -1, 1)
    uniform = rng.uniform(size=distance.shape)
    if d == 1:
        return np.where((uniform < 0.5) & (most >= 1), 1.0, -1.0)
    angle = np.linspace(0, np.pi, 4097)[1:]  # from straight inwards
    below = betainc((d - 1) / 2, (d - 1) / 2, np.sin(angle / 2) ** 2)
    angle, log = angle[below > 0], np.log(below[below > 0])
    reach = np.log(uniform) + np.interp(np.arccos(-most), angle, log)
    return -np.cos(np.interp(reach, log, angle))


def _directions(d, shape, k, rng):
    """k uniform directions of R^d, turned so that the i-th has only its first i coordinates."""
    width = min(k, d)
    found = np.tril(rng.normal(size=(*shape, k, width)))
    place = np.arange(width)
    found[..., place, place] = np.sqrt(rng.chisquare(d - place, (*shape, width)))
    return found / np.linalg.norm(found, axis=-1, keepdims=True)
