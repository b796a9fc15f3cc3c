"""What the gradients of n examples say of the size of their mean and of their noise.

All sums are over deviations from the mean gradient: squares of the gradients themselves would
lose the noise where the mean is large.  They are float64.
"""

import math
from typing import NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, power_of_two, same_library
from sgdnoise.core._gradients import GradientMatrix, centred


class Moments(NamedTuple):
    """Sums for z_i = g_i - g with g the mean of n gradients; H is the identity by default.

    deviations: z_i^T H z_i (n,).  along: z_i^T H g (n,).  square: g^T H g.
    probing: the variance of the sum of `deviations` that random signs leave.
    """

    deviations: np.ndarray
    along: np.ndarray
    square: float
    probing: float = 0.0

    @property
    def n(self) -> int:
        return len(self.deviations)

    @property
    def trace(self) -> float:
        """Tr(HC), unbiased."""
        return float(self.deviations.sum()) / (self.n - 1)

    @property
    def signal(self) -> float:
        """g^T H g of the population, unbiased: the mean of g_i^T H g_j over pairs."""
        return self.square - self.trace / self.n

    def left_out(self):
        """`trace` and `signal` with each example left out, (n,) and (n,)."""
        n, fewer = self.n, self.n - 1
        traces = (self.deviations.sum() - self.deviations * n / fewer) / (n - 2)
        squares = self.square - 2 * self.along / fewer + self.deviations / fewer**2
        return traces, squares - traces / fewer


def moments(rows, product=None, n_probes=None, rng=None) -> Moments:
    """The moments of gradients, with a curvature v -> Hv or none.

    The unit of the gradients is a power of two near the largest, so that no square overflows.
    Raises ValueError for gradients that are not finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        rows, unit = _in_units(rows)
        result = _moments(rows, unit, product, n_probes, rng)
    _check_finite(result)
    return result


def _moments(rows, unit, product, n_probes, rng):
    mean, deviations = centred(rows)
    image = mean if product is None else _in_rows(product(mean * unit), mean) / unit
    along = _wide(deviations.project(image))
    square = float(_wide(mean) @ _wide(image))
    if product is None:
        squares, probing = _wide(deviations.squares()), 0.0
    else:
        squares, probing = _weighted(deviations, lambda v: product(v * unit), n_probes, rng)
        squares, probing = squares / unit, probing / unit**2
    return Moments(squares, along - along.mean(), square, probing)


def _in_units(rows):
    """The rows over their unit, and the unit; an operator is measured as it is."""
    if not isinstance(rows, GradientMatrix):
        return rows, 1.0
    unit = float(as_numpy(power_of_two(rows.rows)))
    return GradientMatrix(rows.rows / unit), unit


def _weighted(deviations, product, n_probes, rng):
    """z_i^T H z_i (n,), from random signs or one by one, and the variance of its sum."""
    n = deviations.n
    signs = np.eye(n) if n_probes is None else rng.choice([-1.0, 1.0], (n_probes, n))
    forms = np.stack([z * _image(deviations, product, z) for z in signs])
    if n_probes is None:
        return forms.sum(axis=0), 0.0
    return forms.mean(axis=0), float(forms.sum(axis=1).var(ddof=1)) / n_probes


def _image(deviations, product, z):
    """z_i^T H u (n,) for u = sum_i z_i (g_i - g)."""
    ones = deviations.ones()
    combined = deviations.combine(same_library(z - z.mean(), ones))
    values = _wide(deviations.project(_in_rows(product(combined), combined)))
    return values - values.mean()


def _in_rows(image, vector):
    """What a curvature makes of a vector, in the library of the gradients."""
    if tuple(getattr(image, "shape", ())) != tuple(vector.shape):
        raise ValueError(
            f"the curvature must map {vector.shape[0]} parameters to as many numbers, "
            f"not to shape {tuple(getattr(image, 'shape', ()))}"
        )
    return same_library(image, vector)


def _check_finite(result):
    bad = ~(np.isfinite(result.deviations) & np.isfinite(result.along))
    if bad.any() or not math.isfinite(result.square):
        raise ValueError(f"the gradients of {max(1, bad.sum())} examples are not finite numbers")


def _wide(values):
    return as_numpy(values).astype(float)
