"""The largest eigenvalues of symmetric operators, by block Lanczos.

We keep our own because scipy's eigsh and lobpcg take numpy arrays only, and because blocks with
full reorthogonalisation find repeated eigenvalues.  benchmarks/tables.md compares the speed.
"""

from collections.abc import Callable

from jaxtyping import Float, Shaped

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, concrete, namespace, power_of_two, widened

OFTEN = 3  # blocks from one look at the residuals to the next


@checked
def largest_eigenpairs(
    operator: Callable[[Array], Array],
    start: Shaped[Array, "m b"],
    k: int,
    *,
    tolerance: float | None = None,
) -> tuple[Float[Array, " k"], Float[Array, "m k"]]:
    """The `k` largest eigenvalues, largest first, of a symmetric operator, and their vectors.

    operator: block (m, b) -> block.  start: random (m, b); an eigenvalue may be b-fold.
    The method is block Lanczos with full reorthogonalisation and Rayleigh-Ritz (Golub & Underwood,
    1977).  It stops if every residual |A v - h v| is at most `tolerance` (eps^(2/3) by default)
    times the largest eigenvalue, or if the blocks span the space.
    Raises ValueError for k below 1 or above m.

    Example:
        >>> import numpy as np
        >>> start = np.random.default_rng(0).normal(size=(4, 2))
        >>> matrix = np.diag([1.0, 4.0, 2.0, 3.0])
        >>> largest_eigenpairs(lambda v: matrix @ v, start, 2)[0].round(6).tolist()
        [4.0, 3.0]
    """
    start = widened(start, "start")
    xp, m = namespace(start), start.shape[0]
    if not 1 <= k <= m:
        raise ValueError(f"an operator on {m} numbers has 1 to {m} eigenvalues, not {k}")
    tolerance_used = xp.finfo(start.dtype).eps ** (2 / 3) if tolerance is None else tolerance
    block, _ = xp.linalg.qr(start)
    basis, projected, rounds, unit = block, None, 0, None
    while True:
        image = operator(block)
        unit = power_of_two(image) if unit is None else unit  # squares of images may overflow
        image = image / unit
        column = basis.T @ image
        projected = column if projected is None else _bordered(xp, projected, column)
        block, factor = _fresh(xp, basis, image - basis @ column)
        rounds += 1
        if rounds % OFTEN and block.shape[1]:
            basis = xp.concat([basis, block], axis=1)
            continue
        values, rotation = xp.linalg.eigh((projected + projected.T) / 2)
        values, rotation = xp.flip(values)[:k], xp.flip(rotation, axis=1)[:, :k]
        residuals = xp.linalg.vector_norm(factor @ rotation[-factor.shape[1] :, :], axis=0)
        enough = values.shape[0] == k and concrete(
            xp.max(residuals) <= tolerance_used * xp.max(xp.abs(values))
        )
        if enough or block.shape[1] == 0:
            return values * unit, basis @ rotation
        basis = xp.concat([basis, block], axis=1)


@checked
def eigenvalue_participation_ratio(eigenvalues, axis: int = -1):
    """The participation ratio (sum_i l_i)^2 / sum_i l_i^2 of eigenvalues along an axis.

    Example:
        >>> import numpy as np
        >>> float(eigenvalue_participation_ratio(np.asarray([2.0, 2.0, 0.0])))
        2.0
    """
    eigenvalues = widened(eigenvalues, "eigenvalues")
    xp = namespace(eigenvalues)
    scaled = eigenvalues / power_of_two(eigenvalues, axis, keepdims=True)
    return xp.sum(scaled, axis=axis) ** 2 / xp.sum(scaled**2, axis=axis)


def _bordered(xp, projected, column):
    """The matrix of the operator in a basis with one more block, whose image is `column`."""
    old = projected.shape[0]
    below = xp.concat([projected, column[:old, :].T], axis=0)
    return xp.concat([below, column], axis=1)


def _fresh(xp, basis, residual):
    """Orthonormal columns for the part of an image outside the basis, and their factors.

    There are no more columns than dimensions left.
    """
    n_free = residual.shape[0] - basis.shape[1]
    block, factor = xp.linalg.qr(residual)
    for _ in range(2):  # once for rounding, and once where nothing but rounding was left
        block, factor_again = xp.linalg.qr(block - basis @ (basis.T @ block))
        factor = factor_again @ factor
        if concrete(xp.min(xp.abs(xp.linalg.diagonal(factor_again))) > 0.5):
            break
    return block[:, :n_free], factor
