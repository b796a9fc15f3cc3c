"""The gradient-noise scale: the batch size at which signal and noise of the gradient are equal."""

import math
from typing import NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._covariance import n_gradients_in
from sgdnoise.core._estimate import Estimate, jackknife, mean


def gradient_noise_scale(
    rows, *, curvature=None, n_probes=None, rng=None, population=False
) -> Estimate:
    r"""The gradient-noise scale of McCandlish et al. (2018), in examples.

    B = Tr C / |g|^2, or with a curvature B = Tr(HC) / g^T H g, which is their critical batch size.
    rows: the per-example gradients g_i (n, p), as an array, PerExampleGradients or a Gram.
    C has the divisor n - 1, and |g|^2 is the mean of g_i^T g_j over pairs; both are unbiased.  The
    bias of the ratio is removed, and its error computed, by a jackknife over examples.  They are
    right if |g|^2 exceeds zero by seven of its errors, as for n above 40 B in a few dimensions.
    At n of 14 B the error is 40% too large and the distribution skew.  If the estimate of |g|^2 is
    not positive, the result is inf with an infinite error.
    curvature: v -> Hv, or an operator with @; its own error is not included.
    n_probes: the number of random signs that estimate Tr(HC) (Hutchinson, 1990), whose error is
    included.  With None all n products H g_i are computed.
    population: the examples are the whole population.  C then has the divisor n, |g|^2 is that of
    their mean, and only probes leave an error.
    Raises ValueError for fewer than 3 examples, and for n_probes below 2, or without curvature or
    rng.

    Example:
        >>> gradients = np.random.default_rng(0).normal([0.5, 0.0], size=(4000, 2))
        >>> print(f"{gradient_noise_scale(gradients):.1f}")  # Tr C / |g|^2 = 2 / 0.25 = 8
        8.1 ± 0.5
    """
    rows = n_gradients_in(rows)
    _check(rows.n, curvature, n_probes, rng)
    forms = _forms(rows, None if curvature is None else matrix_product(curvature), n_probes, rng)
    if population:
        return _of_all(*forms)
    trace, square = _pieces(rows.n, *_sums(forms))
    if square <= 0:
        return Estimate(math.inf, math.inf, rows.n - 1)
    left_trace, left_square = _left_out(forms)
    jackknifed = jackknife(trace / square, left_trace / left_square)
    slope = (1 + trace / square / rows.n) / (square * (rows.n - 1))  # of the scale by sum g_i H g_i
    error = math.hypot(
        jackknifed.stderr, slope * (forms.probing / 2) ** 0.5
    )  # the jackknife has half
    return Estimate(jackknifed.value, error, jackknifed.dof)


def signal_to_noise(rows) -> Estimate:
    r"""The signal-to-noise ratio |g|^2 / Tr C, the inverse of the gradient-noise scale.

    It stays finite where g vanishes.  |g|^2 and Tr C are unbiased, so the ratio may be negative.
    Bias and error come from a jackknife over examples.  The error is too large, by up to a factor
    2^1/2, if |g|^2 is not resolved from zero.
    Raises ValueError for fewer than 3 examples.
    """
    rows = n_gradients_in(rows)
    _check(rows.n, None, None, None)
    forms = _forms(rows, None, None, None)
    trace, square = _pieces(rows.n, *_sums(forms))
    left_trace, left_square = _left_out(forms)
    return jackknife(square / trace, left_square / left_trace)


def gradient_noise_scale_from_batches(
    small_squares, big_squares, small, big, *, paired=False
) -> Estimate:
    r"""The gradient-noise scale Tr C / |g|^2 from squared gradient norms at two batch sizes.

    E |G_B|^2 = |g|^2 + Tr C / B, so |g|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b) and
    Tr C = (|G_b|^2 - |G_B|^2) / (1/b - 1/B) (McCandlish et al., 2018).
    small_squares (k,), big_squares (l,): squared norms at one theta for the batch sizes `small`
    and `big`.  Batches may be drawn without replacement.
    paired: entry i of one belongs to entry i of the other, for example because the big batch
    contains the small one; then k = l.
    The error is that of a ratio of means, to first order.  The result is inf with an infinite
    error if the estimate of |g|^2 is not positive.  dof is that of the fewer norms.
    Raises ValueError unless 0 < small < big, for fewer than 2 norms, and for unequal numbers of
    paired norms.
    """
    low, high = (as_numpy(squares).astype(float) for squares in (small_squares, big_squares))
    if not 0 < small < big:
        raise ValueError(f"two batches are a small and a big one, not {small} and {big}")
    if paired and low.shape != high.shape:
        raise ValueError(f"{low.size} norms cannot be paired with {high.size} norms")
    from_low, from_high = mean(low), mean(high)
    trace = (from_low.value - from_high.value) / (1 / small - 1 / big)
    square = (big * from_high.value - small * from_low.value) / (big - small)
    dof = min(low.size, high.size) - 1
    if square <= 0:
        return Estimate(math.inf, math.inf, dof)
    ratio = trace / square
    by_low = (1 / (1 / small - 1 / big) + ratio * small / (big - small)) / square
    by_high = -(1 / (1 / small - 1 / big) + ratio * big / (big - small)) / square
    if paired:
        return Estimate(float(ratio), float(mean(by_low * low + by_high * high).stderr), dof)
    error = math.hypot(by_low * from_low.stderr, by_high * from_high.stderr)
    return Estimate(float(ratio), error, dof)


def batch_efficiency(batch_size, scale):
    r"""The fraction of the best one-step gain that a batch achieves: 1 / (1 + scale / batch_size).

    It is exact for a quadratic loss with the scale Tr(HC) / g^T H g (McCandlish et al., 2018): the
    best learning rate |g|^2 / g^T H g and its gain |g|^4 / (2 g^T H g) are both multiplied by it.
    At batch_size = scale it is one half.  Sampling without replacement multiplies the scale by
    (n - B) / (n - 1).
    """
    return 1 / (1 + scale / batch_size)


def matrix_product(operator):
    """v -> operator v, from a function or from an object with @."""
    return operator if callable(operator) else operator.__matmul__


class _Forms(NamedTuple):
    """g_i^T H g_i (n,), g_i^T H gbar (n,), and the variance of the sum of the first due to probes.

    They are float64: values with one example left out differ by a fraction 1 / n.
    """

    squares: np.ndarray
    along: np.ndarray
    probing: float


def _forms(rows, product, n_probes, rng):
    mean_gradient = rows.combine(rows.ones() / rows.n)
    along = _wide(rows.project(mean_gradient if product is None else product(mean_gradient)))
    if product is None:
        return _Forms(_wide(rows.squares()), along, 0.0)
    off_mean, probing = _around(rows, product, n_probes, rng)
    return _Forms(off_mean + 2 * along - along.mean(), along, probing)


def _around(rows, product, n_probes, rng):
    """(g_i - gbar)^T H (g_i - gbar) (n,), from signs or one by one, and its sum's variance."""
    signs = np.eye(rows.n) if n_probes is None else rng.choice([-1.0, 1.0], (n_probes, rows.n))
    forms = np.stack([z * _answered(rows, product, z) for z in signs])
    if n_probes is None:
        return forms.sum(axis=0), 0.0
    return forms.mean(axis=0), float(forms.sum(axis=1).var(ddof=1)) / n_probes


def _answered(rows, product, z):
    """(g_i - gbar)^T H u (n,) for u = sum_i z_i (g_i - gbar)."""
    example_vector = rows.ones()
    centred = namespace(example_vector).asarray(
        z - z.mean(), dtype=example_vector.dtype, device=device(example_vector)
    )
    values = _wide(rows.project(product(rows.combine(centred))))
    return values - values.mean()


def _sums(forms):
    """sum_i g_i^T H g_i and (sum_i g_i)^T H (sum_i g_i)."""
    return forms.squares.sum(), len(forms.squares) * forms.along.sum()


def _pieces(n, squares, square_of_sum):
    """Unbiased Tr(HC) and g^T H g from the two sums over n examples."""
    return (squares - square_of_sum / n) / (n - 1), (square_of_sum - squares) / (n * (n - 1))


def _left_out(forms):
    """The same with each example left out, (n,) and (n,)."""
    (squares, square_of_sum), n = _sums(forms), len(forms.squares)
    return _pieces(
        n - 1, squares - forms.squares, square_of_sum - 2 * n * forms.along + forms.squares
    )


def _of_all(squares, along, probing):
    n, square = len(squares), along.mean()
    error = probing**0.5 / (n * abs(square))
    return Estimate(float((squares.mean() - square) / square), float(error))


def _wide(values):
    return as_numpy(values).astype(float)


def _check(n, curvature, n_probes, rng):
    if n < 3:
        raise ValueError(f"a noise scale needs at least 3 examples, not {n}")
    if n_probes is None:
        return
    if curvature is None:
        raise ValueError(f"without a curvature nothing is left to find by {n_probes} probes")
    if n_probes < 2:
        raise ValueError(f"an error needs at least 2 probes, not {n_probes}")
    if rng is None:
        raise ValueError(f"{n_probes} probes are random and need rng, a numpy Generator")
