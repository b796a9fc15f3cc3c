"""Exit times under stable noise, which leaves by one jump, and overshoot of a random walk."""

import math
from functools import cache

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation

x, y = sp.symbols("x y", real=True)
tau = sp.Symbol("tau", positive=True)  # mean time
alpha, strength = sp.symbols("alpha varepsilon", positive=True)
jumps = sp.Symbol("c", positive=True)  # of a size y come at c / |y|^(1 + alpha)
left, right = sp.symbols("w_- w_+", positive=True)


def _cauchy_jumps_at_one_over_pi():
    return same(sp.limit(jump_constant().rhs, alpha, 1), 1 / sp.pi)


def _jumps_have_their_known_rate():
    known = sp.gamma(1 + alpha) * sp.sin(sp.pi * alpha / 2) / sp.pi
    values = (sp.Rational(1, 3), sp.Rational(6, 5), sp.Rational(19, 10))
    return all(
        abs(sp.N((jump_constant().rhs - known).subs(alpha, at), 30)) < 1e-25 for at in values
    )


def _gaussian_motion_does_not_jump():
    return sp.limit(jump_constant().rhs, alpha, 2) == 0


@equation(
    "eq:jump-constant",
    computed_by="sgdnoise.theory.jump_constant",
    laws=(
        _cauchy_jumps_at_one_over_pi,
        _jumps_have_their_known_rate,
        _gaussian_motion_does_not_jump,
    ),
)
@cache
def jump_constant():
    """Rate of jumps of stable motion, from its characteristic exponent."""
    s = sp.Symbol("s", positive=True)
    of_sine = sp.mellin_transform(sp.sin(y), y, s)[0].subs(s, 1 - alpha)
    both = 2 * jumps * of_sine / alpha  # (1 - cos y) |y|^(-1 - alpha), once by parts
    (solution,) = sp.solve(sp.Eq(both, 1), jumps)
    return sp.Eq(jumps, sp.simplify(solution))


def _exits_scale_with_the_well():
    """Twice as wide and twice as strong is the same."""
    twice = {left: 2 * left, right: 2 * right, strength: 2 * strength}
    return same(stable_exit().rhs.subs(twice, simultaneous=True), stable_exit().rhs)


def _one_end_is_half_of_two():
    alone = sp.limit(stable_exit().rhs, left, sp.oo)
    return same(alone / 2, stable_exit().rhs.subs(left, right))


def _unit_jumps_are_those_of_the_theorem():
    """Imkeller and Pavlyukevich: jumps at 1 / |y|^(1 + alpha)."""
    theirs = alpha / strength**alpha / (left**-alpha + right**-alpha)
    return same(stable_exit().rhs.subs(jumps, 1), theirs)


@equation(
    "eq:stable-exit",
    computed_by="sgdnoise.theory.stable_exit_time",
    laws=(
        _exits_scale_with_the_well,
        _one_end_is_half_of_two,
        _unit_jumps_are_those_of_the_theorem,
    ),
)
def stable_exit():
    """Mean time until the jump that leaves a well."""
    beyond = sum(_beyond(distance) for distance in (left, right))
    return sp.Eq(tau, sp.factor(1 / sp.simplify(beyond)))


def _spitzer_is_right_for_two_steps():
    """E max(0, S_1, S_2) by hand: by the sign of the second step it is z_1 + z_2 or z_1."""
    law = sp.exp(-(x**2 + y**2) / 2) / (2 * sp.pi)
    up = sp.integrate(sp.integrate((x + y) * law, (x, -y, sp.oo)), (y, 0, sp.oo))
    down = sp.integrate(sp.integrate(x * law, (x, 0, sp.oo)), (y, -sp.oo, 0))
    return same(up + down, _positive_part(1) + _positive_part(2) / 2)


def _sums_of_roots_are_zeta():
    """To the order of Euler and Maclaurin's next term, n^(-3/2) / 24."""
    n = 10**4
    exact = math.fsum(k**-0.5 for k in range(1, n + 1))
    smooth = 2 * n**0.5 + float(sp.zeta(sp.Rational(1, 2))) + n**-0.5 / 2
    return abs(exact - smooth) < n**-1.5


@equation(
    "eq:discrete-shift",
    computed_by="sgdnoise.theory.discrete_shift",
    laws=(_spitzer_is_right_for_two_steps, _sums_of_roots_are_zeta),
)
def discrete_shift():
    """Mean overshoot of a random walk, in standard deviations of a step."""
    k, s = sp.symbols("k s", positive=True)
    height_of_walk = _positive_part(k) / k  # Spitzer: the mean maximum is their sum
    (scale,) = sp.solve(sp.Eq(height_of_walk, sp.Symbol("C") / sp.sqrt(k)), sp.Symbol("C"))
    sum_over_integral = (sp.zeta(s) - 1 / (s - 1)).subs(s, sp.Rational(1, 2))
    less = sum_over_integral - 2  # sum of k^(-1/2) minus 2 n^(1/2), the path between the steps
    return sp.Eq(sp.Symbol("beta"), sp.simplify(-scale * less))


def _beyond(distance):
    """How often jumps times their strength are larger than a distance."""
    size = sp.Symbol("y", positive=True)
    rare = sp.integrate(size ** (-1 - alpha), (size, distance / strength, sp.oo), conds="none")
    return jumps * sp.simplify(rare)


def _positive_part(steps):
    """Mean of max(S, 0) for a sum S of so many white numbers."""
    k = sp.Symbol("k", positive=True)
    density = sp.exp(-(x**2) / (2 * k)) / sp.sqrt(2 * sp.pi * k)
    return sp.simplify(sp.integrate(x * density, (x, 0, sp.oo)).subs(k, steps))
