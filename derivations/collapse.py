"""Stochastic collapse: growth of the logarithm of weights in a step, to second order in the rate.

Near zero the weights of a product of layers follow linear steps, the same for all hidden units.
"""

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.symbols import batch, rate, sigma

slope = sp.Symbol("s", positive=True)  # of the targets, y = s x + sigma eps
width = sp.Symbol("d", integer=True, positive=True)  # inputs, and as many outputs
growth = sp.Symbol("gamma", real=True)
inward, outward = sp.symbols("a b", positive=True)  # norms of weights into and out of a unit
_noise = sp.Symbol("sigma_2", positive=True)  # sigma^2
_kick = sp.Symbol("k", positive=True)  # standard deviation of an entry of rate G


def _exact_for_sure_numbers():
    """With B large and no label noise z is s: the series of log(1 + rate s)."""
    sure = sp.limit(unit_growth().rhs.subs(sigma, 0), batch, sp.oo)
    return same(sp.series(sp.log(1 + rate * slope), rate, 0, 3).removeO(), sure)


def _the_series_of_a_batch_of_one():
    """The mean of the expanded logarithm, term by term."""
    x, eps = white(2)
    series = sp.series(sp.log(1 + rate * x * (slope * x + sigma * eps)), rate, 0, 3).removeO()
    return same(mean(sp.expand(series), [x, eps]), unit_growth().rhs.subs(batch, 1))


@equation(
    "eq:unit-growth",
    computed_by="sgdnoise.theory.lyapunov_of_unit_small_rate",
    laws=(_exact_for_sure_numbers, _the_series_of_a_batch_of_one),
)
def unit_growth():
    """A unit y = w2 w1 x near zero, by the sum of its weights."""
    first, second = _moments_of_batch()
    return sp.Eq(growth, sp.collect(sp.expand(rate * first - rate**2 / 2 * second), rate))


def _border_is_where_growth_vanishes():
    there = unit_growth().rhs.subs(sigma**2, collapse_border().rhs)
    return same(there, 0)


def _more_noise_than_the_border_shrinks():
    return sp.diff(unit_growth().rhs, sigma).is_negative is True


def _signal_alone_may_collapse():
    """Where rate s exceeds 2 B / (B + 2), curvature's own scatter is enough."""
    at = collapse_border().rhs.subs(rate, 2 * batch / (batch + 2) / slope)
    return same(at, 0)


@equation(
    "eq:collapse-border",
    computed_by="sgdnoise.theory.lyapunov_of_unit_small_rate",
    laws=(
        _border_is_where_growth_vanishes,
        _more_noise_than_the_border_shrinks,
        _signal_alone_may_collapse,
    ),
)
def collapse_border():
    """Noise below which such a unit does not collapse to zero."""
    (border,) = sp.solve(unit_growth().rhs.subs(sigma**2, _noise), _noise)
    return sp.Eq(sigma**2, sp.expand(border))


def _three_dimensions_agree_with_the_line():
    known = _log_growth(3).subs(outward, inward)
    return same(known, _balanced_log_growth().subs(width, 3))


def _a_layer_of_one_is_a_unit_without_signal():
    alone = unit_growth().rhs.subs(slope, 0)
    return same(layer_growth().rhs.subs(width, 1), alone)


def _two_dimensions_are_even():
    return layer_growth().rhs.subs(width, 2) == 0


def _more_than_two_repel():
    more = sp.Symbol("m", positive=True)
    return layer_growth().rhs.subs(width, 2 + more).is_positive is True


@equation(
    "eq:layer-growth",
    computed_by="sgdnoise.theory.origin_exponent",
    laws=(
        _three_dimensions_agree_with_the_line,
        _a_layer_of_one_is_a_unit_without_signal,
        _two_dimensions_are_even,
        _more_than_two_repel,
    ),
)
def layer_growth():
    """A unit of a layer near zero, under label noise and no signal."""
    terms = _balanced_log_growth()
    strength = sp.Symbol("c", positive=True)  # of the kicks, c^2 = eta^2 sigma^2 / B a step
    return sp.Eq(growth, sp.factor(terms.subs(_kick, strength)).subs(strength, _strength()))


def _balance_has_no_noise():
    """The part of the difference that is linear in the kick cancels, number by number."""
    _, after_in, after_out = _kicked(2)
    change = sum(x**2 for x in after_in) - sum(x**2 for x in after_out)
    return same(sp.diff(sp.expand(change), _kick).subs(_kick, 0), 0)


def _balanced_weights_stay():
    return same(_difference(3).subs(outward, inward), 0)


def _three_dimensions_lose_as_said():
    return same(_difference(3), _any_width(_difference).subs(width, 3))


def _balance_is_reached_before_weights_grow():
    """Above one dimension |difference| falls against the squared norms, which grow by 2 gamma."""
    more = sp.Symbol("m", positive=True)
    change = balance_decay().rhs - 1 - 2 * layer_growth().rhs
    return sp.simplify(change.subs(width, 1 + more)).is_negative is True


@equation(
    "eq:balance-decay",
    computed_by="sgdnoise.theory.origin_exponent",
    laws=(
        _balance_has_no_noise,
        _balanced_weights_stay,
        _three_dimensions_lose_as_said,
        _balance_is_reached_before_weights_grow,
    ),
)
def balance_decay():
    """Factor of the difference of squared norms, in and out, after a step of noise."""
    left = sp.simplify(_any_width(_difference) / (inward**2 - outward**2))
    name = sp.Symbol(r"\mathbb{E}\,\Delta' / \Delta")
    return sp.Eq(name, sp.expand(left).subs(_kick, _strength()))


def _strength():
    """Of the mean of B products eps x of white numbers, times the rate."""
    z = white(2)
    variance = mean((sigma * z[0] * z[1]) ** 2, z) / batch
    return rate * sp.sqrt(variance)


def _moments_of_batch():
    """First two moments of z_B, the batch mean of x y: 1 + rate z_B multiplies w1 + w2."""
    x, eps = white(2)
    product = x * (slope * x + sigma * eps)
    first = mean(sp.expand(product), [x, eps])
    variance = mean(sp.expand(product**2), [x, eps]) - first**2
    return first, sp.expand(first**2 + variance / batch)


def _kicked(size):
    """Weights (a, 0, ...) in and (b, 0, ...) out after one kick; the axes are ours to choose."""
    z = white(size * size)
    kick = sp.Matrix(size, size, z) * _kick
    into, out = (sp.Matrix([length] + [0] * (size - 1)) for length in (inward, outward))
    return z, list(into + kick.T * out), list(out + kick * into)


def _log_growth(size):
    """E log |weights|, a step, to second order in the kick."""
    z, after_in, after_out = _kicked(size)
    ratio = sum(x**2 for x in (*after_in, *after_out)) / (inward**2 + outward**2)
    logarithm = sp.log(ratio) / 2
    first = sp.diff(logarithm, _kick, 2).subs(_kick, 0) / 2 * _kick**2
    return sp.simplify(mean(sp.expand(sp.simplify(first)), z))


def _difference(size):
    """Mean difference of the squared norms, in and out, after a step."""
    z, after_in, after_out = _kicked(size)
    return mean(sp.expand(sum(x**2 for x in after_in) - sum(x**2 for x in after_out)), z)


def _any_width(of_size):
    """A mean for any width from those of 1 and 2.

    Only the first row and column of the kick are felt, and each entry beyond the first adds alike.
    """
    first, two = of_size(1), of_size(2)
    return first + (width - 1) * (two - first)


def _balanced_log_growth():
    """At equal norms in and out, which `balance_decay` brings about."""
    return sp.simplify(_any_width(_log_growth).subs(outward, inward))
