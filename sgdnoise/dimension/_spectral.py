"""Dimension from the spectrum of the covariance of the points."""

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import namespace
from sgdnoise.dimension._any_scale import any_scale
from sgdnoise.dimension._neighbours import TILE
from sgdnoise.dimension._points import check_points

TILES = 8  # rows of tiles in a symmetric matrix, of which 7 / 16 need not be computed


@checked
@any_scale
def participation_ratio(
    points,
    repeat=None,
    *,
    method: str = "naive",
    columns: str = "all",
    noise: float = 0.0,
    centred: bool = True,
):
    r"""The participation ratio (Tr K)^2 / Tr K^2 of the covariance K of the points.  (n, D) -> ()

    With S the sample covariance and m = n - 1, method "naive" takes S for K: it is between 1 and
    min(n - 1, D), and its inverse is too large by about 1 / (n - 1).  "gaussian" solves
    E (Tr S)^2 = a + 2 b / m, E Tr S^2 = a / m + (1 + 1 / m) b, which hold for normal rows, for a
    and b; "unbiased" averages (x1 - x2)^2 (x3 - x4)^2 / 4 and ((x1 - x2).(x3 - x4))^2 / 4 over
    distinct rows, unbiased for independent rows of any law (Chen, Zhang & Zhong, 2010).  A ratio of
    unbiased estimates is biased at the next order only.
    columns: "sampled" treats the D columns as drawn from infinitely many (Chun et al., 2025):
    products over distinct columns only, and means over such pairs instead of sums.
    noise: the variance of independent noise in each coordinate, which is subtracted.
    repeat: the same rows measured again with other noise; each product has one factor of each, so
    that noise of any size and shape averages out.
    centred: false takes the mean of x x^T for K, about the origin and not about the mean of the
    points, as for gradients; a mean far from the origin then counts as one direction.  It is for
    the naive method.
    It needs no eigenvalues, since Tr K^2 is the sum of squares of either Gram matrix, and is nan if
    the estimate of Tr K^2 is not positive.
    Raises ValueError for another method or columns, fewer than 4 points if unbiased and 3 if
    gaussian, 1 sampled column, negative noise, a repeat of another shape, or with noise or the
    gaussian method, and for points that are not centred with another method than naive.

    Example:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).normal(size=(2000, 3))
        >>> round(float(participation_ratio(points)), 1)
        3.0
    """
    if not centred and method != "naive":
        raise ValueError(f"the {method} method is for centred points: leave centred=True")
    first, second = _trials(points, repeat, method, columns, noise, apart=centred, centred=centred)
    xp = namespace(first)
    total = xp.sum(first**2)
    total = xp.where(total > 0, total, xp.nan)
    unit = first / xp.sqrt(total)
    again = unit if second is first else second / xp.sqrt(xp.sum(second**2))
    numerator, denominator = _moments(xp, unit, again, method, columns, noise / total, centred)
    return numerator / xp.where(denominator > 0, denominator, xp.nan)


def trace_moments(
    points, repeat=None, *, method: str = "unbiased", columns: str = "all", noise: float = 0.0
):
    r"""The estimates of (Tr K)^2 and Tr K^2 in `participation_ratio`.  (n, D) -> (), ()"""
    first, second = _trials(points, repeat, method, columns, noise, apart=False)
    width = first.shape[1]
    pairs = width * (width - 1) if columns == "sampled" else 1
    moments = _moments(namespace(first), first, second, method, columns, noise)
    return moments[0] / pairs, moments[1] / pairs


@checked
def debiased(squared_trace, trace_of_square, m):
    """Unbiased estimates of (Tr K)^2 and Tr K^2 from (Tr S)^2 and Tr S^2, for normal rows.

    S is a sample covariance of m = n - 1 degrees of freedom; they are the a and b of
    (Tr S)^2 = a + 2 b / m and Tr S^2 = a / m + (1 + 1 / m) b.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> covariances = [np.cov(x.T) for x in rng.normal(size=(2000, 20, 3))]  # samples of 1_3
        >>> traces = [(np.trace(s) ** 2, np.trace(s @ s)) for s in covariances]
        >>> np.mean([debiased(*pair, 19) for pair in traces], axis=0).round(1).tolist()
        [9.0, 3.0]
    """
    b = (trace_of_square - squared_trace / m) * (m**2 / ((m + 2) * (m - 1)))
    return squared_trace - 2 * b / m, b


@checked
@any_scale
def effective_rank(points, *, of: str = "singular values"):
    r"""The effective rank exp(H(p)) of Roy & Vetterli (2007), H the Shannon entropy.  (n, D) -> ()

    p are the singular values of the centred points over their sum, as Roy & Vetterli define it, or
    the variances of the principal components over theirs, which weighs weak components less.
    It is between 1 and min(n - 1, D).  Small samples broaden the spectrum and so bias it downwards.
    Its gradient is that at fixed rank: singular values that are rounding errors are not
    differentiated, since p log p has an infinite derivative at 0.
    Raises ValueError as `check_points` does, and for another `of`.

    Example:
        >>> import numpy as np
        >>> points = np.asarray([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(float(effective_rank(points)), 6)  # two equal components
        2.0
    """
    if of not in ("singular values", "variances"):
        raise ValueError(f"effective_rank is of singular values or variances, not of {of!r}")
    values = _at_rank(singular_values(points), max(points.shape))
    values = values ** (1 if of == "singular values" else 2)
    xp, total = namespace(values), namespace(values).sum(values)
    p = values / xp.where(total > 0, total, xp.nan)
    return xp.exp(-xp.sum(p * xp.log(xp.where(p > 0, p, 1.0))))


@checked
@any_scale
def stable_rank(points):
    """The stable rank |X|_F^2 / |X|_2^2 of the centred points of Rudelson & Vershynin (2007).

    (n, D) -> ().  It is the total variance over the largest of a principal component, which small
    samples overestimate, so that it is biased downwards.  If the largest variances are equal it is
    not differentiable, and linear errors and the bootstrap fail (Beran & Srivastava, 1985;
    Duembgen, 1993): its error is that of `with_group_error` with groups=10 and n_fewer=4.
    Raises ValueError as `check_points` does.

    Example:
        >>> import numpy as np
        >>> points = np.asarray([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(float(stable_rank(points)), 6)  # variances 4 and 1: 5 / 4
        1.25
    """
    variances = singular_values(points) ** 2
    xp, largest = namespace(variances), variances[0]
    return xp.sum(variances) / xp.where(largest > 0, largest, xp.nan)


def singular_values(points):
    """The singular values of the centred points, descending.  (n, D) -> (min(n, D),)"""
    points = check_points(points)
    return namespace(points).linalg.svdvals(centred(points))


def centred(points):
    """The points minus their mean, exactly zero if all coincide."""
    offsets = points - points[:1, :]
    return offsets - namespace(points).mean(offsets, axis=0)


def _at_rank(values, size):
    """The same values, of which rounding errors have the derivative of floor: zero."""
    xp, total = namespace(values), namespace(values).sum(values)
    fraction = values / xp.where(total > 0, total, 1.0)
    constant = xp.floor(fraction * 2.0**100) / 2.0**100 * total
    return xp.where(values > size * xp.finfo(values.dtype).eps * values[0], values, constant)


def _trials(points, repeat, method, columns, noise, apart=True, centred=True):
    """The centred points, and those of the second trial, or the same again."""
    min_points = {"naive": 2, "gaussian": 3, "unbiased": 4}
    if method not in min_points:
        raise ValueError(f"participation ratios are naive, gaussian or unbiased, not {method!r}")
    if columns not in ("all", "sampled"):
        raise ValueError(f"columns are all or sampled, not {columns!r}")
    if not noise >= 0:
        raise ValueError(f"a noise variance is 0 or more, not {noise}")
    points = check_points(points, min_points[method], apart=apart)
    if columns == "sampled" and points.shape[1] < 2:
        raise ValueError(f"2 or more sampled columns are needed, not {points.shape[1]}")
    first = _about_mean(points, centred)
    if repeat is None:
        return first, first
    return first, _about_mean(_second(points, repeat, method, noise, apart), centred)


def _about_mean(points, about_mean):
    return centred(points) if about_mean else points


def _second(points, repeat, method, noise, apart):
    again = check_points(repeat, apart=apart)
    if again.shape != points.shape:
        raise ValueError(f"a repeat has the shape {tuple(points.shape)}, not {tuple(again.shape)}")
    if noise or method == "gaussian":
        raise ValueError(f"a repeat excludes noise and the gaussian method, not {noise}, {method}")
    return again


def _moments(xp, first, second, method, columns, noise, centred=True):
    """Estimates of (Tr K)^2 and Tr K^2, of distinct columns only if these are sampled."""
    n, width = first.shape
    (p, q, f), (p_within, q_within, f_within) = _sums(xp, first, second, columns)
    m = n - 1 if centred else n
    squared_trace, trace_of_square = p / m**2, f_within / m**2
    if method == "gaussian":
        squared_trace, trace_of_square = debiased(squared_trace, trace_of_square, m)
    elif method == "unbiased":
        tuples = n * (n - 1) * (n - 2) * (n - 3)
        squared_trace = ((n**2 - 3 * n + 1) * p - n * m * q + 2 * f) / tuples
        trace_of_square = (m * (n - 2) * f_within - n * m * q_within + p_within) / tuples
    diagonal = 1 if columns == "all" else 0
    excess = noise * (2 * xp.sum(first * second) / m - width * noise)
    return squared_trace - (width - 1 + diagonal) * excess, trace_of_square - diagonal * excess


def _sums(xp, first, second, columns):
    """Sums (P, Q, F) over rows that give the U-statistics of each trace moment.

    With H_ij = x_i.y_j between trials and G, G' within them: (Tr H)^2, sum_i H_ii^2, the sum of
    squares of the symmetric part of H; and Tr G Tr G', sum_i G_ii G'_ii, sum_ij G_ij G'_ij.
    Rows of centred points sum to zero.
    """
    between = within_1 = within_2 = _axis_sums(xp, first * second, columns)
    if second is not first:
        within_1, within_2 = _axis_sums(xp, first**2, columns), _axis_sums(xp, second**2, columns)
    same = _contracted(xp, first, first, second, second)
    mixed = same
    if second is not first:
        transposed = _contracted(xp, first, second, second, first)
        mixed = (_contracted(xp, first, second, first, second) + transposed) / 2
    sums_between = xp.sum(between[0]) ** 2, xp.sum(between[0] ** 2), mixed
    sums_within = (
        xp.sum(within_1[0]) * xp.sum(within_2[0]),
        xp.sum(within_1[0] * within_2[0]),
        same,
    )
    if columns == "all":
        return sums_between, sums_within
    # Products of a column with itself are subtracted.
    h, g = xp.sum(between[1] ** 2), xp.sum(within_1[1] * within_2[1])
    fourth = xp.sum((first * second) ** 2)
    diagonal = (h, fourth, (h + g) / 2), (g, fourth, h)
    return tuple(
        tuple(a - b for a, b in zip(total, column, strict=True))
        for total, column in zip((sums_between, sums_within), diagonal, strict=True)
    )


def _axis_sums(xp, products, columns):
    """Sums over the columns of each row, and over the rows of each column if these are sampled."""
    return xp.sum(products, axis=1), xp.sum(products, axis=0) if columns == "sampled" else None


def _contracted(xp, a, b, c, d):
    """sum_ij (a_i.b_j) (c_i.d_j) over rows, or over columns if these are fewer, in tiles."""
    equal = a is b is c is d
    if a.shape[1] <= a.shape[0]:
        a, b, c, d = a.T, c.T, b.T, d.T
    side = a.shape[0]
    rows = max(1, min(TILE // side, -(-side // TILES) if equal else side))
    total = xp.sum(a[:1, :]) * 0
    for start in range(0, side, rows):
        stop = min(start + rows, side)
        if equal:  # a symmetric matrix: the tile on its diagonal, and twice what is right of it
            total = total + _sum_of_squares(xp, a[start:stop, :] @ a[start:stop, :].T)
            total = total + 2 * _sum_of_squares(xp, a[start:stop, :] @ a[stop:, :].T)
        else:
            left, right = a[start:stop, :] @ b.T, c[start:stop, :] @ d.T
            total = total + xp.sum(left * right)
    return total


def _sum_of_squares(xp, values):
    return xp.sum(values**2)
