"""The local intrinsic dimension of each point, from the distances to its nearest neighbours."""

import math
import warnings
from typing import Any

from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, concrete, namespace
from sgdnoise.dimension._ball_radii import _inverse_tle, _mean_gap
from sgdnoise.dimension._metric import metric_neighbours
from sgdnoise.dimension._points import Neighbours
from sgdnoise.dimension._warnings import SeveralDimensions

# Each function takes as `data` the Neighbours that `find_neighbours` returns; with k, the points
# (n, D), of which the k nearest neighbours are found under `metric`, as in `metric_neighbours`; or
# distances (n, k), ascending in each row.  All points are computed at once.


@checked
def local_levina_bickel(
    data, k: int | None = None, *, unbiased: bool = False, metric: Any = "euclidean"
) -> Float[Array, " n"]:
    """The maximum-likelihood dimension at each point, of Levina & Bickel (2004).  -> (n,)

    d_i = [sum_(j < k) log(r_ik / r_ij) / (k - 1)]^-1, of which `levina_bickel` averages the
    inverses.  unbiased: k - 2 for k - 1, of which the mean is d if the density is constant over k
    neighbours.  It is also the estimator of Hill (1975), and that of local intrinsic dimensionality
    of Amsaleg et al. (2015), who divide by k.
    data, k: neighbours, or points and the number of their neighbours, or ascending distances.
    Raises ValueError for fewer than 2 neighbours, or 3 if unbiased, and as `metric_neighbours`.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(2000, 2))
        >>> round(float(np.mean(local_levina_bickel(points, 20, unbiased=True))), 1)
        2.0
    """
    distances = _distances(data, k, metric, 3 if unbiased else 2)
    xp, count = namespace(distances), distances.shape[1] - (2 if unbiased else 1)
    return count / xp.sum(xp.log(distances[:, -1:] / distances[:, :-1]), axis=1)


@checked
def local_mom(data, k: int | None = None, *, metric: Any = "euclidean") -> Float[Array, " n"]:
    """The dimension at each point by the moments of its distances, as in `mom`.  -> (n,)

    d_i = m_i / (1 - m_i), where m_i is the mean of r_ij / r_ik over j < k (Amsaleg et al., 2018).
    data, k: neighbours, or points and the number of their neighbours, or ascending distances.
    Raises ValueError for fewer than 2 neighbours, and as `metric_neighbours` does.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> dimensions = local_mom(points, 20)
        >>> dimensions.shape, round(float(np.median(dimensions)), 1)
        ((500,), 2.0)
    """
    return 1 / _mean_gap(_distances(data, k, metric, 2)) - 1


@checked
def local_mada(data, k: int | None = None, *, metric: Any = "euclidean") -> Float[Array, " n"]:
    """The dimension at each point by the radius that halves its neighbours, as in `mada`.  -> (n,)

    d_i = log 2 / log(r_ik / r_ij), where j is half of k, rounded up (Farahmand et al., 2007).
    data, k: neighbours, or points and the number of their neighbours, or ascending distances.
    Raises ValueError for fewer than 2 neighbours, and as `metric_neighbours` does.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> dimensions = local_mada(points, 20)
        >>> dimensions.shape, round(float(np.median(dimensions)), 1)
        ((500,), 2.0)
    """
    distances = _distances(data, k, metric, 2)
    half = (distances.shape[1] + 1) // 2
    return math.log(2) / namespace(distances).log(distances[:, -1] / distances[:, half - 1])


@checked
def local_tle(data, k: int | None = None) -> Float[Array, " n"]:
    """The dimension at each point by all pairs of its neighbours, as in `tle`.  -> (n,)

    It needs coordinates and the Euclidean metric (Amsaleg et al., 2019).
    data, k: neighbours, or points and the number of their neighbours.
    Raises ValueError for fewer than 2 neighbours, for distances alone, and as `find_neighbours`.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> dimensions = local_tle(points, 20)
        >>> dimensions.shape, round(float(np.median(dimensions)), 1)
        ((500,), 2.0)
    """
    if not isinstance(data, Neighbours) and k is None:
        raise ValueError("local_tle needs Neighbours, or points with the number k of neighbours")
    neighbours = _neighbours(data, k, "euclidean")
    _check_count(neighbours.distances, 2)
    return 1 / _inverse_tle(neighbours)


def _neighbours(data, k, metric):
    if not isinstance(data, Neighbours):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeveralDimensions)  # each point has its own answer
            return metric_neighbours(data, k, metric)
    return data if k is None else data.first(k)


def _distances(data, k, metric, min_k):
    """The distances (n, k) of neighbours, of points, or as they were given."""
    if isinstance(data, Neighbours) or k is not None:
        distances = _neighbours(data, k, metric).distances
    else:
        distances = _ascending(data)
    _check_count(distances, min_k)
    return distances


def _check_count(distances, min_k):
    if distances.shape[1] < min_k:
        raise ValueError(
            f"a local dimension needs {min_k} or more neighbours, not {distances.shape[1]}"
        )


def _ascending(distances):
    """The distances, if they can be such.  Raises ValueError otherwise, as for points."""
    if getattr(distances, "ndim", 0) != 2:
        raise ValueError("distances have shape (n, k), ascending in each row; for points give k")
    xp = namespace(distances)
    wrong = xp.any(distances <= 0) | xp.any(distances[:, 1:] < distances[:, :-1])
    if concrete(wrong):
        raise ValueError("distances are positive and ascend in each row; for points give k")
    return distances
