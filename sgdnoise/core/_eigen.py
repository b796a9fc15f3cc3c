"""Eigenvalues of symmetric operators without their matrices."""

from collections.abc import Callable

from jaxtyping import Float

from sgdnoise.core._arrays import Array, concrete, namespace

OFTEN = 3  # blocks from one look at the residuals to the next


def largest_eigenpairs(
    operator: Callable[[Array], Array],
    start: Float[Array, "m b"],
    k: int,
    *,
    tolerance: float | None = None,
) -> tuple[Float[Array, " k"], Float[Array, "m k"]]:
    """The `k` largest eigenvalues, largest first, of a symmetric operator and their vectors.

    Block Lanczos, every block made orthogonal to all before it, and the choice of Rayleigh and
    Ritz (Golub & Underwood, 1977), from `start`, random (m, b): an eigenvalue may be b times
    there.  Stops where no residual |A v - h v| is above `tolerance` times the largest eigenvalue,
    eps^(2/3) where it is not given, or where the blocks fill the space.
    Raises ValueError for k below 1 or above m.
    """
    xp, m = namespace(start), start.shape[0]
    if not 1 <= k <= m:
        raise ValueError(f"an operator on {m} numbers has 1 to {m} eigenvalues, not {k}")
    tolerance_used = xp.finfo(start.dtype).eps ** (2 / 3) if tolerance is None else tolerance
    block, _ = xp.linalg.qr(start)
    basis, projected, rounds = block, None, 0
    while True:
        image = operator(block)
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
            return values, basis @ rotation
        basis = xp.concat([basis, block], axis=1)


def _bordered(xp, projected, column):
    """The matrix of the operator in the basis with one more block: what that block's image is."""
    old = projected.shape[0]
    below = xp.concat([projected, column[:old, :].T], axis=0)
    return xp.concat([below, column], axis=1)


def _fresh(xp, basis, residual):
    """Orthonormal columns across the basis for what is left of an image, and their factors.

    No more columns than the space has room for.
    """
    n_free = residual.shape[0] - basis.shape[1]
    block, factor = xp.linalg.qr(residual)
    for _ in range(2):  # once for rounding, and once where nothing but rounding was left
        block, factor_again = xp.linalg.qr(block - basis @ (basis.T @ block))
        factor = factor_again @ factor
        if concrete(xp.min(xp.abs(xp.linalg.diagonal(factor_again))) > 0.5):
            break
    return block[:, :n_free], factor
