"""Dimension point by point, against scale, and of the map that made the points."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sgdnoise.core._arrays import Array, as_numpy, device, namespace
from sgdnoise.core._estimate import Estimate
from sgdnoise.dimension._neighbours import TILE, nearest_distances
from sgdnoise.dimension._points import Neighbours, find_neighbours, unique_points
from sgdnoise.dimension._spectral import debiased

GROUPS = 8  # disjoint parts whose spread gives an error
FEWEST = 32  # points of a part, where no numbers of parts are asked for


class Profile(NamedTuple):
    """Dimension (s,) against scale (s,), a mean distance between neighbours."""

    scale: Any
    dimension: Estimate


class Plateau(NamedTuple):
    """A dimension that holds from one scale to another."""

    dimension: Estimate
    start: float
    stop: float


def pointwise(
    estimator: Callable[..., Any],
    points,
    k: int = 100,
    *,
    neighbours: Neighbours | None = None,
    at: Sequence[int] | None = None,
    **options,
):
    """An estimator of each point with its `k` nearest, alone.  (n, D) -> (n,)

    at: of which distinct points, all unless told.  options: the estimator's, but for its own k,
    which needs a partial function.  The neighbourhood has an edge, which biases most estimators
    that use neighbours in turn downwards.  nan where the estimator raises ValueError.
    Raises ValueError for fewer than k + 1 points and for places not among them.
    """
    near = find_neighbours(points, k, neighbours)
    xp, n = namespace(near.points), near.points.shape[0]
    places = range(n) if at is None else [int(i) for i in at]
    if not all(0 <= i < n for i in places):
        raise ValueError(f"places are among 0 to {n - 1}, not {min(places)} to {max(places)}")
    values = [_or_nan(estimator, _with_nearest(xp, near, i), options) for i in places]
    kind = near.points.dtype
    return xp.stack([xp.asarray(v, dtype=kind, device=device(near.points)) for v in values])


def scale_profile(
    estimator: Callable[[Any], Any],
    points,
    parts: Sequence[int] | None = None,
    *,
    rng: np.random.Generator,
) -> Profile:
    """Dimension by an estimator as the cloud is thinned, so that neighbours move apart.

    For each p of `parts`, as in the block analysis of Facco et al. (2017), the points fall into p
    disjoint parts at random: the scale is the mean distance to the nearest neighbour within a part,
    the dimension a mean over parts.  Its error is their spread over sqrt(p); with fewer than 8
    parts, that of 8 parts, for variances go as 1 / n.  The same points are met at every scale, so
    that errors go together.  parts: unless told, 1, 2, 4 ... while 32 points are in each.
    Raises ValueError for fewer than 2 points in a part, and what the estimator raises.
    """
    points = unique_points(points)
    n = points.shape[0]
    parts = tuple(parts or (2**i for i in range(max(1, (n // FEWEST).bit_length()))))
    most = max(*parts, GROUPS)
    if min(parts) < 1 or n < 2 * most:
        raise ValueError(f"{n} points cannot make {most} parts of 2 or more, or {min(parts)}")
    order = rng.permutation(n)
    found = {p: _thinned(estimator, points, order, p) for p in {*parts, GROUPS}}
    xp = namespace(points)
    parts = sorted(set(parts))
    scales, values, errors = zip(*(_summary(found, p) for p in parts), strict=True)
    freedom = [max(p, GROUPS) - 1 for p in parts]

    def row(numbers):
        return xp.asarray(list(numbers), dtype=points.dtype, device=device(points))

    return Profile(row(scales), Estimate(row(values), row(errors), row(freedom)))


def scale_participation_ratio(
    points,
    ks: Sequence[int] = (8, 16, 32, 64),
    *,
    method: str = "gaussian",
    neighbours: Neighbours | None = None,
) -> Profile:
    """Participation ratio of growing neighbourhoods, as Recanatesi et al. (2022).

    For each k the mean over points of the participation ratio of a point and its k nearest, against
    the mean distance to the k-th.  method: "naive", whose inverse is too large by about 1 / k, or
    "gaussian", which removes that for normal rows.  Points in one neighbourhood tell the same, so
    that the error is the spread over the root of n / (k + 1), the number of disjoint ones.
    Raises ValueError for another method, k below 2, or fewer than k + 1 points.
    """
    if method not in ("naive", "gaussian"):
        raise ValueError(f"neighbourhoods have a naive or gaussian ratio, not {method!r}")
    ks = tuple(sorted(set(ks)))
    if not ks or ks[0] < 2:
        raise ValueError(f"a ratio of a neighbourhood needs k of 2 or more, not {list(ks)}")
    near = find_neighbours(points, ks[-1], neighbours)
    xp, n = namespace(near.points), near.points.shape[0]
    ratios = [_ratios(xp, near, k, method) for k in ks]
    scale = xp.stack([xp.mean(near.distances[:, k - 1]) for k in ks])
    errors = [
        xp.std(r, correction=1) * min(1.0, ((k + 1) / n) ** 0.5)
        for k, r in zip(ks, ratios, strict=True)
    ]
    return Profile(scale, Estimate(xp.stack([xp.mean(r) for r in ratios]), xp.stack(errors)))


def plateau(profile: Profile, *, tolerance: float = 0.05, least: int = 3) -> Plateau | None:
    """The widest range of scales, as a ratio, over which the dimension holds, or None.

    At least `least` neighbouring scales, any two dimensions of which differ by less than twice
    their joint error and `tolerance` of their mean.  The value is their mean and the error the mean
    of theirs, for scales share their points.  It is what the eye would pick, not a test: two ranges
    may both hold, and under a coarse enough error all do.
    Raises ValueError for a negative tolerance or fewer than 2 scales asked.
    """
    if not tolerance >= 0 or least < 2:
        raise ValueError(f"a plateau has a tolerance of 0 and 2 scales, not {tolerance}, {least}")
    scale, value, error = _sorted(profile)
    alike = _alike(value, error, tolerance)
    runs = [
        (scale[j] / scale[i], i, j + 1)
        for i in range(scale.size)
        for j in range(i + least - 1, scale.size)
        if alike[i : j + 1, i : j + 1].all()
    ]
    if not runs:
        return None
    _, i, j = max(runs)
    held = Estimate(float(value[i:j].mean()), float(error[i:j].mean()))
    return Plateau(held, float(scale[i]), float(scale[j - 1]))


def noise_onset(profile: Profile, *, tolerance: float = 0.05, least: int = 3) -> float | None:
    """The scale below which the dimension rises above its plateau, as noise makes it, or None.

    The plateau's finest scale, where all finer ones have a larger dimension, the next by more than
    twice the joint error.  Raises ValueError as `plateau` does.
    """
    held = plateau(profile, tolerance=tolerance, least=least)
    if held is None:
        return None
    scale, value, error = _sorted(profile)
    finer = scale < held.start
    if not finer.any() or not (value[finer] > held.dimension.value).all():
        return None
    rise = value[finer][-1] - held.dimension.value
    clear = rise > 2 * np.hypot(error[finer][-1], held.dimension.stderr)
    return held.start if clear else None


def jacobian_dimension(jacobians: Float[Array, "n m D"]):
    """Participation ratio (sum s^2)^2 / sum s^4 of the singular values of each Jacobian, (n,).

    How many directions a map keeps of a small ball.  nan where a Jacobian is zero.
    """
    xp, (_, m, width) = namespace(jacobians), jacobians.shape
    largest = xp.max(xp.abs(jacobians), axis=(1, 2))
    unit = jacobians / xp.where(largest > 0, largest, xp.nan)[:, None, None]
    turned = xp.matrix_transpose(unit)
    gram = unit @ turned if m <= width else turned @ unit
    return xp.sum(unit**2, axis=(1, 2)) ** 2 / xp.sum(gram**2, axis=(1, 2))


def jacobians(map: Callable[[Any], Any], points: Float[Array, "n D"], ft) -> Float[Array, "n m D"]:
    """Jacobian of a map (D,) -> (m,) at each point, all n at once.

    ft: who differentiates, `jax` or `torch.func`.
    """
    return ft.vmap(ft.jacrev(map))(points)


def _or_nan(estimator, rows, options):
    try:
        return estimator(rows, **options)
    except ValueError:
        return float("nan")


def _with_nearest(xp, near, i):
    return xp.concat(
        [near.points[i : i + 1, :], xp.take(near.points, near.index[i, :], axis=0)], axis=0
    )


def _thinned(estimator, points, order, p):
    """Mean distance to the nearest, and dimension, in each of p equal parts."""
    xp, size = namespace(points), points.shape[0] // p
    rows = [
        xp.take(points, xp.asarray(mine, device=device(points)), axis=0)
        for mine in np.reshape(order[: p * size], (p, size))
    ]
    scales = [float(xp.mean(nearest_distances(part, 1))) for part in rows]
    return np.asarray(scales), np.asarray([float(estimator(part)) for part in rows])


def _summary(found, p):
    scales, values = found[p]
    spread = found[max(p, GROUPS)][1]
    return scales.mean(), values.mean(), np.std(spread, ddof=1) / spread.size**0.5


def _ratios(xp, near, k, method):
    """Participation ratio of each point and its k nearest, (n,)."""
    n, width = near.points.shape
    rows, found = max(1, TILE // (4 * (k + 1) * max(k + 1, width))), []
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        own = near.points[start:stop, :][:, None, :]
        flat = xp.reshape(near.index[start:stop, :k], (-1,))
        others = xp.reshape(xp.take(near.points, flat, axis=0), (stop - start, k, width)) - own
        beside = (
            xp.concat([0 * own, others], axis=1) / near.distances[start:stop, k - 1, None, None]
        )
        centred = beside - xp.mean(beside, axis=1)[:, None, :]
        turned = xp.matrix_transpose(centred)
        gram = turned @ centred if width <= k else centred @ turned
        square = xp.sum(centred**2, axis=(1, 2)) ** 2 / k**2
        spread = xp.sum(gram**2, axis=(1, 2)) / k**2
        if method == "gaussian":
            square, spread = debiased(square, spread, k)
        found.append(square / spread)
    return xp.concat(found)


def _sorted(profile):
    """Scales, dimensions and errors for numpy, from fine to coarse."""
    value, error = profile.dimension.value, profile.dimension.stderr
    columns = [as_numpy(a) for a in (profile.scale, value, error)]
    order = np.argsort(columns[0])
    return [column[order] for column in columns]


def _alike(value, error, tolerance):
    """Whether two dimensions differ no more than errors and tolerance allow, for all pairs."""
    apart = np.abs(value[:, None] - value[None, :])
    middle = np.abs(value[:, None] + value[None, :]) / 2
    return apart <= 2 * np.hypot(error[:, None], error[None, :]) + tolerance * middle
