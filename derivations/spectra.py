"""Covariances of uniform balls and of samples of normal rows."""

from functools import cache
from itertools import product

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import d, n

r, u = sp.symbols("r u", positive=True)  # radius of a ball, and of a smaller one
m = sp.Symbol("m", positive=True)  # n - 1
ratio = sp.Symbol(r"\mathrm{PR}", positive=True)
square = sp.Symbol(r"(\operatorname{Tr} K)^2", positive=True)  # of the covariance K
trace_of_square = sp.Symbol(r"\operatorname{Tr}(K^2)", positive=True)
seen_square = sp.Symbol(r"(\operatorname{Tr} S)^2", positive=True)  # of the sample covariance S
seen_spread = sp.Symbol(r"\operatorname{Tr}(S^2)", positive=True)
variances = sp.symbols("l_1:3", positive=True)  # of normal rows, along two axes


def _lines_discs_and_balls_are_known():
    angle = sp.Symbol("phi")
    disc = sp.integrate((u * sp.cos(angle)) ** 2 * u, (u, 0, r), (angle, 0, 2 * sp.pi))
    variance = ball_variance().rhs
    return same(variance.subs(d, 1), r**2 / 3) and same(variance.subs(d, 2), disc / (sp.pi * r**2))


def _all_lie_at_the_edge_in_high_dimension():
    return sp.limit(d * ball_variance().rhs, d, sp.oo) == r**2


@equation(
    "eq:ball-variance",
    computed_by="sgdnoise.dimension.local_pca",
    laws=(_lines_discs_and_balls_are_known, _all_lie_at_the_edge_in_high_dimension),
)
@cache
def ball_variance():
    """Variance along any axis of a uniform ball of radius r."""
    law = sp.diff((u / r) ** d, u)  # of the distance from the centre, by volumes
    return sp.Eq(sp.Symbol("l"), sp.factor(sp.integrate(u**2 * law, (u, 0, r)) / d))


def _two_rows_of_three_axes_agree():
    """Three variances, all products by hand: two of them stand for any number."""
    z, scale = white(6), sp.symbols("l_1:4", positive=True)
    colour = sp.diag(*map(sp.sqrt, scale))
    rows = [colour * sp.Matrix(z[:3]), colour * sp.Matrix(z[3:])]
    return _agree(_traces(rows, 2), scale, 2)


def _three_centred_rows_have_two_degrees():
    z = white(6)
    rows = [sp.Matrix(z[i : i + 2]) for i in (0, 2, 4)]
    mean = sum(rows, sp.zeros(2, 1)) / 3
    return _agree(_traces([row - mean for row in rows], 2), (1, 1), 2)


def _large_samples_tell_the_truth():
    limits = [sp.limit(law().rhs, m, sp.oo) for law in (mean_square, mean_spread)]
    return limits == [square, trace_of_square]


@equation(
    "eq:mean-square",
    computed_by="sgdnoise.dimension.participation_ratio",
    laws=(
        _two_rows_of_three_axes_agree,
        _three_centred_rows_have_two_degrees,
        _large_samples_tell_the_truth,
    ),
)
@cache
def mean_square():
    """Mean squared trace of the sample covariance of normal rows, of m degrees of freedom."""
    return sp.Eq(_mean_of(seen_square), _in_traces(_over_rows(_trace_of_both)))


def _one_axis_has_one_trace():
    """A variance of m degrees of freedom, whose square is too large by 2 / m."""
    first = [law().rhs.subs(square, trace_of_square) for law in (mean_square, mean_spread)]
    return all(same(value, trace_of_square * (1 + 2 / m)) for value in first)


@equation(
    "eq:mean-spread",
    computed_by="sgdnoise.dimension.participation_ratio",
    laws=(
        _two_rows_of_three_axes_agree,
        _three_centred_rows_have_two_degrees,
        _one_axis_has_one_trace,
    ),
)
@cache
def mean_spread():
    """Mean trace of its square."""
    return sp.Eq(_mean_of(seen_spread), _in_traces(_over_rows(_product_of_both)))


def _debiased_means_are_the_truth():
    means = {seen_square: mean_square().rhs, seen_spread: mean_spread().rhs}
    laws = debiased_square(), debiased_spread()
    return all(same(law.rhs.subs(means, simultaneous=True), law.lhs) for law in laws)


def _large_samples_need_no_debiasing():
    limits = [sp.limit(law().rhs, m, sp.oo) for law in (debiased_square, debiased_spread)]
    return limits == [seen_square, seen_spread]


@equation(
    "eq:debiased-square",
    computed_by="sgdnoise.dimension.debiased",
    laws=(_debiased_means_are_the_truth, _large_samples_need_no_debiasing),
)
def debiased_square():
    """Unbiased estimate of the squared trace of the covariance."""
    return sp.Eq(square, _solved()[square])


@equation(
    "eq:debiased-spread",
    computed_by="sgdnoise.dimension.debiased",
    laws=(_debiased_means_are_the_truth, _large_samples_need_no_debiasing),
)
def debiased_spread():
    """Unbiased estimate of the trace of the squared covariance."""
    return sp.Eq(trace_of_square, _solved()[trace_of_square])


def _more_axes_than_rows_leave_the_rows():
    """Of infinitely many axes alike, m rows see m."""
    axes = sp.Symbol("D", positive=True)
    exact = (mean_spread().rhs / mean_square().rhs).subs(trace_of_square, square / axes)
    return same(sp.limit(exact, axes, sp.oo), 1 / m)


def _naive_ratio_is_true_of_many_rows():
    return sp.limit(naive_ratio().rhs, n, sp.oo) == 1 / ratio


@equation(
    "eq:naive-ratio",
    computed_by="sgdnoise.dimension.participation_ratio",
    laws=(_more_axes_than_rows_leave_the_rows, _naive_ratio_is_true_of_many_rows),
)
def naive_ratio():
    """Inverse participation ratio of a sample, for many rows and many columns."""
    few = sp.Symbol("epsilon", positive=True)
    inverse = mean_spread().rhs / mean_square().rhs
    large = inverse.subs(trace_of_square, square * few / ratio).subs(m, n / few - 1)
    return sp.Eq(
        seen_spread / seen_square, sp.expand(sp.diff(sp.simplify(large), few).subs(few, 0))
    )


def _rows_of_three_outcomes_agree():
    """Far from normal, and correlated: all ways to draw four rows."""
    outcomes = [sp.Matrix(row) for row in ((0, 0), (1, 0), (1, 3))]
    mean = sum(outcomes, sp.zeros(2, 1)) / 3
    scatter = sum(((x - mean) * (x - mean).T for x in outcomes), sp.zeros(2)) / 3
    truth = {square: scatter.trace() ** 2, trace_of_square: (scatter**2).trace()}
    pairs = [(x - y, z - w) for x, y, z, w in product(outcomes, repeat=4)]
    lengths = sum(a.dot(a) * b.dot(b) for a, b in pairs) / (4 * len(pairs))
    angles = sum(a.dot(b) ** 2 for a, b in pairs) / (4 * len(pairs))
    return lengths == unbiased_square().rhs.subs(truth) and angles == unbiased_spread().rhs.subs(
        truth
    )


@equation(
    "eq:unbiased-square",
    computed_by="sgdnoise.dimension.participation_ratio",
    laws=(_rows_of_three_outcomes_agree,),
)
def unbiased_square():
    """Mean over four independent rows of any law, the squared lengths of two differences."""
    first, second = _difference("w"), _difference("y")
    solution = _any_law(sp.expand(first.dot(first) * second.dot(second) / 4))
    name = sp.Symbol(r"\mathbb{E}\,\tfrac{1}{4}|x_1 - x_2|^2 |x_3 - x_4|^2")
    return sp.Eq(name, _in_traces(solution))


@equation(
    "eq:unbiased-spread",
    computed_by="sgdnoise.dimension.participation_ratio",
    laws=(_rows_of_three_outcomes_agree,),
)
def unbiased_spread():
    """Mean over four independent rows of any law, the squared product of two differences."""
    solution = _any_law(sp.expand(_difference("w").dot(_difference("y")) ** 2 / 4))
    name = sp.Symbol(r"\mathbb{E}\,\tfrac{1}{4}((x_1 - x_2) \cdot (x_3 - x_4))^2")
    return sp.Eq(name, _in_traces(solution))


def _mean_of(symbol):
    return sp.Symbol(rf"\mathbb{{E}}{symbol}")


def _rows():
    """Two independent normal rows with these variances."""
    z, scale = white(4), sp.diag(*map(sp.sqrt, variances))
    return scale * sp.Matrix(z[:2]), scale * sp.Matrix(z[2:])


def _trace_of_both(x, y):
    return x.dot(x) * y.dot(y)


def _product_of_both(x, y):
    return x.dot(y) ** 2


def _over_rows(function):
    """Mean over S = sum of y y^T / m: m pairs of a row and itself, the others of two."""
    x, y = _rows()
    alone, apart = (mean(sp.expand(function(x, second)), white(4)) for second in (x, y))
    return (m * alone + m * (m - 1) * apart) / m**2


def _in_traces(expression):
    """A symmetric quadratic form in two variances, by the traces of their covariance."""
    first, second = variances
    of_square, of_spread = sp.symbols("A B")
    form = of_square * (first + second) ** 2 + of_spread * (first**2 + second**2)
    stationary = sp.Poly(sp.expand(form - expression), *variances).coeffs()
    solution = sp.solve(stationary, [of_square, of_spread])
    return solution[of_square] * square + sp.expand(solution[of_spread]) * trace_of_square


@cache
def _solved():
    held = [sp.Eq(seen_square, mean_square().rhs), sp.Eq(seen_spread, mean_spread().rhs)]
    solution = sp.solve(held, [square, trace_of_square])
    return {letter: _collected(sp.factor(value)) for letter, value in solution.items()}


def _collected(fraction):
    above, below = sp.fraction(fraction)
    outside, inside = sp.factor_terms(above).as_independent(sp.Add)
    return outside * sp.collect(inside, seen_square) / below


def _difference(name):
    return sp.Matrix(sp.symbols(f"{name}_1:3", real=True))


def _any_law(expression):
    """Mean over two independent differences of rows: E w_i w_j is twice the covariance."""
    moments = {(2, 0): 2 * variances[0], (1, 1): 0, (0, 2): 2 * variances[1]}
    pairs = [_difference(name) for name in "wy"]
    terms = sp.Poly(expression, *pairs[0], *pairs[1]).terms()
    return sum(
        coefficient * moments[power[:2]] * moments[power[2:]] for power, coefficient in terms
    )


def _traces(rows, freedom):
    """Mean (Tr S)^2 and Tr S^2 of given rows made of white numbers."""
    sample = sum((row * row.T for row in rows), sp.zeros(len(rows[0]))) / freedom
    z = sorted(sample.free_symbols & set(white(6)), key=str)
    return [mean(sp.expand(form), z) for form in (sample.trace() ** 2, (sample**2).trace())]


def _agree(means, scale, freedom):
    """With what is derived for a covariance of these variances."""
    letters = {square: sum(scale) ** 2, trace_of_square: sum(v**2 for v in scale), m: freedom}
    pairs = zip(means, (mean_square(), mean_spread()), strict=True)
    return all(same(recorded, derived.rhs.subs(letters)) for recorded, derived in pairs)
