"""Autocorrelation times of SGD on a quadratic loss."""

import sympy as sp

from derivations.algebra import same
from derivations.equation import equation
from derivations.stationary import c, continuous_entry, h_i, h_j, stationary_entry
from derivations.symbols import curvature, rate

time = sp.Symbol("t", nonnegative=True)
kick = sp.Symbol("c", positive=True)  # variance of the noise along one mode


def _small_steps_remember_as_the_flow():
    ratio = rate * correlation_time_steps().rhs / correlation_time_flow().rhs
    return sp.limit(ratio, rate, 0) == 1


@equation(
    "eq:correlation-time-flow",
    computed_by="sgdnoise.theory.OrnsteinUhlenbeck.correlation_time",
    laws=(_small_steps_remember_as_the_flow,),
)
def correlation_time_flow():
    """Integrated autocorrelation time of one mode of the Langevin equation."""
    fading = sp.exp(-curvature * time)
    return sp.Eq(sp.Symbol(r"\tau^{\mathrm{cont}}"), 2 * sp.integrate(fading, (time, 0, sp.oo)))


def _descent_remembers_one_step_less():
    gap = correlation_time_flow().rhs - rate * correlation_time_steps().rhs
    return same(gap, rate)


def _newton_steps_are_independent():
    return same(correlation_time_steps().rhs.subs(rate, 1 / curvature), 1)


@equation(
    "eq:correlation-time-steps",
    computed_by="sgdnoise.theory.LinearRecursion.correlation_time",
    laws=(_descent_remembers_one_step_less, _newton_steps_are_independent),
)
def correlation_time_steps():
    """Integrated autocorrelation time of one mode of SGD, in steps."""
    retained = sp.Symbol("a", real=True)
    total = sp.Symbol("g")  # kept + kept^2 + ... without end, which kept shifts by one term
    (tail,) = sp.solve(sp.Eq(retained * total, total - retained), total)
    spoken = (1 + 2 * tail).subs(retained, 1 - rate * curvature)
    return sp.Eq(sp.Symbol("tau"), sp.expand(sp.simplify(spoken)))


def _mean_forgets_the_rate():
    """A mean of many iterates scatters as H^-1 C H^-1: Polyak and Juditsky."""
    return same(long_run().rhs, kick / curvature**2)


def _flow_has_the_same_sum():
    """Rest times correlation time over the rate of one step."""
    along = {h_i: curvature, h_j: curvature, c: kick}
    flow = continuous_entry().rhs.subs(along) * correlation_time_flow().rhs
    return same(flow / rate, long_run().rhs)


@equation(
    "eq:long-run",
    computed_by="sgdnoise.theory.LinearRecursion.long_run_covariance",
    laws=(_mean_forgets_the_rate, _flow_has_the_same_sum),
)
def long_run():
    """Sum over all lags of the autocovariance of one mode of SGD."""
    along = {h_i: curvature, h_j: curvature, c: kick}
    stationary = stationary_entry().rhs.subs(along)
    return sp.Eq(sp.Symbol("L"), sp.simplify(stationary * correlation_time_steps().rhs))
