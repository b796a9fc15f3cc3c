"""The imbalance of weights in and out of a hidden unit near zero under noise.

Inputs, outputs and label noise are white; a step adds K^T out to the weights in and K in to those
out, with K, in units of c = eta sigma / B^1/2, the mean of B products eps x^T times B^1/2.
"""

from functools import cache

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.collapse import layer_growth
from derivations.collapse import width as n
from derivations.equation import equation
from derivations.symbols import batch, rate, sigma

c = sp.Symbol("c", positive=True)  # strength of the kicks
imbalance = sp.Symbol("D", real=True)  # in^2 - out^2, where in^2 + out^2 = 1
noise_floor = sp.Symbol("e", positive=True)  # scatter of D about zero over c^2
growth = sp.Symbol("gamma", real=True)
inward, outward = sp.symbols("a b", positive=True)  # norms
root = sp.Symbol("r", positive=True)
SIZES = (1, 2, 3)  # widths that tell a parabola


def _a_balanced_layer_grows_as_known():
    even = unbalanced_growth().rhs.subs({imbalance: 0, c: rate * sigma / sp.sqrt(batch)})
    return same(even, layer_growth().rhs)


def _weights_of_one_layer_alone_feed_the_other():
    """By c^2 for each unit they meet, to the logarithm half of it, and D = 1 - 2 out^2."""
    with_feedback = c**2 * n
    grown, moved = unbalanced_growth().rhs, imbalance_drift().rhs
    return same(grown.subs(imbalance, 1), with_feedback / 2) and same(
        moved.subs(imbalance, 1), -2 * with_feedback
    )


@equation(
    "eq:unbalanced-growth",
    computed_by="sgdnoise.theory.lyapunov_of_layer",
    laws=(_a_balanced_layer_grows_as_known, _weights_of_one_layer_alone_feed_the_other),
)
@cache
def unbalanced_growth():
    """Mean growth of the logarithm of the weights of a unit, to second order in the noise."""
    second = _parabola(lambda size: _over_batches(lambda k: _log_norm(k, 2), size))
    return sp.Eq(growth, sp.factor(c**2 * _by_imbalance(second)))


def _a_layer_of_one_has_the_fourth_order_of_a_unit():
    """That of log(1 + c z) is -z^4 / 4, with E z^4 = 3 + 6 / B."""
    return same(fourth_order().rhs.subs(n, 1), -(3 + 6 / batch) / 4)


def _four_dimensions_have_the_fourth_order():
    return same(_fourth(4), fourth_order().rhs.subs(n, 4))


@equation(
    "eq:layer-fourth",
    computed_by="sgdnoise.theory.lyapunov_of_layer",
    laws=(_a_layer_of_one_has_the_fourth_order_of_a_unit, _four_dimensions_have_the_fourth_order),
)
@cache
def fourth_order():
    """Fourth order in the noise for balanced weights, over the fourth power of c."""
    return sp.Eq(sp.Symbol("k"), sp.collect(sp.expand(_parabola(_fourth)), batch))


def _both_directions_are_alike():
    turned = {imbalance: -imbalance}
    return same(imbalance_drift().rhs.subs(turned), -imbalance_drift().rhs) and same(
        imbalance_spread().rhs.subs(turned), imbalance_spread().rhs
    )


@equation(
    "eq:imbalance-drift",
    computed_by="sgdnoise.theory.stationary_squared_imbalance",
    laws=(_weights_of_one_layer_alone_feed_the_other, _both_directions_are_alike),
)
@cache
def imbalance_drift():
    """Mean change of the imbalance in a step, to second order in the noise."""
    second = _parabola(lambda size: _over_batches(lambda k: _difference(k, 2), size))
    return sp.Eq(_of_step(r"\mathbb{E}"), sp.factor(c**2 * _by_imbalance(second)))


def _a_unit_of_one_input_keeps_its_balance():
    """Each of its weights is the other's mirror image, and in^2 = out^2 stays."""
    zeros = {n: 1, imbalance: 0}
    return imbalance_drift().rhs.subs(zeros) == 0 == imbalance_spread().rhs.subs(zeros)


def _four_dimensions_scatter_as_said():
    return same(c**4 * _scatter(4), imbalance_spread().rhs.subs({n: 4, imbalance: 0}))


@equation(
    "eq:imbalance-spread",
    computed_by="sgdnoise.theory.stationary_squared_imbalance",
    laws=(
        _a_unit_of_one_input_keeps_its_balance,
        _both_directions_are_alike,
        _four_dimensions_scatter_as_said,
    ),
)
@cache
def imbalance_spread():
    """Its variance: to second order, and to fourth about zero, where the second vanishes."""
    second = sp.factor(c**2 * _by_imbalance(_over_batches(lambda k: _difference(k, 1) ** 2, 1)))
    return sp.Eq(_of_step(r"\operatorname{Var}"), second + c**4 * sp.factor(_parabola(_scatter)))


def _nothing_flows_at_rest():
    """drift p = (spread p)' / 2."""
    covariance = imbalance_spread().rhs.subs(n, 1) + c**2 * (root**2 - 1)
    flow = imbalance_drift().rhs - sp.diff(covariance, imbalance) / 2
    return sp.cancel(imbalance * flow - covariance / 2 * _slope_of_the_law()) == 0


def _it_falls_as_the_power_of_the_width():
    """From where the kicks about zero are forgotten."""
    slope = sp.cancel(_slope_of_the_law().subs(root, 1))
    return same(slope.subs(imbalance, 0), -n)


@equation(
    "eq:imbalance-law",
    computed_by="sgdnoise.theory.stationary_squared_imbalance",
    laws=(_nothing_flows_at_rest, _it_falls_as_the_power_of_the_width),
)
@cache
def imbalance_law():
    """Stationary density of the imbalance over that at zero, where its width is e times c squared.

    log p = int 2 drift / spread dD - log spread, by partial fractions of u = D^2.
    """
    u = sp.Symbol("u")
    slope = imbalance_drift().rhs / c**2 / imbalance  # 2 drift dD = slope du
    covariance = imbalance_spread().rhs.subs(n, 1) / c**2 + noise_floor
    slope, covariance = (
        sp.expand(term).subs(imbalance, sp.sqrt(u)) for term in (slope, covariance)
    )
    fraction, stationary = sp.div(slope, sp.diff(covariance, u), u)
    law = (covariance / noise_floor) ** (fraction - 1)
    for end in sp.solve(covariance, u):
        law *= (1 - u / end) ** sp.factor(stationary / sp.diff(covariance, u).subs(u, end))
    return sp.Eq(sp.Symbol("p(D) / p(0)"), law.subs(u, imbalance**2))


def _of_step(what):
    return sp.Symbol(what + r"\,\delta D")


def _squares(kick):
    """Coefficients of c^0, c^1 and c^2 in the squared norms, in and out, after a kick.

    The axes are ours to choose: weights are (a, 0, ...) in and (b, 0, ...) out.
    """
    row, column = list(kick[0, :]), list(kick[:, 0])
    cross = 2 * inward * outward * kick[0, 0]
    return (
        (inward**2, cross, outward**2 * sum(x**2 for x in row)),
        (outward**2, cross, inward**2 * sum(x**2 for x in column)),
    )


def _log_norm(kick, order):
    """Coefficient of an order of c in log |weights|, where a^2 + b^2 = 1."""
    g, q = (into + out for into, out in zip(*(term[1:] for term in _squares(kick)), strict=True))
    first, second = sp.symbols("g q")
    logarithm = sp.log(1 + first * c + second * c**2) / 2
    return _taylor(logarithm, order).subs({first: g, second: q}, simultaneous=True)


def _difference(kick, order):
    """Coefficient of an order of c in the imbalance."""
    into, out = _squares(kick)
    letters = sp.symbols("i_0:3"), sp.symbols("o_0:3")
    squares = [sum(x * c**power for power, x in enumerate(term)) for term in letters]
    solution = _taylor((squares[0] - squares[1]) / (squares[0] + squares[1]), order)
    solution = solution.subs(letters[1][0], 1 - letters[0][0])  # a^2 + b^2 = 1
    values = dict(zip(letters[0] + letters[1], into + out, strict=True))
    return sp.expand(solution).subs(values, simultaneous=True)


@cache
def _taylor(function, order):
    return sp.simplify(sp.diff(function, c, order).subs(c, 0) / sp.factorial(order))


def _over_batches(form, size):
    """Mean of a form of order two or four in the kick.

    It is that of white numbers but for a share 1 / B, where four factors are of one example.
    """
    z, x, eps = white(size**2), white(size), sp.symbols(f"eps_1:{size + 1}", real=True)
    kicks = sp.Matrix(size, size, z), sp.Matrix(eps) * sp.Matrix([x])
    apart, alone = (_mean(sp.expand(form(kick)), (*z, *eps)) for kick in kicks)
    return sp.expand(apart + (alone - apart) / batch)


def _mean(polynomial, numbers):
    return mean(polynomial, [z for z in numbers if polynomial.has(z)])


@cache
def _fourth(size):
    return _over_batches(lambda kick: _balanced(_log_norm(kick, 4)), size)


@cache
def _scatter(size):
    """Mean square of the second order, which is all that moves weights in balance."""
    return _over_batches(lambda kick: sp.expand(_balanced(_difference(kick, 2))) ** 2, size)


def _balanced(form):
    return form.subs({inward: 1 / sp.sqrt(2), outward: 1 / sp.sqrt(2)})


def _by_imbalance(form):
    norms = {inward: sp.sqrt((1 + imbalance) / 2), outward: sp.sqrt((1 - imbalance) / 2)}
    return sp.expand(form.subs(norms))


def _parabola(of_size):
    """For any width: entries of the first row and column add alike, and so do pairs of them."""
    return sp.interpolate([(size, of_size(size)) for size in SIZES], n)


def _slope_of_the_law():
    """D d log p / dD, with r^2 = 1 + e for the root in it."""
    law = sp.expand_log(sp.log(imbalance_law().rhs.subs(noise_floor, root**2 - 1)), force=True)
    return sp.cancel(sp.together(imbalance * sp.diff(law, imbalance)))
