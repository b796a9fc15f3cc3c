r"""Adam and RMSprop under label noise: their preconditioner at a minimum, and what they penalise.

Adam divides the gradient, entry by entry, by the root of a moving average v of its square.  At a
minimum without residuals label noise alone makes gradients, so that v = label_noise^2 D / B with
the diagonal D of the Gauss-Newton matrix H.  While v changes slowly, a step is rate P gradient with
P = v^(-1/2).  In the coordinates P^(-1/2) theta this is SGD, and its slow force along the minima is
that of kappa Tr(P H) with P held:

    kappa grad Tr(P H) = (rate label_noise / (2 B^(1/2))) grad Tr D^(1/2),

so that Adam descends on the sum of the roots of D in the metric 1 / P, where SGD descends on the
sum of D.  P is proportional to B^(1/2) / label_noise, so that a step of Adam depends neither on the
label noise nor on B.

Assumed: v averages over many steps (beta_2 near 1) and changes little while the jitter relaxes;
eps is small beside v^(1/2); squared loss; residuals without noise vanish.  Momentum (beta_1) does
not matter to first order in the rate.  Sign descent, which is beta_2 = 0, is not described: the
signs of correlated gradients have noise outside of the directions that H sees, of the size of that
inside.

Known: the penalty Tr D^(1/2) (Li, Wen & Lyu, 2025).  New here, as far as we know: the covariance
to the next order, and the path of a representation that follows from both.
"""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._checks import check_non_negative, check_positive
from sgdnoise.core._operators import Factor
from sgdnoise.theory._label_noise_covariance import checked_jacobian


@checked
def squared_gradients(
    jacobian, covariance: Factor | None = None, *, label_noise, batch_size
) -> np.ndarray:
    r"""The mean square of each entry of a minibatch's gradient under label noise, (p,).

    v = (1 / B) diag[label_noise^2 H + mean_i J_i^T J_i S J_i^T J_i + (B - 1) H S H], the average to
    which Adam's moving average of squares tends, for examples drawn with replacement.
    jacobian: J (n, o, p), the derivatives of the outputs for each example, at a minimum without
    residuals.  covariance: S of theta, as of `label_noise_covariance`; None: zero, to first order.
    Raises ValueError for sizes that do not fit, and for numbers that are not positive.

    Example:
        >>> import numpy as np
        >>> jacobian = np.asarray([[[1.0, 0.0]], [[0.0, 2.0]]])
        >>> squared_gradients(jacobian, label_noise=1.0, batch_size=2).tolist()
        [0.25, 1.0]
    """
    jacobian, _ = checked_jacobian(jacobian)
    check_positive(label_noise=label_noise, batch_size=batch_size)
    n = len(jacobian)
    squares = label_noise**2 * np.einsum("iap,iap->p", jacobian, jacobian) / n
    if covariance is not None:
        seen = jacobian @ covariance.rows.T  # J S^(1/2), (n, o, m)
        moments = seen @ np.swapaxes(seen, 1, 2)  # J_i S J_i^T, (n, o, o)
        squares += np.sum(jacobian * (moments @ jacobian), (0, 1)) / n
        moved = np.tensordot(jacobian, seen, ((0, 1), (0, 1))) / n  # H S^(1/2), (p, m)
        squares += (batch_size - 1) * np.sum(moved**2, 1)
    return squares / batch_size


@checked
def adaptive_preconditioner(
    jacobian, covariance: Factor | None = None, *, label_noise, batch_size, eps=0.0
) -> np.ndarray:
    r"""P (p,) of Adam and RMSprop under label noise at a minimum: 1 / (v^(1/2) + eps).

    v: `squared_gradients` of the same arguments.  A step is theta <- theta - rate P gradient.
    Raises ValueError as `squared_gradients` does, for negative eps, and where v and eps are zero.

    Example:
        >>> import numpy as np
        >>> jacobian = np.asarray([[[1.0, 0.0]], [[0.0, 2.0]]])
        >>> adaptive_preconditioner(jacobian, label_noise=1.0, batch_size=2).tolist()
        [2.0, 1.0]
    """
    check_non_negative(eps=eps)
    roots = squared_gradients(jacobian, covariance, label_noise=label_noise, batch_size=batch_size)
    roots = roots**0.5 + eps
    if not np.all(roots > 0):
        still = np.flatnonzero(roots == 0)
        raise ValueError(
            f"{len(still)} parameters, the first of them number {still[0]}, have no gradient; "
            "an eps above 0 bounds their steps"
        )
    return 1 / roots


@checked
def adaptive_penalty(jacobian) -> float:
    r"""Tr D^(1/2), the sum of the roots of the diagonal of H = mean_i J_i^T J_i.

    Adam and RMSprop descend on it under label noise, as SGD does on Tr H (Li, Wen & Lyu, 2025).
    jacobian: J (n, o, p).  Raises ValueError for another shape.

    Example:
        >>> import numpy as np
        >>> adaptive_penalty(np.asarray([[[1.0, 0.0]], [[0.0, 2.0]]]))
        2.1213203435596424
    """
    jacobian, _ = checked_jacobian(jacobian)
    return float(np.sum(np.einsum("iap,iap->p", jacobian, jacobian) ** 0.5) / len(jacobian) ** 0.5)
