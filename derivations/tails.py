"""Power-law tails from multiplicative noise, and correlations from reshuffling.

Regression on one Gaussian input of variance h: a step multiplies theta by 1 - eta h q / B, with q
the sum of the B squared inputs over their variance, whose law is chi-squared, and adds a kick.
Of d such inputs a step multiplies by 1 - eta X^T X / B, whose law is the same in all directions.
"""

from itertools import permutations

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import batch, curvature, d, rate

alpha = sp.Symbol("alpha", positive=True)
q, w = sp.symbols("q w", positive=True)
t = sp.Symbol("t", positive=True)  # a size of theta, far out
m, lag = sp.symbols("m k", integer=True, positive=True)  # batches of an epoch, steps apart
pull = sp.Symbol("c", positive=True)  # rate x curvature
FACTOR = 1 - rate * curvature * q / batch


def _the_law_is_normalised():
    moments = [sp.integrate(q**j * _chi_squared().subs(batch, 3), (q, 0, sp.oo)) for j in range(3)]
    return [sp.simplify(x) for x in moments] == [1, 3, 15]


def _order_two_is_the_variance():
    """At the learning rate of infinite variance two solves the equation, batches of three."""
    at = infinite_variance().rhs
    integral = kesten().lhs.subs({alpha: 2, batch: 3}).subs(rate, at.subs(batch, 3))
    integrand = sp.powdenest(integral.function.replace(sp.Abs, lambda x: x), force=True)
    return same(sp.integrate(sp.expand(integrand), (q, 0, sp.oo)), 1)


def _gaussian_steps_of_order_one():
    """Batches of two: E|1 - c g| = 1 - c + 2 c e^(-1/c) for exponential g."""
    expected = 1 - pull + 2 * pull * sp.exp(-1 / pull)
    return same(_moment_of_two(1), expected)


@equation(
    "eq:kesten",
    computed_by="sgdnoise.theory.kesten_index",
    laws=(_the_law_is_normalised, _order_two_is_the_variance, _gaussian_steps_of_order_one),
)
def kesten():
    """Condition for a power law of the norm of theta that a step keeps."""
    size, tail = sp.Symbol("a", positive=True), t**-alpha  # chance to be larger than t, far out
    stretched = sp.expand_power_base(tail.subs(t, t / size))  # a kick changes nothing far out
    ratio = sp.simplify(stretched / tail).subs(size, sp.Abs(FACTOR))
    return sp.Eq(sp.Integral(ratio * _chi_squared(), (q, 0, sp.oo)), 1)


def _growth_is_the_slope_at_order_zero():
    """A mean of logarithms is the derivative of moments, here by numbers on both sides of 0."""
    gaps = []
    for size in (sp.Rational(1, 2), sp.Integer(1), sp.Integer(3)):
        zero, density = 2 / size, sp.exp(-q / 2) / 2
        sides = ((1 - q / zero, 0, zero), (q / zero - 1, zero, zero + 80))
        pieces = [sp.Integral(sp.log(side) * density, (q, *ends)).evalf() for side, *ends in sides]
        gaps.append(sum(pieces) - growth().rhs.subs({rate: size, curvature: 1}).evalf())
    return all(bool(abs(gap) < 1e-8) for gap in gaps)


def _small_steps_come_to_rest():
    return bool(growth().rhs.subs({rate: sp.Rational(1, 10), curvature: 1}).evalf() < 0)


@equation(
    "eq:kesten-growth",
    computed_by="sgdnoise.theory.kesten_index",
    laws=(_growth_is_the_slope_at_order_zero, _small_steps_come_to_rest),
)
def growth():
    """Mean growth of the log norm of theta in a step, far from zero, batch of two."""
    x = batch / (rate * curvature)  # where the factor vanishes, in units of q; q / 2 is exponential
    point = sp.Symbol("x", positive=True)
    from_zero = -sp.exp(-point) * sp.Ei(point)  # by parts: principal value of e^-g / (g - x)
    name = sp.Symbol(r"\mathbb{E}\log|\theta' / \theta|")
    return sp.Eq(name, from_zero.subs(point, (x / 2).subs(batch, 2)))


def _large_batches_lose_the_bound_of_gradient_descent():
    return sp.limit(infinite_variance().rhs, batch, sp.oo) == 2 / curvature


@equation(
    "eq:kesten-variance",
    computed_by="sgdnoise.theory.kesten_index",
    laws=(_large_batches_lose_the_bound_of_gradient_descent,),
)
def infinite_variance():
    """Learning rate from which the variance is infinite."""
    second = sp.expand(_mean(FACTOR**2))
    roots = sp.solve(sp.Eq(second, 1), rate)
    (solution,) = (sp.factor(root) for root in roots if root != 0)
    return sp.Eq(rate, solution)


def _small_index_solves_its_equation():
    s = kesten_small().rhs * 2 * rate * curvature / batch
    return bool(abs(sp.N(s * (sp.log(s) - 1) - 1)) < 1e-12)


@equation(
    "eq:kesten-small",
    computed_by="sgdnoise.theory.kesten_index_small",
    laws=(_small_index_solves_its_equation,),
)
def kesten_small():
    """Tail index at a small learning rate, by the peak of its integral."""
    s, y = sp.symbols("s y", positive=True)  # alpha in units of B / 2 c, q in units of B / c
    exponent = s * sp.log(y - 1) - y  # of the integrand, in units of B / 2 c, far from q = 0
    (peak,) = sp.solve(sp.diff(exponent, y), y)
    (solution,) = sp.solve(sp.expand(exponent.subs(y, peak)), s)
    name = sp.Symbol(r"\alpha^{\mathrm{small}}")
    return sp.Eq(name, solution * batch / (2 * rate * curvature))


def _one_input_is_that_of_kesten():
    """Nothing is left across; of both lengths the squares are compared."""
    both = radial().lhs.function.subs(alpha, 2) / (_chi_squared() * _chi_squared(w, d - 1))
    alone = kesten().lhs.function.subs(alpha, 2) / _chi_squared()
    return same(sp.simplify(both).subs(w, 0), alone)


def _two_inputs_by_hand():
    """Order four of two examples, all products of white numbers averaged."""
    length, z = _length_after((1, 0), 2)
    return same(mean(sp.expand(length**2), z), _by_the_law(2, 2, 2))


def _three_inputs_by_hand():
    length, z = _length_after((1, 0, 0), 1)
    return same(mean(sp.expand(length**2), z), _by_the_law(2, 3, 1))


def _another_direction_has_the_same_law():
    """Moments of order four from (3, 4) / 5."""
    length, z = _length_after((sp.Rational(3, 5), sp.Rational(4, 5)), 1)
    return same(mean(sp.expand(length**2), z), _by_the_law(2, 2, 1))


@equation(
    "eq:radial",
    computed_by="sgdnoise.theory.radial_index",
    laws=(
        _one_input_is_that_of_kesten,
        _two_inputs_by_hand,
        _three_inputs_by_hand,
        _another_direction_has_the_same_law,
    ),
)
def radial():
    """Condition for a power law of the norm of theta that a step keeps, d equal inputs."""
    along, across = _moved()
    length = (along**2 + across) ** (alpha / 2)  # its tail is stretched as that of one input
    law = _chi_squared() * _chi_squared(w, d - 1)
    return sp.Eq(sp.Integral(length * law, (q, 0, sp.oo), (w, 0, sp.oo)), 1)


def _radial_variance_of_one_input_is_that_of_kesten():
    return same(radial_variance().rhs.subs(d, 1), infinite_variance().rhs)


def _second_moments_of_regression_grow_as_known():
    """By 1 - 2 c + c^2 (B + d + 1) / B: three inputs, batches of two."""
    length, z = _length_after((1, 0, 0), 2)
    grown = mean(length, z)
    at = radial_variance().rhs.subs({curvature: 1, d: 3, batch: 2})
    return same(grown, 1 - 2 * pull + 3 * pull**2) and same(grown.subs(pull, at), 1)


@equation(
    "eq:radial-variance",
    computed_by="sgdnoise.theory.radial_index",
    laws=(
        _radial_variance_of_one_input_is_that_of_kesten,
        _second_moments_of_regression_grow_as_known,
    ),
)
def radial_variance():
    """Learning rate from which the variance of d equal inputs is infinite."""
    along, across = _moved()
    second = _mean(sp.expand((along**2 + across).subs(w, d - 1)))  # w has this mean, whatever q
    roots = sp.solve(sp.Eq(second, 1), rate)
    (solution,) = (sp.factor(root) for root in roots if root != 0)
    return sp.Eq(rate, solution)


def _lag_one_of_two_batches_is_opposite():
    """Two batches: always opposite inside an epoch, which half of the neighbours are."""
    return reshuffled_correlation().rhs.subs({m: 2, lag: 1}) == -sp.Rational(1, 2)


def _reshuffling_leaves_no_correlation_time():
    total = sp.summation(sp.expand(reshuffled_correlation().rhs), (lag, 1, m - 1))
    return same(1 + 2 * total, 0)


def _all_orders_of_an_epoch_agree():
    """Three noises that sum to zero, all six orders, three epochs in a row by their ends."""
    noises = [sp.Integer(1), sp.Integer(4), sp.Integer(-5)]
    orders = list(permutations(noises))
    variance = sum(x**2 for x in noises) / 3
    inside = sum(a * b + b * c for a, b, c in orders) / len(orders)
    across = sum(o[-1] * p[0] for o in orders for p in orders) / len(orders) ** 2
    return same((inside + across) / 3 / variance, reshuffled_correlation().rhs.subs({m: 3, lag: 1}))


@equation(
    "eq:reshuffled-correlation",
    computed_by="sgdnoise.noise.reshuffled_autocorrelation",
    laws=(
        _lag_one_of_two_batches_is_opposite,
        _reshuffling_leaves_no_correlation_time,
        _all_orders_of_an_epoch_agree,
    ),
)
def reshuffled_correlation():
    """Correlation of additive noise a few steps apart, fewer than an epoch has, by reshuffling."""
    first, two = sp.symbols("v r", real=True)  # variance of a batch's noise, correlation of a pair
    of_the_sum = m * first + m * (m - 1) * two * first
    (pair,) = sp.solve(of_the_sum, two)
    together = (m - lag) / m  # share of the steps whose partner is of the same epoch
    return sp.Eq(sp.Symbol("rho_k"), sp.factor(together * pair))


def _moved():
    """Of the vector (1, 0, ..., 0) after a step: what is along it, and the square of the rest.

    It loses eta h / B of X^T X (1, 0, ...), X of unit variance: q, the squared first column, and
    its products with the other columns.  Each of these is normal of variance q, given the first,
    so that their squares add up to q w, with w chi-squared of d - 1 degrees of freedom.
    """
    return FACTOR, (rate * curvature / batch) ** 2 * q * w


def _chi_squared(x=q, freedom=batch):
    """Law of the sum of so many squared standard normal numbers."""
    half = freedom / 2
    return x ** (half - 1) * sp.exp(-x / 2) / (2**half * sp.gamma(half))


def _mean(polynomial):
    """Over chi-squared: E q^j is B (B + 2) ... (B + 2 j - 2)."""
    terms = sp.Poly(polynomial, q).terms()
    return sum(c * sp.prod([batch + 2 * i for i in range(power)]) for (power,), c in terms)


def _moment_of_two(order):
    """E|factor|^order for batches of two, by adding up both sides of its zero, order whole."""
    density = sp.exp(-q / 2) / 2
    zero, factor = 2 / pull, 1 - pull * q / 2
    pieces = ((factor, 0, zero), (-factor, zero, sp.oo))
    return sp.simplify(
        sum(sp.integrate(sp.expand(side**order) * density, (q, *ends)) for side, *ends in pieces)
    )


def _length_after(start, examples):
    """Squared length of a vector after a step, of inputs made of white numbers, and these."""
    z = white(examples * len(start))
    x = sp.Matrix(examples, len(start), z)
    after = sp.Matrix(start) - pull / examples * x.T * x * sp.Matrix(start)
    return sp.expand(after.dot(after)), z


def _by_the_law(power, dimension, examples):
    """Mean power of that length by the law of q and w."""
    along, across = (term.subs(rate * curvature, pull) for term in _moved())
    terms = sp.Poly(sp.expand((along**2 + across) ** power), w).terms()
    moments = [sp.prod([dimension - 1 + 2 * i for i in range(k)]) for (k,), _ in terms]
    solution = sum(_mean(c) * known for (_, c), known in zip(terms, moments, strict=True))
    return sp.expand(solution.subs(batch, examples))
