"""Dimension from the spectrum of the covariance of the points."""

from sgdnoise.core._arrays import namespace
from sgdnoise.dimension._neighbours import TILE
from sgdnoise.dimension._points import check_points


def participation_ratio(
    points, repeat=None, *, method: str = "naive", columns: str = "all", noise: float = 0.0
):
    r"""Participation ratio (Tr K)^2 / Tr K^2 of the covariance K of the points.  (n, D) -> ()

    The ratio of the two `trace_moments`, by which method, columns, noise and repeat are explained.
    The naive one is between 1 and min(n - 1, D), and its inverse too large by about 1 / (n - 1).
    A ratio of unbiased numbers is biased itself, but in its next order: their averages over data
    sets are not.  nan where the estimate of Tr K^2 is not positive.
    It needs no eigenvalues, since Tr K^2 is the sum of squares of either Gram matrix.
    Raises ValueError as `trace_moments` does.
    """
    first, second = _trials(points, repeat, method, columns, noise)
    xp = namespace(first)
    total = xp.sum(first**2)
    total = xp.where(total > 0, total, xp.nan)
    unit = first / xp.sqrt(total)
    other = unit if second is first else second / xp.sqrt(xp.sum(second**2))
    square, spread = _moments(xp, unit, other, method, columns, noise / total)
    return square / xp.where(spread > 0, spread, xp.nan)


def trace_moments(
    points, repeat=None, *, method: str = "unbiased", columns: str = "all", noise: float = 0.0
):
    r"""Estimates of (Tr K)^2 and Tr K^2 for the covariance K.  (n, D) -> (), ()

    With S the sample covariance and m = n - 1, method "naive" takes S for K; "gaussian" solves
    E (Tr S)^2 = a + 2 b / m, E Tr S^2 = a / m + (1 + 1 / m) b, true of normal rows, for a and b;
    "unbiased" averages (x1 - x2)^2 (x3 - x4)^2 / 4 and ((x1 - x2).(x3 - x4))^2 / 4 over distinct
    rows, unbiased for independent rows of any law, as Chen, Zhang & Zhong (2010) do.
    columns "sampled" takes the D columns as drawn from infinitely many, as Chun et al. (2025) do:
    products over distinct columns alone, and means over such pairs instead of sums.
    noise: the variance of independent noise in each coordinate, subtracted.
    repeat: the same rows met again with other noise; each product has one factor of each, so that
    noise of any size and shape averages out.
    Raises ValueError for another method or columns, fewer than 4 points if unbiased and 3 if
    gaussian, 1 sampled column, negative noise, and a repeat of other shape, or with noise or normal
    rows.
    """
    first, second = _trials(points, repeat, method, columns, noise, apart=False)
    width = first.shape[1]
    pairs = width * (width - 1) if columns == "sampled" else 1
    square, spread = _moments(namespace(first), first, second, method, columns, noise)
    return square / pairs, spread / pairs


def debiased(square, spread, m):
    """The a, b of square = a + 2 b / m and spread = a / m + (1 + 1 / m) b: normal rows, m = n - 1.

    square is (Tr S)^2 and spread Tr S^2 of a sample covariance S.
    """
    spread = (spread - square / m) * (m**2 / ((m + 2) * (m - 1)))
    return square - 2 * spread / m, spread


def effective_rank(points, *, of: str = "singular values"):
    """Effective rank exp(H(p)) of Roy & Vetterli (2007), H the Shannon entropy.  (n, D) -> ()

    p are the singular values of the centred points over their sum, as Roy & Vetterli define it, or
    the variances of the principal components over theirs, which weighs weak components less.
    Between 1 and min(n - 1, D).  Small samples spread the spectrum and so bias it downwards.
    Its slope is that at fixed rank: singular values that are rounding alone are not differentiated,
    for p log p is infinitely steep at 0.
    Raises ValueError as `cloud` does, and for anything else to take it of.
    """
    if of not in ("singular values", "variances"):
        raise ValueError(f"effective_rank is of singular values or variances, not of {of!r}")
    values = _at_rank(singular_values(points), max(points.shape))
    values = values ** (1 if of == "singular values" else 2)
    xp, total = namespace(values), namespace(values).sum(values)
    share = values / xp.where(total > 0, total, xp.nan)
    return xp.exp(-xp.sum(share * xp.log(xp.where(share > 0, share, 1.0))))


def stable_rank(points):
    """Stable rank |X|_F^2 / |X|_2^2 of the centred points, Rudelson & Vershynin (2007).

    (n, D) -> ().  All variance over the largest of a principal component, which small samples
    overestimate, so that it is biased downwards.  Where the largest variances are equal it has a
    corner, at which linear errors and the bootstrap fail (Beran & Srivastava, 1985; Duembgen,
    1993): its error is that of `grouped` with 4 fewer of 10 groups.
    Raises ValueError as `cloud` does.
    """
    variances = singular_values(points) ** 2
    xp, largest = namespace(variances), variances[0]
    return xp.sum(variances) / xp.where(largest > 0, largest, xp.nan)


def singular_values(points):
    """Singular values of the points about their mean, descending.  (n, D) -> (min(n, D),)"""
    points = check_points(points)
    return namespace(points).linalg.svdvals(_centred(points))


def _centred(points):
    """Exactly zero where all coincide, as their differences from the mean need not be."""
    beside = points - points[:1, :]
    return beside - namespace(points).mean(beside, axis=0)


def _at_rank(values, size):
    """The same values, of which those that are rounding alone have no derivative: that of floor."""
    xp, total = namespace(values), namespace(values).sum(values)
    share = values / xp.where(total > 0, total, 1.0)
    still = xp.floor(share * 2.0**100) / 2.0**100 * total
    return xp.where(values > size * xp.finfo(values.dtype).eps * values[0], values, still)


def _trials(points, repeat, method, columns, noise, apart=True):
    """The centred points, and those of the second trial, or the same again."""
    least = {"naive": 2, "gaussian": 3, "unbiased": 4}
    if method not in least:
        raise ValueError(f"participation ratios are naive, gaussian or unbiased, not {method!r}")
    if columns not in ("all", "sampled"):
        raise ValueError(f"columns are all there are or sampled, not {columns!r}")
    if not noise >= 0:
        raise ValueError(f"a noise variance is 0 or more, not {noise}")
    points = check_points(points, least[method], apart=apart)
    if columns == "sampled" and points.shape[1] < 2:
        raise ValueError(f"2 or more sampled columns are needed, not {points.shape[1]}")
    first = _centred(points)
    return first, first if repeat is None else _second(points, repeat, method, noise, apart)


def _second(points, repeat, method, noise, apart):
    again = check_points(repeat, apart=apart)
    if again.shape != points.shape:
        raise ValueError(f"a repeat has the shape {tuple(points.shape)}, not {tuple(again.shape)}")
    if noise or method == "gaussian":
        raise ValueError(f"a repeat goes without noise and gaussian, not with {noise}, {method}")
    return _centred(again)


def _moments(xp, first, second, method, columns, noise):
    """Estimates of (Tr K)^2 and Tr K^2, of distinct columns alone where these are sampled."""
    n, width = first.shape
    (p, q, f), (other_p, other_q, other_f) = _sums(xp, first, second, columns)
    m = n - 1
    square, spread = p / m**2, other_f / m**2
    if method == "gaussian":
        square, spread = debiased(square, spread, m)
    elif method == "unbiased":
        tuples = n * (n - 1) * (n - 2) * (n - 3)
        square = ((n**2 - 3 * n + 1) * p - n * m * q + 2 * f) / tuples
        spread = (m * (n - 2) * other_f - n * m * other_q + other_p) / tuples
    diagonal = 1 if columns == "all" else 0
    both = noise * (2 * xp.sum(first * second) / m - width * noise)
    return square - (width - 1 + diagonal) * both, spread - diagonal * both


def _sums(xp, first, second, columns):
    """Sums (P, Q, F) over rows that give the U-statistics of each trace moment.

    With H_ij = x_i.y_j between trials and G, G' within them: (Tr H)^2, sum_i H_ii^2, the sum of
    squares of the symmetric part of H; and Tr G Tr G', sum_i G_ii G'_ii, sum_ij G_ij G'_ij.
    Centring made the rows of each sum to zero.
    """
    across = one = two = _along_both(xp, first * second)
    if second is not first:
        one, two = _along_both(xp, first**2), _along_both(xp, second**2)
    same = _contracted(xp, first, first, second, second)
    mixed = same
    if second is not first:
        turned = _contracted(xp, first, second, second, first)
        mixed = (_contracted(xp, first, second, first, second) + turned) / 2
    square = xp.sum(across[0]) ** 2, xp.sum(across[0] ** 2), mixed
    spread = xp.sum(one[0]) * xp.sum(two[0]), xp.sum(one[0] * two[0]), same
    if columns == "all":
        return square, spread
    alone, between = xp.sum(across[1] ** 2), xp.sum(one[1] * two[1])
    fourth = xp.sum((first * second) ** 2)
    itself = (alone, fourth, (alone + between) / 2), (between, fourth, alone)
    return tuple(
        tuple(a - b for a, b in zip(every, own, strict=True))
        for every, own in zip((square, spread), itself, strict=True)
    )


def _along_both(xp, products):
    """Sums over the columns of each row, and over the rows of each column."""
    return xp.sum(products, axis=1), xp.sum(products, axis=0)


def _contracted(xp, a, b, c, d):
    """sum_ij (a_i.b_j) (c_i.d_j) over rows, or as many columns, whichever are fewer, in tiles."""
    once = a is b is c is d
    if a.shape[1] <= a.shape[0]:
        a, b, c, d = a.T, c.T, b.T, d.T
    side = a.shape[0]
    rows = max(1, TILE // side)
    total = xp.sum(a[:1, :]) * 0
    for start in range(0, side, rows):
        stop = min(start + rows, side)
        left = a[start:stop, :] @ b.T
        right = left if once else c[start:stop, :] @ d.T
        total = total + xp.sum(left * right)
    return total
