"""Dimension of the image of a map, from its Jacobians."""

import importlib
from collections.abc import Callable
from typing import Any

from array_api_compat import is_torch_array
from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace


@checked
def jacobian_dimension(jacobians: Float[Array, "n m D"]):
    """The participation ratio (sum s^2)^2 / sum s^4 of the singular values of each Jacobian, (n,).

    It is the number of directions of a small ball that a map preserves, and nan for a Jacobian of
    zero.

    Example:
        >>> import numpy as np
        >>> jacobian_dimension(np.eye(3)[None, :2]).tolist()
        [2.0]
    """
    xp, (_, m, width) = namespace(jacobians), jacobians.shape
    largest = xp.max(xp.abs(jacobians), axis=(1, 2))
    unit = jacobians / xp.where(largest > 0, largest, xp.nan)[:, None, None]
    transposed = xp.matrix_transpose(unit)
    gram = unit @ transposed if m <= width else transposed @ unit
    return xp.sum(unit**2, axis=(1, 2)) ** 2 / xp.sum(gram**2, axis=(1, 2))


@checked
def jacobians(map: Callable[[Any], Any], points: Float[Array, "n D"]) -> Float[Array, "n m D"]:
    """The Jacobian of a map (D,) -> (m,) at each point, in one batch.

    Torch arrays are differentiated by torch.func, others by jax.

    Example:
        >>> import torch
        >>> points = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> jacobians(lambda x: x**2, points).tolist()  # 2 x on the diagonals
        [[[2.0, 0.0], [0.0, 4.0]], [[6.0, 0.0], [0.0, 8.0]]]
    """
    library = importlib.import_module("torch.func" if is_torch_array(points) else "jax")
    return library.vmap(library.jacrev(map))(points)
