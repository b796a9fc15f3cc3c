"""The drift of linear networks of three and more layers along their minima under noise."""

from functools import reduce

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.symbols import batch, outputs, rate, sigma

trace_moment = sp.Symbol(r"{\operatorname{Tr} \Sigma}", positive=True)  # of the inputs
total = sp.Symbol("S", positive=True)  # sum of the modes s_j of the product
depth, place = sp.symbols("L l", integer=True, positive=True)
power, power_before, readout_after, mode = sp.symbols("p P_{l-1} Q_{l+1} s", positive=True)


def _letters(name, rows, columns):
    return sp.Matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}_{{{i + 1}{j + 1}}}", real=True))


A, B, C = _letters("A", 2, 2), _letters("B", 2, 2), _letters("C", 2, 1)  # three layers
LAYERS = [A, B, C]
MOMENT = sp.Matrix(2, 2, lambda i, j: sp.Symbol(rf"\Sigma_{{{min(i, j) + 1}{max(i, j) + 1}}}"))
G = _letters("G", 2, 1)  # a noisy gradient of the product
a, b, c = sp.symbols("a b c", real=True)  # one unit a layer


def _trace_is_power_before_times_weight_after():
    claimed = MOMENT.trace() * _squares(B * C)
    claimed += (A.T * MOMENT * A).trace() * _squares(C)
    claimed += ((A * B).T * MOMENT * (A * B)).trace()
    return _alike(_trace(LAYERS, MOMENT), claimed)


def _trace_is_that_of_second_derivatives_at_a_minimum():
    """Of <(M - M_0) Sigma (M - M_0)> / 2, at M = M_0."""
    goal, product = _letters("M", 2, 1), A * B * C
    gap = product - goal
    loss = (gap.T * MOMENT * gap)[0, 0] / 2
    bends = sum(sp.diff(loss, t, 2) for layer in LAYERS for t in layer)
    at = dict(zip(goal, product, strict=True))
    return _alike(sp.expand(bends.subs(at)), _trace(LAYERS, MOMENT))


@equation(
    "eq:deep-trace",
    computed_by="sgdnoise.theory.hessian_trace",
    laws=(
        _trace_is_power_before_times_weight_after,
        _trace_is_that_of_second_derivatives_at_a_minimum,
    ),
)
def deep_trace():
    """Trace of the Hessian at a minimum: three layers of one unit each."""
    units = [sp.Matrix([[letter]]) for letter in (a, b, c)]
    moment = sp.Matrix([[sp.Symbol(r"\Sigma", positive=True)]])
    return sp.Eq(sp.Symbol(r"\operatorname{Tr} H"), sp.factor(_trace(units, moment)))


def _gradients_are_those_of_the_loss():
    """<G, W_1 W_2 W_3> has them, G fixed."""
    along = (G.T * A * B * C)[0, 0]
    solution = _gradients(G)
    return all(
        _alike(slope, layer.applyfunc(lambda t: sp.diff(along, t)))
        for slope, layer in zip(solution, LAYERS, strict=True)
    )


def _identity_is_exact_at_any_place():
    changes, claims = _both_imbalances()
    return all(
        _alike(change, rate**2 * claim) for change, claim in zip(changes, claims, strict=True)
    )


def _label_noise_moves_an_imbalance_to_rest():
    """With E G_i G_j = sigma^2 Sigma_ij / B: |Sigma^1/2 A|^2 C C^T - |C'|^2 A'^T Sigma A'."""
    kick = sigma**2 / batch
    squares = {G[i] * G[j]: kick * MOMENT[i, j] for i in range(2) for j in range(2)}

    def averaged(entry):
        terms = sp.Poly(entry, *G).terms()
        return sum(value * squares[G[0] ** p * G[1] ** q] for (p, q), value in terms)

    first, second = _both_imbalances()[0]
    after = B * C
    laws = (
        MOMENT.trace() * after * after.T - _squares(C) * A.T * MOMENT * A,
        (A.T * MOMENT * A).trace() * C * C.T - (A * B).T * MOMENT * (A * B),
    )
    solution = (first.applyfunc(averaged), second.applyfunc(averaged))
    return all(_alike(left, rate**2 * kick * law) for left, law in zip(solution, laws, strict=True))


@equation(
    "eq:deep-imbalance-step",
    computed_by="sgdnoise.theory.imbalances",
    laws=(
        _gradients_are_those_of_the_loss,
        _identity_is_exact_at_any_place,
        _label_noise_moves_an_imbalance_to_rest,
    ),
)
def deep_imbalance_step():
    """Change, in one step, of the imbalance of the first two of three layers of one unit each.

    D = a^2 - b^2, and G the noisy gradient of the product.
    """
    g = sp.Symbol("G", real=True)
    before, after = [a, b, c], [a - rate * g * b * c, b - rate * a * g * c, c - rate * a * b * g]
    change = (after[0] ** 2 - after[1] ** 2) - (before[0] ** 2 - before[1] ** 2)
    return sp.Eq(sp.Symbol(r"\Delta D"), sp.factor(change))


def _powers_at_rest_are_proportional_to_the_modes():
    """Hence participation ratios of all layers are one."""
    stationary = deep_mode_at_rest().rhs
    return sp.simplify(sp.diff(stationary / mode, mode)) == 0


def _rest_is_where_the_imbalance_stays():
    """P_(l-1) s^2 / p = Q_(l+1) p."""
    stationary = deep_mode_at_rest().rhs
    return same(power_before * mode**2 / stationary, readout_after * stationary)


@equation(
    "eq:deep-mode-at-rest",
    computed_by="sgdnoise.theory.stationary_participation_ratio",
    laws=(_powers_at_rest_are_proportional_to_the_modes, _rest_is_where_the_imbalance_stays),
)
def deep_mode_at_rest():
    """Stationary power of a mode s in a hidden layer, from the sums of its neighbouring layers.

    P_(l-1) is the power of the layer before, Q_(l+1) what the layers after the next one weigh:
    where the mode has power p, all layers after weigh s^2 / p, and Tr H has P s^2 / p + p Q.
    """
    (stationary,) = sp.solve(
        sp.diff(power_before * mode**2 / power + power * readout_after, power), power
    )
    return sp.Eq(power, stationary)


def _product_of_terms_does_not_depend_on_scales():
    """So that the mean of the terms is least where they are alike, and the least is `_term`."""
    scales = sp.symbols("c_1:4", positive=True)
    before = [trace_moment, *[scale * total for scale in scales]]
    after = [*[total / scale for scale in scales], outputs]
    product = sp.prod(first * second for first, second in zip(before, after, strict=True))
    return same(product, sp.simplify((_term() ** depth).subs(depth, 4)))


def _two_layers_are_the_known_ones():
    known = 2 * sp.sqrt(outputs * trace_moment) * total
    return same(deep_trace_at_rest().rhs.subs(depth, 2), known) and same(
        deep_scale_at_rest().rhs.subs({depth: 2, place: 1}), sp.sqrt(trace_moment / outputs)
    )


@equation(
    "eq:deep-trace-at-rest",
    computed_by="sgdnoise.theory.stationary_hessian_trace",
    laws=(_product_of_terms_does_not_depend_on_scales, _two_layers_are_the_known_ones),
)
def deep_trace_at_rest():
    """Minimum of the trace for any depth: its L terms are equal and their product is given."""
    return sp.Eq(sp.Symbol(r"\operatorname{Tr} H"), depth * _term())


def _all_terms_are_alike():
    term = _term()
    return all(
        same(sp.powsimp(first / term.subs(depth, layers), force=True), 1)
        for layers in (2, 3, 4, 5)
        for first in _terms_at_rest(layers)
    )


def _one_mode_is_least_at_the_claimed_powers():
    """One mode, three layers: both derivatives of Tr H vanish."""
    first, second = sp.symbols("p_1 p_2", positive=True)
    terms = trace_moment * total**2 / first + first * total**2 / second + outputs * second
    at = {
        left: total * deep_scale_at_rest().rhs.subs({depth: 3, place: k})
        for k, left in enumerate((first, second), 1)
    }
    slopes = [sp.diff(terms, left).subs(at) for left in (first, second)]
    return all(sp.simplify(sp.powsimp(slope, force=True)) == 0 for slope in slopes)


@equation(
    "eq:deep-scale-at-rest",
    computed_by="sgdnoise.theory.stationary_hidden_modes",
    laws=(_all_terms_are_alike, _one_mode_is_least_at_the_claimed_powers),
)
def deep_scale_at_rest():
    """Stationary power of a mode in hidden layer l, over the mode."""
    first = trace_moment * total  # over T, of the first term Tr Sigma S / c_1 = T
    ratio = total**2  # over T, of each term between, S^2 c_(l-1) / c_l = T
    scale = first * ratio ** (place - 1) / _term(place)
    return sp.Eq(sp.Symbol("c_l"), sp.powsimp(scale))


def _term(times=1):
    """T^times, with T the L-th root of o Tr(Sigma) S^(2 (L-1))."""
    return (outputs * trace_moment * total ** (2 * (depth - 1))) ** (times / depth)


def _trace(layers, moment):
    """Tr H, from the derivatives of the outputs, which are all of it where residuals vanish."""
    theta = [t for layer in layers for t in layer]
    product = reduce(lambda one, other: one * other, layers)
    slopes = [sp.diff(product, t) for t in theta]
    return sp.expand(sum((s.T * moment * s).trace() for s in slopes))


def _alike(one, other):
    """Whether polynomials, or matrices of them, are one."""
    gaps = sp.Matrix([one]) - sp.Matrix([other])
    return all(sp.expand(gap) == 0 for gap in gaps)


def _squares(matrix):
    return sum(entry**2 for entry in matrix)


def _gradients(g):
    """Of W_1, W_2, W_3, from that of the product."""
    return [g * (B * C).T, A.T * g * C.T, (A * B).T * g]


def _imbalance_step(one, other, down, across):
    """Change of W^T W - V V^T in a step."""
    first, second = one - rate * down, other - rate * across
    before = one.T * one - other * other.T
    return (first.T * first - second * second.T - before).applyfunc(sp.expand)


def _both_imbalances():
    """Changes of both, and what they are to be: C_l G^T A A^T G C_l^T - A'^T G C'^T C' G^T A'."""
    down = _gradients(G)
    first = _imbalance_step(A, B, *down[:2])
    second = _imbalance_step(B, C, *down[1:])
    after, between = B * C, A.T * G
    claims = (
        after * G.T * G * after.T - between * C.T * C * between.T,
        C * G.T * A * A.T * G * C.T - (A * B).T * G * G.T * (A * B),
    )
    return (first, second), claims


def _terms_at_rest(layers):
    """The terms of Tr H at c_1, ..., c_(L-1): P_(l-1) Q_l, with P = c S and Q = S / c."""
    scales = [deep_scale_at_rest().rhs.subs(depth, layers).subs(place, k) for k in range(1, layers)]
    before = [trace_moment, *[scale * total for scale in scales]]
    after = [*[total / scale for scale in scales], outputs]
    return [first * second for first, second in zip(before, after, strict=True)]
