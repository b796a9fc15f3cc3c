r"""The covariance of theta about a minimum of any network with squared loss, to the next order.

Near a minimum theta <- theta - rate (H theta + noise), with the Gauss-Newton matrix
H = mean_i J_i^T J_i of the outputs' derivatives J_i (o, p).  To first order in the rate label noise
gives the covariance rate label_noise^2 / (2 B) on all directions that H sees, and the mean force
on theta is that of kappa Tr H.  The next order has the step of the recursion, which is not small
along the largest curvatures, and the noise of sampling the residuals that the jitter itself makes,
which is larger for examples with larger |J_i|.

A preconditioner P, one positive number a parameter, makes the step theta <- theta - rate P (...),
as in Adam and RMSprop.  In the coordinates P^(-1/2) theta that is SGD with the derivatives
J P^(1/2).

Known: the force of kappa Tr H (Blanc et al., 2020), and the finite step in it (Damian, Ma & Lee,
2021).  New here, as far as we know: the noise of the residuals, example by example, in networks
with several outputs.
"""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy
from sgdnoise.core._checks import check_positive
from sgdnoise.core._operators import Factor

VISIBLE = 1e-9  # curvature relative to the largest, below which H sees nothing
SETTLED, MOST_ROUNDS = 1e-8, 200


@checked
def label_noise_covariance(
    jacobian,
    residuals=None,
    *,
    label_noise,
    learning_rate,
    batch_size,
    time=None,
    discrete_steps=1.0,
    with_feedback: bool = True,
    population_factor=1.0,
    preconditioner=None,
) -> Factor:
    r"""The covariance S of theta under label noise, as a Factor of at most min(p, n o) rows.

    It solves, on the directions that H = mean_i J_i^T J_i sees,

        H S + S H - discrete_steps rate H S H = (rate / B) (label_noise^2 H + f V),
        V = mean_i J_i^T (J_i S J_i^T + r_i r_i^T) J_i - H S H - g g^T,  g = mean_i J_i^T r_i,

    where V is the covariance over the examples of the gradients that the jitter and the residuals
    make ("feedback").  It is exact for models that are linear in theta.
    jacobian: J (n, o, p), the derivatives of the outputs for each example.
    residuals: r (n, o), outputs less targets without label noise; None: zero, as at a minimum.
    time: learning rate x steps since theta was without jitter; each pair of directions then has
    the fraction 1 - exp(-(h_a + h_b) time) of its stationary value.  None: stationary.
    discrete_steps: 1 for SGD, 0 for its Langevin equation, and (1 - beta) / (1 + beta) where a step
    takes the mean m <- beta m + (1 - beta) gradient.
    with_feedback: whether V is included; without it and discrete_steps, S is
    rate label_noise^2 / (2 B) times the projector onto the directions that H sees.
    population_factor: f = (n - B) / (n - 1) for examples drawn without replacement, else 1.
    preconditioner: P (p,), by which a step is theta <- theta - rate P gradient; None: 1.  The
    equation then is that of P^(1/2) H P^(1/2), whose curvatures h_a also set the times, and S is
    P^(1/2) times its solution times P^(1/2).
    Raises ValueError for sizes that do not fit, numbers that are not positive, a rate of at least
    2 over the largest curvature, or feedback that diverges.

    Example:
        >>> import numpy as np
        >>> jacobian = np.asarray([[[1.0, 0.0]], [[0.0, 2.0]]])
        >>> size = {"label_noise": 1.0, "learning_rate": 0.1, "batch_size": 1}
        >>> rows = label_noise_covariance(jacobian, with_feedback=False, **size).rows
        >>> (rows.T @ rows).round(4).tolist()
        [[0.0513, 0.0], [0.0, 0.0556]]
        >>> rows = label_noise_covariance(jacobian, **size).rows
        >>> (rows.T @ rows).round(4).tolist()
        [[0.0526, 0.0], [0.0, 0.0625]]
    """
    jacobian, residuals = checked_jacobian(jacobian, residuals)
    check_positive(label_noise=label_noise, learning_rate=learning_rate, batch_size=batch_size)
    root = _root(preconditioner, jacobian.shape[2])
    curvatures, seen, mapped = modes(jacobian if root is None else jacobian * root)
    n = len(jacobian)
    sums = curvatures[:, None] + curvatures
    if learning_rate * curvatures[-1] >= 2:
        raise ValueError(
            f"at rate {learning_rate:.3g} descent diverges along the curvature {curvatures[-1]:.3g}"
        )
    gain = 1 / (sums - discrete_steps * learning_rate * np.outer(curvatures, curvatures))
    gain *= learning_rate / batch_size
    if time is not None:
        gain *= -np.expm1(-sums * time)
    flat = seen.reshape(-1, len(curvatures))
    fixed = label_noise**2 * np.diag(curvatures)
    mean_gradient = np.einsum("iam,ia->m", seen, residuals) / n
    covariance, before = gain * fixed, np.inf
    for _ in range(MOST_ROUNDS if with_feedback else 0):
        outputs = (flat @ covariance).reshape(seen.shape)
        moments = outputs @ np.swapaxes(seen, 1, 2) + residuals[:, :, None] * residuals[:, None]
        sampled = flat.T @ (moments @ seen).reshape(flat.shape) / n
        sampled -= np.outer(curvatures, curvatures) * covariance
        sampled -= np.outer(mean_gradient, mean_gradient)
        after = gain * (fixed + population_factor * sampled)
        change = np.abs(after - covariance).max() / np.abs(covariance).max()
        covariance = after
        if change < SETTLED:
            break
        if not change < max(before, 1.0):
            raise ValueError(f"at rate {learning_rate:.3g} the noise of the residuals diverges")
        before = change
    values, vectors = np.linalg.eigh(covariance)
    rows = mapped(vectors * values.clip(0) ** 0.5)
    return Factor(rows if root is None else rows * root)


def _root(preconditioner, p):
    """P^(1/2) (p,), or None."""
    if preconditioner is None:
        return None
    preconditioner = as_numpy(preconditioner).astype(float)
    if preconditioner.shape != (p,):
        raise ValueError(f"a preconditioner of shape {preconditioner.shape} is not ({p},)")
    check_positive(preconditioner=preconditioner)
    return preconditioner**0.5


def checked_jacobian(jacobian, residuals=None):
    """J (n, o, p) and r (n, o) as numbers of double precision."""
    jacobian = as_numpy(jacobian).astype(float)
    if jacobian.ndim != 3:
        raise ValueError(f"a jacobian is (examples, outputs, p), not of shape {jacobian.shape}")
    if residuals is None:
        return jacobian, np.zeros(jacobian.shape[:2])
    residuals = as_numpy(residuals).astype(float)
    if residuals.shape != jacobian.shape[:2]:
        raise ValueError(
            f"residuals of shape {residuals.shape} do not fit a jacobian of {jacobian.shape}"
        )
    return jacobian, residuals


def modes(jacobian):
    """Curvatures of H above zero, ascending; J in the eigenvectors U of H (n, o, m); c -> (U c)^T.

    With fewer rows of J than numbers of theta, U = J^T V / (n lambda)^(1/2), with V the
    eigenvectors of J J^T / n, and is not formed.
    """
    n, outputs, p = jacobian.shape
    rows = jacobian.reshape(n * outputs, p) / n**0.5
    if n * outputs < p:
        values, vectors = np.linalg.eigh(rows @ rows.T)
        visible = values > VISIBLE * values[-1]
        values, vectors = values[visible], vectors[:, visible]
        seen = (n * values) ** 0.5 * vectors
        return (
            values,
            seen.reshape(n, outputs, -1),
            lambda weights: (vectors / values**0.5 @ weights).T @ rows,
        )
    values, vectors = np.linalg.eigh(rows.T @ rows)
    visible = values > VISIBLE * values[-1]
    basis = vectors[:, visible]
    return values[visible], jacobian @ basis, lambda weights: (basis @ weights).T
