"""Gaussian surrogates: what a dimension is where only the covariance of the points is known.

A surrogate differs from the points in all but mean and covariance.  In principal axes it needs the
variances alone, which the smaller of the two Gram matrices has, so that a layer of more units than
examples costs one matrix product.
"""

import numpy as np
from scipy.special import ndtr

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, namespace, same_library
from sgdnoise.core._checks import as_generator
from sgdnoise.core._estimate import Estimate, mean
from sgdnoise.dimension._check_points import check_points
from sgdnoise.dimension._spectral import centred

COARSE = np.logspace(-6, 18, 73)  # minus twice the saddle point, over the inverse largest variance
N_FINE = 120  # of them, where the integrand is not negligible
EXPECTED = 1e-5, 50.0  # points within r, outside of which it is
WIDTH = 0.1  # of a bin of log variances; an error of its square, and less
NEAR_MEAN = 0.1  # standard deviations from the mean, within which the saddle-point formula is 0 / 0


@checked
def covariance_spectrum(points):
    """The variances of the principal components of the points, descending.  (n, D) -> (min(n, D),)

    They are the eigenvalues of the sample covariance, with n - 1 in the denominator, from the
    smaller of the two Gram matrices, so that rounding errors are those of the largest variance.
    With D >= n the last one is zero.
    Raises ValueError as `check_points` does.

    Example:
        >>> square = np.asarray([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]])
        >>> (3 * covariance_spectrum(square)).round(6).tolist()
        [16.0, 4.0]
    """
    points = check_points(points)
    xp, rows = namespace(points), centred(points)
    gram = rows @ rows.T if rows.shape[0] < rows.shape[1] else rows.T @ rows
    values = xp.flip(xp.linalg.eigvalsh(gram / (points.shape[0] - 1)), axis=0)
    return xp.where(values > 0, values, xp.zeros_like(values))


@checked
def gaussian_surrogate(points, *, rng):
    """Normal points with the covariance of the points, in its principal axes.  (n, D) -> (n, r)

    r = min(n, D).  Estimates that do not depend on axes, which are all of distances and variances,
    are those of normal points in R^D (surrogate data: Theiler et al., 1992).
    rng: a numpy Generator or a seed.
    Raises ValueError as `check_points` does.

    Example:
        >>> square = np.random.default_rng(0).uniform(size=(1000, 2))
        >>> gaussian_surrogate(square, rng=1).shape
        (1000, 2)
    """
    variances = covariance_spectrum(points)
    shape = points.shape[0], variances.shape[0]
    normal = same_library(as_generator(rng).standard_normal(shape), variances)
    return namespace(variances).astype(normal, variances.dtype) * variances**0.5


@checked
def gaussian_twonn(variances, n: int, *, n_points: int = 256, rng=0) -> Estimate:
    r"""The `twonn` dimension that n normal points of these variances have on average.

    From a point x, let p(r) be the probability that another is within r.  The mean of log(r2 / r1)
    is the integral of (n - 1) p (1 - p)^(n - 2) over log r, exactly; its mean over x is the inverse
    dimension.  p is the saddle-point approximation of Lugannani & Rice (1980) to the law of
    |x - y|^2, a weighted sum of noncentral chi-squared variables.  From 100 points on it errs by 2%
    at most in 2 dimensions, and by 0.3% from 10 on.
    variances: those of the principal components, as `covariance_spectrum` gives them, in any order.
    n_points: points x, drawn from the same law, which give the error; rng: a Generator or a seed.
    Raises ValueError for variances that are not finite and 0 or more with one above 0, for n < 3,
    and for fewer than 2 points x.

    Example:
        >>> print(gaussian_twonn(np.ones(10), 1000))
        9.548 ± 0.034
    """
    variances = np.asarray(as_numpy(variances), float)
    if variances.ndim != 1 or not np.all((variances >= 0) & np.isfinite(variances)):
        raise ValueError("variances are a list of finite numbers that are 0 or more")
    if not np.any(variances > 0):
        raise ValueError("variances need one that is above 0, or all points coincide")
    if n < 3 or n_points < 2:
        raise ValueError(f"n is 3 or more and n_points 2 or more, not {n} and {n_points}")
    values, counts = _binned(variances[variances > 0] / variances.max())
    squares = values * as_generator(rng).chisquare(counts, (n_points, len(values)))
    return 1 / mean(np.asarray([_mean_log_ratio(values, counts, x, n) for x in squares]))


def _binned(variances):
    """Means of variances that differ by less than WIDTH of each other, and their numbers."""
    bins = np.unique(np.floor(np.log(variances) / WIDTH), return_inverse=True)[1]
    counts = np.bincount(bins)
    return np.bincount(bins, variances) / counts, counts


def _mean_log_ratio(variances, counts, squares, n):
    """The mean of log(r2 / r1) at a point, with the sum of squares of its coordinates by bin."""
    expected = (n - 1) * _ball(variances, counts, squares, COARSE)[0]
    first = max(0, np.sum(expected >= EXPECTED[1]) - 1)  # expected falls along COARSE
    last = min(len(COARSE) - 1, np.sum(expected > EXPECTED[0]))
    u = np.geomspace(COARSE[first], COARSE[last], N_FINE)
    p, slope = _ball(variances, counts, squares, u)
    return np.trapezoid((n - 1) * p * (1 - p) ** (n - 2) * slope, np.log(u))


def _ball(variances, counts, squares, u):
    """The probability of a ball around a point, and -d log r / d log u, at saddle points -u / 2."""
    shrunk = 1 / (1 + u[:, None] * variances)
    small = variances * shrunk
    squared_radius = small @ counts + shrunk**2 @ squares
    curvature = 2 * small**2 @ counts + 4 * (small * shrunk**2) @ squares
    log_mean = 0.5 * (np.log(shrunk) @ counts - u * (shrunk @ squares))
    v = -u / 2 * curvature**0.5
    w = -np.sqrt(np.maximum(-u * squared_radius - 2 * log_mean, 1e-300))
    density = np.exp(-(w**2) / 2) / (2 * np.pi) ** 0.5
    p = np.clip(ndtr(w) + density * (1 / w - 1 / v), 0, 1)
    return np.where(w < -NEAR_MEAN, p, 1), curvature / squared_radius * u / 4
