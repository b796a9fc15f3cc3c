"""Mean and variance after a noisy step in any loss, to second order in the displacement.

Theta is a middle and a small displacement; losses and observables are their Taylor series there,
whose coefficients are letters.
"""

import sympy as sp

from derivations.algebra import mean, same, white
from derivations.equation import equation
from derivations.stationary import c as entry
from derivations.stationary import continuous_entry, h_i, h_j, stationary_entry
from derivations.symbols import curvature, rate

MOST = 4  # order of the series
m = sp.Symbol("m", real=True)
s, c = sp.symbols("s c", positive=True)  # variance of theta, and of the gradient's noise
small = sp.Symbol("epsilon", positive=True)  # marks the order of a displacement
u = sp.symbols("u_11 u_21 u_22", real=True)  # S = U U^T in two dimensions


def _series(name, *x):
    """Taylor's series of a function of one or two displacements, of letters."""
    powers = [p for p in sp.itermonomials(x, MOST) if p != 1] + [sp.Integer(1)]
    return sum(_letter(name, *sp.Poly(p, *x).monoms()[0]) * p / _factorials(p, x) for p in powers)


def _letter(name, *orders):
    return sp.Symbol(f"{name}_{{{''.join(map(str, orders))}}}", real=True)


def _factorials(power, x):
    return sp.prod(sp.factorial(k) for k in sp.Poly(power, *x).monoms()[0])


def _second(expression):
    """Without what is above the second order in the displacement."""
    return sp.series(sp.expand(expression), small, 0, 3).removeO().subs(small, 1)


def _mean_descends_the_trace():
    """m - rate grad (L + Tr(H S) / 2), with S held."""
    x, loss, covariance, moved, z = _plane()
    lifted = loss + (sp.hessian(loss, x) * covariance).trace() / 2
    center = dict.fromkeys(x, 0)
    claimed = [-rate * sp.diff(lifted, k).subs(center) for k in x]
    return same([_second(mean(first, z)) for first in moved], claimed)


def _exact_for_quadratic_losses():
    """Nothing is dropped where there are no third derivatives and no fourth."""
    moved, numbers = _line()
    flat = {_letter("L", 3): 0, _letter("L", 4): 0, small: 1}
    center = mean(moved.subs(flat), numbers)
    covariance = mean(sp.expand((moved.subs(flat) - center) ** 2), numbers)
    claimed = [side.rhs.subs(flat) for side in (closure_mean(), closure_spread())]
    return same([center, covariance], claimed)


@equation(
    "eq:closure-mean",
    computed_by="sgdnoise.theory.moment_closure",
    laws=(_mean_descends_the_trace, _exact_for_quadratic_losses),
)
def closure_mean():
    """Mean after a step of SGD from displacements of variance s."""
    moved, numbers = _line()
    return sp.Eq(sp.Symbol("m'"), sp.collect(_second(mean(moved, numbers)), rate))


def _spread_is_carried_by_the_hessian():
    """(1 - rate H) S (1 - rate H)."""
    x, loss, covariance, moved, z = _plane()
    retained = sp.eye(2) - rate * sp.hessian(loss, x).subs(dict.fromkeys(x, 0))
    center = [mean(first, z) for first in moved]
    off = [first - mid for first, mid in zip(moved, center, strict=True)]
    solution = sp.Matrix(2, 2, lambda i, j: _second(mean(sp.expand(off[i] * off[j]), z)))
    return same(solution, retained * covariance * retained)


def _rest_is_that_of_a_bowl():
    step = closure_spread().rhs.subs(_letter("L", 2), curvature)
    stationary = stationary_entry().rhs.subs({h_i: curvature, h_j: curvature, entry: c})
    return same(step.subs(s, stationary), stationary)


@equation(
    "eq:closure-spread",
    computed_by="sgdnoise.theory.moment_closure",
    laws=(_spread_is_carried_by_the_hessian, _rest_is_that_of_a_bowl),
)
def closure_spread():
    """Variance after that step."""
    moved, numbers = _line()
    center = mean(moved, numbers)
    covariance = _second(mean(sp.expand((moved - center) ** 2), numbers) - rate**2 * c)
    return sp.Eq(sp.Symbol("s'"), sp.factor(covariance) + rate**2 * c)


def _gradient_varies_with_theta_by_the_mean_curvature():
    """Cov(x, L') = s E L'', which is Stein's lemma: the part of first order in the rate."""
    x, (z,) = sp.Symbol("x"), white(1)
    loss = _series("L", x)
    along = mean((x * sp.diff(loss, x)).subs(x, sp.sqrt(s) * z), (z,))
    change = sp.diff(closure_average().rhs, rate).subs(rate, 0)
    return same(change, -2 * along)


def _sampled_residuals_are_noise():
    """The mean of (g + h x)^2 is g^2 + h^2 s, for an example of gradient g and curvature h."""
    x, (z,) = sp.Symbol("x"), white(1)
    g, h = sp.symbols("g h", real=True)
    square = (g + h * x) ** 2
    letters = {_letter("C", 0): g**2, _letter("C", 2): sp.diff(square, x, 2)}
    kick = sp.expand(closure_average().rhs).coeff(rate, 2)
    flat = {_letter("L", 2): 0, _letter("L", 4): 0}
    exact = mean(sp.expand(square.subs(x, sp.sqrt(s) * z)), (z,))
    return same(kick.subs(flat).subs(letters), exact)


@equation(
    "eq:closure-average",
    computed_by="sgdnoise.theory.moment_closure",
    laws=(_gradient_varies_with_theta_by_the_mean_curvature, _sampled_residuals_are_noise),
)
def closure_average():
    """The same with the Hessian and the noise averaged over the displacement."""
    x, (z,) = sp.Symbol("x"), white(1)
    curvature = mean(sp.diff(_series("L", x), x, 2).subs(x, sp.sqrt(s) * z), (z,))
    kick = _second(mean(_series("C", x).subs(x, small * sp.sqrt(s) * z), (z,)))
    return sp.Eq(sp.Symbol("s'"), (1 - rate * sp.expand(curvature)) ** 2 * s + rate**2 * kick)


def _flow_rests_as_langevin_does():
    flow = closure_flow().rhs.subs(_letter("L", 2), curvature)
    stationary = continuous_entry().rhs.subs({h_i: curvature, h_j: curvature, entry: c})
    return same(flow.subs(s, stationary), 0)


@equation(
    "eq:closure-flow",
    computed_by="sgdnoise.theory.moment_closure",
    laws=(_flow_rests_as_langevin_does,),
)
def closure_flow():
    """The same in continuous time, for small steps with noise of covariance rate C."""
    change = (closure_spread().rhs - s) / rate
    heat = sp.Symbol("tau", positive=True)  # rate c, which is kept
    flow = sp.limit(sp.expand(change).subs(c, heat / rate), rate, 0).subs(heat, rate * c)
    return sp.Eq(sp.Symbol(r"\dot{s}"), flow)


def _observable_in_the_plane_is_a_trace():
    x, _, covariance, _, z = _plane()
    recorded, center = _series("f", *x), dict.fromkeys(x, 0)
    at = dict(zip(x, (small * u[0] * z[0], small * (u[1] * z[0] + u[2] * z[1])), strict=True))
    solution = _second(mean(sp.expand(recorded.subs(at, simultaneous=True)), z))
    claimed = (
        recorded.subs(center) + (sp.hessian(recorded, x).subs(center) * covariance).trace() / 2
    )
    return same(solution, claimed)


def _mean_of_a_square_is_exact():
    x = _letter("f", 0), _letter("f", 1), _letter("f", 2)
    square = closure_observable().rhs.subs(dict(zip(x, (m**2, 2 * m, 2), strict=True)))
    return same(square, m**2 + s)


@equation(
    "eq:closure-observable",
    computed_by="sgdnoise.theory.second_order_mean",
    laws=(_observable_in_the_plane_is_a_trace, _mean_of_a_square_is_exact),
)
def closure_observable():
    """Mean of an observable."""
    x, (z,) = sp.Symbol("x"), white(1)
    recorded = _series("f", x).subs(x, small * sp.sqrt(s) * z)
    return sp.Eq(sp.Symbol(r"\mathbb{E} f"), _second(mean(recorded, (z,))))


def _strain_is_of_first_order_and_no_quadratic_loss_has_any():
    solution = closure_strain().rhs
    return same(solution.subs(s, 2 * s), 2 * solution) and solution.subs(_letter("L", 4), 0) == 0


def _strain_is_what_the_first_neglected_term_of_the_loss_is():
    """(E L - L - H s / 2) / (H s / 2) is half of it."""
    x, (z,) = sp.Symbol("x"), white(1)
    loss = mean(_series("L", x).subs(x, sp.sqrt(s) * z), (z,))
    half = _letter("L", 2) * s / 2
    return same((loss - _letter("L", 0) - half) / half, closure_strain().rhs / 2)


@equation(
    "eq:closure-strain",
    computed_by="sgdnoise.theory.closure_error",
    laws=(
        _strain_is_of_first_order_and_no_quadratic_loss_has_any,
        _strain_is_what_the_first_neglected_term_of_the_loss_is,
    ),
)
def closure_strain():
    """Relative difference of the mean curvature and the curvature at the mean."""
    x, (z,) = sp.Symbol("x"), white(1)
    curvature = sp.diff(_series("L", x), x, 2)
    felt = mean(curvature.subs(x, sp.sqrt(s) * z), (z,))
    return sp.Eq(sp.Symbol("q"), sp.expand(felt / curvature.subs(x, 0) - 1))


def _line():
    """Theta after a step in one dimension, and the numbers that are drawn."""
    x, numbers = sp.Symbol("x"), white(2)
    slope = sp.diff(_series("L", x), x)
    e = small * sp.sqrt(s) * numbers[0]
    return m + e - rate * (slope.subs(x, e) + sp.sqrt(c) * numbers[1]), numbers


def _plane():
    """S, H, the loss, its letters, and theta's displacement after a quiet step in the plane."""
    x, z = sp.symbols("x y"), white(2)
    loss = _series("L", *x)
    at = dict(zip(x, (small * u[0] * z[0], small * (u[1] * z[0] + u[2] * z[1])), strict=True))
    moved = [at[k] - rate * sp.diff(loss, k).subs(at, simultaneous=True) for k in x]
    root = sp.Matrix([[u[0], 0], [u[1], u[2]]])
    return x, loss, root * root.T, moved, z
