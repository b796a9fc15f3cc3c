"""Scalar products between all points, from which those of many neighbourhoods are taken."""

from typing import Any, NamedTuple

from sgdnoise.core._arrays import as_numpy, concrete, device, namespace

MIN_WIDTH = 64  # coordinates, below which differences take less time
MAX_NUMBERS = 1 << 25  # products in memory
MIN_SPREAD = 1e-6  # squared distance within a neighbourhood, over that from the mean point


class Products(NamedTuple):
    """Scalar products of points about their mean, of which `rows` (m,) are those of a group.

    table: a list of the products (n, n), or empty until they are needed.
    """

    points: Any
    table: list[Any]
    rows: Any = None

    def of(self, index):
        """Products (m, k, k) of the neighbours (m, k), about their mean; None if rounding matters.

        Their rounding is that of |x|^2, and not of the distances between neighbours.
        """
        xp = namespace(self.points)
        if not self.table:
            self.table.append(_table(xp, self.points))
        table, (m, k) = self.table[0], index.shape
        if self.rows is not None:
            rows = xp.asarray(self.rows, device=device(self.points))
            index = xp.reshape(xp.take(rows, xp.reshape(index, (-1,))), (m, k))
        places = index[:, :, None] * table.shape[0] + index[:, None, :]
        taken = xp.take(xp.reshape(table, (-1,)), xp.reshape(places, (-1,)))
        gram = xp.reshape(taken, (m, k, k))
        norms = xp.sum(xp.linalg.diagonal(gram), axis=1)
        means = xp.mean(gram, axis=2, keepdims=True)
        gram = gram - means - xp.matrix_transpose(means) + xp.mean(means, axis=1, keepdims=True)
        spread = xp.sum(xp.linalg.diagonal(gram), axis=1)
        if concrete(xp.any(spread < MIN_SPREAD * norms)):
            return None
        return xp.astype(gram, self.points.dtype)


def products_of(points) -> Products | None:
    """The products of points that have many coordinates and are not too many, or None."""
    xp, (n, width) = namespace(points), points.shape
    try:
        as_numpy(points)
    except TypeError:  # jax, tracing
        return None
    double = xp.result_type(points.dtype, xp.float64) == xp.float64  # jax may have none
    return Products(points, []) if double and width >= MIN_WIDTH and n**2 <= MAX_NUMBERS else None


def _table(xp, points):
    centred = xp.astype(points, xp.float64)
    centred = centred - xp.mean(centred, axis=0)
    return centred @ centred.T
