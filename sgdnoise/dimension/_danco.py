"""Dimension from the lengths and angles of neighbours, compared with those in a ball."""

from functools import cache, partial

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize_scalar
from scipy.special import betainc, betaincinv, digamma, i0e, i1e

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._angles import cosines, gram_matrices
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._ball_caps import shared_fraction as _shared
from sgdnoise.dimension._bounds import check_above
from sgdnoise.dimension._points import Neighbours, find_neighbours

SEED = 20140801  # of the reference, always the same
STRATA = 64  # radii of the reference points
DRAWS = 1 << 18  # scalar products of reference neighbours, unless k is very large
WINDOW = 5  # values of d about the minimum that have a reference
MAX_FACTOR = 48  # d is below this factor of that from distances alone, plus 4


@checked
@any_scale
def danco(
    points,
    k: int = 10,
    *,
    integer: bool = False,
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    r"""The dimension by angle and norm concentration of Ceruti et al. (2014).  (n, D) -> ()

    It is the d whose unit d-ball of n uniform points is most similar: it minimises the sum of two
    Kullback-Leibler divergences, of the density k d r^(d-1) (1 - r^d)^(k-1) of r = r_1 / r_(k+1),
    at its maximum-likelihood d, and of the von Mises density of the angles between the k nearest,
    at its maximum-likelihood direction and concentration, each averaged over the points.  Reference
    values are simulated at a few d about the minimum (`ball_statistics`, from a fixed seed) and
    interpolated: d is real unless `integer`.  It is too large for curved or uneven manifolds.
    Raises ValueError for k < 3, fewer than k + 2 points, or neighbours all at equal distances or
    angles.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(danco(points)), 1)
        2.0
    """
    if k < 3:
        raise ValueError(f"angles need k of 3 or more neighbours, not {k}")
    neighbours = find_neighbours(points, k + 1, neighbours, exclude=exclude)
    points, distances, _ = neighbours
    ratios = as_numpy(distances[:, 0] / distances[:, -1])
    summary = _summary(ratios, _mean_angles(neighbours.first(k)), k)
    d = _most_similar(summary, points.shape[0], k, integer)
    d = namespace(points).asarray(d, dtype=points.dtype, device=device(points))
    return check_above(d, neighbours)


@cache
def ball_statistics(n: int, k: int, d: int) -> tuple[float, float, float]:
    """The statistics of `danco` for n points uniform in the unit d-ball.

    No ball is sampled: the law of the k + 1 nearest of a point at a given radius is known.
    Distances come from order statistics of the volume that two balls share, so that the
    maximum-likelihood d is an integral.  Directions are drawn, stratified, from the part of the
    sphere inside the ball, and their sampling error is reduced by regression on the control
    variates of `_control_variates`.  Another seed changes d by less than a twentieth of the change
    by another sample of 5000 points.  The cost depends neither on n nor on d.
    """
    rng, radius = np.random.default_rng(SEED), ((np.arange(STRATA) + 0.5) / STRATA) ** (1 / d)
    count = int(np.clip(DRAWS // (STRATA * k * k), 8, 64))
    last = np.log(betaincinv(k + 1, n - 1 - k, (np.arange(count) + 0.5) / count))[:, None]
    nodes, weight = _towards_zero(40)
    first = last + np.log(-np.expm1(np.log1p(-nodes) / k))  # the smallest of k numbers
    inside = last + np.log(_stratified(rng, (STRATA, count, k)))
    table = _shared_volumes(d, radius, first.min() / d)
    ratios = np.exp(_log_distances(d, table, first) - _log_distances(d, table, last))
    far = np.exp(_log_distances(d, table, inside))
    along = _cosines_inside(d, radius[:, None, None], far, _stratified(rng, far.shape))
    along = along.reshape(-1, k)
    across = _across(d, along, rng)
    cosine = np.clip(along[:, :, None] * along[:, None, :] + across, -1, 1)
    cosine[:, range(k), range(k)] = 1
    valid, *values = _von_mises(_mean_angle(cosine))
    variates = np.column_stack([np.ones(len(along)), *_control_variates(d, along, across)])[valid]
    nu, tau = np.linalg.lstsq(variates, np.column_stack(values))[0][0]
    return _exponent(ratios, k, weight), float(nu), float(tau)


def _mean_angles(neighbours):
    pairs = [_mean_angle(cosines(gram)) for gram in gram_matrices(neighbours)]
    return tuple(
        np.concatenate([as_numpy(block) for block in blocks]) for blocks in zip(*pairs, strict=True)
    )


def _mean_angle(cosine):
    """Mean cosine and mean sine over the pairs of each neighbourhood."""
    xp, k = namespace(cosine), cosine.shape[1]
    pairs = k * (k - 1)
    sine = xp.sqrt(1 - cosine**2)
    sines = xp.sum(sine, axis=(1, 2)) - xp.sum(xp.linalg.diagonal(sine), axis=1)
    return (xp.sum(cosine, axis=(1, 2)) - k) / pairs, sines / pairs


def _summary(ratios, angles, k):
    """The maximum-likelihood d of r_1 / r_(k+1), and mean direction and concentration."""
    exponent, (_, direction, tau) = _exponent(ratios, k), _von_mises(angles)
    return exponent, float(direction.mean()), float(tau.mean())


def _von_mises(angles):
    """The neighbourhoods that have a concentration, their directions, and concentrations.

    There is none if all angles are equal, as at the end of a curve.
    """
    cosine, sine = angles
    length = np.hypot(sine, cosine)
    valid = length < 1 - 1e-4
    if not valid.any():
        raise ValueError("all angles between the neighbours of a point agree, and do not vary")
    direction = np.arctan2(sine[valid], cosine[valid])
    return valid, direction, _concentration(np.asarray(length[valid], np.float64))


def _exponent(ratios, k, weight=None):
    """The maximum-likelihood d of k d r^(d-1) (1 - r^d)^(k-1) for these r, with weights."""
    log = -np.log(np.asarray(ratios, np.float64))
    mean = np.average(log, axis=-1, weights=weight).mean()
    if not mean > 1e-12:
        raise ValueError("the neighbours of every point are equally distant, and have no dimension")
    log = np.maximum(log, 1e-12 * mean)  # for equal distances

    def score(d):
        steep = np.average(log / np.expm1(np.minimum(d * log, 700.0)), axis=-1, weights=weight)
        return 1 / d - mean + (k - 1) * steep.mean()

    return brentq(score, 1 / mean, k / mean)


def _concentration(length):
    """The von Mises concentration tau of mean resultant length I1(tau) / I0(tau)."""
    tau = np.maximum(length * (2 - length**2) / (1 - length**2), 1e-6)
    for _ in range(6):
        reached = i1e(tau) / i0e(tau)
        tau = np.maximum(tau - (reached - length) / (1 - reached**2 - reached / tau), 1e-6)
    return tau


def _most_similar(summary, n, k, integer):
    """The d of least divergence, searched from the d that the distances alone give."""
    # References cost the most time, and so are simulated near the minimum only: the window of nodes
    # moves with the best node until that stays in place.
    nodes = np.asarray(_nodes(MAX_FACTOR * summary[0] + 4))
    place, previous, known = int(np.argmin(abs(nodes - summary[0]))), None, {}
    while place != previous:
        first = int(np.clip(place - WINDOW // 2, 0, len(nodes) - WINDOW))
        for i in range(first, first + WINDOW):
            known[i] = np.log(ball_statistics(n, k, int(nodes[i])))
        order = sorted(known)
        cost = _divergence(summary, np.exp([known[i] for i in order]), k)
        place, previous = order[int(np.argmin(cost))], place
    curve = CubicSpline(np.log(nodes[order]), [known[i] for i in order])
    divergence = partial(_divergence_at, summary, curve, k)
    bottom, top = nodes[[order[0], order[-1]]]
    if integer:
        return float(bottom + np.argmin(divergence(np.arange(bottom, top + 1))))
    return _argmin(divergence, bottom, top)


def _nodes(top):
    """Every d to 10, then some 12% apart, until one is above the top."""
    nodes = list(range(1, 11))
    while nodes[-1] < top:
        nodes.append(round(1.12 * nodes[-1]) + 1)
    return nodes


def _argmin(curve, bottom, top):
    """The real d between two that minimises a function.

    A minimum is accurate to the root of rounding only: the last step is the vertex of a parabola.
    """
    grid = np.linspace(np.log(bottom), np.log(top), 100)
    i = int(np.argmin(curve(np.exp(grid))))
    edges = grid[max(i - 1, 0)], grid[min(i + 1, 99)]
    x = minimize_scalar(lambda x: curve(np.exp(x)), bounds=edges, method="bounded").x
    h = 1e-3
    left, centre, right = curve(np.exp(np.asarray([x - h, x, x + h])))
    vertex = x + h / 2 * (left - right) / (left - 2 * centre + right)
    return float(np.exp(np.clip(vertex, *edges)))


def _divergence_at(summary, log_reference, k, d):
    return _divergence(summary, np.exp(log_reference(np.log(d))), k)


def _divergence(summary, reference, k):
    """The summed Kullback-Leibler divergences of the reference laws from those of the points."""
    d, nu, tau = np.moveaxis(reference, -1, 0)
    return _norm_divergence(summary[0], d, k) + _angle_divergence(summary[1:], (nu, tau))


def _norm_divergence(a, b, k):
    """The divergence of k b r^(b-1) (1 - r^b)^(k-1) from that with exponent a.

    H_k b/a - 1 - H_(k-1) - log(b/a) - (k-1) sum_i (-1)^i C(k, i) psi(1 + i a/b), whose sum
    is E log(1 - u^(b/a)), u ~ Beta(1, k), here by quadrature, since it loses digits as 2^k.
    """
    q = np.asarray(b / a)[..., None]
    s, weight = _towards_zero(60)
    log_u = np.log1p(-(s ** (1 / k)))
    mean = np.sum(weight * np.log(-np.expm1(q * log_u)), axis=-1)
    harmonic = digamma(k + 1) - digamma(1)
    q = q[..., 0]
    return harmonic * q - 1 - (harmonic - 1 / k) - np.log(q) - (k - 1) * mean


@cache
def _towards_zero(count):
    """Quadrature nodes and weights on (0, 1), denser towards the singular logarithm at 0."""
    s, weight = np.polynomial.legendre.leggauss(count)
    return ((s + 1) / 2) ** 3, weight * 3 * ((s + 1) / 2) ** 2 / 2


def _angle_divergence(summary, reference):
    """The divergence of one von Mises law from another, each (direction, concentration)."""
    (nu, tau), (nu_ref, tau_ref) = summary, reference
    lengths = np.log(i0e(tau_ref) / i0e(tau)) + tau_ref - tau
    return lengths + i1e(tau) / i0e(tau) * (tau - tau_ref * np.cos(nu - nu_ref))


def _stratified(rng, shape):
    """Uniform numbers, stratified within each row, in random order."""
    strata = rng.permuted(np.tile(np.arange(shape[1] * shape[2]), (shape[0], 1)), axis=1)
    return (strata.reshape(shape) + rng.uniform(size=shape)) / (shape[1] * shape[2])


def _shared_volumes(d, radius, smallest):
    """Logs of distances from points at these radii, and of the volume shared within each, (r, t).

    `smallest` is the log of the smallest distance needed.
    """
    smallest = np.maximum(np.log(1 - radius), np.minimum(smallest, np.log(1 + radius) - 1e-6))
    table = np.linspace(smallest, np.log(1 + radius), 100, axis=1)
    shared = _shared(d, radius[:, None], np.exp(table))
    return table, np.log(np.maximum(shared, 1e-300))


def _log_distances(d, table, log_volume):
    """Logs of the distances at which balls about points share these volumes with the unit ball.

    The volume of the unit ball is 1; a ball inside it has the volume distance^d.
    """
    shape = np.broadcast_shapes((len(table[0]), 1, 1), log_volume.shape)
    log_volume = np.broadcast_to(log_volume, shape)
    rows = [np.interp(v, y, x) for x, y, v in zip(*table, log_volume, strict=True)]
    return np.where(log_volume / d > table[0][:, :1, None], rows, log_volume / d)


def _cosines_inside(d, radius, distance, uniform):
    """Cosines to the radius of uniform directions that stay within the unit ball."""
    largest = np.clip((1 - radius**2 - distance**2) / (2 * radius * distance), -1, 1)
    if d == 1:
        return np.where((uniform < 0.5) & (largest >= 1), 1.0, -1.0)
    angle = np.linspace(0, np.pi, 4097)[1:]  # from straight inwards
    below = betainc((d - 1) / 2, (d - 1) / 2, np.sin(angle / 2) ** 2)
    angle, log = angle[below > 0], np.log(below[below > 0])
    reach = np.log(uniform) + np.interp(np.arccos(-largest), angle, log)
    return -np.cos(np.interp(reach, log, angle))


def _across(d, along, rng):
    """Scalar products of the components of directions across the radius, with a zero diagonal."""
    (m, k), across = along.shape, np.sqrt(1 - along**2)
    if d == 1:
        return np.zeros((m, k, k))
    across = across[:, :, None] * _directions(d - 1, (m,), k, rng)
    products = across @ np.swapaxes(across, -1, -2)
    products[:, range(k), range(k)] = 0
    return products


def _control_variates(d, along, across):
    """Sums of mean zero for any cosines to the radius, correlated with the mean angles.

    Directions x of R^(d-1) have E x.y = 0 and E (x.y)^2 = 1 / (d - 1).
    """
    squares = (1 - along**2) * (d > 1)
    expected = (squares.sum(1) ** 2 - (squares**2).sum(1)) / max(d - 1, 1)
    yield across.sum((1, 2))
    yield np.einsum("mi,mij,mj->m", along, across, along)
    yield (across**2).sum((1, 2)) - expected


def _directions(d, shape, k, rng):
    """k uniform directions of R^d, rotated so that the i-th has only its first i coordinates."""
    width = min(k, d)
    vectors = np.tril(rng.normal(size=(*shape, k, width)))
    place = np.arange(width)
    vectors[..., place, place] = np.sqrt(rng.chisquare(d - place, (*shape, width)))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
