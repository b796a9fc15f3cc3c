"""Dimension as a function of scale."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._checks import as_generator
from sgdnoise.core._estimate import Estimate
from sgdnoise.core._groups import Group, evaluate, shared_with
from sgdnoise.dimension._neighbours import TILE, nearest_distances
from sgdnoise.dimension._points import Neighbours, find_neighbours, unique_points
from sgdnoise.dimension._spectral import debiased
from sgdnoise.dimension._subsets import neighbours_in_sets

ERROR_BLOCKS = 8  # whose variance gives the error of a scale with fewer blocks
MIN_BLOCK_SIZE = 32  # points of a block by default


class Profile(NamedTuple):
    """Dimension (s,) against scale (s,), a mean distance between neighbours.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import Estimate
        >>> from sgdnoise.dimension import plateau
        >>> dimensions = Estimate(np.asarray([5.0, 2.1, 2.0, 1.9, 1.2]), np.full(5, 0.1))
        >>> profile = Profile(np.asarray([0.01, 0.1, 0.2, 0.4, 2.0]), dimensions)
        >>> plateau(profile).start, plateau(profile).stop
        (0.1, 0.4)
    """

    scale: Any
    dimension: Estimate


class Plateau(NamedTuple):
    """A dimension that is constant from one scale to another.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import plateau, scale_profile, twonn
        >>> rng = np.random.default_rng(0)
        >>> constant = plateau(scale_profile(twonn, rng.normal(size=(1000, 2)), rng=rng))
        >>> print(f"{constant.dimension}, from {constant.start:.2f} to {constant.stop:.2f}")
        2.022 ± 0.088, from 0.08 to 0.29
    """

    dimension: Estimate
    start: float
    stop: float


@checked
def scale_profile(
    estimator: Callable[[Any], Any],
    points,
    blocks: Sequence[int] | None = None,
    *,
    rng,
) -> Profile:
    """The dimension by an estimator as the points are thinned, so that neighbours move apart.

    For each number b of `blocks`, as in the block analysis of Facco et al. (2017), the points are
    divided into b disjoint blocks at random: the scale is the mean distance to the nearest
    neighbour within a block, the dimension a mean over blocks.  Its error is their standard
    deviation over sqrt(b); with fewer than 8 blocks, that of 8 blocks, since variances go as 1 / n.
    The same points occur at every scale, so that errors are correlated.  blocks: by default 1, 2,
    4 ... while each has 32 points.  rng: an int or a numpy Generator.
    Raises ValueError for fewer than 2 points in a block, and what the estimator raises.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import twonn
        >>> rng = np.random.default_rng(0)
        >>> profile = scale_profile(twonn, rng.normal(size=(400, 2)), [1, 2, 4], rng=rng)
        >>> profile.scale.shape, profile.dimension.value.shape
        ((3,), (3,))
    """
    points = unique_points(points)
    n = points.shape[0]
    blocks = tuple(blocks or (2**i for i in range(max(1, (n // MIN_BLOCK_SIZE).bit_length()))))
    largest = max(*blocks, ERROR_BLOCKS)
    if min(blocks) < 1 or n < 2 * largest:
        raise ValueError(f"{n} points cannot make {largest} blocks of 2 or more, or {min(blocks)}")
    order = as_generator(rng).permutation(n)
    xp, shared = namespace(points), {**shared_with(points), "k": 0}
    shared.pop("partitions", None)
    counts = sorted({*blocks, ERROR_BLOCKS})
    thinned = {b: _thinned(estimator, points, order, b, shared) for b in counts}
    blocks = sorted(set(blocks))
    scales, values, errors = zip(*(_summary(thinned, b) for b in blocks), strict=True)
    dof = [max(b, ERROR_BLOCKS) - 1 for b in blocks]

    def row(numbers):
        return xp.asarray(list(numbers), dtype=points.dtype, device=device(points))

    return Profile(row(scales), Estimate(row(values), row(errors), row(dof)))


@checked
def scale_participation_ratio(
    points,
    ks: Sequence[int] = (8, 16, 32, 64),
    *,
    method: str = "gaussian",
    neighbours: Neighbours | None = None,
) -> Profile:
    """The participation ratio of growing neighbourhoods, as in Recanatesi et al. (2022).

    For each k it is the mean over points of the participation ratio of a point and its k nearest,
    against the mean distance to the k-th.  method: "naive", whose inverse is too large by about
    1 / k, or "gaussian", which corrects that for normal rows.  Points in one neighbourhood are not
    independent, so that the error is the standard deviation over the root of n / (k + 1), the
    number of disjoint neighbourhoods.
    Raises ValueError for another method, k below 2, or fewer than k + 1 points.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).uniform(size=(1000, 2))
        >>> scale_participation_ratio(points, (8, 16)).dimension.value.round(1).tolist()
        [2.1, 2.0]
    """
    if method not in ("naive", "gaussian"):
        raise ValueError(f"neighbourhoods have a naive or gaussian ratio, not {method!r}")
    ks = tuple(sorted(set(ks)))
    if not ks or ks[0] < 2:
        raise ValueError(f"a ratio of a neighbourhood needs k of 2 or more, not {list(ks)}")
    neighbours = find_neighbours(points, ks[-1], neighbours)
    xp, n = namespace(neighbours.points), neighbours.points.shape[0]
    ratios = [_ratios(xp, neighbours, k, method) for k in ks]
    scale = xp.stack([xp.mean(neighbours.distances[:, k - 1]) for k in ks])
    errors = [
        xp.std(r, correction=1) * min(1.0, ((k + 1) / n) ** 0.5)
        for k, r in zip(ks, ratios, strict=True)
    ]
    return Profile(scale, Estimate(xp.stack([xp.mean(r) for r in ratios]), xp.stack(errors)))


@checked
def plateau(profile: Profile, *, tolerance: float = 0.05, min_scales: int = 3) -> Plateau | None:
    """The widest range of scales, as a ratio, over which the dimension is constant, or None.

    It has at least `min_scales` neighbouring scales, any two dimensions of which differ by less
    than twice their joint error plus `tolerance` of their mean.  The value is their mean and the
    error the mean of theirs, since scales share their points.  This formalises reading a plot and
    is not a test: several ranges may qualify, and with large errors all do.
    Raises ValueError for a negative tolerance or min_scales below 2.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import Estimate
        >>> from sgdnoise.dimension import Profile
        >>> dimensions = Estimate(np.asarray([5.0, 2.1, 2.0, 1.9, 1.2]), np.full(5, 0.1))
        >>> constant = plateau(Profile(np.asarray([0.01, 0.1, 0.2, 0.4, 2.0]), dimensions))
        >>> print(f"{constant.dimension}, from {constant.start} to {constant.stop}")
        2.00 ± 0.10, from 0.1 to 0.4
    """
    if not tolerance >= 0 or min_scales < 2:
        raise ValueError(
            f"a plateau has a tolerance of 0 and 2 scales, not {tolerance}, {min_scales}"
        )
    scale, value, error = _sorted(profile)
    equal = _equal_pairs(value, error, tolerance)
    runs = [
        (scale[j] / scale[i], i, j + 1)
        for i in range(scale.size)
        for j in range(i + min_scales - 1, scale.size)
        if equal[i : j + 1, i : j + 1].all()
    ]
    if not runs:
        return None
    _, i, j = max(runs)
    dimension = Estimate(float(value[i:j].mean()), float(error[i:j].mean()))
    return Plateau(dimension, float(scale[i]), float(scale[j - 1]))


@checked
def noise_onset(profile: Profile, *, tolerance: float = 0.05, min_scales: int = 3) -> float | None:
    """The scale below which noise raises the dimension above its plateau, or None.

    It is the finest scale of the plateau, if all finer ones have a larger dimension, the next by
    more than twice the joint error.  Raises ValueError as `plateau` does.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import Estimate
        >>> from sgdnoise.dimension import Profile
        >>> dimensions = Estimate(np.asarray([5.0, 2.1, 2.0, 1.9, 1.2]), np.full(5, 0.1))
        >>> noise_onset(Profile(np.asarray([0.01, 0.1, 0.2, 0.4, 2.0]), dimensions))
        0.1
    """
    level = plateau(profile, tolerance=tolerance, min_scales=min_scales)
    if level is None:
        return None
    scale, value, error = _sorted(profile)
    finer = scale < level.start
    if not finer.any() or not (value[finer] > level.dimension.value).all():
        return None
    rise = value[finer][-1] - level.dimension.value
    significant = rise > 2 * np.hypot(error[finer][-1], level.dimension.stderr)
    return level.start if significant else None


def _thinned(estimator, points, order, b, shared):
    """Mean distance to the nearest neighbour, and dimension, in each of b equal blocks.

    shared: what the block of all points leaves for smaller ones: its neighbours, if there are any.
    """
    size = points.shape[0] // b
    sets = np.reshape(order[: b * size], (b, size))
    if b == 1:
        blocks = [(points, shared)]
    elif "neighbours" in shared and shared["k"]:
        near = neighbours_in_sets(points, sets, b, shared["k"], shared)
        blocks = [(n.points, {"neighbours": n, "window": n.window}) for n in near]
    else:
        xp = namespace(points)
        places = [xp.asarray(rows, device=device(points)) for rows in sets]
        blocks = [(xp.take(points, rows, axis=0), {}) for rows in places]
    scales, values = zip(*(_of_block(estimator, *block) for block in blocks), strict=True)
    return np.asarray(scales), np.asarray(values)


def _of_block(estimator, block, shared):
    """The same of one block, whose neighbours are found once if the estimator finds some."""
    group = Group(block, block, None, 1, 1, shared)
    value = float(evaluate(estimator, group))
    known = group.shared.get("neighbours")
    nearest = nearest_distances(block, 1) if known is None else known.distances[:, 0]
    return float(namespace(block).mean(nearest)), value


def _summary(thinned, b):
    scales, values = thinned[b]
    sample = thinned[max(b, ERROR_BLOCKS)][1]
    return scales.mean(), values.mean(), np.std(sample, ddof=1) / sample.size**0.5


def _ratios(xp, neighbours, k, method):
    """Participation ratio of each point and its k nearest, (n,)."""
    points, distances, index = neighbours
    n, width = points.shape
    rows, ratios = max(1, TILE // (4 * (k + 1) * max(k + 1, width))), []
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        centre = points[start:stop, :][:, None, :]
        flat = xp.reshape(index[start:stop, :k], (-1,))
        others = xp.reshape(xp.take(points, flat, axis=0), (stop - start, k, width)) - centre
        offsets = xp.concat([0 * centre, others], axis=1) / distances[start:stop, k - 1, None, None]
        centred = offsets - xp.mean(offsets, axis=1)[:, None, :]
        transposed = xp.matrix_transpose(centred)
        gram = transposed @ centred if width <= k else centred @ transposed
        numerator = xp.sum(centred**2, axis=(1, 2)) ** 2 / k**2
        denominator = xp.sum(gram**2, axis=(1, 2)) / k**2
        if method == "gaussian":
            numerator, denominator = debiased(numerator, denominator, k)
        ratios.append(numerator / denominator)
    return xp.concat(ratios)


def _sorted(profile):
    """Scales, dimensions and errors in numpy, from fine to coarse."""
    value, error = profile.dimension.value, profile.dimension.stderr
    columns = [as_numpy(a) for a in (profile.scale, value, error)]
    order = np.argsort(columns[0])
    return [column[order] for column in columns]


def _equal_pairs(value, error, tolerance):
    """Whether two dimensions agree within errors and tolerance, for all pairs."""
    gap = np.abs(value[:, None] - value[None, :])
    mean = np.abs(value[:, None] + value[None, :]) / 2
    return gap <= 2 * np.hypot(error[:, None], error[None, :]) + tolerance * mean
