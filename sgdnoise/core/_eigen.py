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
    close = xp.finfo(start.dtype).eps ** (2 / 3) if tolerance is None else tolerance
    block, _ = xp.linalg.qr(start)
    basis, small, rounds = block, None, 0
    while True:
        image = operator(block)
        seen = basis.T @ image
        small = seen if small is None else _bordered(xp, small, seen)
        block, left = _fresh(xp, basis, image - basis @ seen)
        rounds += 1
        if rounds % OFTEN and block.shape[1]:
            basis = xp.concat([basis, block], axis=1)
            continue
        values, turn = xp.linalg.eigh((small + small.T) / 2)
        values, turn = xp.flip(values)[:k], xp.flip(turn, axis=1)[:, :k]
        rest = xp.linalg.vector_norm(left @ turn[-left.shape[1] :, :], axis=0)
        enough = values.shape[0] == k and concrete(xp.max(rest) <= close * xp.max(xp.abs(values)))
        if enough or block.shape[1] == 0:
            return values, basis @ turn
        basis = xp.concat([basis, block], axis=1)


def _bordered(xp, small, seen):
    """The matrix of the operator in the basis with one more block: what that block's image is."""
    old = small.shape[0]
    below = xp.concat([small, seen[:old, :].T], axis=0)
    return xp.concat([below, seen], axis=1)


def _fresh(xp, basis, rest):
    """Orthonormal columns across the basis for what is left of an image, and their factors.

    No more columns than the space has room for.
    """
    room = rest.shape[0] - basis.shape[1]
    block, factor = xp.linalg.qr(rest)
    for _ in range(2):  # once for rounding, and once where nothing but rounding was left
        block, again = xp.linalg.qr(block - basis @ (basis.T @ block))
        factor = again @ factor
        if concrete(xp.min(xp.abs(xp.linalg.diagonal(again))) > 0.5):
            break
    return block[:, :room], factor
