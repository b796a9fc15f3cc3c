"""Whether gradient noise points where the loss is curved."""

from typing import NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._eigen import largest_eigenpairs
from sgdnoise.core._estimate import Estimate, jackknife, mean
from sgdnoise.noise._measure._gradient_noise_scale import matrix_product

CLOSE = 1e-6  # residual of an eigenvector, over the largest eigenvalue


class Alignment(NamedTuple):
    """How a covariance C of noise and a curvature H lie to each other.

    product: Tr(HC), the rate at which noise raises the loss (Zhu et al., 2019).
    cosine: Tr(HC) / (|H|_F |C|_F), 1 where C is proportional to H.
    overlap: |U^T V|_F^2 / k of the k leading eigenvectors of both, k / p by chance.
    exponent: gamma of u^T C u ~ (u^T H u)^gamma over the k leading eigenvectors u of H.
    """

    product: Estimate
    cosine: Estimate
    overlap: float
    exponent: Estimate


def alignment(covariance, curvature, k: int = 10, *, n_probes=None, rng=None) -> Alignment:
    r"""Trace, cosine, overlap and exponent of a covariance C (p, p) against a curvature H (p, p).

    n_probes: how many vectors of random signs z give Tr(HC) = E (Cz)^T Hz, |H|_F^2 = E |Hz|^2 and
    |C|_F^2 = E |Cz|^2 (Hutchinson, 1990), their ratio jackknifed over probes, and eigenvectors
    come by block Lanczos; with None both matrices are made, p products each, with no error.
    The errors are those of probes and of the fit, not of the examples: a C from fewer examples than
    it has directions has too large |C|_F, and so too small a cosine; and k above the rank of
    either compares eigenvectors of zero, which mean nothing.
    curvature: v -> Hv or an operator with @, symmetric.  Between products all is numpy's float64.
    Raises ValueError unless 4 <= k < p, for probes under 2 or without rng, and as `exponent`.
    """
    like, times = covariance.diagonal(), matrix_product(curvature)
    _check(k, like.shape[0], n_probes, rng)
    both = _on_arrays(times, like), _on_arrays(covariance.__matmul__, like)
    if n_probes is None:
        steep, noisy = (_columns(each, np.eye(like.shape[0])) for each in both)
        total, cosine = _exact(steep, noisy)
        spaces = [np.linalg.eigh(each)[1][:, -k:] for each in (steep, noisy)]
    else:
        total, cosine = _probed(*both, rng.choice([-1.0, 1.0], (n_probes, like.shape[0])))
        spaces = [_leading(each, like.shape[0], k) for each in both]
    first, second = spaces
    overlap = float(np.sum((first.T @ second) ** 2)) / k
    return Alignment(
        total, cosine, overlap, alignment_exponent(*(_along(each, first) for each in both))
    )


def alignment_exponent(curvatures, variances) -> Estimate:
    r"""Slope gamma of log variance on log curvature, variance ~ curvature^gamma.  (m,), (m,) -> ()

    By least squares; the error is a jackknife's over directions, which asks that they scatter
    independently, not alike, and is a little too large for few of them; freedom m - 2.
    Directions where either is not positive are left out.  Noise in the curvatures themselves
    dilutes the slope by var / (var + var of noise) of their logarithms; one over the slope of the
    inverse regression, curvature on variance, is then a bound from above.  Thomas et al. (2020)
    find covariance and Hessian alike up to scale, a slope near 1.
    Raises ValueError for under 4 such directions, or curvatures all alike.
    """
    x, y = as_numpy(curvatures).astype(float), as_numpy(variances).astype(float)
    kept = (x > 0) & (y > 0)
    if kept.sum() < 4:
        raise ValueError(f"an exponent needs 4 directions with both positive, not {kept.sum()}")
    x, y = np.log(x[kept]), np.log(y[kept])
    if np.ptp(x) == 0:
        raise ValueError(f"{x.size} curvatures that are all alike have no exponent")
    away, spread = x - x.mean(), np.sum((x - x.mean()) ** 2)
    slope = away @ y / spread
    residual, leverage = y - y.mean() - slope * away, 1 / x.size + away**2 / spread
    found = jackknife(slope, slope - away * residual / (spread * (1 - leverage)))
    return Estimate(float(slope), found.stderr, x.size - 2)


def _exact(steep, noisy):
    total = float(np.sum(steep * noisy))
    cosine = total / (np.linalg.norm(steep) * np.linalg.norm(noisy))
    return Estimate(total, 0.0), Estimate(float(cosine), 0.0)


def _probed(steep, noisy, white):
    """Tr(HC) and the cosine from what both operators make of some vectors."""
    pairs = [(steep(z), noisy(z)) for z in white]
    sums = np.asarray([(h @ c, h @ h, c @ c) for h, c in pairs])
    left_out = (sums.sum(axis=0) - sums) / (len(sums) - 1)
    return mean(sums[:, 0]), jackknife(_cosine(sums.mean(axis=0)), _cosine(left_out.T))


def _cosine(sums):
    together, steep, noisy = sums
    return together / np.sqrt(steep * noisy)


def _on_arrays(times, like):
    """An operator as a function of numpy's vectors."""
    xp = namespace(like)

    def of(vector):
        there = xp.asarray(np.ravel(vector), dtype=like.dtype, device=device(like))
        return as_numpy(times(there)).astype(float)

    return of


def _columns(times, vectors):
    return np.stack([times(v) for v in vectors], axis=1)


def _along(times, directions):
    """u^T A u of each column u."""
    return np.asarray([u @ times(u) for u in directions.T])


def _leading(times, p, k):
    """The k eigenvectors of the largest eigenvalues, (p, k), from a fixed start."""
    start = np.random.default_rng(0).normal(size=(p, min(p, k + 4)))
    return largest_eigenpairs(lambda block: _columns(times, block.T), start, k, tolerance=CLOSE)[1]


def _check(k, p, n_probes, rng):
    if not 4 <= k < p:
        raise ValueError(f"{k} leading eigenvectors are not 4 or more and fewer than all {p}")
    if n_probes is not None and n_probes < 2:
        raise ValueError(f"an error needs at least 2 probes, not {n_probes}")
    if n_probes is not None and rng is None:
        raise ValueError(f"{n_probes} probes are random and need rng, a numpy Generator")
