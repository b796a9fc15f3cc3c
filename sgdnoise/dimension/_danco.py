"""Dimension whose neighbours lie, in length and in angle, as those of points in a ball."""

from functools import cache, partial

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize_scalar
from scipy.special import betainc, betaincinv, digamma, i0e, i1e

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._angles import cosines, gram_matrices
from sgdnoise.dimension._points import Neighbours, find_neighbours

SEED = 20140801  # of the reference, always the same
STRATA = 64  # radii at which reference points lie
DRAWS = 1 << 18  # scalar products of reference neighbours, if not k is very large
WINDOW = 5  # values of d at which a reference is wanted, about the least
MOST = 48  # times the likeliest d of distances alone, and some: no larger d is sought


def danco(points, k: int = 10, *, integer: bool = False, neighbours: Neighbours | None = None):
    r"""Angle and norm concentration of Ceruti et al. (2014).  (n, D) -> ()

    The d at which n uniform points of the unit d-ball look most like these: least sum of two
    Kullback-Leibler divergences, of the law k d r^(d-1) (1 - r^d)^(k-1) of r = r_1 / r_(k+1), at
    its likeliest d, and of von Mises' law of the angles between the k nearest, at its likeliest
    direction and concentration, each averaged over the points.  Reference values are found at a
    few d about the least (`ball_statistics`, from a fixed seed) and interpolated between: d is real
    unless `integer`.  Curved or uneven clouds come out too large.
    Raises ValueError for k < 3, fewer than k + 2 points, or neighbours all equally far or seen
    at equal angles.
    """
    if k < 3:
        raise ValueError(f"angles need k of 3 or more neighbours, not {k}")
    near = find_neighbours(points, k + 1, neighbours)
    xp = namespace(near.points)
    closest = near.distances[:, 0] / near.distances[:, -1]
    found = _summary(as_numpy(closest), _mean_angles(near.first(k)), k)
    d = _most_alike(found, near.points.shape[0], k, integer)
    return xp.asarray(d, dtype=near.points.dtype, device=device(near.points))


@cache
def ball_statistics(n: int, k: int, d: int) -> tuple[float, float, float]:
    """What `danco` measures of n points uniform in the unit d-ball.

    No ball is filled: the law of the k + 1 nearest of a point at a given radius is known.
    Distances come from order statistics of the volume that two balls share, so that the likeliest d
    is an integral.  Directions are drawn from the part of the sphere inside the ball, evenly, and
    what chance does is taken off by regression on `_chance`.  Drawn anew it would move d by less
    than a twentieth of what 5000 points drawn anew do.  The cost depends neither on n nor on d.
    """
    rng, radius = np.random.default_rng(SEED), ((np.arange(STRATA) + 0.5) / STRATA) ** (1 / d)
    count = int(np.clip(DRAWS // (STRATA * k * k), 8, 64))
    last = np.log(betaincinv(k + 1, n - 1 - k, (np.arange(count) + 0.5) / count))[:, None]
    share, weight = _towards_zero(40)
    first = last + np.log(-np.expm1(np.log1p(-share) / k))  # the least of k numbers
    inside = last + np.log(_evenly(rng, (STRATA, count, k)))
    table = _shared_volumes(d, radius, first.min() / d)
    closest = np.exp(_log_distances(d, table, first) - _log_distances(d, table, last))
    far = np.exp(_log_distances(d, table, inside))
    uniform = _evenly(rng, far.shape)
    along = _cosines_inside(d, radius[:, None, None], far, uniform).reshape(-1, k)
    across = _across(d, along, rng)
    cosine = along[:, :, None] * along[:, None, :] + across
    cosine[:, range(k), range(k)] = 1
    spread, *values = _von_mises(_mean_angle(np.clip(cosine, -1, 1)))
    chance = np.column_stack([np.ones(len(along)), *_chance(d, along, across)])[spread]
    nu, tau = np.linalg.lstsq(chance, np.column_stack(values))[0][0]
    return _exponent(closest, k, weight), float(nu), float(tau)


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
    """Likeliest d of r_1 / r_(k+1), mean likeliest direction and mean likeliest concentration."""
    exponent, (_, direction, tau) = _exponent(closest, k), _von_mises(angles)
    return exponent, float(direction.mean()), float(tau.mean())


def _von_mises(angles):
    """Which neighbourhoods have a likeliest concentration, their direction, and this.

    Where all angles but agree (the end of a curve) there is none.
    """
    cosine, sine = angles
    length = np.hypot(sine, cosine)
    spread = length < 1 - 1e-4
    if not spread.any():
        raise ValueError("all angles between the neighbours of a point agree, and have no spread")
    direction = np.arctan2(sine[spread], cosine[spread])
    return spread, direction, _concentration(np.asarray(length[spread], np.float64))


def _exponent(closest, k, weight=None):
    """The d that makes k d r^(d-1) (1 - r^d)^(k-1) likeliest for these r, of this weight each."""
    log = -np.log(np.asarray(closest, np.float64))
    mean = np.average(log, axis=-1, weights=weight).mean()
    if not mean > 1e-12:
        raise ValueError("the neighbours of every point are all equally far, and have no dimension")
    log = np.maximum(log, 1e-12 * mean)  # equally far

    def score(d):
        steep = np.average(log / np.expm1(np.minimum(d * log, 700.0)), axis=-1, weights=weight)
        return 1 / d - mean + (k - 1) * steep.mean()

    return brentq(score, 1 / mean, k / mean)


def _concentration(length):
    """Von Mises' tau whose mean resultant length I1(tau) / I0(tau) is this."""
    tau = np.maximum(length * (2 - length**2) / (1 - length**2), 1e-6)
    for _ in range(6):
        reached = i1e(tau) / i0e(tau)
        tau = np.maximum(tau - (reached - length) / (1 - reached**2 - reached / tau), 1e-6)
    return tau


def _most_alike(found, n, k, integer):
    """The d at which the divergence is least, among those about the one that distances tell.

    Of what is measured, each tells one d, and the least lies between: the walk there is downhill.
    """
    nodes = np.asarray(_nodes(MOST * found[0] + 4))
    place, before, known = int(np.argmin(abs(nodes - found[0]))), None, {}
    while place != before:
        first = int(np.clip(place - WINDOW // 2, 0, len(nodes) - WINDOW))
        for i in range(first, first + WINDOW):
            known[i] = np.log(ball_statistics(n, k, int(nodes[i])))
        seen = sorted(known)
        cost = _divergence(found, np.exp([known[i] for i in seen]), k)
        place, before = seen[int(np.argmin(cost))], place
    curve = CubicSpline(np.log(nodes[seen]), [known[i] for i in seen])
    at, (bottom, top) = partial(_divergence_at, found, curve, k), nodes[[seen[0], seen[-1]]]
    if integer:
        return float(bottom + np.argmin(at(np.arange(bottom, top + 1))))
    return _least(at, bottom, top)


def _nodes(top):
    """Every d to 10, then some 12% apart, until one is above the top."""
    nodes = list(range(1, 11))
    while nodes[-1] < top:
        nodes.append(round(1.12 * nodes[-1]) + 1)
    return nodes


def _least(curve, bottom, top):
    """The real d between two at which a function of it is least.

    A minimum is known to the root of the rounding only: the last step is the vertex of a parabola.
    """
    grid = np.linspace(np.log(bottom), np.log(top), 100)
    at = int(np.argmin(curve(np.exp(grid))))
    edges = grid[max(at - 1, 0)], grid[min(at + 1, 99)]
    x = minimize_scalar(lambda x: curve(np.exp(x)), bounds=edges, method="bounded").x
    h = 1e-3
    left, here, right = curve(np.exp(np.asarray([x - h, x, x + h])))
    return float(np.exp(np.clip(x + h / 2 * (left - right) / (left - 2 * here + right), *edges)))


def _divergence_at(found, log_reference, k, d):
    return _divergence(found, np.exp(log_reference(np.log(d))), k)


def _divergence(found, reference, k):
    """Kullback-Leibler divergences of the reference laws from those found, summed."""
    other, nu, tau = np.moveaxis(reference, -1, 0)
    return _norm_divergence(found[0], other, k) + _angle_divergence(found[1:], (nu, tau))


def _norm_divergence(d, other, k):
    """Of k b r^(b-1) (1 - r^b)^(k-1), b other, from that with a = d.

    H_k b/a - 1 - H_(k-1) - log(b/a) - (k-1) sum_i (-1)^i C(k, i) psi(1 + i a/b), whose sum
    is E log(1 - u^(b/a)), u ~ Beta(1, k), here by quadrature, since it loses digits as 2^k.
    """
    q = np.asarray(other / d)[..., None]
    s, weight = _towards_zero(60)
    log_u = np.log1p(-(s ** (1 / k)))
    mean = np.sum(weight * np.log(-np.expm1(q * log_u)), axis=-1)
    harmonic = digamma(k + 1) - digamma(1)
    q = q[..., 0]
    return harmonic * q - 1 - (harmonic - 1 / k) - np.log(q) - (k - 1) * mean


@cache
def _towards_zero(count):
    """Nodes and weights on (0, 1), closer towards 0, where a logarithm has no end."""
    s, weight = np.polynomial.legendre.leggauss(count)
    return ((s + 1) / 2) ** 3, weight * 3 * ((s + 1) / 2) ** 2 / 2


def _angle_divergence(found, other):
    """Of von Mises' law of direction nu' and concentration tau' from that of nu and tau."""
    (nu, tau), (nu_other, tau_other) = found, other
    lengths = np.log(i0e(tau_other) / i0e(tau)) + tau_other - tau
    return lengths + i1e(tau) / i0e(tau) * (tau - tau_other * np.cos(nu - nu_other))


def _evenly(rng, shape):
    """Uniform numbers: of each row one in each of as many equal parts, in random order."""
    part = rng.permuted(np.tile(np.arange(shape[1] * shape[2]), (shape[0], 1)), axis=1)
    return (part.reshape(shape) + rng.uniform(size=shape)) / (shape[1] * shape[2])


def _shared_volumes(d, radius, least):
    """log of distances from points at these radii, and of the volume shared within each, (r, t).

    `least` is the log of the least distance asked for.
    """
    least = np.maximum(np.log(1 - radius), np.minimum(least, np.log(1 + radius) - 1e-6))
    table = np.linspace(least, np.log(1 + radius), 100, axis=1)
    shared = _shared(d, radius[:, None], np.exp(table))
    return table, np.log(np.maximum(shared, 1e-300))


def _log_distances(d, table, log_volume):
    """log of the distances at which balls about points share these volumes with the unit ball.

    The volume of the unit ball is 1; where a ball is all inside, its volume is distance^d.
    """
    shape = np.broadcast_shapes((len(table[0]), 1, 1), log_volume.shape)
    log_volume = np.broadcast_to(log_volume, shape)
    rows = [np.interp(v, y, x) for x, y, v in zip(*table, log_volume, strict=True)]
    return np.where(log_volume / d > table[0][:, :1, None], rows, log_volume / d)


def _shared(d, radius, distance):
    """The part of the unit d-ball within these distances, 1 - radius or more, of a point."""
    plane = (1 + radius**2 - distance**2) / (2 * radius)
    other = (radius**2 + distance**2 - 1) / (2 * radius * distance)
    return _cap(d, plane) + np.exp(np.minimum(d * np.log(distance), 700.0)) * _cap(d, other)


def _cap(d, height):
    """The part of the unit d-ball above a height."""
    half = betainc((d + 1) / 2, 0.5, np.clip(1 - height**2, 0, 1)) / 2
    return np.where(height > 0, half, 1 - half)


def _cosines_inside(d, radius, distance, uniform):
    """Cosine to the radius of directions uniform where they stay within the unit ball."""
    most = np.clip((1 - radius**2 - distance**2) / (2 * radius * distance), -1, 1)
    if d == 1:
        return np.where((uniform < 0.5) & (most >= 1), 1.0, -1.0)
    angle = np.linspace(0, np.pi, 4097)[1:]  # from straight inwards
    below = betainc((d - 1) / 2, (d - 1) / 2, np.sin(angle / 2) ** 2)
    angle, log = angle[below > 0], np.log(below[below > 0])
    reach = np.log(uniform) + np.interp(np.arccos(-most), angle, log)
    return -np.cos(np.interp(reach, log, angle))


def _across(d, along, rng):
    """Products of what is across the radius of each two directions, zero of each with itself."""
    (m, k), across = along.shape, np.sqrt(1 - along**2)
    if d == 1:
        return np.zeros((m, k, k))
    across = across[:, :, None] * _directions(d - 1, (m,), k, rng)
    products = across @ np.swapaxes(across, -1, -2)
    products[:, range(k), range(k)] = 0
    return products


def _chance(d, along, across):
    """Sums that have mean zero whatever the cosines to the radius are, and move the mean angles.

    Directions x of R^(d-1) have E x.y = 0 and E (x.y)^2 = 1 / (d - 1).
    """
    beside = (1 - along**2) * (d > 1)
    expected = (beside.sum(1) ** 2 - (beside**2).sum(1)) / max(d - 1, 1)
    yield across.sum((1, 2))
    yield np.einsum("mi,mij,mj->m", along, across, along)
    yield (across**2).sum((1, 2)) - expected


def _directions(d, shape, k, rng):
    """k uniform directions of R^d, turned so that the i-th has only its first i coordinates."""
    width = min(k, d)
    found = np.tril(rng.normal(size=(*shape, k, width)))
    place = np.arange(width)
    found[..., place, place] = np.sqrt(rng.chisquare(d - place, (*shape, width)))
    return found / np.linalg.norm(found, axis=-1, keepdims=True)
