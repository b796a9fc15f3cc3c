"""The mean force of Gaussian jitter at the corner of a relu, and its work.

The preactivation of a unit is a + w x with a standard normal x.  The unit changes an output by
v relu, and a residual r is jointly Gaussian with the jitter, up to the unit's own contribution.
"""

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation

a, r = sp.symbols("a r", real=True)
x = sp.Symbol("x", real=True)
w, v, s = sp.symbols("w v s", positive=True)
t, h_a, h_r = sp.symbols("t h_a h_r", positive=True)


def density(number):
    """The density of a standard normal number."""
    return sp.exp(-(number**2) / 2) / sp.sqrt(2 * sp.pi)


def cumulative(number):
    """The distribution of a standard normal number."""
    return (1 + sp.erf(number / sp.sqrt(2))) / 2


def _its_curvature_is_the_density_of_the_corner():
    """relu has the second derivative delta(a), whose mean is the density of the jitter at -a."""
    return same(sp.diff(smoothed_relu().rhs, a, 2), density(a / w) / w)


def _it_vanishes_far_below_the_corner():
    """With the curvature above, this determines it."""
    formula = smoothed_relu().rhs.subs(w, 1)
    return all(sp.limit(part, a, -sp.oo) == 0 for part in (formula, sp.diff(formula, a)))


@equation(
    "eq:smoothed-relu",
    computed_by="sgdnoise.theory.smoothed_relu",
    laws=(_its_curvature_is_the_density_of_the_corner, _it_vanishes_far_below_the_corner),
)
def smoothed_relu():
    """Mean of a relu over Gaussian jitter of its preactivation."""
    return sp.Eq(sp.Function("f")(a), a * cumulative(a / w) + w * density(a / w))


def _stein():
    """Cov(r, 1(on)) is the covariance of r and the jitter times the slope of the smoothed unit.

    r is c x plus what is independent of x; the smoothed unit has the slope Phi(a / w), so the mean
    force of other units is that of the smoothed network.
    """
    c = sp.Symbol("c", real=True)
    direct = sp.integrate(c * x * density(x), (x, -a / w, sp.oo))
    slope = sp.diff(smoothed_relu().rhs, a, 2)  # of the slope, by a
    return same(direct, sp.simplify(c * w * slope))


def _work_of_the_gaussian_mean():
    """Without a response of the residual: the integral of Cov(relu, 1(on)) over a."""
    relu, on = smoothed_relu().rhs, cumulative(a / w)
    # E[relu 1(on)] = E relu, so the covariance is E relu (1 - P(on))
    covariance = (relu * (1 - on)).subs(w, 1)
    step = sp.Rational(1, 4)  # the trapezoid rule is exact to rounding for such functions
    values = (covariance.subs(a, k * step).evalf(20) for k in range(-32, 33))
    claimed = corner_work().rhs.subs({s: 1, v: 1, h_r: 0})
    return bool(abs(step * sum(values) - claimed) < 1e-9)


def _work_of_the_response():
    """The response removes the integral of h_r exp(-h_r t) E[(a_t - a_0)^2_+] / 2 over t.

    Over all a, E[relu(a_0) 1(a_0 > 0)] - E[relu(a_t) 1(a_0 > 0)] integrates to the mean of
    (a_t - a_0)^2 / 4, for a stationary Gaussian process.
    """
    squared = 2 * s**2 * (1 - sp.exp(-h_a * t))
    weighted = h_r * sp.exp(-h_r * t) * v**2 * squared / 4
    work = sp.integrate(sp.expand(weighted), (t, 0, sp.oo))
    return same(sp.simplify(work), corner_work().rhs)


@equation(
    "eq:corner-work",
    computed_by="sgdnoise.theory.corner_work",
    laws=(_stein, _work_of_the_gaussian_mean, _work_of_the_response),
)
def corner_work():
    """Work of the mean force on one relu, from off to on, with the response of its residual."""
    return sp.Eq(sp.Symbol("W"), v**2 * s**2 / 2 * h_a / (h_a + h_r))
