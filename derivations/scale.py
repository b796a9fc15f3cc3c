"""The largest gain of a batch in one step, and the noise scale from norms of gradients.

The loss is quadratic near theta: g its gradient, H its curvature, C the covariance of one example.
"""

from itertools import combinations

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.sampling import own_with_replacement, own_without_replacement
from derivations.symbols import batch, n, rate

square, bent = sp.symbols(r"{|g|^2} {g^{\top}Hg}", positive=True)
noisy = sp.Symbol(r"{\operatorname{Tr}HC}", positive=True)
noise_scale = sp.Symbol("B_n", positive=True)
trace = sp.Symbol(r"{\operatorname{Tr}C}", positive=True)  # over all examples, divided by n
small, large = sp.symbols("b B", positive=True)  # two batch sizes
of_small, of_large = sp.symbols("q_b q_B", positive=True)  # means of |g_B|^2 at these


def _slope_vanishes_and_bends_down():
    best = best_rate().rhs.subs(noise_scale, noisy / bent)
    flat = same(sp.diff(_gain(), rate).subs(rate, best), 0)
    return flat and sp.diff(_gain(), rate, 2).is_negative is True


def _without_noise_it_is_a_line_search():
    return same(sp.limit(best_rate().rhs, batch, sp.oo), square / bent)


def _two_directions_by_hand():
    """g_B = g + z / sqrt(B) with two white numbers of given spread, its loss averaged in full."""
    z, (g1, g2, h1, h2, c1, c2) = white(2), sp.symbols("g1 g2 h1 h2 c1 c2", positive=True)
    step = [g1 + sp.sqrt(c1 / batch) * z[0], g2 + sp.sqrt(c2 / batch) * z[1]]
    # theta = H^-1 g is where the gradient of theta^T H theta / 2 is g
    after = [g / h - rate * s for g, h, s in zip((g1, g2), (h1, h2), step, strict=True)]
    fall = (g1**2 / h1 + g2**2 / h2) / 2 - sum(
        h * mean(sp.expand(x**2), z) / 2 for h, x in zip((h1, h2), after, strict=True)
    )
    by_hand = {square: g1**2 + g2**2, bent: h1 * g1**2 + h2 * g2**2, noisy: h1 * c1 + h2 * c2}
    return same(fall, _gain().subs(by_hand, simultaneous=True))


@equation(
    "eq:best-rate",
    computed_by="sgdnoise.noise.batch_efficiency",
    laws=(
        _slope_vanishes_and_bends_down,
        _without_noise_it_is_a_line_search,
        _two_directions_by_hand,
    ),
)
def best_rate():
    """Rate of the largest mean gain in one step, with batches of independent examples."""
    (best,) = sp.solve(sp.diff(_gain(), rate), rate)
    return sp.Eq(sp.Symbol(r"\eta^{*}"), _by_scale(best))


def _half_the_gain_at_the_best_rate_goes_into_the_bend():
    """As for any parabola: the gain is half of rate |g|^2."""
    return same(best_gain().rhs, best_rate().rhs * square / 2)


@equation(
    "eq:best-gain",
    computed_by="sgdnoise.noise.batch_efficiency",
    laws=(_half_the_gain_at_the_best_rate_goes_into_the_bend,),
)
def best_gain():
    """The largest mean gain in one step."""
    gain = _gain().subs(rate, best_rate().rhs.subs(noise_scale, noisy / bent))
    return sp.Eq(sp.Symbol(r"\Delta^{*}"), _by_scale(gain))


def _rate_and_gain_have_the_same_share():
    rates = best_rate().rhs / sp.limit(best_rate().rhs, batch, sp.oo)
    return same(rates, share_left().rhs)


def _half_is_left_at_the_scale():
    return same(share_left().rhs.subs(batch, noise_scale), sp.Rational(1, 2))


@equation(
    "eq:share-left",
    computed_by="sgdnoise.noise.batch_efficiency",
    laws=(_rate_and_gain_have_the_same_share, _half_is_left_at_the_scale),
)
def share_left():
    """Gain and best rate of a batch, as a share of those of the exact gradient."""
    fraction = best_gain().rhs / sp.limit(best_gain().rhs, batch, sp.oo)
    return sp.Eq(sp.Symbol(r"\Delta^{*} / \Delta^{*}_{\infty}"), sp.simplify(fraction))


def _all_pairs_with_replacement_agree():
    numbers, mean, covariance = _three_numbers()
    recorded = {
        of_small: _listed([[g] for g in numbers]),
        of_large: _listed([[a, b] for a in numbers for b in numbers]),
        small: 1,
        large: 2,
    }
    return same(trace_from_batches().rhs.subs(recorded), covariance) and same(
        square_from_batches().rhs.subs(recorded), mean
    )


@equation(
    "eq:trace-from-batches",
    computed_by="sgdnoise.noise.gradient_noise_scale_from_batches",
    laws=(_all_pairs_with_replacement_agree,),
)
def trace_from_batches():
    """Trace of the covariance of one example, from mean squared norms at two batch sizes."""
    return sp.Eq(trace, sp.factor(_solved()[trace]))


@equation(
    "eq:square-from-batches",
    computed_by="sgdnoise.noise.gradient_noise_scale_from_batches",
    laws=(_all_pairs_with_replacement_agree,),
)
def square_from_batches():
    """Squared norm of the mean gradient, from the same."""
    return sp.Eq(square, sp.factor(_solved()[square]))


def _all_distinct_pairs_agree():
    numbers, mean, covariance = _three_numbers()
    recorded = {
        of_small: _listed([[g] for g in numbers]),
        of_large: _listed(list(combinations(numbers, 2))),
        small: 1,
        large: 2,
    }
    values = {square: mean, trace: covariance, n: 3}
    return same(
        trace_from_batches().rhs.subs(recorded), trace_from_distinct().rhs.subs(values)
    ) and same(square_from_batches().rhs.subs(recorded), square_from_distinct().rhs.subs(values))


def _distinct_trace_divides_by_one_less():
    return same(trace_from_distinct().rhs, trace * n / (n - 1))


def _sizes_do_not_matter_for_distinct_batches():
    solution = trace_from_distinct().rhs.free_symbols | square_from_distinct().rhs.free_symbols
    return not solution & {small, large}


@equation(
    "eq:trace-from-distinct",
    computed_by="sgdnoise.noise.gradient_noise_scale",
    laws=(
        _all_distinct_pairs_agree,
        _distinct_trace_divides_by_one_less,
        _sizes_do_not_matter_for_distinct_batches,
    ),
)
def trace_from_distinct():
    """Expectation of that trace for batches of distinct examples: the unbiased trace."""
    name = sp.Symbol(r"\operatorname{Tr}\hat{C}")
    return sp.Eq(name, sp.factor(trace_from_batches().rhs.subs(_distinct())))


def _distinct_square_is_the_mean_over_pairs():
    """The mean of g_i g_j over pairs of distinct examples has no bias: here of three."""
    (a, b, c), mean, covariance = _three_numbers()
    pairs = (a * b + b * c + c * a) / 3
    return same(square_from_distinct().rhs.subs({square: mean, trace: covariance, n: 3}), pairs)


@equation(
    "eq:square-from-distinct",
    computed_by="sgdnoise.noise.gradient_noise_scale",
    laws=(_all_distinct_pairs_agree, _distinct_square_is_the_mean_over_pairs),
)
def square_from_distinct():
    """Expectation of that squared norm for batches of distinct examples."""
    name = sp.Symbol(r"\widehat{|g|^2}")
    solution = sp.expand(square_from_batches().rhs.subs(_distinct()))
    return sp.Eq(name, sp.collect(solution, [square, trace], sp.factor))


def _gain():
    """Mean fall of the loss: g_B has mean g and covariance C / B."""
    return rate * square - rate**2 / 2 * (bent + noisy / batch)


def _by_scale(expression):
    """With Tr HC = B_n g^T H g."""
    return sp.factor(sp.simplify(expression.subs(noisy, noise_scale * bent)))


def _norm(size, own):
    """Mean of |g_B|^2 = |sum_i w_i g_i|^2, for Cov(w) = own (1 - J): own n Tr C of noise."""
    return square + (n * own).subs(batch, size) * trace


def _solved():
    """|g|^2 and Tr C from two mean norms, with replacement."""
    direct = own_with_replacement().rhs
    recorded = [
        sp.Eq(value, sp.simplify(_norm(size, direct)))
        for size, value in ((small, of_small), (large, of_large))
    ]
    return sp.solve(recorded, [square, trace])


def _distinct():
    """The same two norms without replacement."""
    direct = own_without_replacement().rhs
    return {of_small: _norm(small, direct), of_large: _norm(large, direct)}


def _three_numbers():
    """Three examples with gradients a, b, c in one dimension: |g|^2 and Tr C."""
    numbers = sp.symbols("a b c", real=True)
    mean = sum(numbers) / 3
    return numbers, mean**2, sum((g - mean) ** 2 for g in numbers) / 3


def _listed(batches):
    norms = [(sp.Add(*drawn) / len(drawn)) ** 2 for drawn in batches]
    return sp.Add(*norms) / len(norms)
