"""Dimension as a number of principal components, of all points or of each neighbourhood."""

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._neighbours import TILE
from sgdnoise.dimension._points import Neighbours, check_points, find_neighbours
from sgdnoise.dimension._spectral import debiased, singular_values

TRACY_WIDOM = 0.9793  # below which the largest eigenvalue of real noise lies 19 times in 20
SHUFFLES = 19  # exceeded all by one of 20 alike


def pca(points, *, level: float | str = 0.95, rng: np.random.Generator | None = None):
    r"""Number of principal components that explain the points, or exceed noise.  (n, D) -> ()

    level: a share of the variance, reached by the least number of components;
    "marchenko-pastur", those above the edge s^2 (sqrt(n - 1) + sqrt(D))^2 of white noise, widened
    to exceed noise alone 19 times in 20 as Johnstone (2001) says, with s^2 from the median singular
    value as Gavish & Donoho (2014) do, so that signal fills under half of the components, and is
    counted short of that where it fills much;
    "parallel", the leading ones above each of 19 clouds whose columns are shuffled apart, as in
    the parallel analysis of Horn (1965), which depends on the axes and draws from `rng`.
    By numpy but for shares.
    Raises ValueError as `cloud` does, for another level, and for "parallel" without rng.
    """
    points = check_points(points)
    values = singular_values(points)
    match level:
        case "marchenko-pastur":
            count = _above_noise(as_numpy(values), *points.shape)
        case "parallel":
            count = _above_shuffled(as_numpy(values), as_numpy(points), rng)
        case float() if 0 < level < 1:
            return _explaining(values, level)
        case _:
            raise ValueError(
                f"a level is a share in (0, 1), marchenko-pastur or parallel, not {level!r}"
            )
    return namespace(points).asarray(count, dtype=values.dtype, device=device(points))


def local_pca(
    points, k: int = 20, *, rule: str = "curvature", neighbours: Neighbours | None = None
):
    r"""Mean dimension of the neighbourhoods by their principal components.  (n, D) -> ()

    The k - 1 nearest of a point, within the distance r of its k-th, have variances of eigenvalues
    l_1 >= l_2 ..., which are 1 / (d + 2) in units of r^2 in a flat d-ball.  rule:
    "curvature", of Gilbert & O'Neill (2023): the d with the least
    |l_i + (3 d + 4) / (d (d + 4)) N - 1 / (d + 2)|_(i <= d) + 2 N, for N = sum_(i > d) l_i is what
    curvature takes from the tangent; integers at each point, at most min(k - 2, D), k well above d;
    "threshold", of Fukunaga & Olsen (1971): how many l_i exceed l_1 / 20, which curvature and noise
    above that raise towards D;
    "participation": their participation ratio, made unbiased as for normal rows.
    Raises ValueError for k < 4, fewer than k + 1 points, or another rule.
    """
    if k < 4:
        raise ValueError(f"a local covariance needs k of 4 or more neighbours, not {k}")
    if rule not in RULES:
        raise ValueError(f"a rule is one of {', '.join(RULES)}, not {rule!r}")
    near = find_neighbours(points, k, neighbours)
    xp, (n, width) = namespace(near.points), near.points.shape
    rows = max(1, TILE // (4 * k * max(k, width)))
    found = []
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        values = _local_variances(xp, near, start, stop)
        found.append(RULES[rule](xp, values, k - 2))
    return xp.mean(xp.concat(found))


def _explaining(values, level):
    """The least count of components that have this share of the variance."""
    xp = namespace(values)
    variances = values**2
    total = xp.sum(variances)
    reached = xp.cumulative_sum(variances) / xp.where(total > 0, total, xp.nan)
    allowed = 8 * values.shape[0] * xp.finfo(values.dtype).eps  # where shares meet it exactly
    short = xp.astype(reached < level - allowed, values.dtype)
    return 1 + xp.sum(short) + 0 * reached[-1]  # nan stays nan


def _above_noise(values, n, width):
    """How many singular values exceed what white noise of the same median has."""
    m = n - 1
    rank = np.sum(values > values[0] * max(n, width) * np.finfo(values.dtype).eps)
    p = rank if rank < min(m, width) else width  # axes that never vary are no axes
    short, long = sorted((m, p))
    scale = np.median(values[:short] ** 2 / long) / _marchenko_pastur_median(short / long)
    edge = np.sqrt(m) + np.sqrt(p)
    fluctuation = edge * (1 / np.sqrt(m) + 1 / np.sqrt(p)) ** (1 / 3)
    return np.sum(values**2 > scale * (edge**2 + TRACY_WIDOM * fluctuation))


def _marchenko_pastur_median(ratio, nodes=4096):
    """Median of the law of eigenvalues of white noise, by the angle over its support."""
    angle = np.pi * (np.arange(nodes) + 0.5) / nodes
    x = 1 + ratio - 2 * np.sqrt(ratio) * np.cos(angle)
    mass = np.cumsum(np.sin(angle) ** 2 / x)
    return np.interp(0.5, (mass - mass[0] / 2) / mass[-1], x)


def _above_shuffled(values, points, rng):
    """How many leading singular values exceed those of all clouds with columns shuffled."""
    if rng is None:
        raise ValueError("parallel analysis shuffles by a numpy Generator, and rng is None")
    shuffled = [singular_values(rng.permuted(points, axis=0)) for _ in range(SHUFFLES)]
    above = values > np.max(shuffled, axis=0)
    return np.sum(np.cumprod(above))


def _local_variances(xp, near, start, stop):
    """Eigenvalues of the covariance of those within each radius, descending, in its square."""
    k, width = near.index.shape[1], near.points.shape[1]
    flat = xp.reshape(near.index[start:stop, : k - 1], (-1,))
    inside = xp.reshape(xp.take(near.points, flat, axis=0), (stop - start, k - 1, width))
    beside = inside - near.points[start:stop, :][:, None, :]
    centred = (beside - xp.mean(beside, axis=1)[:, None, :]) / near.distances[start:stop, -1:, None]
    turned = xp.matrix_transpose(centred)
    gram = turned @ centred if width < k else centred @ turned
    return xp.flip(xp.linalg.eigvalsh(gram), axis=1) / (k - 2)


def _curved(xp, values, m):
    """The dimension whose curved ball comes nearest."""
    values = values[:, : min(m, values.shape[1])]
    d = xp.arange(1, values.shape[1] + 1, dtype=values.dtype, device=device(values))
    held, squared = xp.cumulative_sum(values, axis=1), xp.cumulative_sum(values**2, axis=1)
    rest = held[:, -1:] - held
    shift = (3 * d + 4) / (d * (d + 4)) * rest - 1 / (d + 2)
    distance = squared + 2 * shift * held + d * shift**2
    cost = xp.sqrt(xp.where(distance > 0, distance, 0 * distance)) + 2 * rest
    return xp.astype(xp.argmin(cost, axis=1) + 1, values.dtype)


def _above_threshold(xp, values, m):  # noqa: ARG001 - as the other rules are called
    return xp.sum(xp.astype(values > 0.05 * values[:, :1], values.dtype), axis=1)


def _participation(xp, values, m):
    square, spread = debiased(xp.sum(values, axis=1) ** 2, xp.sum(values**2, axis=1), m)
    return square / spread


RULES = {"curvature": _curved, "threshold": _above_threshold, "participation": _participation}
