"""Alignment of gradient noise with the curvature of the loss."""

from typing import NamedTuple

import numpy as np

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import as_numpy, power_of_two, same_library, widened
from sgdnoise.core._checks import as_generator
from sgdnoise.core._eigen import largest_eigenpairs
from sgdnoise.core._estimate import Estimate, jackknife, mean
from sgdnoise.noise._measure._gradient_noise_scale import curvature_product, matrix_product

CLOSE = 1e-6  # residual of an eigenvector, over the largest eigenvalue


class Alignment(NamedTuple):
    """The alignment of a noise covariance C with a curvature H.

    product: Tr(HC), the rate at which noise raises the loss (Zhu et al., 2019).
    cosine: Tr(HC) / (|H|_F |C|_F), 1 where C is proportional to H.
    overlap: |U^T V|_F^2 / k of the k leading eigenvectors of both, k / p by chance.
    exponent: gamma of u^T C u ~ (u^T H u)^gamma over the k leading eigenvectors u of H.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.noise import alignment
        >>> h = np.diag(np.arange(1.0, 7.0))
        >>> result = alignment(2 * h, h, k=4)  # C = 2 H
        >>> round(result.cosine.value, 6), round(result.overlap, 6), round(result.exponent.value, 6)
        (1.0, 1.0, 1.0)
    """

    product: Estimate
    cosine: Estimate
    overlap: float
    exponent: Estimate


@checked
def alignment(covariance, curvature, k: int = 10, *, n_probes=None, rng=None) -> Alignment:
    r"""The alignment of a noise covariance C (p, p) with a symmetric curvature H (p, p).

    covariance: an operator with @ and `diagonal()`, or a matrix.  curvature: v -> Hv, an operator
    with @, or "hessian" or "gauss_newton" as in `gradient_noise_scale`.  Each may be of another
    library, type or device.  rng: an int or a Generator.
    n_probes: the number of vectors z of random signs that estimate Tr(HC) = E (Cz)^T Hz,
    |H|_F^2 = E |Hz|^2 and |C|_F^2 = E |Cz|^2 (Hutchinson, 1990).  The cosine is jackknifed over
    probes, and the eigenvectors come from block Lanczos.  With None both matrices are computed
    from p products each, without error.
    The errors are those of the probes and of the fit, not of the examples.  A covariance from
    fewer examples than it has directions has too large a norm, and so too small a cosine.  If k
    exceeds the rank of either matrix, eigenvectors of zero are compared, which mean nothing.
    Raises ValueError unless 4 <= k < p, for a covariance and a curvature of different p, for
    products that are not finite, for n_probes below 2 or without rng, and as `alignment_exponent`.

    Example:
        >>> import numpy as np
        >>> from sgdnoise.core import Diagonal
        >>> h = np.arange(1.0, 7.0)
        >>> result = alignment(Diagonal(h**2), np.diag(h), k=4)
        >>> print(f"{result.exponent:.2f}")
        2.00 ± 0.00
    """
    noise_product, p, example = _covariance_of(covariance)
    if isinstance(curvature, str):
        curvature = curvature_product(getattr(covariance, "rows", covariance), curvature)
    _check(k, p, n_probes, rng)
    operators = (
        _on_arrays(_curvature_of(curvature, p), p, example, "curvature"),
        _on_arrays(noise_product, p, example, "covariance"),
    )
    if n_probes is None:
        hessian, noise_covariance = (_columns(operator, np.eye(p)) for operator in operators)
        trace, cosine = _exact(hessian, noise_covariance)
        spaces = [_eigenvectors(operator)[:, -k:] for operator in (hessian, noise_covariance)]
    else:
        vectors = as_generator(rng).choice([-1.0, 1.0], (n_probes, p))
        trace, cosine = _probed(*operators, vectors)
        spaces = [_leading(operator, p, k) for operator in operators]
    of_covariance, of_hessian = spaces
    overlap = float(np.sum((of_covariance.T @ of_hessian) ** 2)) / k
    return Alignment(
        trace,
        cosine,
        overlap,
        alignment_exponent(*(_along(operator, of_covariance) for operator in operators)),
    )


@checked
def alignment_exponent(curvatures, variances) -> Estimate:
    r"""The exponent gamma of variance ~ curvature^gamma over m directions.  (m,), (m,) -> ()

    gamma is the least-squares slope of log variance on log curvature.  Its error is that of a
    jackknife over directions, which must scatter independently; it is slightly too large for few
    directions.  It has m - 2 degrees of freedom.  Directions where either number is not positive
    are left out.  Noise in the curvatures dilutes the slope by var / (var + var of noise) of their
    logarithms; the inverse of the slope of curvature on variance is then an upper bound.
    Thomas et al. (2020) find a slope near 1 in networks.
    Raises ValueError for fewer than 4 such directions, curvatures that are all equal, or arrays of
    different lengths.

    Example:
        >>> import numpy as np
        >>> curvatures = np.asarray([1.0, 2.0, 4.0, 8.0, 16.0])
        >>> variances = curvatures**2 * np.asarray([1.0, 1.1, 0.9, 1.0, 1.1])
        >>> print(alignment_exponent(curvatures, variances))
        2.014 ± 0.041
    """
    x = as_numpy(widened(curvatures, "curvatures")).astype(float)
    y = as_numpy(widened(variances, "variances")).astype(float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(
            f"curvatures and variances must be two arrays (m,), not of {x.shape} and {y.shape}"
        )
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
    first, second = (matrix / _unit(matrix) for matrix in (hessian, covariance))
    cosine = np.sum(first * second) / (np.linalg.norm(first) * np.linalg.norm(second))
    return Estimate(trace, 0.0), Estimate(float(cosine), 0.0)


def _probed(hessian, covariance, vectors):
    """Tr(HC) and the cosine from what both operators make of some vectors."""
    images = [np.stack([product(z) for z in vectors]) for product in (hessian, covariance)]
    products = np.sum(images[0] * images[1], axis=1)
    h, c = (image / _unit(image) for image in images)
    sums = np.stack([np.sum(a * b, axis=1) for a, b in ((h, c), (h, h), (c, c))], axis=1)
    left_out = (sums.sum(axis=0) - sums) / (len(sums) - 1)
    return _unit(products) * mean(products / _unit(products)), jackknife(
        _cosine(sums.mean(axis=0)), _cosine(left_out.T)
    )


def _unit(array) -> float:
    """A power of two near the largest number: squares of very large or small ones have no room."""
    return float(power_of_two(array))


def _eigenvectors(matrix):
    return np.linalg.eigh(matrix / _unit(matrix))[1]


def _cosine(sums):
    trace, hessian, covariance = sums
    return trace / np.sqrt(hessian * covariance)


def _covariance_of(covariance):
    """v -> Cv, the number p of parameters, and an array of the library of C."""
    if hasattr(covariance, "diagonal") and not hasattr(covariance, "shape"):
        diagonal = covariance.diagonal()
        return covariance.__matmul__, diagonal.shape[0], diagonal
    matrix = _square_matrix(covariance, "covariance")
    return matrix.__matmul__, matrix.shape[0], matrix[0]


def _curvature_of(curvature, p):
    """v -> Hv for vectors in the library of H where that is known."""
    if not hasattr(curvature, "shape") or callable(curvature):
        return matrix_product(curvature)
    matrix = _square_matrix(curvature, "curvature")
    if matrix.shape[0] != p:
        raise ValueError(
            f"the covariance has {p} parameters and the curvature {matrix.shape[0]}, not as many"
        )
    return lambda vector: matrix @ same_library(vector, matrix)


def _square_matrix(matrix, name):
    matrix = widened(matrix, f"the {name}")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"the {name} must be a matrix (p, p), not of shape {tuple(matrix.shape)}")
    return matrix


def _on_arrays(product, p, example, name):
    """An operator as a function of numpy's vectors, which asks of it arrays like `example`."""

    def of(vector):
        image = as_numpy(product(_like(vector, example))).astype(float)
        if image.shape != (p,):
            raise ValueError(
                f"the {name} must map {p} parameters to {p} numbers, not to shape {image.shape}"
            )
        if not np.isfinite(image).all():
            raise ValueError(f"the {name} maps a vector of {p} numbers to some that are not finite")
        return image

    return of


def _like(vector, example):
    """A vector in the library, type and device of an array."""
    vector = np.ravel(vector)
    if hasattr(example, "detach"):
        return same_library(vector, example)
    return same_library(vector.astype(as_numpy(example).dtype), example)


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
        raise ValueError(f"{n_probes} probes are random and need rng, an int or a numpy Generator")
