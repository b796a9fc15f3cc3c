"""What the package asks of an array, whichever library made it."""

from typing import Any

from array_api_compat import array_namespace as namespace
from array_api_compat import device
from jaxtyping import Float

__all__ = ["Array", "device", "namespace", "nearest_distances"]

Array = Any  # jaxtyping then checks shape and type of numpy, torch and jax arrays alike


def nearest_distances(points: Float[Array, "n D"], k: int, *, block=512) -> Float[Array, "n k"]:
    """Distances from each point to its `k` nearest others, ascending, in the unit of `points`.

    Candidates come from |x|^2 + |y|^2 - 2 x.y, which is one matrix product, on points centred
    at their median, which a far outlier does not move; the distances come from differences, since
    close pairs cancel to zero in the product.
    A nan anywhere makes every distance nan.
    Raises ValueError for fewer than k + 1 points.
    """
    xp = namespace(points)
    n = points.shape[0]
    if not 1 <= k < n:
        raise ValueError(f"{k} nearest neighbours need at least {max(k, 1) + 1} points, not {n}")
    nothing = 0 * xp.sum(points, axis=0)  # but nan where a point is
    centred = points - (xp.sort(points, axis=0)[n // 2, :] + nothing)
    squared = xp.sum(centred**2, axis=1)
    index = xp.arange(n, device=device(points))
    rows = []
    for start in range(0, n, block):
        here = centred[start : start + block, :]
        rough = squared[None, :] - 2 * here @ centred.T  # |here|^2 shifts a row, changes no order
        own = index[start : start + block, None] == index[None, :]
        near = _smallest(xp, xp.where(own, xp.inf, rough), min(2 * k + 6, n - 1))
        exact = xp.sum((here[:, None, :] - centred[near]) ** 2, axis=2)
        rows.append(xp.sort(exact, axis=1)[:, :k])
    return xp.sqrt(xp.concat(rows))


def _smallest(xp, values, count):
    """Columns of the `count` smallest entries of each row, in no order."""
    if hasattr(values, "topk"):  # torch
        return values.topk(count, dim=1, largest=False).indices
    return xp.argpartition(values, count - 1, axis=1)[:, :count]
