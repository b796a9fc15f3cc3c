"""Is gradient noise Gaussian, with a mean and a covariance that nobody knows?"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from sgdnoise.core._arrays import Array, as_numpy, device, namespace
from sgdnoise.core._covariance import Gram
from sgdnoise.core._estimate import Estimate

_ENTRIES = 1 << 21  # random numbers of the null held at once
_LEAST = 8  # samples


class Gaussianity(NamedTuple):
    """What k projections of noise say of its shape; each p-value is uniform if it is Gaussian.

    p: of all that follows together, the number to decide by.
    energy, energy_p: mean over projections of the energy distance to a standard normal law.
    worst_p: of the largest of these distances.
    mardia, mardia_p: E|y|^4 / (k (k + 2)) - 1 of the whitened projections y, which for Gaussian
    noise of a random scale s is Var(s^2) / (E s^2)^2.
    kurtosis: excess kurtosis of each projection (k,).  each: p-value of its energy distance (k,).
    """

    p: float
    energy: float
    energy_p: float
    worst_p: float
    mardia: Estimate
    mardia_p: float
    kurtosis: Estimate
    each: np.ndarray


def gaussianity(
    samples: Float[Array, "m p"] | Gram, *, projections: int = 8, draws: int = 499, rng=0
) -> Gaussianity:
    r"""Whether the rows of `samples` (m, p) come from one Gaussian law, whatever its covariance.

    The rows are seen in k = min(projections, p, m // 4) directions drawn at random (or in all, if
    p <= projections) and whitened by their own covariance.  If the rows are Gaussian, these m x k
    numbers are uniform on the centred orthonormal frames, whatever mean, covariance and p, also
    for p > m: the null is drawn `draws` times from that law, so that the p-values are right for any
    m and for dependent projections alike.  Where m <= p no test that is blind to the covariance
    can look at all directions at once, hence the projections, as of Panigrahi et al. (2019).
    Tests: the energy distance of Székely & Rizzo (2005), its mean and its largest over projections,
    and the kurtosis of Mardia (1970); p is the least of their three p-values, its own law read from
    the same draws.

    Rows must be independent and of one law: noise of several steps of training is a mixture of
    scales.  A test's power grows with m, so that a large p is no proof.  A sum over a batch becomes
    Gaussian by the central limit theorem, and so does a projection of many independent numbers:
    mardia falls as 1 / batch, and a scale common to all of a row is what projections cannot hide.
    The errors of kurtosis and mardia need eight moments: where tails are heavy they are too small.
    Of a Gram, the gradients of its examples are looked at: noise at a batch of one.
    rng: an int, whose null is drawn once and kept, or a numpy Generator.
    Raises ValueError for fewer than 8 samples, numbers that are not finite, or no spread at all.
    """
    rng = np.random.default_rng(rng)
    if isinstance(samples, Gram):
        samples = _seen(samples.rows, projections, rng)
    _check(samples, projections, draws)
    seed = int(rng.integers(2**63))
    y = _whitened(samples, projections, rng)
    m, k = y.shape
    distances, summary = _statistics(y[None])
    null_distances, null = _null(m, k, draws, seed)
    energy_p, worst_p, mardia_p, p = _ranked(np.concatenate([summary, null]))
    return Gaussianity(
        p=p,
        energy=float(np.mean(distances)) / m,
        energy_p=energy_p,
        worst_p=worst_p,
        mardia=_mardia(y),
        mardia_p=mardia_p,
        kurtosis=_kurtosis(y),
        each=(1 + np.sum(null_distances >= distances, axis=0)) / (draws + 1),
    )


def _seen(rows, projections, rng):
    """Gradients of all examples along random directions, (n, projections)."""
    ones = rows.ones()
    drawn = rng.normal(size=(rows.p, projections))
    there = namespace(ones).asarray(drawn, dtype=ones.dtype, device=device(ones))
    return rows.project(there)


def _whitened(samples, projections, rng):
    """Projections of the samples without mean, made uncorrelated and of unit variance, (m, k)."""
    xp, (m, p) = namespace(samples), samples.shape
    centred = samples - xp.mean(samples, axis=0)
    if p > projections:
        drawn = rng.normal(size=(p, projections))
        centred = centred @ xp.asarray(drawn, dtype=samples.dtype, device=device(samples))
    seen = as_numpy(centred)
    frame, sizes, _ = np.linalg.svd(seen.astype(float) - seen.mean(0), full_matrices=False)
    rank = np.sum(sizes > sizes[0] * max(seen.shape) * np.finfo(seen.dtype).eps)
    if not rank:
        raise ValueError(f"the {m} samples do not differ, they have no shape")
    return frame[:, : min(rank, m // 4)] * m**0.5


def _statistics(y):
    """Energy distances (draw, k), and their mean, their largest and E|y|^4 (draw, 3)."""
    distances = _energy(y)
    fourth = np.mean(np.sum(y**2, axis=2) ** 2, axis=1)
    return distances, np.stack([distances.mean(1), distances.max(1), fourth], axis=1)


def _energy(y):
    """Energy statistic of each column against the standard normal law, (draw, m, k) -> (draw, k).

    m (2 E|y - Z| - E|Z - Z'| - E|y - y'|), Z and Z' normal, y and y' of the samples.
    """
    y = np.sort(y, axis=1)
    m = y.shape[1]
    density = np.exp(-(y**2) / 2) / (2 * np.pi) ** 0.5
    to_normal = np.mean(2 * density + y * (2 * ndtr(y) - 1), axis=1)
    ranks = (2 * np.arange(1, m + 1) - m - 1)[:, None]
    among = 2 * np.sum(ranks * y, axis=1) / m**2
    return m * (2 * to_normal - 2 / np.pi**0.5 - among)


@lru_cache(maxsize=16)
def _null(m, k, draws, seed):
    """The statistics of `draws` uniform centred frames: what Gaussian samples give."""
    rng, left, found = np.random.default_rng(seed), draws, []
    while left:
        several = min(left, max(1, _ENTRIES // (m * k)))
        white = rng.normal(size=(several, m, k))
        frames = np.linalg.qr(white - white.mean(1, keepdims=True))[0]
        found.append(_statistics(frames * m**0.5))
        left -= several
    distances, summaries = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return distances, summaries


def _ranked(table):
    """p-values of the first row among all, for each column, and of the least of these.

    The rows are exchangeable if the first is of the null, and all is done alike to each of them.
    """
    table = table.copy()
    table[:, 2] = abs(table[:, 2] - table[:, 2].mean())
    order = np.sort(table, axis=0)
    columns = range(table.shape[1])
    below = [np.searchsorted(order[:, j], table[:, j], side="left") for j in columns]
    each = (len(table) - np.stack(below, axis=1)) / len(table)
    least = each.min(1)
    return *each[0].tolist(), float(np.mean(least <= least[0]))


def _mardia(y):
    """E|y|^4 / (k (k + 2)) - 1, without bias.

    The error is that of Gaussian samples (Mardia, 1970), or their own where it is larger.
    """
    m, k = y.shape
    square = np.sum(y**2, axis=1)
    fourth, unit = float(np.mean(square**2)), k * (k + 2) * (m - 1) / (m + 1)
    influence = square**2 - fourth - 2 * fourth / k * (square - k)
    normal = 8 * k * (k + 2) * (m - 3) * (m - k - 1) * (m - k + 1)
    normal = normal / ((m + 1) ** 2 * (m + 3) * (m + 5))
    error = max(normal, float(np.var(influence)) / m) ** 0.5
    return Estimate(fourth / unit - 1, error / unit)


def _kurtosis(y):
    """Excess kurtosis of each column, Fisher's, its error as that of `_mardia`."""
    m = len(y)
    third, fourth = np.mean(y**3, axis=0), np.mean(y**4, axis=0)
    influence = y**4 - fourth - 2 * fourth * (y**2 - 1) - 4 * third * y
    factor = (m - 1) * (m + 1) / ((m - 2) * (m - 3))
    normal = 24 * m * (m - 2) * (m - 3) / ((m + 1) ** 2 * (m + 3) * (m + 5))
    error = factor * np.maximum(normal, np.var(influence, axis=0) / m) ** 0.5
    return Estimate(factor * (fourth - 3) + 6 * factor / (m + 1), error)


def _check(samples, projections, draws):
    if samples.shape[0] < _LEAST:
        raise ValueError(f"the shape of noise needs {_LEAST} samples, not {samples.shape[0]}")
    if projections < 1 or draws < 1:
        raise ValueError(
            f"at least one projection and one draw are needed, not {projections} and {draws}"
        )
    if not bool(namespace(samples).all(namespace(samples).isfinite(samples))):
        raise ValueError(f"the samples {tuple(samples.shape)} hold numbers that are not finite")
