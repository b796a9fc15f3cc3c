"""Stationary covariances of SGD and its relatives on a quadratic loss.

H is the Hessian (p, p), and `noise` the covariance C (p, p) of the gradient of one step: that of
single examples over the batch size.  All formulas are exact for noise independent of theta.

Known: Mandt, Hoffman & Blei (2017) in continuous time, Liu, Ziyin & Ueda (2021) in discrete steps,
Kuehn & Rosenow (2023) for reshuffling.  New here: the same for Nesterov's method in one frame.
"""

from jaxtyping import Float

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, concrete, device, namespace

ROUNDING = 1e-5  # of float32: what it may do to a symmetric matrix, relative to its largest entry


@checked
def stationary_covariance(
    hessian: Float[Array, "p p"], noise: Float[Array, "p p"], learning_rate: float
) -> Float[Array, "p p"]:
    r"""The stationary covariance S of SGD, theta <- theta - rate (H theta + xi), Cov xi = C.

    It solves S = (1 - rate H) S (1 - rate H) + rate^2 C in the eigenbasis of H:
    S_ij = rate C_ij / (h_i + h_j - rate h_i h_j), exact for any stable rate (Liu, Ziyin & Ueda,
    2021).  Raises ValueError unless C is a covariance, H is positive definite and rate h < 2 for
    its eigenvalues.

    Example:
        >>> import numpy as np
        >>> stationary_covariance(np.eye(2), np.eye(2), 0.5).round(3).tolist()
        [[0.333, 0.0], [0.0, 0.333]]
    """
    h, basis, rotated = _quadratic(hessian, noise, learning_rate, 2.0)
    decay = h[:, None] + h[None, :] - learning_rate * h[:, None] * h[None, :]
    return basis @ (learning_rate * rotated / decay) @ basis.T


@checked
def langevin_covariance(
    hessian: Float[Array, "p p"], noise: Float[Array, "p p"], learning_rate: float
) -> Float[Array, "p p"]:
    r"""The stationary covariance of d theta = -H theta dt + (rate C)^(1/2) dW.

    It solves H S + S H = rate C: S_ij = rate C_ij / (h_i + h_j) in the eigenbasis of H (Mandt,
    Hoffman & Blei, 2017).  In each mode it is that of SGD times 1 - rate h / 2.
    Raises ValueError unless C is a covariance, H is positive definite and rate > 0.

    Example:
        >>> import numpy as np
        >>> langevin_covariance(np.eye(2), np.eye(2), 0.5).tolist()
        [[0.25, 0.0], [0.0, 0.25]]
    """
    h, basis, rotated = _quadratic(hessian, noise, learning_rate, float("inf"))
    return basis @ (learning_rate * rotated / (h[:, None] + h[None, :])) @ basis.T


@checked
def heavy_ball_covariance(
    hessian: Float[Array, "p p"],
    noise: Float[Array, "p p"],
    learning_rate: float,
    momentum: float,
    dampening: float = 0.0,
) -> Float[Array, "p p"]:
    r"""The stationary covariance of theta for SGD with heavy-ball momentum mu.

    b <- mu b + (1 - dampening) g, theta <- theta - rate b, as in torch, with g = H theta + xi; an
    exponential mean of gradients has dampening = mu.  With r = rate (1 - dampening), in the
    eigenbasis of H, S_ij = r C_ij (1 - mu^2) /
    ((1 - mu)^2 ((1 + mu) (h_i + h_j) - r h_i h_j) + mu r (h_i - h_j)^2), whether H and C commute or
    not; along one mode it is r c (1 + mu) / (h (1 - mu) (2 (1 + mu) - r h)) (Liu, Ziyin & Ueda,
    2021).  Raises ValueError unless 0 <= momentum < 1, 0 <= dampening < 1, C is a covariance, H is
    positive definite and r h < 2 (1 + mu) for its eigenvalues.

    Example:
        >>> import numpy as np
        >>> heavy_ball_covariance(np.eye(1), np.eye(1), 0.1, momentum=0.5).round(4).tolist()
        [[0.1034]]
    """
    mu, undamped = _fraction("momentum", momentum), 1 - _fraction("dampening", dampening)
    h, basis, rotated = _quadratic(hessian, noise, learning_rate, 2 * (1 + mu) / undamped)
    r = learning_rate * undamped
    total, product = h[:, None] + h[None, :], h[:, None] * h[None, :]
    decay = (1 - mu) ** 2 * ((1 + mu) * total - r * product)
    decay = decay + mu * r * (h[:, None] - h[None, :]) ** 2
    return basis @ (r * (1 - mu**2) * rotated / decay) @ basis.T


@checked
def nesterov_covariance(
    hessian: Float[Array, "p p"], noise: Float[Array, "p p"], learning_rate: float, momentum: float
) -> Float[Array, "p p"]:
    r"""The stationary covariance of theta for SGD with Nesterov's momentum mu.

    b <- mu b + g, theta <- theta - rate (g + mu b), g = H theta + xi: theta is the point at which
    gradients are evaluated, as in torch, and not the point that Nesterov's own sequence returns.
    Each pair of modes has a linear system in its four second moments; along one mode the variance
    is rate c (1 + mu + rate h mu (1 + 2 mu)) /
    (h (1 - mu + rate h mu) (2 (1 + mu) - rate h (1 + 2 mu))).
    Raises ValueError unless 0 <= momentum < 1, C is a covariance, H is positive definite and
    rate h < 2 (1 + mu) / (1 + 2 mu), which is less than 2, for its eigenvalues.

    Example:
        >>> import numpy as np
        >>> nesterov_covariance(np.diag([1.0, 2.0]), np.eye(2), 0.05, 0.5).round(4)
        array([[0.0509, 0.    ],
               [0.    , 0.026 ]])
    """
    mu = _fraction("momentum", momentum)
    h, basis, rotated = _quadratic(hessian, noise, learning_rate, 2 * (1 + mu) / (1 + 2 * mu))
    xp = namespace(h)
    ones = xp.ones_like(h)
    rows = [1 - learning_rate * (1 + mu) * h, -(learning_rate * mu**2) * ones, h, mu * ones]
    steps = xp.reshape(xp.stack(rows, axis=1), (-1, 2, 2))
    kick = xp.asarray([-learning_rate * (1 + mu), 1.0], dtype=h.dtype, device=device(h))
    return basis @ _solve_pairs(xp, steps, kick, rotated) @ basis.T


@checked
def reshuffled_covariance(
    hessian: Float[Array, "p p"], noise: Float[Array, "p p"], learning_rate: float, batches: int
) -> Float[Array, "p p"]:
    r"""The stationary covariance of theta after epochs of m batches in random order.

    C is the covariance of one batch's noise, which over an epoch sums to zero: with A = 1 - rate H,
    S = A^m S A^m + rate^2 (m sum_k A^k C A^k - (sum_k A^k) C (sum_k A^k)) / (m - 1), k < m.
    Along a mode of rate h m << 1 it is rate^3 c h m (m + 1) / 24, far below that of independent
    batches (Kuehn & Rosenow, 2023).  It holds for additive noise alone: if batches differ in
    curvature, as in regression, S is too small, by 5 to 40% in simulations, and the order of
    batches also moves the mean by O(rate), whose square exceeds S at small rates.
    Raises ValueError for fewer than 2 batches and as `stationary_covariance`.

    Example:
        >>> import numpy as np
        >>> reshuffled_covariance(np.diag([1.0, 2.0]), np.eye(2), 0.05, 4).round(4)
        array([[0.0001, 0.    ],
               [0.    , 0.0002]])
    """
    if batches < 2:
        raise ValueError(f"an order needs at least 2 batches, not {batches}")
    h, basis, rotated = _quadratic(hessian, noise, learning_rate, 2.0)
    xp = namespace(h)
    times = xp.arange(batches + 1, dtype=h.dtype, device=device(h))
    change = _power_minus_one(xp, learning_rate * h, times)
    centred = change[:-1, :] - xp.mean(change[:-1, :], axis=0)  # powers of A minus their mean
    lost = -change[-1, :]
    decay = lost[:, None] + lost[None, :] - lost[:, None] * lost[None, :]
    kicks = learning_rate**2 * batches / (batches - 1) * rotated * (centred.T @ centred)
    return basis @ (kicks / decay) @ basis.T


@checked
def effective_temperature(
    hessian: Float[Array, "p p"], covariance: Float[Array, "p p"]
) -> Float[Array, "p p"]:
    r"""The temperature of each direction, H^(1/2) S H^(1/2), for theta of covariance S.

    S is that of the Gibbs density exp(-L / T) if and only if this is T 1, and Tr / p =
    2 E(L - min L) / p is the temperature that the loss has.  For the Langevin equation T 1 means
    C = (2 T / rate) 1, and Tr = rate Tr C / 2 always; for SGD it means
    C = (2 T / rate) (1 - rate H / 2).  Label noise, C = c H, gives each mode the temperature
    rate c h / 2 (Mandt, Hoffman & Blei, 2017).
    Raises ValueError unless H is positive definite and S a covariance.

    Example:
        >>> import numpy as np
        >>> effective_temperature(np.diag([1.0, 2.0]), np.diag([0.1, 0.2])).round(3)
        array([[0.1, 0. ],
               [0. , 0.4]])
    """
    h, basis, rotated = _quadratic(hessian, covariance, 1.0, float("inf"), "covariance")
    root = namespace(h).sqrt(h)
    return basis @ (root[:, None] * rotated * root[None, :]) @ basis.T


def symmetric_eigh(matrix: Float[Array, "..."], name: str = "matrix"):
    """Eigenvalues (p,), ascending, and basis (p, p) of a symmetric matrix.

    Raises ValueError, by this name, unless it is square, finite and symmetric up to rounding.
    """
    xp = namespace(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"the {name} must be a square matrix, not of shape {tuple(matrix.shape)}")
    gap, size = xp.max(xp.abs(matrix - matrix.T)), xp.max(xp.abs(matrix))
    if not float(gap) <= ROUNDING * float(size):
        raise ValueError(
            f"the {name} must be symmetric and finite: entries differ by {float(gap):.3g} "
            f"from their mirror images"
        )
    return xp.linalg.eigh((matrix + matrix.T) / 2)


def check_covariance(noise, size, name):
    """Raise ValueError unless this is a covariance of `size` variables, up to rounding."""
    eigenvalues = symmetric_eigh(noise, name)[0]
    if eigenvalues.shape[0] != size:
        raise ValueError(f"the {name} has {eigenvalues.shape[0]} rows and the hessian {size}")
    xp = namespace(eigenvalues)
    if concrete(eigenvalues[0] < -ROUNDING * xp.max(xp.abs(eigenvalues))):
        raise ValueError(
            f"the {name} is no covariance: it has the eigenvalue {float(eigenvalues[0]):.3g}"
        )


def _quadratic(hessian, noise, learning_rate, limit, name="noise"):
    """Curvatures, their basis and the noise in it; rate times curvature must be below `limit`."""
    h, basis = symmetric_eigh(hessian, "hessian")
    xp = namespace(h)
    check_covariance(noise, h.shape[0], name)
    if not learning_rate > 0:
        raise ValueError(f"the learning rate must be positive, not {learning_rate}")
    low, high = float(xp.min(h)), float(xp.max(h))
    if not 0 < low <= high < limit / learning_rate:
        raise ValueError(_unstable(low, high, limit, learning_rate))
    return h, basis, basis.T @ noise @ basis


def _unstable(low, high, limit, learning_rate):
    finite = limit < float("inf")
    bound = f" and below {limit:.3g} / rate = {limit / learning_rate:.3g}" if finite else ""
    if not low > 0:
        return f"a curvature of {low:.3g} has no stationary law: all must be above 0{bound}"
    return (
        f"a curvature of {high:.3g} at rate {learning_rate:.3g} has no stationary law: "
        f"all must be above 0{bound}, which holds for rates below {limit / high:.3g}"
    )


def _fraction(name, value):
    if not 0 <= value < 1:
        raise ValueError(f"the {name} must be at least 0 and below 1, not {value}")
    return value


def _solve_pairs(xp, steps, kick, noise):
    """First entries X_00 of X = A_i X A_j^T + C_ij k k^T for each pair of modes, A (p, 2, 2)."""
    p = steps.shape[0]
    products = steps[:, None, :, None, :, None] * steps[None, :, None, :, None, :]
    system = xp.eye(4, dtype=steps.dtype, device=device(steps)) - xp.reshape(products, (p, p, 4, 4))
    kicks = xp.reshape(kick[:, None] * kick[None, :], (4, 1))
    solution = xp.linalg.solve(system, xp.broadcast_to(kicks, (p, p, 4, 1)))
    return noise * solution[:, :, 0, 0]


def _power_minus_one(xp, pull, times):
    """(1 - pull)^k - 1 for each of the times, (t, p), without cancellation where pull is small."""
    small = pull < 0.5
    logarithm = xp.log1p(-xp.where(small, pull, xp.zeros_like(pull)))
    exact = xp.expm1(times[:, None] * logarithm[None, :])
    return xp.where(small[None, :], exact, (1 - pull[None, :]) ** times[:, None] - 1)
