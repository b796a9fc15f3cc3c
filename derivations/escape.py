"""How long noise takes to leave a well, by small kicks over its barrier or by one jump.

Along d x = -U' dt + sqrt(2 D) dW, Ito, and along stable motion; Phi is the integral of U' / D.
"""

import math
from functools import cache

import sympy as sp

from derivations.algebra import same
from derivations.symbols import batch, curvature, rate, sigma

__all__ = ["CHECKS", "EQUATIONS", "USED"]

x, y, z = sp.symbols("x y z", real=True)
low, end = sp.symbols("x_0 x_1", real=True)  # reflecting, absorbing
phi, noise = sp.Function("Phi"), sp.Function("D", positive=True)
temperature, height = sp.symbols(r"T {\Delta\Phi}", positive=True)
barrier = sp.Symbol(r"{\Delta U}", positive=True)
bottom, top = sp.symbols("a b", positive=True)  # curvatures, of the barrier downwards
quiet, loud = sp.symbols("D_a D_b", positive=True)  # noise at the two
tau = sp.Symbol("tau", positive=True)  # mean time
width = sp.Symbol("w", positive=True)
alpha, strength = sp.symbols("alpha varepsilon", positive=True)
jumps = sp.Symbol("c", positive=True)  # of a size y come at c / |y|^(1 + alpha)
left, right = sp.symbols("w_- w_+", positive=True)


def passage_time():
    """Mean time from x up to an end, with a wall below."""
    constant = sp.Function("K")
    flux = sp.exp(phi(y)) * constant(y)  # -t', which obeys flux' = Phi' flux + 1 / D
    gap = sp.diff(flux, y) - sp.diff(phi(y), y) * flux - 1 / noise(y)
    (speed,) = sp.solve(sp.expand(gap), sp.diff(constant(y), y))
    inner = sp.Integral(speed.subs(y, z), (z, low, y))  # no flux through the wall
    return sp.Eq(tau, sp.Integral(sp.exp(phi(y)) * inner, (y, x, end)))


def ito_density():
    """Density at rest where noise depends on the place."""
    flow = sp.Function("q")  # D p, which obeys q' = -Phi' q where nothing flows
    level = sp.Symbol("c_0")
    solved = sp.dsolve(sp.diff(flow(x), x) + sp.diff(phi(x), x) * flow(x), flow(x)).rhs
    (free,) = solved.free_symbols - {x}
    return sp.Eq(sp.Symbol("p(x)"), solved.subs(free, level) / noise(x))


def shaped_kramers():
    """Mean time over a high barrier where noise depends on the place."""
    inside = _gauss(bottom / quiet) / quiet  # near the minimum, of exp(-Phi) / D
    across = _gauss(top / loud)  # near the barrier, of exp(Phi - height)
    return sp.Eq(tau, sp.exp(height) * sp.simplify(inside * across))


def kramers():
    """Mean time over a high barrier at a temperature."""
    alike = {quiet: temperature, loud: temperature, height: barrier / temperature}
    return sp.Eq(tau, sp.simplify(shaped_kramers().rhs.subs(alike)))


def eyring_kramers():
    """The same in two dimensions, one of them across the way over the saddle."""
    inside, across = sp.symbols("a_2 b_2", positive=True)
    people = _gauss(bottom / temperature) * _gauss(inside / temperature)
    pass_ = _gauss(across / temperature)  # how wide the saddle is
    flow = temperature * pass_ / (_gauss(top / temperature) * sp.exp(barrier / temperature))
    return sp.Eq(tau, sp.simplify(people / flow))


def boundary_time():
    """Mean time out of a parabola by an end at its flank, where noise is the same."""
    flat = curvature * width**2 / (2 * height)  # the noise of which the end is so high
    inside = _gauss(curvature / flat) / flat
    steep = sp.Symbol("s", positive=True)
    across = sp.integrate(sp.exp(-steep * y), (y, 0, sp.oo)).subs(steep, curvature * width / flat)
    return sp.Eq(tau, sp.exp(height) * sp.simplify(inside * across))


def label_noise_height():
    """Height of the flank of a parabola in units of label noise."""
    diffusion = rate * sigma**2 * curvature / (2 * batch)
    return sp.Eq(height, sp.integrate(curvature * x / diffusion, (x, 0, width)))


@cache
def jump_constant():
    """How often stable motion jumps, from its characteristic exponent."""
    s = sp.Symbol("s", positive=True)
    of_sine = sp.mellin_transform(sp.sin(y), y, s)[0].subs(s, 1 - alpha)
    both = 2 * jumps * of_sine / alpha  # (1 - cos y) |y|^(-1 - alpha), once by parts
    (found,) = sp.solve(sp.Eq(both, 1), jumps)
    return sp.Eq(jumps, sp.simplify(found))


def stable_exit():
    """Mean time until the one jump that leaves a well."""
    beyond = sum(_beyond(distance) for distance in (left, right))
    return sp.Eq(tau, sp.factor(1 / sp.simplify(beyond)))


def discrete_shift():
    """How much farther an end seems to a walk, in standard deviations of a step."""
    k, s = sp.symbols("k s", positive=True)
    height_of_walk = _positive_part(k) / k  # Spitzer: the mean maximum is their sum
    (scale,) = sp.solve(sp.Eq(height_of_walk, sp.Symbol("C") / sp.sqrt(k)), sp.Symbol("C"))
    sum_over_integral = (sp.zeta(s) - 1 / (s - 1)).subs(s, sp.Rational(1, 2))
    less = sum_over_integral - 2  # sum of k^(-1/2) minus 2 n^(1/2), the path between the steps
    return sp.Eq(sp.Symbol("beta"), sp.simplify(-scale * less))


def _gauss(stiffness):
    """Integral of exp(-stiffness x^2 / 2)."""
    return _bell().subs(_stiff, stiffness)


_stiff = sp.Symbol("k", positive=True)


@cache
def _bell():
    return sp.integrate(sp.exp(-_stiff * x**2 / 2), (x, -sp.oo, sp.oo))


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


def _backward(time):
    """D t'' - U' t' + 1, which is zero for a mean time."""
    pull = noise(x) * sp.diff(phi(x), x)
    return noise(x) * sp.diff(time, x, 2) - pull * sp.diff(time, x) + 1


def _a_passage_solves_the_backward_equation():
    return same(_backward(passage_time().rhs), 0)


def _a_passage_from_the_end_takes_no_time():
    return passage_time().rhs.subs(x, end).doit() == 0


def _nothing_flows_through_the_wall():
    return sp.diff(passage_time().rhs, x).subs(x, low).doit() == 0


def _free_motion_takes_the_square_of_the_way():
    free = passage_time().rhs.subs(phi(y), 0).subs(phi(z), 0).subs(noise(z), temperature)
    return same(free.doit(), ((end - low) ** 2 - (x - low) ** 2) / (2 * temperature))


def _density_stands_still():
    """In the equation of Fokker and Planck: 0 = (U' p + (D p)')'."""
    p = ito_density().rhs
    flow = noise(x) * sp.diff(phi(x), x) * p + sp.diff(noise(x) * p, x)
    return same(sp.diff(flow, x), 0)


def _stratonovich_would_have_another():
    """His drift is U' - D' / 2; p D^(1/2) stands still there."""
    p = ito_density().rhs * sp.sqrt(noise(x))
    pull = noise(x) * sp.diff(phi(x), x) - sp.diff(noise(x), x) / 2
    return same(pull * p + sp.diff(noise(x) * p, x), 0)


def _one_temperature_is_boltzmann():
    p = ito_density().rhs.subs(noise(x), temperature)
    ratio = p.subs(x, y) / p
    return same(ratio, sp.exp(phi(x) - phi(y)))


def _louder_barriers_are_seldom_visited():
    """Ito noise drives away from where it is loud."""
    return sp.diff(shaped_kramers().rhs, loud).is_positive is True


def _time_scales_with_noise_and_slope():
    """U and D times k are the same motion k times as fast."""
    k = sp.Symbol("k", positive=True)
    faster = {letter: k * letter for letter in (bottom, top, quiet, loud)}
    return same(shaped_kramers().rhs.subs(faster, simultaneous=True) * k, shaped_kramers().rhs)


def _kramers_has_its_known_form():
    known = 2 * sp.pi / sp.sqrt(bottom * top) * sp.exp(barrier / temperature)
    return same(kramers().rhs, known)


def _symmetric_double_integrals_tend_to_it():
    """Parabolas only, exactly: both integrals over k widths give erf(k)^2 of it."""
    k = sp.Symbol("k", positive=True)
    part = sp.integrate(sp.exp(-(x**2) / 2), (x, -k, k)) / _gauss(1)
    return sp.limit(part**2, k, sp.oo) == 1


def _log_slope_in_the_rate_is_the_height():
    """With noise in proportion to the rate: -height, over a saddle."""
    noisy = {quiet: rate * quiet, loud: rate * loud, height: height / rate}
    law = shaped_kramers().rhs.subs(noisy, simultaneous=True)
    return same(rate * sp.diff(sp.log(law), rate), -height / rate)


def _equal_width_across_is_one_dimension():
    a2, b2 = sp.symbols("a_2 b_2", positive=True)
    return same(eyring_kramers().rhs.subs(b2, a2), kramers().rhs)


def _wider_saddles_are_found_sooner():
    b2 = sp.Symbol("b_2", positive=True)
    return sp.diff(eyring_kramers().rhs, b2).is_positive is True


def _boundary_is_the_passage_of_a_parabola():
    """Its own double integral with the inner one over the whole line: the ratio tends to one."""
    flank = sp.Symbol("E", positive=True)
    outer = sp.integrate(sp.exp(y**2 / 2), (y, 0, sp.sqrt(2 * flank))) * _gauss(1)
    ratio = (outer / boundary_time().rhs.subs({curvature: 1, height: flank})).subs(flank, 400)
    return abs(float(sp.N(ratio, 20)) - 1 - 1 / 800) < 1e-5  # the next order is 3 / (4 E^2)


def _boundary_adds_half_to_the_log_slope():
    law = boundary_time().rhs.subs(height, height / rate)
    return same(rate * sp.diff(sp.log(law), rate), sp.Rational(1, 2) - height / rate)


def _curvature_drops_out():
    return curvature not in label_noise_height().rhs.free_symbols


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


EQUATIONS = {
    "eq:passage-time": passage_time,
    "eq:ito-density": ito_density,
    "eq:shaped-kramers": shaped_kramers,
    "eq:kramers": kramers,
    "eq:eyring-kramers": eyring_kramers,
    "eq:boundary-time": boundary_time,
    "eq:label-noise-height": label_noise_height,
    "eq:jump-constant": jump_constant,
    "eq:stable-exit": stable_exit,
    "eq:discrete-shift": discrete_shift,
}

USED = {
    "eq:passage-time": "theory.escape.passage_time",
    "eq:ito-density": "theory.escape.ito_density",
    "eq:shaped-kramers": "theory.escape.shaped_kramers_time",
    "eq:kramers": "theory.escape.kramers_time",
    "eq:eyring-kramers": "theory.escape.eyring_kramers_time",
    "eq:boundary-time": "theory.escape.boundary_time",
    "eq:label-noise-height": "theory.escape.label_noise_height",
    "eq:jump-constant": "theory.escape.jump_constant",
    "eq:stable-exit": "theory.escape.stable_exit_time",
    "eq:discrete-shift": "theory.escape.discrete_shift",
}

CHECKS = {
    "eq:passage-time": (
        _a_passage_solves_the_backward_equation,
        _a_passage_from_the_end_takes_no_time,
        _nothing_flows_through_the_wall,
        _free_motion_takes_the_square_of_the_way,
    ),
    "eq:ito-density": (
        _density_stands_still,
        _stratonovich_would_have_another,
        _one_temperature_is_boltzmann,
    ),
    "eq:shaped-kramers": (
        _louder_barriers_are_seldom_visited,
        _time_scales_with_noise_and_slope,
        _log_slope_in_the_rate_is_the_height,
    ),
    "eq:kramers": (_kramers_has_its_known_form, _symmetric_double_integrals_tend_to_it),
    "eq:eyring-kramers": (_equal_width_across_is_one_dimension, _wider_saddles_are_found_sooner),
    "eq:boundary-time": (
        _boundary_is_the_passage_of_a_parabola,
        _boundary_adds_half_to_the_log_slope,
    ),
    "eq:label-noise-height": (_curvature_drops_out,),
    "eq:jump-constant": (
        _cauchy_jumps_at_one_over_pi,
        _jumps_have_their_known_rate,
        _gaussian_motion_does_not_jump,
    ),
    "eq:stable-exit": (
        _exits_scale_with_the_well,
        _one_end_is_half_of_two,
        _unit_jumps_are_those_of_the_theorem,
    ),
    "eq:discrete-shift": (_spitzer_is_right_for_two_steps, _sums_of_roots_are_zeta),
}
