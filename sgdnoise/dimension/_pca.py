"""Dimension as a number of principal components, of all points or of each neighbourhood."""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._checks import as_generator
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._neighbours import TILE
from sgdnoise.dimension._points import Neighbours, check_points, find_neighbours
from sgdnoise.dimension._spectral import debiased, singular_values

TRACY_WIDOM = 0.9793  # the 95% quantile of its law for real data
SHUFFLES = 19  # all of which one of 20 exchangeable values exceeds with probability 5%


@checked
@any_scale
def pca(points, *, level: float | str = 0.95, rng=None):
    r"""The number of principal components that explain the points, or exceed noise.  (n, D) -> ()

    level: a fraction of the variance, explained by the least number of components;
    "marchenko-pastur", for those above the edge s^2 (sqrt(n - 1) + sqrt(D))^2 of white noise,
    raised to the 95% quantile of noise alone (Johnstone, 2001), with s^2 from the median singular
    value (Gavish & Donoho, 2014), which requires that signal fills less than half of the
    components, and undercounts if it fills many;
    "parallel", for the leading ones above each of 19 clouds with independently shuffled columns,
    the parallel analysis of Horn (1965), which depends on the axes and draws from `rng`;
    "kaiser", for those of more variance than a coordinate has on average (Kaiser, 1960, who scaled
    each to variance 1, as `points / points.std(axis=0)` are); or
    "broken stick", for the leading ones of more variance than the pieces of a stick that is broken
    at random into as many have, sum_(i >= j) 1 / (i p) of the whole for the j-th of p (Frontier,
    1976; Jackson, 1993).
    Kaiser counts too many in noise, since half of its components exceed the mean, and a broken
    stick too few: they are for comparison with other work.  All but fractions run in numpy.
    Raises ValueError as `check_points` does, for another level, and for "parallel" without rng.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 8)) * [9, 9, 9, 1, 1, 1, 1, 1]
        >>> int(pca(points, level="marchenko-pastur"))
        3
    """
    points = check_points(points)
    values = singular_values(points)
    match level:
        case "marchenko-pastur":
            count = _above_noise(as_numpy(values), *points.shape)
        case "parallel":
            count = _above_shuffled(as_numpy(values), as_numpy(points), rng)
        case "kaiser":
            count = _above_mean(as_numpy(values), points.shape[1])
        case "broken stick" | "broken_stick":
            count = _above_stick(as_numpy(values))
        case float() if 0 < level < 1:
            return _explaining(values, level)
        case _:
            raise ValueError(
                "a level is a fraction in (0, 1), marchenko-pastur, parallel, kaiser or "
                f"broken stick, not {level!r}"
            )
    return namespace(points).asarray(count, dtype=values.dtype, device=device(points))


@checked
@any_scale
def local_pca(
    points,
    k: int = 20,
    *,
    rule: str = "curvature",
    neighbours: Neighbours | None = None,
    exclude: int | str = 0,
):
    r"""The mean dimension of the neighbourhoods by their principal components.  (n, D) -> ()

    The k - 1 nearest of a point, within the distance r of its k-th, have a covariance of
    eigenvalues l_1 >= l_2 ..., which are 1 / (d + 2) in units of r^2 in a flat d-ball.  rule:
    "curvature", of Gilbert & O'Neill (2023): the d with the least
    |l_i + (3 d + 4) / (d (d + 4)) N - 1 / (d + 2)|_(i <= d) + 2 N, since curvature moves the
    variance N = sum_(i > d) l_i out of the tangent space; an integer at each point, at most
    min(k - 2, D), for k well above d;
    "threshold", of Fukunaga & Olsen (1971): the number of l_i above l_1 / 20, which curvature and
    noise raise towards D;
    "participation": their participation ratio, unbiased for normal rows.
    Raises ValueError for k < 4, fewer than k + 1 points, or another rule.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(local_pca(points)), 1)
        2.0
    """
    if k < 4:
        raise ValueError(f"a local covariance needs k of 4 or more neighbours, not {k}")
    if rule not in RULES:
        raise ValueError(f"a rule is one of {', '.join(RULES)}, not {rule!r}")
    neighbours = find_neighbours(points, k, neighbours, exclude=exclude)
    xp, (n, width) = namespace(neighbours.points), neighbours.points.shape
    rows = max(1, TILE // (4 * k * max(k, width)))
    dimensions = []
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        values = _local_variances(xp, neighbours, start, stop)
        dimensions.append(RULES[rule](xp, values, k - 2))
    return xp.mean(xp.concat(dimensions))


def _explaining(values, level):
    """The least number of components with this fraction of the variance."""
    xp = namespace(values)
    variances = values**2
    total = xp.sum(variances)
    explained = xp.cumulative_sum(variances) / xp.where(total > 0, total, xp.nan)
    allowed = 8 * values.shape[0] * xp.finfo(values.dtype).eps  # for fractions that equal the level
    short = xp.astype(explained < level - allowed, values.dtype)
    return 1 + xp.sum(short) + 0 * explained[-1]  # nan stays nan


def _above_noise(values, n, width):
    """The number of singular values above those of white noise of the same median."""
    m = n - 1
    rank = np.sum(values > values[0] * max(n, width) * np.finfo(values.dtype).eps)
    p = rank if rank < min(m, width) else width  # constant axes do not count
    short, long = sorted((m, p))
    scale = np.median(values[:short] ** 2 / long) / _marchenko_pastur_median(short / long)
    edge = np.sqrt(m) + np.sqrt(p)
    fluctuation = edge * (1 / np.sqrt(m) + 1 / np.sqrt(p)) ** (1 / 3)
    return np.sum(values**2 > scale * (edge**2 + TRACY_WIDOM * fluctuation))


def _marchenko_pastur_median(ratio, nodes=4096):
    """The median of the Marchenko-Pastur law, by quadrature over the angle on its support."""
    angle = np.pi * (np.arange(nodes) + 0.5) / nodes
    x = 1 + ratio - 2 * np.sqrt(ratio) * np.cos(angle)
    mass = np.cumsum(np.sin(angle) ** 2 / x)
    return np.interp(0.5, (mass - mass[0] / 2) / mass[-1], x)


def _above_shuffled(values, points, rng):
    """The number of leading singular values above those of all clouds with shuffled columns."""
    if rng is None:
        raise ValueError("parallel analysis needs rng, an int or a numpy Generator, and it is None")
    rng = as_generator(rng)
    shuffled = [singular_values(rng.permuted(points, axis=0)) for _ in range(SHUFFLES)]
    above = values > np.max(shuffled, axis=0)
    return np.sum(np.cumprod(above))


def _above_mean(values, width):
    """The number of variances above that of a coordinate on average."""
    variances = values**2
    rounding = 8 * values.size * np.finfo(values.dtype).eps
    return np.sum(variances > (1 + rounding) * np.sum(variances) / width)


def _above_stick(values):
    """The number of leading variances above the mean pieces of a broken stick."""
    variances = values**2
    p = variances.size
    pieces = np.cumsum(1 / np.arange(p, 0, -1))[::-1] / p
    return np.sum(np.cumprod(variances > pieces * np.sum(variances)))


def _local_variances(xp, neighbours, start, stop):
    """Eigenvalues of the covariances of neighbourhoods, descending, in units of radius^2."""
    points, distances, index = neighbours
    k, width = index.shape[1], points.shape[1]
    flat = xp.reshape(index[start:stop, : k - 1], (-1,))
    inside = xp.reshape(xp.take(points, flat, axis=0), (stop - start, k - 1, width))
    offsets = inside - points[start:stop, :][:, None, :]
    centred = (offsets - xp.mean(offsets, axis=1)[:, None, :]) / distances[start:stop, -1:, None]
    transposed = xp.matrix_transpose(centred)
    gram = transposed @ centred if width < k else centred @ transposed
    return xp.flip(xp.linalg.eigvalsh(gram), axis=1) / (k - 2)


def _curved(xp, values, m):
    """The dimension of the curved ball with the nearest eigenvalues."""
    values = values[:, : min(m, values.shape[1])]
    d = xp.arange(1, values.shape[1] + 1, dtype=values.dtype, device=device(values))
    tangent, squared = xp.cumulative_sum(values, axis=1), xp.cumulative_sum(values**2, axis=1)
    normal = tangent[:, -1:] - tangent  # variance out of the tangent space
    shift = (3 * d + 4) / (d * (d + 4)) * normal - 1 / (d + 2)
    distance = squared + 2 * shift * tangent + d * shift**2
    cost = xp.sqrt(xp.where(distance > 0, distance, 0 * distance)) + 2 * normal
    return xp.astype(xp.argmin(cost, axis=1) + 1, values.dtype)


def _above_threshold(xp, values, m):  # noqa: ARG001 - the signature of all rules
    return xp.sum(xp.astype(values > 0.05 * values[:, :1], values.dtype), axis=1)


def _participation(xp, values, m):
    numerator, denominator = debiased(xp.sum(values, axis=1) ** 2, xp.sum(values**2, axis=1), m)
    return numerator / denominator


RULES = {"curvature": _curved, "threshold": _above_threshold, "participation": _participation}
