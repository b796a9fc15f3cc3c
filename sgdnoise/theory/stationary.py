"""Where a noisy descent in a quadratic bowl comes to rest."""

from jaxtyping import Float

from sgdnoise.arrays import Array, namespace

__all__ = ["stationary_covariance"]


def stationary_covariance(
    hessian: Float[Array, "p p"], noise: Float[Array, "p p"], rate: float
) -> Float[Array, "p p"]:
    r"""Covariance S at which theta <- theta - rate (H theta + xi), Cov xi = C, comes to rest.

    Solves S = (1 - rate H) S (1 - rate H) + rate^2 C in the eigenbasis of H:
    S_ij = rate C_ij / (h_i + h_j - rate h_i h_j), exact for any stable rate (Liu, Ziyin & Ueda,
    2021).  Raises ValueError unless H is positive definite and rate h < 2 for its eigenvalues.
    """
    xp = namespace(hessian, noise)
    h, basis = xp.linalg.eigh(hessian)
    low, high = float(xp.min(h)), float(xp.max(h))
    if not 0 < low <= high < 2 / rate:
        raise ValueError(
            f"curvatures {low:.3g} to {high:.3g} at rate {rate:.3g} have no stationary law: "
            f"all must lie between 0 and 2 / rate = {2 / rate:.3g}"
        )
    rotated = basis.T @ noise @ basis
    still = h[:, None] + h[None, :] - rate * h[:, None] * h[None, :]
    return basis @ (rate * rotated / still) @ basis.T
