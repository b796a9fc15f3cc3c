"""Dimension from how few points on a sphere a plane near another point cuts off."""

import numpy as np
from scipy.special import lambertw

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._correlation import cosine_tiles, on_sphere
from sgdnoise.dimension._points import unique_points

ALPHAS = np.linspace(0.6, 0.98, 20)


def fisher_separability(points, condition: float = 10.0):
    r"""Fisher separability of Albergante et al. (2019).  (n, D) -> ()

    Components with more variance than the largest over `condition` are made white and put on the
    unit sphere.  With p the part of pairs whose cosine is alpha or more, uniform directions of R^d
    have p = (1 - alpha^2)^((d-1)/2) / (alpha sqrt(2 pi d)) nearly, which Lambert's W solves for d:
    d = W(w / (2 pi p^2 alpha^2 (1 - alpha^2))) / w with w = -log(1 - alpha^2).  Of the
    alphas 0.60, 0.62 to 0.98 it takes the one nearest to 0.9 of the largest with p > 0.  The law
    is that of large d, but 0.1 off at d = 1 and less above; few points make large d too large.
    Raises ValueError for condition <= 1, fewer than 3 distinct points, or p = 0 at all alphas.
    """
    if not condition > 1:
        raise ValueError(f"the ratio of variances kept is above 1, not {condition}")
    points = unique_points(points)
    xp = namespace(points)
    part = _inseparable(as_numpy(on_sphere(_whitened(points, condition))))
    seen = ALPHAS[part > 0]
    if seen.size == 0:
        raise ValueError(
            f"no two of {points.shape[0]} directions have a cosine of 0.6, too few for so many axes"
        )
    at = np.argmin(abs(seen - 0.9 * seen[-1]))
    d = _dimension_of(part[part > 0][at], seen[at])
    return xp.asarray(d, dtype=points.dtype, device=device(points))


def _whitened(points, condition):
    """Principal components of large variance, all made of one.

    From whichever of D x D and n x n is smaller; a component is fixed but for its sign.
    """
    xp, (n, width) = namespace(points), points.shape
    beside = points - points[:1, :]
    centred = beside - xp.mean(beside, axis=0)
    gram = centred.T @ centred if width <= n else centred @ centred.T
    values, vectors = xp.linalg.eigh(gram)
    kept = xp.nonzero(values > values[-1] / condition)[0]
    vectors = xp.take(vectors, kept, axis=1)
    return centred @ vectors / xp.sqrt(xp.take(values, kept)) if width <= n else vectors


def _inseparable(directions):
    """The part of all pairs with a cosine of each alpha or more."""
    n, counts = directions.shape[0], np.zeros(ALPHAS.size + 1, np.int64)
    for cosine, times in cosine_tiles(directions):
        high = cosine[cosine >= ALPHAS[0]]
        place = np.searchsorted(ALPHAS, high, side="right")
        counts += times * np.bincount(place, minlength=ALPHAS.size + 1)
    counts[-1] -= n  # each with itself
    return np.cumsum(counts[:0:-1])[::-1] / (n * (n - 1))


def _dimension_of(part, alpha):
    """The d whose uniform directions have this part of pairs at alpha, by Lambert's W."""
    w = -np.log1p(-(alpha**2))
    return float(lambertw(w / (2 * np.pi * (part * alpha) ** 2 * (1 - alpha**2))).real / w)
