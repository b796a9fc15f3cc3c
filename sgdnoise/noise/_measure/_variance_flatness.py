"""The inverse variance-flatness relation: the variance of weights where the loss is steep.

Feng & Tu (2021) find that the variance of weights along a principal direction of their trajectory
falls with the flatness F of the loss as F^-psi.  Several mechanisms make such a law, and only two
are properties of the noise.  With C = sigma^2 H and independent batches the stationary variance,
learning_rate sigma^2 / 2, does not depend on curvature: psi = 0.  With C ~ H^2 it grows as H:
psi = 2.  Batches of a reshuffled epoch are anticorrelated, which damps flat directions as H^2:
psi = 4 (Kuehn & Rosenow, 2023).  But a window shorter than the time 1 / (learning_rate h) of a
direction contains a random walk, whose variance grows as C: psi = 2 and more for C = sigma^2 H.
And the principal components of any random walk, without curvature, have variances that fall as
1 / j^2 (Antognini & Sohl-Dickstein, 2018).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped
from scipy.optimize import brentq

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, namespace, power_of_two, widened
from sgdnoise.core._estimate import Estimate, mean
from sgdnoise.noise._measure._alignment import alignment_exponent

DOUBLINGS = 100  # of the distance at which a loss is looked for


class VarianceFlatness(NamedTuple):
    """Variances (w, k) and flatness (w, k) along k principal directions of each of w windows.

    exponent: psi of variance ~ flatness^-psi, a mean over windows.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.noise import variance_flatness
        >>> curvatures = 4.0 ** np.arange(4)
        >>> windows = np.random.default_rng(0).normal(size=(8, 2000, 4)) * curvatures**-0.5
        >>> result = variance_flatness(windows, lambda _, u: (u**2 @ curvatures) ** -0.5, k=4)
        >>> result.variances.shape, result.flatness.shape
        ((8, 4), (8, 4))
    """

    variances: Any
    flatness: Any
    exponent: Estimate


@checked
def variance_flatness(
    windows: Shaped[Array, "w t p"], flatness: Callable[..., Any], k: int = 10
) -> VarianceFlatness:
    """The exponent psi of variance ~ flatness^-psi (Feng & Tu, 2021), from windows of theta.

    windows: theta (w, t, p), w windows of t steps.
    flatness: (centre, direction) -> F, such as `loss_width`, or 1 / h^1/2 for a curvature h.
    psi is minus the least-squares slope of log variance on log F in each window.  Its error is that
    between windows, which must be independent: from separate runs, or as far apart as the longest
    time 1 / (learning_rate h).  psi != 0 alone says nothing of the noise: see the top of this
    module, and use windows well above 1 / (learning_rate h) of the flattest of the k directions.
    Raises ValueError for fewer than 2 windows, unless 1 <= k < t and k <= p, and as
    `alignment_exponent`.

    Example:
        >>> import numpy as np
        >>> curvatures = 4.0 ** np.arange(4)
        >>> windows = np.random.default_rng(0).normal(size=(8, 2000, 4)) * curvatures**-0.5
        >>> def flatness(centre, direction):  # h^-1/2, and the variance is 1 / h: psi = -2
        ...     return (direction**2 @ curvatures) ** -0.5
        >>> round(float(variance_flatness(windows, flatness, k=4).exponent.value), 1)
        -2.0
    """
    windows = widened(windows, "windows")
    if windows.ndim != 3:
        raise ValueError(f"windows must be an array (w, t, p), not of shape {tuple(windows.shape)}")
    if windows.shape[0] < 2:
        raise ValueError(f"an error needs at least 2 windows, not {windows.shape[0]}")
    pairs = [_of_window(windows[at], flatness, k) for at in range(windows.shape[0])]
    variances, widths = (np.stack(column) for column in zip(*pairs, strict=True))
    slopes = [-alignment_exponent(f, v).value for f, v in zip(widths, variances, strict=True)]
    return VarianceFlatness(variances, widths, mean(np.asarray(slopes)))


def principal_directions(window: Shaped[Array, "t p"], k: int) -> tuple[Any, Any]:
    """Variances (k,), with divisor t - 1, and directions (k, p) of principal components of theta.

    Raises ValueError unless 1 <= k < t and k <= p.
    """
    window = widened(window, "window")
    if window.ndim != 2:
        raise ValueError(f"a window must be a matrix (t, p), not of shape {tuple(window.shape)}")
    xp, (t, p) = namespace(window), window.shape
    if not 1 <= k <= min(t - 1, p):
        raise ValueError(f"{t} points in {p} dimensions do not have {k} principal directions")
    centred = window - xp.mean(window, axis=0)
    unit = power_of_two(centred)
    _, sizes, directions = xp.linalg.svd(centred / unit, full_matrices=False)
    return (sizes[:k] * unit) ** 2 / (t - 1), directions[:k, :]


@checked
def loss_width(loss: Callable[..., Any], centre, direction, *, factor=math.e) -> float:
    """The distance between the points along a direction where the loss is `factor` times larger.

    It is 2 (2 (factor - 1) L / h)^1/2 for a quadratic loss of curvature h with the value L at its
    minimum.  The first crossing on each side counts; one narrower than the doubling steps is
    missed.
    Raises ValueError for a loss that is not positive, for factor <= 1, and if the loss stays below
    on one side.

    Example:
        >>> import numpy as np
        >>> loss = lambda theta: 1 + (theta**2).sum()
        >>> round(loss_width(loss, np.zeros(2), np.asarray([1.0, 0.0])), 3)
        2.622
    """
    value = float(loss(centre))
    if not value > 0:
        raise ValueError(f"a width is where the loss has grown by a factor, not from {value:.3g}")
    if not factor > 1:
        raise ValueError(f"a loss grows by a factor above 1, not {factor}")

    def excess(distance):
        return float(loss(centre + distance * direction)) - factor * value

    return _crossing(excess) + _crossing(lambda distance: excess(-distance))


def _crossing(excess):
    """The distance at which an excess turns positive."""
    distance = 2.0**-20
    for _ in range(DOUBLINGS):
        if excess(distance) > 0:
            return brentq(
                excess, 0.0 if distance < 2.0**-19 else distance / 2, distance, rtol=1e-12
            )
        distance *= 2
    raise ValueError(
        f"the loss stays below along a direction, as far as {distance:.3g} from the centre"
    )


def _of_window(window, flatness, k):
    variances, directions = principal_directions(window, k)
    centre = namespace(window).mean(window, axis=0)
    values = [float(flatness(centre, directions[row, :])) for row in range(k)]
    return as_numpy(variances).astype(float), np.asarray(values)
