"""Weight decay and label noise in a linear network f = x W V: decay rates and stationary modes."""

from functools import cache

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.slow_flow import irrelevant_rate, mode_at_rest
from derivations.stationary import c, h_i, h_j, stationary_entry
from derivations.symbols import batch, outputs, rate, sigma

decay = sp.Symbol("lambda", positive=True)
kappa = sp.Symbol("kappa", positive=True)
variance, used = sp.symbols("s_x s_1", positive=True)  # of a useless input, and of a used one
trace_moment = sp.Symbol(r"{\operatorname{Tr} \Sigma}", positive=True)  # of all inputs
first, second = sp.symbols("w v", positive=True)  # the weights of a mode of the product
useless = sp.Symbol("e", positive=True)  # a weight from a useless input to a useless unit
teacher = sp.Symbol("m", positive=True)  # what the data want a mode to be
square_ratio = sp.Symbol("q", positive=True)  # w^2 over v^2
# W = [[w_11, w_12], [w_21, w_22]] and V = [v_1, v_2]: two inputs, two units, one output
THETA = sp.symbols("w_11 w_12 w_21 w_22 v_1 v_2", real=True)
POINT = dict(zip(THETA, (first, 0, 0, useless, second, 0), strict=True))


def _jitter_rests():
    """S = (1 - rate H) S (1 - rate H) + rate^2 C, with decay in H and none in C."""
    bends = sp.hessian(_loss(), THETA).subs(POINT)
    bare = sp.hessian(_loss(False), THETA).subs(POINT)
    step = sp.eye(len(THETA)) - rate * bends
    after = step * _jitter() * step + rate**2 * sigma**2 / batch * bare
    return (after - _jitter()).applyfunc(sp.cancel).is_zero_matrix


def _without_noise_all_shrink_alike():
    quiet = sp.limit(_rate(), sigma, 0)
    return same(quiet, rate * decay)


def _decay_weakens_noise_by_its_share_of_the_curvature():
    """At small rates the force is h / (h + decay) of what it was."""
    curvature = variance * (second**2 + useless**2)
    force = sp.limit((_rate() - rate * decay) / rate**2, rate, 0)
    bare = sp.limit(force, decay, 0)
    return same(force / bare, curvature / (curvature + decay))


@equation(
    "eq:decay-shrink-rate",
    computed_by="sgdnoise.theory.shrink_rates",
    laws=(
        _jitter_rests,
        _without_noise_all_shrink_alike,
        _decay_weakens_noise_by_its_share_of_the_curvature,
    ),
)
def shrink_rate():
    """Decay in one step of a weight from an irrelevant input to an irrelevant unit, under both.

    The mean force on it of the jitter about the point, and decay; s_x has one output here.
    """
    return sp.Eq(sp.Symbol("r"), _rate())


def _without_decay_it_is_the_rate_of_noise():
    noise = sp.limit(shrink_rate_small().rhs, decay, 0)
    return same(
        noise, irrelevant_rate().rhs.subs({outputs: 1, sp.Symbol("s_x", positive=True): variance})
    )


@equation(
    "eq:decay-shrink-rate-small",
    computed_by="sgdnoise.theory.equal_decay",
    laws=(_without_decay_it_is_the_rate_of_noise,),
)
def shrink_rate_small():
    """The same at small rate and decay: the two add, and only noise depends on the variance."""
    slow = _rate().subs(sp.Symbol("h"), variance * (first**2 + useless**2))
    share_of_noise = (slow - rate * decay) / rate**2
    small = sp.limit(sp.limit(share_of_noise, rate, 0), decay, 0)
    return sp.Eq(sp.Symbol(r"r^{\mathrm{small}}"), rate * decay + rate**2 * sp.simplify(small))


def _slope_is_nothing_under_decay():
    return sp.limit(variance_slope().rhs, sigma, 0) == 0


def _slope_is_one_under_noise():
    return sp.limit(variance_slope().rhs, decay, 0) == 1


@equation(
    "eq:decay-variance-slope",
    computed_by="sgdnoise.theory.variance_slope",
    laws=(_slope_is_nothing_under_decay, _slope_is_one_under_noise),
)
def variance_slope():
    """Slope of the logarithm of the rate against that of the variance: the share of noise."""
    small = shrink_rate_small().rhs
    return sp.Eq(sp.Symbol("b"), sp.factor(variance * sp.diff(sp.log(small), variance)))


def _no_noise_of_first_order():
    g = sp.Symbol("g", real=True)
    return sp.Poly(imbalance_step().rhs, g).coeff_monomial(g) == 0


def _without_a_gradient_imbalance_decays():
    left = imbalance_step().rhs.subs(sp.Symbol("g", real=True), 0)
    return same(left, (1 - rate * decay) ** 2 * (first**2 - second**2))


@equation(
    "eq:decay-imbalance-step",
    computed_by="sgdnoise.theory.imbalance_after",
    laws=(_no_noise_of_first_order, _without_a_gradient_imbalance_decays),
)
def imbalance_step():
    """The imbalance of one mode after a step with decay along the gradient g in the product."""
    g = sp.Symbol("g", real=True)
    after = _stepped(first, second, g)
    return sp.Eq(sp.Symbol(r"D'"), sp.collect(sp.expand(after), g, sp.factor))


def _balance_under_decay_is_that_of_gradient_flow():
    return sp.limit(balance().rhs, kappa, 0) == 1


def _balance_under_noise_is_that_of_the_least_trace():
    """w^2 over v^2 is a^2 / m^2 for a mode whose product is m and hidden power a."""
    s = sp.Symbol("s", positive=True)
    scaled = mode_at_rest().rhs.subs(s, sp.sqrt(variance) * teacher)
    hidden = scaled / variance
    return same(sp.limit(balance().rhs, decay, 0), hidden**2 / teacher**2)


def _balance_is_where_the_effective_loss_rests():
    """Both slopes vanish: the same ratio from the loss, from no step at all."""
    left, right = (sp.diff(_effective_loss(), weight) * weight for weight in (first, second))
    (solution,) = sp.solve(
        sp.expand(left - right).subs(first, sp.sqrt(square_ratio) * second), square_ratio
    )
    return same(solution, balance().rhs)


@equation(
    "eq:decay-balance",
    computed_by="sgdnoise.theory.mode_with_decay",
    laws=(
        _balance_under_decay_is_that_of_gradient_flow,
        _balance_under_noise_is_that_of_the_least_trace,
        _balance_is_where_the_effective_loss_rests,
    ),
)
def balance():
    """Stationary squared weights of a mode, from the mean change of its imbalance in a step.

    To first order in decay and with the gradients of label noise in the product.
    """
    change = sp.series(_imbalance_step() - (first**2 - second**2), rate, 0, 3).removeO()
    kick = sigma**2 / batch
    noise = sp.Symbol("G_in"), sp.Symbol("G_out")  # E G G^T of its input, E G^T G of its output
    mean = change.subs({noise[0]: kick * outputs * variance, noise[1]: kick * trace_moment})
    retained = sp.expand(mean).coeff(rate, 1) + rate * sp.expand(mean).coeff(rate, 2).subs(decay, 0)
    balanced = retained.subs(first, sp.sqrt(square_ratio) * second)
    (solution,) = sp.solve(sp.Eq(sp.expand(balanced / second**2), 0), square_ratio)
    priced = solution.subs(rate, 4 * batch * kappa / sigma**2)
    return sp.Eq(first**2 / second**2, sp.factor(priced))


def _decay_thresholds_softly():
    """By decay / s: the singular values of least nuclear norm."""
    return same(sp.limit(threshold().rhs, kappa, 0), decay / variance)


def _it_is_the_mean_product_that_falls_short():
    """Of one mode with s_x = o = Tr Sx = 1: m for which the mean slopes vanish, less E w v."""
    weights, jitter = (first, second), 2 * kappa  # variance along the slope of the product
    along = sp.Matrix([second, first])
    spread_out = jitter * along * along.T / (first**2 + second**2)
    bent = sp.hessian(sp.diff((first * second - teacher) ** 2 / 2, first), weights)
    slope = (first * second - teacher) * second + (bent * spread_out).trace() / 2
    (wanted,) = sp.solve(slope.subs(first, second), teacher)  # balanced, without decay
    short = wanted - (second**2 + spread_out[0, 1].subs(first, second))
    alone = threshold().rhs.subs({outputs: 1, trace_moment: 1, variance: 1})
    return same(short, sp.limit(alone, decay, 0))


def _noise_thresholds_by_the_slope_of_the_least_trace():
    """2 kappa (o Tr Sx)^1/2 for s_x = 1."""
    alone = sp.limit(threshold().rhs, decay, 0).subs(variance, 1)
    return same(alone, 2 * kappa * sp.sqrt(outputs * trace_moment))


@equation(
    "eq:decay-threshold",
    computed_by="sgdnoise.theory.shrinkage",
    laws=(
        _decay_thresholds_softly,
        _it_is_the_mean_product_that_falls_short,
        _noise_thresholds_by_the_slope_of_the_least_trace,
    ),
)
def threshold():
    """Difference of a mode from its least-squares value.

    Where the slopes of L + decay |theta|^2 / 2 + kappa Tr H vanish in both of its weights.
    """
    short = sp.Symbol("x", positive=True)
    slopes = [sp.diff(_effective_loss(), weight) for weight in (first, second)]
    forces = [slope.subs(teacher, first * second + short) for slope in slopes]
    (in_first,) = sp.solve(forces[0], first)
    (solution,) = [
        root
        for root in sp.solve(sp.together(forces[1].subs(first, in_first) / second), short)
        if root.could_extract_minus_sign() is False
    ]
    return sp.Eq(teacher - first * second, sp.sqrt(sp.factor(solution**2)))


def _loss(decayed=True):
    """Mean of (x W V - x m)^2 / 2 over two uncorrelated inputs, the first used, and decay."""
    w11, w12, w21, w22, v1, v2 = THETA
    fit = used * (w11 * v1 + w12 * v2 - first * second) ** 2 / 2
    fit += variance * (w21 * v1 + w22 * v2) ** 2 / 2
    return fit + (decay * sum(t**2 for t in THETA) / 2 if decayed else 0)


@cache
def _jitter():
    """Covariance of theta at rest, one rank for each of the two inputs.

    Noise sigma^2 H / B along the unit vector n of each input, where the curvature is h + decay.
    """
    bends = sp.hessian(_loss(False), THETA).subs(POINT)
    total = sp.zeros(len(THETA))
    for size in (used, variance):
        slope = _slope_of_product(size)
        length = (slope.T * slope)[0, 0]
        curvature = sp.simplify((slope.T * bends * slope)[0, 0] / length)
        stationary = stationary_entry().rhs
        along = {h_i: curvature + decay, h_j: curvature + decay, c: sigma**2 * curvature / batch}
        total += stationary.subs(along) * slope * slope.T / length
    return total


def _slope_of_product(size):
    """Derivative to theta of what the network makes of the input of this variance."""
    w11, w12, w21, w22, v1, v2 = THETA
    product = w11 * v1 + w12 * v2 if size == used else w21 * v1 + w22 * v2
    return sp.Matrix([sp.diff(product, t).subs(POINT) for t in THETA])


@cache
def _rate():
    """Decay and the jitter's mean force -(1/2) d Tr(H S) / d w_22, over the weight, a step."""
    bends = sp.hessian(_loss(), THETA)
    turned = sp.diff((bends * _jitter()).trace(), THETA[3]).subs(POINT)
    return rate * decay + sp.factor(rate * turned / 2 / useless)


def _stepped(one, other, g):
    """w^2 - v^2 after theta <- theta - rate (slope + decay theta)."""
    retained = 1 - rate * decay
    return (retained * one - rate * g * other) ** 2 - (retained * other - rate * g * one) ** 2


def _imbalance_step():
    """The same with the mean squares of the gradients that each layer meets."""
    g = sp.Symbol("g", real=True)
    terms = sp.Poly(sp.expand(_stepped(first, second, g)), g)
    incoming, outgoing = sp.Symbol("G_in"), sp.Symbol("G_out")
    squares = sp.expand(terms.coeff_monomial(g**2))
    kicked = squares.coeff(second, 2) * second**2 * outgoing
    kicked += squares.coeff(first, 2) * first**2 * incoming
    return terms.coeff_monomial(1) + kicked


def _effective_loss():
    """Of one mode, read from an input of variance s_x."""
    fit = variance * (teacher - first * second) ** 2 / 2
    curvature = outputs * variance * first**2 + trace_moment * second**2
    return fit + decay * (first**2 + second**2) / 2 + kappa * curvature
