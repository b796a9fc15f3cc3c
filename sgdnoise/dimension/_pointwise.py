"""Dimension at each point, by an estimator on its neighbourhood."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import device, namespace
from sgdnoise.dimension._points import Neighbours, find_neighbours
from sgdnoise.dimension._warnings import SeveralDimensions


@checked
def pointwise(
    estimator: Callable[..., Any],
    points,
    k: int = 100,
    *,
    neighbours: Neighbours | None = None,
    at: Sequence[int] | None = None,
    **options,
):
    """The dimension by any estimator of each point with its `k` nearest only.  (n, D) -> (n,)

    It is not the local intrinsic dimension of the literature, which is a formula of the k distances
    from the point alone: that is `local_levina_bickel`, `local_mom`, `local_mada` and `local_tle`,
    and takes a twentieth of the time.  Here the estimator sees the k + 1 points and their distances
    from each other.
    at: indices of distinct points, by default of all.  options: those of the estimator; its own k
    needs a partial function.  The neighbourhood has an edge, which biases most estimators from
    neighbours downwards.  It is nan if the estimator raises ValueError.
    Raises ValueError for fewer than k + 1 points and for indices out of range.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.dimension import pca
        >>> points = np.sort(np.random.default_rng(0).uniform(size=9))[:, None] * np.ones(3)
        >>> pointwise(pca, points, 3, at=[0, 8]).tolist()
        [1.0, 1.0]
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeveralDimensions)  # each point has its own answer
        points, _, index = find_neighbours(points, k, neighbours)
    xp, n = namespace(points), points.shape[0]
    places = range(n) if at is None else [int(i) for i in at]
    if not all(0 <= i < n for i in places):
        raise ValueError(f"places are among 0 to {n - 1}, not {min(places)} to {max(places)}")
    values = []
    for i in places:
        rows = xp.concat([points[i : i + 1, :], xp.take(points, index[i, :], axis=0)], axis=0)
        try:
            values.append(estimator(rows, **options))
        except ValueError:
            values.append(float("nan"))
    return xp.stack([xp.asarray(v, dtype=points.dtype, device=device(points)) for v in values])
