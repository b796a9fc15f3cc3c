"""Variance of a statistic of n samples, from its values on disjoint groups of them.

The statistic is linear and quadratic in a mean of normal numbers, as any smooth one nearly is.
"""

from functools import cache
from itertools import combinations

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import n, sigma

slope, curve = sp.symbols("a b", real=True)  # of the statistic, at the mean of the law
groups = sp.Symbol("g", positive=True)
fewer = sp.Symbol("h", positive=True)
splits = sp.Symbol("r", positive=True)  # partitions into groups; into fewer there are 2 r
linear, quadratic = sp.symbols("L Q", nonnegative=True)  # parts of the variance of the whole


def claim(number):
    """The variance between disjoint groups, over their number."""
    return sp.Symbol(f"E_{number}")


def _squares_of_normal_numbers_vary_as_chi_squared():
    return same(whole().rhs.subs({slope: 0, curve: 1}), 2 * (sigma**2 / n) ** 2)


def _means_vary_as_one_in_n():
    return same(whole().rhs.subs({slope: 1, curve: 0}), sigma**2 / n)


@equation(
    "eq:whole-variance",
    computed_by="sgdnoise.core.with_group_error",
    laws=(_squares_of_normal_numbers_vary_as_chi_squared, _means_vary_as_one_in_n),
)
@cache
def whole():
    """Variance of a linear and quadratic statistic of all samples."""
    (z,) = white(1)
    value = _statistic(z, n)
    variance = mean(value**2, [z]) - mean(value, [z]) ** 2
    return sp.Eq(sp.Symbol("V"), sp.expand(variance))


def _one_group_is_all():
    return same(between_groups().rhs.subs(groups, 1), whole().rhs)


def _groups_are_right_of_means_and_too_large_by_their_number_of_squares():
    ratio = between_groups().rhs / whole().rhs
    return ratio.subs(curve, 0) == 1 and sp.simplify(ratio.subs(slope, 0)) == groups


@equation(
    "eq:between-groups",
    computed_by="sgdnoise.core.with_group_error",
    laws=(_one_group_is_all, _groups_are_right_of_means_and_too_large_by_their_number_of_squares),
)
@cache
def between_groups():
    """Its estimate from the variance between groups: half a mean squared difference over g."""
    first, second = (_statistic(z, n / groups) for z in white(2))
    half = mean(sp.expand((first - second) ** 2 / 2), white(2))
    return sp.Eq(claim("g"), sp.expand(half / groups))


def _exact_for_both_parts():
    for smallest, largest in ((2, 5), (4, 10)):
        claims = [between_groups().rhs.subs(groups, number) for number in (smallest, largest)]
        if not same(_combination(claims, largest, smallest), whole().rhs):
            return False
    return True


def _four_samples_know_the_variance_of_their_mean():
    """Of any law: the unbiased variance of the samples over 4, with all partitions at hand."""
    x = white(4)

    def means(group):
        return sum(x[i] for i in group) / sp.Integer(len(group))

    mean = sum(x) / sp.Integer(4)
    expected = sum((value - mean) ** 2 for value in x) / 3 / 4
    return same(_combination([_claim_of(means, True), _claim_of(means, False)], 4), expected)


def _four_samples_know_the_variance_of_a_square():
    """On average, though the partitions share their samples."""
    x = white(4)

    def squares(group):
        return (sum(x[i] for i in group) / sp.Integer(len(group))) ** 2

    solution = _combination([_claim_of(squares, True), _claim_of(squares, False)], 4)
    return same(
        mean(sp.expand(solution), x), whole().rhs.subs({slope: 0, curve: 1, sigma: 1, n: 4})
    )


@equation(
    "eq:halves-and-groups",
    computed_by="sgdnoise.core.with_group_error",
    laws=(
        _exact_for_both_parts,
        _four_samples_know_the_variance_of_their_mean,
        _four_samples_know_the_variance_of_a_square,
    ),
)
@cache
def exact():
    """The combination of two numbers of groups that is unbiased for linear and quadratic parts."""
    fraction = sp.Symbol("w")  # of the groups; the rest is of the fewer
    both = (1 - fraction) * _in_parts(fewer) + fraction * _in_parts(groups) - _in_parts(1)
    (solution,) = sp.solve(sp.diff(both, quadratic), fraction)
    weights = [sp.factor(term) for term in (1 - solution, solution)]
    return sp.Eq(sp.Symbol("V"), weights[0] * claim("h") + weights[1] * claim("g"))


def _many_groups_leave_the_fewer():
    return same(sp.limit(freedom().rhs, groups, sp.oo), 2 * splits * (fewer - 1))


def _freedom_is_that_of_independent_squares():
    """Three groups: V = 2 E_2 - E_3, of variance 4 * 2 / (2 r) + 2 / (2 r)."""
    return same(
        freedom().rhs.subs({groups: 3, fewer: 2}), 2 / (8 / (2 * splits) + 2 / (2 * splits))
    )


@equation(
    "eq:groups-freedom",
    computed_by="sgdnoise.core.with_group_error",
    laws=(_many_groups_leave_the_fewer, _freedom_is_that_of_independent_squares),
)
@cache
def freedom():
    """Degrees of freedom of that combination for a linear statistic of many samples.

    A partition into g groups gives g - 1 squares of normal numbers, each of variance 2.
    """
    weights = [sp.diff(exact().rhs, claim(number)) for number in ("h", "g")]
    squares = [2 * splits * (fewer - 1), splits * (groups - 1)]
    variance = sum(2 * w**2 / count for w, count in zip(weights, squares, strict=True))
    return sp.Eq(sp.Symbol("nu"), sp.factor(2 / variance))


def _halves_about_a_corner_are_mirror_images():
    return sp.simplify(_corner_claims(2)) == 0


def _four_are_the_fewest_whose_interval_holds_the_mean_from_a_corner():
    """1.96 claimed errors reach from zero to E|x| = (2 / pi)^1/2, as halves' do not."""
    away = 2 / sp.pi / (of_a_corner().rhs * n / sigma**2)
    claims = [_combination([_corner_claims(h), _corner_claims(10)], 10, h) for h in (2, 3, 4)]
    return [bool(1.96**2 * claim.evalf() > away.evalf()) for claim in claims] == [0, 0, 1]


@equation(
    "eq:groups-corner",
    computed_by="sgdnoise.core.with_group_error",
    laws=(
        _halves_about_a_corner_are_mirror_images,
        _four_are_the_fewest_whose_interval_holds_the_mean_from_a_corner,
    ),
)
@cache
def at_a_corner():
    """Mean estimate by groups for the size of the mean, if the mean is zero.

    The means of g groups are normal then, of variance (g - 1) / n and correlation -1 / (g - 1).
    With x = cos p, y = cos(p + q) on a circle of random radius, q their angle, cos q = rho:
    E|x y| = 2 (sin q + (pi / 2 - q) cos q) / pi, integrated over p.
    """
    p, q = sp.Symbol("p", real=True), sp.Symbol("q", positive=True)
    # cos p cos(p + q) < 0 for p from pi / 2 - q to pi / 2, for q to pi, in each half turn
    product = sp.cos(p) * sp.cos(p + q)
    pieces = [(-sp.pi / 2, sp.pi / 2 - q, 1), (sp.pi / 2 - q, sp.pi / 2, -1)]
    mean_square = 2  # of the radius
    both = sum(sign * sp.integrate(product, (p, a, b)) for a, b, sign in pieces) / sp.pi
    moment = sp.simplify(mean_square * both)
    covariance = (groups - 1) * sigma**2 / n
    claimed = covariance * (1 - moment) / groups
    return sp.Eq(claim("g"), claimed.subs(q, sp.acos(-1 / (groups - 1))))


def _many_groups_are_independent():
    return same(sp.limit(_corner_claims(groups), groups, sp.oo), 1)


@equation(
    "eq:corner-variance",
    computed_by="sgdnoise.core.with_group_error",
    laws=(_many_groups_are_independent,),
)
@cache
def of_a_corner():
    """Variance of the size of the mean of all samples, where that has mean zero."""
    x = sp.Symbol("x", positive=True)
    law = sp.sqrt(2 / sp.pi) * sp.exp(-(x**2) / 2)
    first, second = (sp.integrate(x**power * law, (x, 0, sp.oo)) for power in (1, 2))
    return sp.Eq(sp.Symbol("V"), sp.simplify(second - first**2) * sigma**2 / n)


def _statistic(z, size):
    """Of the mean of `size` normal numbers, of law z sigma / size^1/2."""
    mean = sigma * z / sp.sqrt(size)
    return slope * mean + curve * mean**2


def _in_parts(number):
    """The claim of so many groups, by what is linear and quadratic in the variance of all."""
    pieces = {slope: sp.sqrt(linear * n) / sigma, curve: sp.sqrt(quadratic / 2) * n / sigma**2}
    return sp.expand(between_groups().rhs.subs(groups, number).subs(pieces))


def _combination(claims, number, least=2):
    """Of the claims of halves, or another least number, and of this many groups."""
    values = {claim("h"): claims[0], claim("g"): claims[1], groups: number, fewer: least}
    return exact().rhs.subs(values, simultaneous=True)


def _claim_of(values, halves):
    """From the partitions of four samples into halves, or into themselves."""
    if halves:
        pairs = [((0, k), tuple({1, 2, 3} - {k})) for k in (1, 2, 3)]
        gaps = [values(a) - values(b) for a, b in pairs]
        return sum(gap**2 / 2 for gap in gaps) / len(gaps) / 2
    gaps = [values((i,)) - values((j,)) for i, j in combinations(range(4), 2)]
    return sum(gap**2 / 2 for gap in gaps) / len(gaps) / 4


def _corner_claims(number):
    """Over what is true."""
    return at_a_corner().rhs.subs(groups, number) / of_a_corner().rhs
