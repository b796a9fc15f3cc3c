"""Mean times to leave a well over its barrier under Gaussian noise.

Along d x = -U' dt + sqrt(2 D) dW, Ito; Phi is the integral of U' / D.
"""

from functools import cache

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.symbols import batch, curvature, rate, sigma

x, y, z = sp.symbols("x y z", real=True)
low, end = sp.symbols("x_0 x_1", real=True)  # reflecting, absorbing
phi, noise = sp.Function("Phi"), sp.Function("D", positive=True)
temperature, height = sp.symbols(r"T {\Delta\Phi}", positive=True)
barrier = sp.Symbol(r"{\Delta U}", positive=True)
bottom, top = sp.symbols("a b", positive=True)  # curvatures, of the barrier downwards
quiet, loud = sp.symbols("D_a D_b", positive=True)  # noise at the two
tau = sp.Symbol("tau", positive=True)  # mean time
width = sp.Symbol("w", positive=True)
_stiff = sp.Symbol("k", positive=True)


def _a_passage_solves_the_backward_equation():
    return same(_backward(passage_time().rhs), 0)


def _a_passage_from_the_end_takes_no_time():
    return passage_time().rhs.subs(x, end).doit() == 0


def _nothing_flows_through_the_wall():
    return sp.diff(passage_time().rhs, x).subs(x, low).doit() == 0


def _free_motion_takes_the_square_of_the_way():
    free = passage_time().rhs.subs(phi(y), 0).subs(phi(z), 0).subs(noise(z), temperature)
    return same(free.doit(), ((end - low) ** 2 - (x - low) ** 2) / (2 * temperature))


@equation(
    "eq:passage-time",
    computed_by="sgdnoise.theory.passage_time",
    laws=(
        _a_passage_solves_the_backward_equation,
        _a_passage_from_the_end_takes_no_time,
        _nothing_flows_through_the_wall,
        _free_motion_takes_the_square_of_the_way,
    ),
)
def passage_time():
    """Mean time from x up to an end, with a wall below."""
    constant = sp.Function("K")
    flux = sp.exp(phi(y)) * constant(y)  # -t', which obeys flux' = Phi' flux + 1 / D
    gap = sp.diff(flux, y) - sp.diff(phi(y), y) * flux - 1 / noise(y)
    (speed,) = sp.solve(sp.expand(gap), sp.diff(constant(y), y))
    inner = sp.Integral(speed.subs(y, z), (z, low, y))  # no flux through the wall
    return sp.Eq(tau, sp.Integral(sp.exp(phi(y)) * inner, (y, x, end)))


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


@equation(
    "eq:ito-density",
    computed_by="sgdnoise.theory.ito_density",
    laws=(_density_stands_still, _stratonovich_would_have_another, _one_temperature_is_boltzmann),
)
def ito_density():
    """Stationary density where the noise depends on theta."""
    flow = sp.Function("q")  # D p, which obeys q' = -Phi' q where nothing flows
    level = sp.Symbol("c_0")
    solved = sp.dsolve(sp.diff(flow(x), x) + sp.diff(phi(x), x) * flow(x), flow(x)).rhs
    (free,) = solved.free_symbols - {x}
    return sp.Eq(sp.Symbol("p(x)"), solved.subs(free, level) / noise(x))


def _louder_barriers_are_seldom_visited():
    """Ito noise drives away from where it is loud."""
    return sp.diff(shaped_kramers().rhs, loud).is_positive is True


def _time_scales_with_noise_and_slope():
    """U and D times k are the same motion k times as fast."""
    k = sp.Symbol("k", positive=True)
    faster = {letter: k * letter for letter in (bottom, top, quiet, loud)}
    return same(shaped_kramers().rhs.subs(faster, simultaneous=True) * k, shaped_kramers().rhs)


def _log_slope_in_the_rate_is_the_height():
    """With noise in proportion to the rate: -height, over a saddle."""
    noisy = {quiet: rate * quiet, loud: rate * loud, height: height / rate}
    law = shaped_kramers().rhs.subs(noisy, simultaneous=True)
    return same(rate * sp.diff(sp.log(law), rate), -height / rate)


@equation(
    "eq:shaped-kramers",
    computed_by="sgdnoise.theory.shaped_kramers_time",
    laws=(
        _louder_barriers_are_seldom_visited,
        _time_scales_with_noise_and_slope,
        _log_slope_in_the_rate_is_the_height,
    ),
)
def shaped_kramers():
    """Mean time over a high barrier where the noise depends on theta."""
    inside = _gauss(bottom / quiet) / quiet  # near the minimum, of exp(-Phi) / D
    across = _gauss(top / loud)  # near the barrier, of exp(Phi - height)
    return sp.Eq(tau, sp.exp(height) * sp.simplify(inside * across))


def _kramers_has_its_known_form():
    known = 2 * sp.pi / sp.sqrt(bottom * top) * sp.exp(barrier / temperature)
    return same(kramers().rhs, known)


def _symmetric_double_integrals_tend_to_it():
    """Parabolas only, exactly: both integrals over k widths give erf(k)^2 of it."""
    k = sp.Symbol("k", positive=True)
    term = sp.integrate(sp.exp(-(x**2) / 2), (x, -k, k)) / _gauss(1)
    return sp.limit(term**2, k, sp.oo) == 1


@equation(
    "eq:kramers",
    computed_by="sgdnoise.theory.kramers_time",
    laws=(_kramers_has_its_known_form, _symmetric_double_integrals_tend_to_it),
)
def kramers():
    """Mean time over a high barrier at a temperature."""
    alike = {quiet: temperature, loud: temperature, height: barrier / temperature}
    return sp.Eq(tau, sp.simplify(shaped_kramers().rhs.subs(alike)))


def _equal_width_across_is_one_dimension():
    a2, b2 = sp.symbols("a_2 b_2", positive=True)
    return same(eyring_kramers().rhs.subs(b2, a2), kramers().rhs)


def _wider_saddles_are_found_sooner():
    b2 = sp.Symbol("b_2", positive=True)
    return sp.diff(eyring_kramers().rhs, b2).is_positive is True


@equation(
    "eq:eyring-kramers",
    computed_by="sgdnoise.theory.eyring_kramers_time",
    laws=(_equal_width_across_is_one_dimension, _wider_saddles_are_found_sooner),
)
def eyring_kramers():
    """The same in two dimensions, one of them orthogonal to the path over the saddle."""
    inside, across = sp.symbols("a_2 b_2", positive=True)
    people = _gauss(bottom / temperature) * _gauss(inside / temperature)
    pass_ = _gauss(across / temperature)  # how wide the saddle is
    flow = temperature * pass_ / (_gauss(top / temperature) * sp.exp(barrier / temperature))
    return sp.Eq(tau, sp.simplify(people / flow))


def _boundary_is_the_passage_of_a_parabola():
    """Its own double integral with the inner one over the whole line: the ratio tends to one."""
    flank = sp.Symbol("E", positive=True)
    outer = sp.integrate(sp.exp(y**2 / 2), (y, 0, sp.sqrt(2 * flank))) * _gauss(1)
    ratio = (outer / boundary_time().rhs.subs({curvature: 1, height: flank})).subs(flank, 400)
    return abs(float(sp.N(ratio, 20)) - 1 - 1 / 800) < 1e-5  # the next order is 3 / (4 E^2)


def _boundary_adds_half_to_the_log_slope():
    law = boundary_time().rhs.subs(height, height / rate)
    return same(rate * sp.diff(sp.log(law), rate), sp.Rational(1, 2) - height / rate)


@equation(
    "eq:boundary-time",
    computed_by="sgdnoise.theory.boundary_time",
    laws=(_boundary_is_the_passage_of_a_parabola, _boundary_adds_half_to_the_log_slope),
)
def boundary_time():
    """Mean time to reach a given height of a parabola, for constant noise."""
    flat = curvature * width**2 / (2 * height)  # the noise of which the end is so high
    inside = _gauss(curvature / flat) / flat
    steep = sp.Symbol("s", positive=True)
    across = sp.integrate(sp.exp(-steep * y), (y, 0, sp.oo)).subs(steep, curvature * width / flat)
    return sp.Eq(tau, sp.exp(height) * sp.simplify(inside * across))


def _curvature_drops_out():
    return curvature not in label_noise_height().rhs.free_symbols


@equation(
    "eq:label-noise-height",
    computed_by="sgdnoise.theory.label_noise_height",
    laws=(_curvature_drops_out,),
)
def label_noise_height():
    """Height of a point of a parabola in units of label noise."""
    diffusion = rate * sigma**2 * curvature / (2 * batch)
    return sp.Eq(height, sp.integrate(curvature * x / diffusion, (x, 0, width)))


def _gauss(stiffness):
    """Integral of exp(-stiffness x^2 / 2)."""
    return _bell().subs(_stiff, stiffness)


@cache
def _bell():
    return sp.integrate(sp.exp(-_stiff * x**2 / 2), (x, -sp.oo, sp.oo))


def _backward(time):
    """D t'' - U' t' + 1, which is zero for a mean time."""
    pull = noise(x) * sp.diff(phi(x), x)
    return noise(x) * sp.diff(time, x, 2) - pull * sp.diff(time, x) + 1
