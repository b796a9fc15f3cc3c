"""Alignment of gradient noise with the curvature of the loss."""

from typing import NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._eigen import largest_eigenpairs
from sgdnoise.core._estimate import Estimate, jackknife, mean
from sgdnoise.noise._measure._gradient_noise_scale import matrix_product

CLOSE = 1e-6  # residual of an eigenvector, over the largest eigenvalue


class Alignment(NamedTuple):
    """The alignment of a noise covariance C with a curvature H.

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
    r"""The alignment of a noise covariance C (p, p) with a symmetric curvature H (p, p).

    covariance: an operator with @ and `diagonal()`.  curvature: v -> Hv, or an operator with @.
    n_probes: the number of vectors z of random signs that estimate Tr(HC) = E (Cz)^T Hz,
    |H|_F^2 = E |Hz|^2 and |C|_F^2 = E |Cz|^2 (Hutchinson, 1990).  The cosine is jackknifed over
    probes, and the eigenvectors come from block Lanczos.  With None both matrices are computed
    from p products each, without error.
    The errors are those of the probes and of the fit, not of the examples.  A covariance from
    fewer examples than it has directions has too large a norm, and so too small a cosine.  If k
    exceeds the rank of either matrix, eigenvectors of zero are compared, which mean nothing.
    Raises ValueError unless 4 <= k < p, for n_probes below 2 or without rng, and as
    `alignment_exponent`.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import Diagonal
        >>> h = np.arange(1.0, 7.0)
        >>> result = alignment(Diagonal(h**2), np.diag(h), k=4)
        >>> print(f"{result.exponent:.2f}")
        2.00 ± 0.00
    """
    example_vector, hessian_product = covariance.diagonal(), matrix_product(curvature)
    _check(k, example_vector.shape[0], n_probes, rng)
    operators = (
        _on_arrays(hessian_product, example_vector),
        _on_arrays(covariance.__matmul__, example_vector),
    )
    if n_probes is None:
        hessian, noise_covariance = (
            _columns(operator, np.eye(example_vector.shape[0])) for operator in operators
        )
        trace, cosine = _exact(hessian, noise_covariance)
        spaces = [np.linalg.eigh(operator)[1][:, -k:] for operator in (hessian, noise_covariance)]
    else:
        trace, cosine = _probed(
            *operators, rng.choice([-1.0, 1.0], (n_probes, example_vector.shape[0]))
        )
        spaces = [_leading(operator, example_vector.shape[0], k) for operator in operators]
    of_covariance, of_hessian = spaces
    overlap = float(np.sum((of_covariance.T @ of_hessian) ** 2)) / k
    return Alignment(
        trace,
        cosine,
        overlap,
        alignment_exponent(*(_along(operator, of_covariance) for operator in operators)),
    )


def alignment_exponent(curvatures, variances) -> Estimate:
    r"""The exponent gamma of variance ~ curvature^gamma over m directions.  (m,), (m,) -> ()

    gamma is the least-squares slope of log variance on log curvature.  Its error is that of a
    jackknife over directions, which must scatter independently; it is slightly too large for few
    directions.  It has m - 2 degrees of freedom.  Directions where either number is not positive
    are left out.  Noise in the curvatures dilutes the slope by var / (var + var of noise) of their
    logarithms; the inverse of the slope of curvature on variance is then an upper bound.
    Thomas et al. (2020) find a slope near 1 in networks.
    Raises ValueError for fewer than 4 such directions, or curvatures that are all equal.
    """
    x, y = as_numpy(curvatures).astype(float), as_numpy(variances).astype(float)
    positive = (x > 0) & (y > 0)
    if positive.sum() < 4:
        raise ValueError(f"an exponent needs 4 directions with both positive, not {positive.sum()}")
    x, y = np.log(x[positive]), np.log(y[positive])
    if np.ptp(x) == 0:
        raise ValueError(f"{x.size} curvatures that are all alike have no exponent")
    centred, sum_of_squares = x - x.mean(), np.sum((x - x.mean()) ** 2)
    slope = centred @ y / sum_of_squares
    residual, leverage = y - y.mean() - slope * centred, 1 / x.size + centred**2 / sum_of_squares
    jackknifed = jackknife(slope, slope - centred * residual / (sum_of_squares * (1 - leverage)))
    return Estimate(float(slope), jackknifed.stderr, x.size - 2)


def _exact(hessian, covariance):
    trace = float(np.sum(hessian * covariance))
    cosine = trace / (np.linalg.norm(hessian) * np.linalg.norm(covariance))
    return Estimate(trace, 0.0), Estimate(float(cosine), 0.0)


def _probed(hessian, covariance, vectors):
    """Tr(HC) and the cosine from what both operators make of some vectors."""
    pairs = [(hessian(z), covariance(z)) for z in vectors]
    sums = np.asarray([(h @ c, h @ h, c @ c) for h, c in pairs])
    left_out = (sums.sum(axis=0) - sums) / (len(sums) - 1)
    return mean(sums[:, 0]), jackknife(_cosine(sums.mean(axis=0)), _cosine(left_out.T))


def _cosine(sums):
    trace, hessian, covariance = sums
    return trace / np.sqrt(hessian * covariance)


def _on_arrays(product, example_vector):
    """An operator as a function of numpy's vectors."""
    xp = namespace(example_vector)

    def of(vector):
        array = xp.asarray(
            np.ravel(vector), dtype=example_vector.dtype, device=device(example_vector)
        )
        return as_numpy(product(array)).astype(float)

    return of


def _columns(product, vectors):
    return np.stack([product(v) for v in vectors], axis=1)


def _along(product, directions):
    """u^T A u of each column u."""
    return np.asarray([u @ product(u) for u in directions.T])


def _leading(product, p, k):
    """The k eigenvectors of the largest eigenvalues, (p, k), from a fixed start."""
    start = np.random.default_rng(0).normal(size=(p, min(p, k + 4)))
    return largest_eigenpairs(lambda block: _columns(product, block.T), start, k, tolerance=CLOSE)[
        1
    ]


def _check(k, p, n_probes, rng):
    if not 4 <= k < p:
        raise ValueError(f"{k} leading eigenvectors are not 4 or more and fewer than all {p}")
    if n_probes is not None and n_probes < 2:
        raise ValueError(f"an error needs at least 2 probes, not {n_probes}")
    if n_probes is not None and rng is None:
        raise ValueError(f"{n_probes} probes are random and need rng, a numpy Generator")
