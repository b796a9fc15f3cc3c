"""Tests of whether gradient noise is Gaussian, with unknown mean and covariance."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from scipy.special import ndtr

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, as_numpy, device, namespace, power_of_two, widened
from sgdnoise.core._checks import as_generator
from sgdnoise.core._covariance import Gram
from sgdnoise.core._estimate import Estimate

_ENTRIES = 1 << 21  # random numbers of the null held at once
_LEAST = 8  # samples


class Gaussianity(NamedTuple):
    """Tests of k projections of noise; each p-value is uniform if the noise is Gaussian.

    p: the p-value of all tests together, by which to decide.
    energy, energy_p: the mean over projections of the energy distance to a standard normal law.
    worst_p: the p-value of the largest of these distances.
    mardia, mardia_p: E|y|^4 / (k (k + 2)) - 1 of the whitened projections y.  For Gaussian noise
    of a random scale s it is Var(s^2) / (E s^2)^2.
    kurtosis: the excess kurtosis of each projection (k,).
    projection_p: the p-value of the energy distance of each projection (k,).

    Example:
        >>> import numpy as np
        >>> from sgdnoise.noise import gaussianity
        >>> tests = gaussianity(np.random.default_rng(0).laplace(size=(500, 3)))
        >>> tests.p < 0.01, tests.kurtosis.value.shape
        (True, (3,))
    """

    p: float
    energy: float
    energy_p: float
    worst_p: float
    mardia: Estimate
    mardia_p: float
    kurtosis: Estimate
    projection_p: np.ndarray


@checked
def gaussianity(
    samples: Shaped[Array, "m p"] | Gram, *, projections: int = 8, draws: int = 499, rng=0
) -> Gaussianity:
    r"""Test whether the rows of `samples` (m, p) come from one Gaussian law of any covariance.

    The rows are projected on k = min(projections, p, m // 4) random directions (on all, if
    p <= projections) and whitened by their own covariance.  If the rows are Gaussian, these m x k
    numbers are uniform on the centred orthonormal frames for any mean, covariance and p, also for
    p > m.  The null distribution is simulated by `draws` such frames, so that the p-values are
    right for any m and for dependent projections.  Projections are needed because for m <= p no
    test that is independent of the covariance can use all directions at once (Panigrahi et al.,
    2019).  The tests are the energy distance of Székely & Rizzo (2005), its mean and its largest
    value over projections, and the kurtosis of Mardia (1970).  p is the smallest of their three
    p-values, and its own distribution is taken from the same draws.

    The rows must be independent and of one law: noise of several steps of training is a mixture
    of scales.  The power of the test grows with m, so a large p proves nothing.  A sum over a batch
    becomes Gaussian by the central limit theorem, and so does a projection of many independent
    numbers: mardia falls as 1 / batch_size.  A scale that is common to a row survives projection.
    The errors of kurtosis and mardia need eight moments; they are too small for heavy tails.
    Of a Gram, the gradients of its examples are tested, which is noise of batch size 1.
    rng: an int, whose null distribution is cached, or a numpy Generator.
    Raises ValueError for fewer than 8 samples, numbers that are not finite, or equal rows.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(200, 5))
        >>> gaussianity(noise).p > 0.01, gaussianity(noise**3).p > 0.01
        (True, False)
    """
    rng = as_generator(rng)
    if isinstance(samples, Gram):
        samples = _projected(samples.rows, projections, rng)
    samples = widened(samples, "samples")
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
        projection_p=(1 + np.sum(null_distances >= distances, axis=0)) / (draws + 1),
    )


def _projected(rows, projections, rng):
    """The gradients of all examples projected on random directions, (n, projections)."""
    ones = rows.ones()
    drawn = rng.normal(size=(rows.p, projections))
    directions = namespace(ones).asarray(drawn, dtype=ones.dtype, device=device(ones))
    return rows.project(directions)


def _whitened(samples, projections, rng):
    """Projections of the samples without mean, made uncorrelated and of unit variance, (m, k)."""
    xp, (m, p) = namespace(samples), samples.shape
    centred = samples / power_of_two(samples)  # sums of large numbers would overflow
    centred = centred - xp.mean(centred, axis=0)
    if p > projections:
        drawn = rng.normal(size=(p, projections))
        centred = centred @ xp.asarray(drawn, dtype=samples.dtype, device=device(samples))
    projected = as_numpy(centred)
    frame, sizes, _ = np.linalg.svd(
        projected.astype(float) - projected.mean(0), full_matrices=False
    )
    rank = np.sum(sizes > sizes[0] * max(projected.shape) * np.finfo(projected.dtype).eps)
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
    """The statistics of `draws` uniform centred frames, which are those of Gaussian samples."""
    rng, remaining, blocks = np.random.default_rng(seed), draws, []
    while remaining:
        size = min(remaining, max(1, _ENTRIES // (m * k)))
        white = rng.normal(size=(size, m, k))
        frames = np.linalg.qr(white - white.mean(1, keepdims=True))[0]
        blocks.append(_statistics(frames * m**0.5))
        remaining -= size
    distances, summaries = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    return distances, summaries


def _ranked(table):
    """p-values of the first row among all, for each column, and of the smallest of these.

    Under the null hypothesis all rows are exchangeable, and all are treated in the same way.
    """
    table = table.copy()
    table[:, 2] = abs(table[:, 2] - table[:, 2].mean())
    order = np.sort(table, axis=0)
    columns = range(table.shape[1])
    below = [np.searchsorted(order[:, j], table[:, j], side="left") for j in columns]
    p_values = (len(table) - np.stack(below, axis=1)) / len(table)
    smallest = p_values.min(1)
    return *p_values[0].tolist(), float(np.mean(smallest <= smallest[0]))


def _mardia(y):
    """E|y|^4 / (k (k + 2)) - 1, unbiased.

    The error is that of Gaussian samples (Mardia, 1970), or that of the data if it is larger.
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
    if samples.ndim != 2:
        raise ValueError(
            f"samples must be a matrix (m, p), one noise vector a row, not of shape "
            f"{tuple(samples.shape)}"
        )
    if samples.shape[0] < _LEAST:
        raise ValueError(f"the shape of noise needs {_LEAST} samples, not {samples.shape[0]}")
    if projections < 1 or draws < 1:
        raise ValueError(
            f"at least one projection and one draw are needed, not {projections} and {draws}"
        )
    if not bool(namespace(samples).all(namespace(samples).isfinite(samples))):
        raise ValueError(f"the samples {tuple(samples.shape)} hold numbers that are not finite")
