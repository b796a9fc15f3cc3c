"""How large a batch must be before its gradient holds more signal than noise."""

import math
from typing import NamedTuple

import numpy as np

from sgdnoise.core._arrays import as_numpy, device, namespace
from sgdnoise.core._covariance import n_gradients_in
from sgdnoise.core._estimate import Estimate, jackknife, mean


def gradient_noise_scale(rows, *, curvature=None, n_probes=None, rng=None, whole=False) -> Estimate:
    r"""The gradient-noise scale, which is the critical batch, of McCandlish et al. (2018).

    B = Tr C / |g|^2, or with a curvature Tr(HC) / g^T H g, from `rows`, per-example gradients g_i
    (rows.Rows, the Gram of some, or an array): C by n - 1, and |g|^2 as the mean of
    g_i^T g_j over pairs, |gbar|^2 - Tr C / n, both unbiased; the ratio's own bias is taken off, and
    its error made, by a jackknife over examples.  They are right where |g|^2 is clear of zero by
    some seven of its errors, as for n above 40 B in a few dimensions; with less the error is too
    large, there by 40% at n of 14 B, the law skew, and where no |g|^2 > 0 is found the scale is
    inf +- inf.
    curvature: v -> Hv or an operator with @, taken as known, though it too may be of a sample.
    n_probes: how many random signs of the examples give Tr(HC), by Hutchinson (1990), their
    error included; all n products H g_i where None.
    whole: these examples are all there are: C divides by n, |g|^2 is that of their mean, and
    only probes leave an error.
    Raises ValueError for under 3 examples, or probes under 2, or without curvature or rng.
    """
    rows = n_gradients_in(rows)
    _check(rows.n, curvature, n_probes, rng)
    forms = _forms(rows, None if curvature is None else matrix_product(curvature), n_probes, rng)
    if whole:
        return _of_all(*forms)
    trace, square = _pieces(rows.n, *_sums(forms))
    if square <= 0:
        return Estimate(math.inf, math.inf, rows.n - 1)
    left_trace, left_square = _left_out(forms)
    found = jackknife(trace / square, left_trace / left_square)
    slope = (1 + trace / square / rows.n) / (square * (rows.n - 1))  # of the scale by sum g_i H g_i
    error = math.hypot(found.stderr, slope * (forms.probing / 2) ** 0.5)  # the jackknife has half
    return Estimate(found.value, error, found.dof)


def signal_to_noise(rows) -> Estimate:
    r"""|g|^2 / Tr C, the inverse of the simple scale, which stays finite where g vanishes.

    |g|^2 and Tr C unbiased, and so negative at times; bias and error by a jackknife over examples,
    an error too large, by up to 2^1/2, where |g|^2 is not clear of zero.
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
    r"""The simple noise scale from |G_B|^2 at two batch sizes alone (McCandlish et al., 2018).

    E |G_B|^2 = |g|^2 + Tr C / B, hence |g|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b) and
    Tr C = (|G_b|^2 - |G_B|^2) / (1/b - 1/B), from (k,) and (l,) squared norms at one theta.
    Drawn without replacement they are, with no change, what `scale` makes of all examples.
    paired: entry i of both belongs together, as where the big batch is made of the small; k = l.
    The ratio is that of means, its bias of the order of its squared error, which is the delta
    method's; inf +- inf where |g|^2 <= 0 is found.  Freedom is that of the fewer norms.
    Raises ValueError unless 0 < small < big, with 2 norms of each, as many where paired.
    """
    low, high = (as_numpy(each).astype(float) for each in (small_squares, big_squares))
    if not 0 < small < big:
        raise ValueError(f"two batches are a small and a big one, not {small} and {big}")
    if paired and low.shape != high.shape:
        raise ValueError(f"{low.size} norms cannot be paired with {high.size} norms")
    from_low, from_high = mean(low), mean(high)
    trace = (from_low.value - from_high.value) / (1 / small - 1 / big)
    square = (big * from_high.value - small * from_low.value) / (big - small)
    freedom = min(low.size, high.size) - 1
    if square <= 0:
        return Estimate(math.inf, math.inf, freedom)
    found = trace / square
    by_low = (1 / (1 / small - 1 / big) + found * small / (big - small)) / square
    by_high = -(1 / (1 / small - 1 / big) + found * big / (big - small)) / square
    if paired:
        return Estimate(float(found), float(mean(by_low * low + by_high * high).stderr), freedom)
    error = math.hypot(by_low * from_low.stderr, by_high * from_high.stderr)
    return Estimate(float(found), error, freedom)


def batch_efficiency(batch_size, scale):
    r"""Share of the best rate, and of its one-step gain, that a batch leaves: 1 / (1 + scale / B).

    Exact for a quadratic loss, with the scale Tr(HC) / g^T H g (McCandlish et al., 2018): of rate
    |g|^2 / g^T H g and gain |g|^4 / (2 g^T H g); half at the critical batch.  Batches without
    replacement have the scale times (n - B) / (n - 1).
    """
    return 1 / (1 + scale / batch_size)


def matrix_product(operator):
    """v -> operator v, of a function or of what has @."""
    return operator if callable(operator) else operator.__matmul__


class _Forms(NamedTuple):
    """g_i^T H g_i (n,), g_i^T H gbar (n,), and the variance that probes leave in the first's sum.

    In numpy's float64: values with one example left out differ by a share 1 / n.
    """

    own: np.ndarray
    along: np.ndarray
    probing: float


def _forms(rows, times, n_probes, rng):
    middle = rows.combine(rows.ones() / rows.n)
    along = _wide(rows.project(middle if times is None else times(middle)))
    if times is None:
        return _Forms(_wide(rows.squares()), along, 0.0)
    off_mean, probing = _around(rows, times, n_probes, rng)
    return _Forms(off_mean + 2 * along - along.mean(), along, probing)


def _around(rows, times, n_probes, rng):
    """(g_i - gbar)^T H (g_i - gbar) (n,), from signs or one by one, and its sum's variance."""
    white = np.eye(rows.n) if n_probes is None else rng.choice([-1.0, 1.0], (n_probes, rows.n))
    each = np.stack([z * _answered(rows, times, z) for z in white])
    if n_probes is None:
        return each.sum(axis=0), 0.0
    return each.mean(axis=0), float(each.sum(axis=1).var(ddof=1)) / n_probes


def _answered(rows, times, z):
    """(g_i - gbar)^T H u (n,) for u = sum_i z_i (g_i - gbar)."""
    like = rows.ones()
    centred = namespace(like).asarray(z - z.mean(), dtype=like.dtype, device=device(like))
    found = _wide(rows.project(times(rows.combine(centred))))
    return found - found.mean()


def _sums(forms):
    """sum_i g_i^T H g_i and (sum_i g_i)^T H (sum_i g_i)."""
    return forms.own.sum(), len(forms.own) * forms.along.sum()


def _pieces(n, own, together):
    """Unbiased Tr(HC) and g^T H g from the two sums over n examples."""
    return (own - together / n) / (n - 1), (together - own) / (n * (n - 1))


def _left_out(forms):
    """The same with each example left out, (n,) and (n,)."""
    (own, together), n = _sums(forms), len(forms.own)
    return _pieces(n - 1, own - forms.own, together - 2 * n * forms.along + forms.own)


def _of_all(own, along, probing):
    n, square = len(own), along.mean()
    error = probing**0.5 / (n * abs(square))
    return Estimate(float((own.mean() - square) / square), float(error))


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
