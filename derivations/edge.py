"""Oscillations at the edge of stability: their variance, and the gap that noise leaves.

Along one direction x of curvature h, steps x <- (1 - rate h) x - rate xi; the curvature grows by
rate alpha a step by itself and falls by rate beta x^2 / 2 by the oscillation.
"""

from itertools import product

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.symbols import batch, curvature, rate

alpha = sp.Symbol("alpha", positive=True)  # increase of the curvature in time, by itself
beta = sp.Symbol("beta", positive=True)  # its squared gradient, by which x^2 / 2 lowers it
above = sp.Symbol("y", real=True)  # curvature - 2 / rate
square = sp.Symbol("a", positive=True)  # x^2
kick, spread = sp.symbols("c v", nonnegative=True)  # variances of a gradient and a curvature
variance = sp.Symbol("s", positive=True)  # of x
h_i, h_j, d_i, d_j = sp.symbols("h_i h_j d_i d_j", positive=True)
entry = sp.Symbol("C_ij", real=True)


def _speeds():
    """da/dt and dy/dt in time = rate x steps, to first order in y: |1 - rate h| = 1 + rate y."""
    growth = sp.series(((rate * above + 1) ** 2 - 1) / rate, above, 0, 2).removeO()
    return sp.expand(growth) * square, alpha - beta * square / 2


def _orbits_are_closed():
    """y^2 + beta a / 2 - alpha ln a is constant, and least at the rest."""
    of_square, of_above = _speeds()
    height = above**2 + beta * square / 2 - alpha * sp.log(square)
    change = sp.diff(height, square) * of_square + sp.diff(height, above) * of_above
    at_rest = sp.diff(height, square).subs(square, edge_variance().rhs)
    return same(change, 0) and same(at_rest, 0)


def _the_mean_over_an_orbit_is_the_rest():
    """a = (2 / beta) (alpha - dy/dt) and y = d(ln a)/dt / 2: total derivatives have no mean."""
    of_square, of_above = _speeds()
    mean_square = sp.solve(sp.Eq(of_above, 0), square)[0]  # of the equation, over an orbit
    left = square - (2 / beta) * (alpha - of_above)
    rest = edge_variance().rhs
    return same(left, 0) and same(mean_square, rest) and same(of_square / square, 2 * above)


@equation(
    "eq:edge-variance",
    computed_by="sgdnoise.theory.edge_covariance",
    laws=(_orbits_are_closed, _the_mean_over_an_orbit_is_the_rest),
)
def edge_variance():
    """Mean square of the oscillation of descent at the edge, along one direction."""
    _, of_above = _speeds()
    (rest,) = sp.solve(of_above, square)
    return sp.Eq(sp.Symbol("s"), rest)


def _the_period_is_that_of_small_cycles():
    """The linear part about the rest turns with the frequency (2 alpha)^1/2 in time."""
    of_square, of_above = _speeds()
    rest = {square: edge_variance().rhs, above: 0}
    motion = sp.Matrix([of_square, of_above]).jacobian([square, above]).subs(rest)
    frequency = 2 * sp.pi / (rate * edge_period().rhs)
    return same((motion * motion + frequency**2 * sp.eye(2)), sp.zeros(2))


@equation(
    "eq:edge-period",
    computed_by="sgdnoise.theory.edge_period",
    laws=(_the_period_is_that_of_small_cycles,),
)
def edge_period():
    """Steps of a small cycle of descent at the edge; a flow without delay leaves it out."""
    of_square, of_above = _speeds()
    slope = sp.diff(of_square, above).subs(square, edge_variance().rhs) * -sp.diff(of_above, square)
    return sp.Eq(sp.Symbol("T"), 2 * sp.pi / (rate * sp.sqrt(sp.simplify(slope))))


def _step(h):
    """The variance of x after a step, with the noise of a batch of B gradients and curvatures."""
    return (1 - rate * h) ** 2 * variance + rate**2 * (kick + spread * variance) / batch


def _one_step_changes_nothing():
    return same(_step(edge_sharpness().rhs), variance)


def _large_batches_have_no_gap():
    return sp.limit(edge_sharpness().rhs, batch, sp.oo) == 2 / rate


def _a_small_gap_is_that_of_the_noise():
    """rate c / (2 B s), which with the variance 2 alpha / beta is rate beta c / (4 alpha B)."""
    gap = (2 / rate - edge_sharpness().rhs).subs(spread, 0)
    small = sp.limit(gap * batch, batch, sp.oo)
    known = rate * beta * kick / (4 * alpha)
    return same(small.subs(variance, edge_variance().rhs), known)


@equation(
    "eq:edge-sharpness",
    computed_by="sgdnoise.theory.edge_sharpness",
    laws=(
        _one_step_changes_nothing,
        _large_batches_have_no_gap,
        _a_small_gap_is_that_of_the_noise,
    ),
)
def edge_sharpness():
    """Curvature at which SGD keeps an oscillation of variance s, the larger of two."""
    gain = sp.Symbol("u", real=True)  # 1 - rate h, which is negative here
    (kept,) = sp.solve(sp.Eq(_step(curvature).subs(1 - rate * curvature, gain), variance), gain**2)
    return sp.Eq(curvature, (1 + sp.sqrt(sp.expand(kept))) / rate)


def _it_is_the_stationary_covariance():
    """With h = 2 / rate - d for both curvatures."""
    stationary = rate * entry / (h_i + h_j - rate * h_i * h_j)
    curvatures = {h_i: 2 / rate - d_i, h_j: 2 / rate - d_j}
    return same(edge_entry().rhs.subs(curvatures), stationary.subs(curvatures))


def _near_the_edge_it_is_the_path_of_a_barrier():
    """(d_i X + X d_j) / 2 = rate C / 2: an interior-point method with the barrier rate C / 2."""
    near = edge_entry().rhs.subs({h_i: 2 / rate, h_j: 2 / rate})
    return same((d_i + d_j) / 2 * near, rate * entry / 2)


@equation(
    "eq:edge-entry",
    computed_by="sgdnoise.theory.edge_covariance",
    laws=(_it_is_the_stationary_covariance, _near_the_edge_it_is_the_path_of_a_barrier),
)
def edge_entry():
    """Covariance of the oscillation under noise, where curvatures are d below the edge."""
    x = sp.Symbol("X_ij")
    left, right = rate * d_i / 2, rate * d_j / 2  # 1 - rate h / 2 of either curvature
    lost = h_i * right + h_j * left  # h_i + h_j - rate h_i h_j
    (solution,) = sp.solve(sp.Eq(lost * x, rate * entry), x)
    return sp.Eq(x, solution)


full, own, mixed, alone = sp.symbols("q_0 q_1 q_2 q_3", real=True)
squared, norms = sp.symbols("g_0 g_1", positive=True)


def _three_examples():
    """Gradients and curvatures of three examples along one parameter."""
    return sp.symbols("g_a g_b g_c"), sp.symbols("h_a h_b h_c")


def _moments(gradients, curvatures):
    mean = sum(gradients) / 3
    return {
        full: mean**2 * sum(curvatures) / 3,
        own: sum(g**2 for g in gradients) / 3 * sum(curvatures) / 3,
        mixed: sum(g * h for g, h in zip(gradients, curvatures, strict=True)) / 3 * mean,
        alone: sum(g**2 * h for g, h in zip(gradients, curvatures, strict=True)) / 3,
        squared: mean**2,
        norms: sum(g**2 for g in gradients) / 3,
    }


def _all_batches_agree():
    """Batches of one, two and three of three examples, drawn with replacement."""
    gradients, curvatures = _three_examples()
    moments = _moments(gradients, curvatures)
    for size in (1, 2, 3):
        above_, below = 0, 0
        for drawn in product(range(3), repeat=size):
            g = sum(gradients[i] for i in drawn) / sp.Integer(size)
            h = sum(curvatures[i] for i in drawn) / sp.Integer(size)
            above_, below = above_ + g**2 * h, below + g**2
        if not same(above_ / below, batch_sharpness().rhs.subs(batch, size).subs(moments)):
            return False
    return True


def _large_batches_see_the_mean_loss():
    return sp.limit(batch_sharpness().rhs, batch, sp.oo) == full / squared


@equation(
    "eq:batch-sharpness",
    computed_by="sgdnoise.noise.batch_sharpness",
    laws=(_all_batches_agree, _large_batches_see_the_mean_loss),
)
def batch_sharpness():
    """Batch sharpness from four moments over the examples, for all batches with replacement."""
    others = (batch - 1) * (batch - 2) * full
    above_ = others + (batch - 1) * (own + 2 * mixed) + alone
    return sp.Eq(sp.Symbol("b"), above_ / (batch * ((batch - 1) * squared + norms)))
