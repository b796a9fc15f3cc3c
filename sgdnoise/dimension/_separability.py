"""Dimension from the fraction of points on a sphere that are close to another point."""

import numpy as np
from scipy.special import lambertw

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._correlation import cosine_tiles, on_sphere
from sgdnoise.dimension._points import unique_points

ALPHAS = np.linspace(0.6, 0.98, 20)


@checked
@any_scale
def fisher_separability(points, condition: float = 10.0):
    r"""The dimension by Fisher separability of Albergante et al. (2019).  (n, D) -> ()

    Principal components with a variance above the largest over `condition` are whitened and
    projected onto the unit sphere.  With p the fraction of pairs whose cosine is at least alpha,
    uniform directions of R^d have approximately p = (1 - alpha^2)^((d-1)/2) /
    (alpha sqrt(2 pi d)), which Lambert's W solves for d:
    d = W(w / (2 pi p^2 alpha^2 (1 - alpha^2))) / w with w = -log(1 - alpha^2).  Of the
    alphas 0.60, 0.62 to 0.98 it uses the one nearest to 0.9 of the largest with p > 0.  The formula
    is that of large d, off by 0.1 at d = 1 and less above; few points make large d too large.
    Raises ValueError for condition <= 1, fewer than 3 distinct points, or p = 0 at all alphas.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(500, 2))
        >>> round(float(fisher_separability(points)), 1)
        2.0
    """
    if not condition > 1:
        raise ValueError(f"condition must be above 1, not {condition}")
    points = unique_points(points)
    xp = namespace(points)
    fractions = _inseparable(as_numpy(on_sphere(_whitened(points, condition))))
    alphas, fractions = ALPHAS[fractions > 0], fractions[fractions > 0]
    if alphas.size == 0:
        raise ValueError(
            f"no two of {points.shape[0]} directions have a cosine of 0.6: too few points "
            "for so many axes"
        )
    best = np.argmin(abs(alphas - 0.9 * alphas[-1]))
    d = _dimension_of(fractions[best], alphas[best])
    return xp.asarray(d, dtype=points.dtype, device=device(points))


def _whitened(points, condition):
    """Principal components of large variance, whitened, each up to its sign.

    They are computed from the smaller of the D x D and n x n matrices.
    """
    xp, (n, width) = namespace(points), points.shape
    offsets = points - points[:1, :]
    centred = offsets - xp.mean(offsets, axis=0)
    gram = centred.T @ centred if width <= n else centred @ centred.T
    values, vectors = xp.linalg.eigh(gram)
    index = xp.nonzero(values > values[-1] / condition)[0]
    vectors = xp.take(vectors, index, axis=1)
    return centred @ vectors / xp.sqrt(xp.take(values, index)) if width <= n else vectors


def _inseparable(directions):
    """The fraction of all pairs with a cosine of at least each alpha."""
    n, counts = directions.shape[0], np.zeros(ALPHAS.size + 1, np.int64)
    for cosine, times in cosine_tiles(directions):
        high = cosine[cosine >= ALPHAS[0]]
        place = np.searchsorted(ALPHAS, high, side="right")
        counts += times * np.bincount(place, minlength=ALPHAS.size + 1)
    counts[-1] -= n  # without each direction and itself
    return np.cumsum(counts[:0:-1])[::-1] / (n * (n - 1))


def _dimension_of(fraction, alpha):
    """The d whose uniform directions have this fraction of pairs at alpha, by Lambert's W."""
    w = -np.log1p(-(alpha**2))
    return float(lambertw(w / (2 * np.pi * (fraction * alpha) ** 2 * (1 - alpha**2))).real / w)
