r"""The mean force of the jitter of theta on any network, also on networks with corners.

Noise makes theta jitter about a slowly moving mean with a covariance S.  The mean follows
-E grad L(mean + xi) with xi of covariance S.  For a smooth loss and small S that is the gradient of
L + Tr(H S) / 2, hence kappa Tr H under label noise.  A network of rectified linear units (relus)
has corners: where the preactivation of a unit crosses zero, J and Tr H jump.  Autograd does not
see the jump, but the jitter crosses it.  The mean over draws of xi contains it.

Known: label noise descends on Tr H along the minima of smooth networks (Blanc et al., 2020; Damian,
Ma & Lee, 2021; Li, Wang & Arora, 2022).  New here, as far as we know: the force at the corners, its
equality to first order with the force of a network whose units are averaged over the jitter of
their preactivations, and the work of one unit with the response of its residual.
"""

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, namespace
from sgdnoise.core._checks import check_positive


@checked
def averaged_gradient(gradient, theta, covariance, white):
    r"""E grad L(theta + xi) over jitter xi of a covariance, by pairs xi and -xi.  -> (p,)

    gradient: theta -> grad L (p,), of numpy, torch or jax.  theta: the mean, (p,).
    covariance: a `core.Covariance` of theta.
    white: independent standard normal numbers (draws, covariance.width); each row gives a pair, in
    which the linear part H xi of the gradient cancels.  With `label_noise_covariance` as the
    covariance it is the mean force of label noise on any network with squared loss.
    Raises ValueError for numbers of another shape.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import Isotropic
        >>> white = np.random.default_rng(0).normal(size=(20_000, 1))
        >>> cubic = lambda theta: theta**2  # L = theta^3 / 3, whose force is S
        >>> averaged_gradient(cubic, np.zeros(1), Isotropic(0.5, 1), white).round(2)
        array([0.5])
    """
    if white.ndim != 2 or white.shape[1] != covariance.width or not len(white):
        raise ValueError(
            f"numbers of shape {tuple(white.shape)} are not (draws, {covariance.width})"
        )
    xp = namespace(theta)
    total = xp.zeros_like(theta)
    for row in white:
        jitter = xp.asarray(covariance.colour(row), dtype=theta.dtype)
        for sign in (1, -1):
            total = total + gradient(theta + sign * jitter)
    return total / (2 * len(white))


@checked
def corner_work(jitter, weight=1.0, *, jitter_rate=1.0, residual_rate=1.0):
    r"""The work of the mean force on one relu, from always off to always on.

    The preactivation has a mean a and a jitter of standard deviation s ("jitter") that relaxes at
    the rate h_a, as exp(-h_a t).  The unit changes one output by v relu ("weight"), and the
    residual r of this output relaxes at the rate h_r.  The slope of the loss in a is v E[r 1(on)],
    and its integral over a is, for small v,

        v^2 s^2 / 2 * h_a / (h_a + h_r).

    The last factor is the response of the residual, which the Gaussian mean of `averaged_gradient`
    leaves out; it is 1 if the residual cannot follow the jitter (residual_rate=0).  Work of other
    units on the same residual is of first order in v, and has no such factor.
    Raises ValueError for a jitter or a jitter_rate that is not positive.

    Example:
        >>> round(corner_work(0.2), 6), round(corner_work(0.2, residual_rate=0.0), 6)
        (0.01, 0.02)
    """
    check_positive(jitter=jitter, jitter_rate=jitter_rate)
    return (weight * jitter) ** 2 / 2 * jitter_rate / (jitter_rate + residual_rate)


@checked
def smoothed_relu(a, width):
    r"""The mean of relu(a + w xi) over a standard normal xi: a Phi(a / w) + w phi(a / w).

    Phi and phi are the distribution and the density of a standard normal number, w the width.
    a: of any shape.  Raises ValueError for a width that is not positive.

    Example:
        >>> import numpy as np
        >>> smoothed_relu(np.asarray([-1.0, 0.0, 1.0]), 0.5).round(4)
        array([0.0042, 0.1995, 1.0042])
    """
    from scipy.special import ndtr

    check_positive(width=width)
    a = as_numpy(a)
    z = a / width
    return a * ndtr(z) + width * np.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5
